"""What would let a commit in whose subject no log shows whole."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from infra.check_commit_subject import main

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("message", "accepted"),
    [("A" * 72 + "\n\n" + "body " * 40 + "\n", True), ("R²" + "A" * 70 + "\n", True), ("A" * 73 + "\n", False)],
)
def test_the_characters_of_the_subject_are_counted(message: str, accepted: bool, tmp_path: Path) -> None:
    (tmp_path / "message").write_text(message, encoding="utf-8")
    assert (main(str(tmp_path / "message")) == 0) is accepted


def test_the_hook_of_the_repository_refuses_a_long_subject(tmp_path: Path) -> None:
    """Through pre-commit, so that the hook's stage and entry are those of the repository."""
    (tmp_path / "infra").mkdir()
    for name in (".pre-commit-config.yaml", "infra/check_commit_subject.py"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "message").write_text("A" * 73 + "\n")
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    subprocess.run(["git", "add", "--all"], cwd=tmp_path, check=True)
    command = [sys.executable, "-m", "pre_commit", "run", "--hook-stage", "commit-msg", "--commit-msg-filename"]
    done = subprocess.run([*command, "message"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1 and "72 are allowed" in done.stdout and "ruff" not in done.stdout
