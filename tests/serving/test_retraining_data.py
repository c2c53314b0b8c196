"""Data that somebody changed by hand must survive a loop, and what a loop proposes must be what it wrote."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.errors import UserError
from pipelines.files import write_json
from serving.continuous_training import stages
from serving.propose import propose

TASK = "drug_response"


def dvc(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "dvc", *arguments], check=True, capture_output=True)


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a repository of git and DVC with a remote of each."""
    root = tmp_path / "checkout"
    root.mkdir()
    monkeypatch.chdir(root)
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "ada")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "ada@example.org")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    git("init", "-q", "-b", "main")
    return root


@pytest.fixture
def data(checkout: Path, tmp_path: Path) -> Path:
    dvc("init", "-q")
    dvc("remote", "add", "-q", "-d", "here", str(tmp_path / "remote"))
    path = checkout / "data" / TASK / "response.csv"
    path.parent.mkdir(parents=True)
    path.write_text("old")
    dvc("add", "-q", "data")
    return path


def test_pull_brings_what_git_names_and_keeps_what_dvc_does_not_know(data: Path) -> None:
    old = Path("data.dvc").read_text()
    data.write_text("new")
    dvc("add", "-q", "data")
    dvc("push", "-q")
    new = Path("data.dvc").read_text()
    assert stages.pull() == "data/ is what data.dvc names"
    # Somebody else's commit names other data.
    Path("data.dvc").write_text(old)
    assert "was pulled" in stages.pull()
    assert data.read_text() == "old"
    Path("data.dvc").write_text(new)
    data.write_text("by hand")
    with pytest.raises(UserError, match="record changes in data/"):
        stages.pull()
    assert data.read_text() == "by hand"


def test_imported_data_is_looked_up_at_its_source(checkout: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "response.csv").write_text("1")
    dvc("init", "-q")
    dvc("import-url", "-q", str(source), "data")
    (source / "response.csv").write_text("2")
    assert "source" in stages.pull()
    assert (checkout / "data" / "response.csv").read_text() == "2"


@pytest.fixture
def looped(checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a checkout in which a loop has ended; `gh` writes down what it is asked, and knows what it opened."""
    with pytest.raises(UserError, match="no loop of drug_response has ended"):
        propose(TASK)
    with pytest.raises(UserError, match=r"make data FROM=DIR"):
        stages.pull()
    git("init", "-q", "--bare", str(tmp_path / "origin"))
    for name in ("dvc.lock", "data.dvc", "other"):
        (checkout / name).write_text("old\n")
    (checkout / ".gitignore").write_text("/.retrain\n/reports\n")
    git("add", "-A")
    git("commit", "-qm", "first")
    git("remote", "add", "origin", str(tmp_path / "origin"))
    git("push", "-q", "origin", "main")
    asked, gh = tmp_path / "asked", tmp_path / "bin" / "gh"
    gh.parent.mkdir()
    listed = f'if [ "$2" = list ]; then [ -f {asked} ] && echo 7; exit 0; fi'
    gh.write_text(f'#!/bin/sh\n{listed}\nprintf "%s\\n" "$@" >> {asked}\n')
    gh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{gh.parent}{os.pathsep}{os.environ['PATH']}")
    state = {"schema": 1, "fingerprint": "f" * 64, "components": {}, "by": "ada", "started": "", "steps": {}}
    finished = {"at": "", "outcome": "version 2 is in staging"}
    write_json(Path(".retrain") / f"{TASK}.json", {**state, "finished": finished})
    (checkout / "reports" / TASK).mkdir(parents=True)
    (checkout / "reports" / TASK / "retraining.md").write_text("# report")
    return checkout


def test_only_what_the_loop_wrote_is_proposed_and_the_checkout_stays(looped: Path, tmp_path: Path) -> None:
    assert propose(TASK).startswith("nothing to propose")
    (looped / "dvc.lock").write_text("new\n")
    (looped / "other").write_text("somebody's work\n")
    before, branch = (git("rev-parse", "HEAD"), git("status", "--porcelain")), f"retrain/{TASK}-ffffffffffff"
    assert propose(TASK) == f"proposed as {branch}"
    assert (git("rev-parse", "HEAD"), git("status", "--porcelain")) == before
    assert git("branch", "--list") == "* main"
    git("fetch", "-q", "origin", branch)
    assert git("diff", "--name-only", "main", "FETCH_HEAD") == "dvc.lock"
    assert git("show", "FETCH_HEAD:dvc.lock") == "new"
    asked = (tmp_path / "asked").read_text().split("\n")
    assert asked[:2] == ["pr", "create"]
    assert {branch, f"Retrain {TASK}: version 2 is in staging", f"reports/{TASK}/retraining.md"} <= set(asked)
    assert propose(TASK) == f"{branch} was proposed already"
    assert (tmp_path / "asked").read_text().split("\n") == asked
    (tmp_path / "asked").unlink()  # a push whose pull request was not opened
    assert propose(TASK) == f"proposed as {branch}"
