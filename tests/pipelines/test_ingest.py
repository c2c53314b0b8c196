"""``make data`` must put sound data in place whole, and leave everything as it was when the data is not."""

import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import yaml

from pipelines import ingest as module
from pipelines.command import run_command
from pipelines.errors import UserError
from pipelines.ingest import bring, sources
from pipelines.params import Params, read_params
from pipelines.validate import Validation
from tests.pipelines.damages import cell, change, column, files_below
from tests.pipelines.response_tables import NAME, ROOT, write_response_folder

OTHER = "other_screen"
PLACED = Path("data", NAME)


def params_with_two_tasks() -> str:
    """Return the shipped parameters with a second task of the same kind."""
    content = yaml.safe_load((ROOT / "params.yaml").read_text())
    content["tasks"] = dict.fromkeys((NAME, OTHER), content["tasks"][NAME])
    models = [model for model in content["models"].values() if model["task"] == NAME]
    content["models"] = {f"{task}-{m['architecture']}": m | {"task": task} for task in (NAME, OTHER) for m in models}
    content["budgets"] = {}
    policies = content["policy"]["tasks"]
    content["policy"]["tasks"] = dict.fromkeys((NAME, OTHER), policies[NAME]) if NAME in policies else {}
    return yaml.safe_dump(content)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a git and DVC repository whose ``data/`` DVC knows."""
    folder = tmp_path_factory.mktemp("repository")
    (folder / "params.yaml").write_text(params_with_two_tasks())
    write_response_folder(folder / "data" / NAME)
    (folder / "data" / NAME / "only_in_the_old.txt").write_text("old")
    dvc = [sys.executable, "-m", "dvc"]
    environment = os.environ | {"DVC_NO_ANALYTICS": "1", "DVC_SITE_CACHE_DIR": str(folder / ".dvc" / "site")}
    for command in (["git", "init", "--quiet"], [*dvc, "init", "--quiet"], [*dvc, "add", "--quiet", "data"]):
        subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
    return folder


@pytest.fixture
def repository(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    copy = shutil.copytree(template, tmp_path / "repository", symlinks=True)
    monkeypatch.chdir(copy)
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(copy / ".dvc" / "site"))
    return copy


@pytest.fixture
def params(repository: Path) -> Params:
    return read_params(repository / "params.yaml")


@pytest.fixture
def good(tmp_path: Path) -> Path:
    folder = write_response_folder(tmp_path / "good")
    column("response.parquet", "ln_ic50", lambda table: table["ln_ic50"] + 0.5)(folder)
    return folder


@dataclass
class Run:
    """The command in a repository; it answers with its exit code and keeps what it printed."""

    capsys: pytest.CaptureFixture[str]

    def __call__(self, origin: Path, *more: str) -> object:
        arguments = ["ingest", "--from", str(origin), *more]
        with patch("sys.argv", arguments), pytest.raises(SystemExit) as ended:
            run_command(module.main)
        self.out, self.err = self.capsys.readouterr()
        return ended.value.code


@pytest.fixture
def run(repository: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    return Run(capsys)


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let all data pass, in tests of how files are moved."""
    monkeypatch.setattr(module, "validate_folder", lambda folder, name, task: Validation(name, (), {}))


@pytest.fixture
def added() -> Iterator[list[Path]]:
    """Return the folders that were handed to DVC, which does not run: most tests are about the files."""
    calls: list[Path] = []
    with patch.object(module, "dvc_add", calls.append):
        yield calls
    assert not Path(".incoming").exists()


def content(folder: Path) -> dict[str, bytes]:
    return {path: data for path, data in files_below(folder).items() if not {".git", ".dvc"} & set(Path(path).parts)}


def test_sound_data_takes_the_place_of_the_old_and_dvc_knows_it(good: Path, run: Run) -> None:
    before, old = content(good), yaml.safe_load(Path("data.dvc").read_text())["outs"][0]
    assert run(good, "--task", NAME) == 0
    assert content(PLACED) == before == content(good)
    assert not Path(".incoming").exists()
    told = f"data of {NAME} is in data/ and recorded in data.dvc; next: make train TASK={NAME}\n"
    assert (run.out, run.err) == (told, "")

    new = yaml.safe_load(Path("data.dvc").read_text())["outs"][0]
    assert new["md5"] != old["md5"] and new["nfiles"] == len(before)

    def kept(md5: str) -> Path:
        return Path(".dvc", "cache", "files", "md5", md5[:2], md5[2:])

    listed = {entry["relpath"]: entry["md5"] for entry in json.loads(kept(new["md5"]).read_text())}
    assert {path: kept(md5).read_bytes() for path, md5 in listed.items()} == content(Path("data"))
    assert kept(old["md5"]).is_file()  # each version can be had again


@pytest.mark.usefixtures("unchecked")
def test_first_data_of_a_fresh_clone(good: Path, run: Run, added: list[Path]) -> None:
    shutil.rmtree("data")
    assert run(good, "--task", NAME) == 0
    assert content(Path("data")) == {f"{NAME}/{file}": data for file, data in content(good).items()}
    assert added == [Path("data")]


@pytest.mark.usefixtures("added")
def test_what_is_only_a_warning_is_told_and_taken(good: Path, run: Run) -> None:
    cell("response.parquet", 5, "ln_ic50", np.nan)(good)
    assert run(good, "--task", NAME) == 0
    assert run.err.startswith(f"warning: {NAME}/response.parquet, column ln_ic50, row 5: ")
    assert content(PLACED) == content(good)


@pytest.mark.usefixtures("unchecked")
def test_a_parent_folder_brings_its_tasks_or_the_named(good: Path, tmp_path: Path, run: Run, added: list[Path]) -> None:
    parent, data = tmp_path / "parent", Path("data")
    for name in (NAME, OTHER, "tumor_type"):
        shutil.copytree(good, parent / name)
    (parent / "README.md").write_text("for people")
    before = content(data / NAME)
    assert run(parent, "--task", OTHER) == 0
    assert (content(data / NAME), content(data / OTHER)) == (before, content(good))
    assert run(parent) == 0
    assert {path.name for path in data.iterdir()} == {NAME, OTHER}
    assert content(data / NAME) == content(data / OTHER) == content(good)
    assert added == [Path("data")] * 2  # once for both tasks


def with_notes(folder: Path) -> Path:
    (folder / "notes").mkdir()
    (folder / "notes" / "readme.txt").write_text("of the lab")
    return folder


@pytest.mark.usefixtures("unchecked", "added")
def test_hidden_files_and_those_of_an_operating_system_are_left(good: Path, run: Run) -> None:
    with_notes(good)
    before = content(good)
    for left in (".DS_Store", ".git/config", "notes/.cache", "Thumbs.db", "__MACOSX/._drugs.csv", "notes/desktop.ini"):
        (good / left).parent.mkdir(exist_ok=True)
        (good / left).write_text("not data")
    assert run(good, "--task", NAME) == 0
    assert content(PLACED) == before
    assert run.err.startswith("warning") and "'Thumbs.db'" in run.err and "'desktop.ini'" in run.err


@pytest.mark.usefixtures("unchecked", "added")
def test_read_only_sources_give_data_that_can_be_replaced(good: Path, run: Run) -> None:
    """A folder of mode 555 cannot be moved or deleted by a user who is not root."""
    paths = [with_notes(good), *good.rglob("*")]
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        for _ in range(2):
            assert run(good, "--task", NAME) == 0
            assert all(path.stat().st_mode & stat.S_IWUSR for path in (PLACED, *PLACED.rglob("*")))
        assert content(PLACED) == content(good)
        assert good.stat().st_mode & 0o777 == 0o555
    finally:
        for path in paths:
            path.chmod(0o755 if path.is_dir() else 0o644)


@pytest.mark.usefixtures("unchecked", "added")
def test_a_killed_run_leaves_nothing_in_the_way_and_data_may_come_from_where_it_is(good: Path, run: Run) -> None:
    (write_response_folder(Path(".incoming", NAME)) / "stale.parquet").write_bytes(b"stale")
    assert run(good, "--task", NAME) == 0
    assert content(PLACED) == content(good)
    assert run(Path("data").resolve()) == 0
    assert content(PLACED) == content(good)


# Faulty data.


def test_faulty_data_is_told_changes_nothing_and_keeps_other_tasks_out(
    repository: Path, good: Path, tmp_path: Path, run: Run, added: list[Path]
) -> None:
    parent, before = tmp_path / "parent", content(repository)
    assert "data.dvc" in before
    for name in (NAME, OTHER):
        shutil.copytree(good, parent / name)
    for faulty, *more in ((OTHER,), (NAME, "--task", NAME)):
        change("drugs.csv", "C1CCCCC1", "C1CCCCC(")(parent / faulty)
        assert run(parent / NAME if more else parent, *more) == 1
        assert content(repository) == before and added == []
        *refused, last = (line for line in run.err.splitlines() if line.startswith(("refused: ", "error: ")))
        assert any(line.startswith(f"refused: {faulty}/drugs.csv, column smiles, row 4: ") for line in refused)
        assert {line.split("/")[0] for line in refused} == {f"refused: {faulty}"}
        assert last == "error: the data was refused and nothing was changed" == run.err.splitlines()[-1]


@pytest.mark.parametrize(
    ("origin", "more", "says"),
    [
        ("nowhere", (), "nowhere: no such folder"),
        ("good/drugs.csv", (), "drugs.csv: is a file; name its folder"),
        ("empty", (), f"empty: has no folder named {NAME} or {OTHER}; name the task with TASK=..."),
        ("good", ("--task", "tumor"), "there is no task 'tumor'; the tasks are"),
        ("broken", ("--task", NAME), "drugs.csv cannot be copied: "),
    ],
)
@pytest.mark.usefixtures("added")
def test_a_folder_that_holds_nothing_to_bring_is_told_in_a_line(
    origin: str, more: tuple[str, ...], says: str, repository: Path, good: Path, tmp_path: Path, run: Run
) -> None:
    (tmp_path / "empty").mkdir()
    broken = shutil.copytree(good, tmp_path / "broken") / "drugs.csv"
    broken.unlink()
    broken.symlink_to(tmp_path / "nowhere.csv")
    before = content(repository)
    assert run(tmp_path / origin, *more) == 1
    assert content(repository) == before
    (line,) = run.err.splitlines()
    assert line.startswith("error: ") and says in line and run.out == ""


LINKS = {
    "pipe": "is a pipe, a device or a socket",
    "/dev/zero": "is a pipe, a device or a socket",
    "good": "leads back to",
    "..": "leads back to",
}


@pytest.mark.parametrize("to", LINKS)
@pytest.mark.usefixtures("added")
def test_a_link_that_leads_back_or_to_a_file_without_an_end_is_refused(
    to: str, repository: Path, good: Path, tmp_path: Path, run: Run
) -> None:
    os.mkfifo(tmp_path / "pipe")
    (good / "more").symlink_to(tmp_path / to)
    before = content(repository)
    assert run(good, "--task", NAME) == 1
    assert content(repository) == before
    warned, line = run.err.splitlines()
    assert LINKS[to] in line and "good/more" in line and warned.startswith("warning: ")


@pytest.mark.usefixtures("added", "unchecked")
def test_a_link_to_a_file_or_a_folder_elsewhere_is_followed_and_two_folders_that_hold_each_other_are_refused(
    repository: Path, good: Path, tmp_path: Path, run: Run
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (good / "drugs.csv").rename(tmp_path / "elsewhere" / "drugs.csv")
    (good / "drugs.csv").symlink_to(tmp_path / "elsewhere" / "drugs.csv")
    (good / "more").symlink_to(tmp_path / "elsewhere")
    assert run(good, "--task", NAME) == 0
    assert f"a link; {tmp_path / 'elsewhere' / 'drugs.csv'} is copied" in run.err
    copied = [PLACED / "drugs.csv", PLACED / "more" / "drugs.csv"]
    assert all(path.read_bytes() and not path.is_symlink() for path in copied)
    (tmp_path / "elsewhere" / "back").symlink_to(good)
    assert run(good, "--task", NAME) == 1 and "leads back to" in run.err


def test_files_without_a_task_are_not_guessed_at(params: Params, good: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="name the task with TASK="):
        sources(good, None, params)  # two tasks of the kind
    only = replace(params, tasks={NAME: params.task(NAME)})  # with a single task there is nothing to guess
    assert sources(good, None, only) == {NAME: good}
    shipped = read_params(ROOT / "params.yaml")
    (tmp_path / "cells" / "images" / "basophil").mkdir(parents=True)  # images without a table
    assert sources(tmp_path / "cells", "blood_cell", shipped) == {"blood_cell": tmp_path / "cells"}
    with pytest.raises(UserError, match="has no folder named blood_cell"):
        sources(tmp_path, "blood_cell", shipped)


# DVC that fails.


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError("disk full")])
def test_old_data_comes_back_when_dvc_fails(error: BaseException, repository: Path, good: Path, params: Params) -> None:
    def fail(data: Path) -> None:
        assert content(data / NAME) == content(data / OTHER) == content(good)  # it was in place by then
        raise error

    before = content(repository)
    with patch.object(module, "dvc_add", fail), pytest.raises(type(error)):
        bring({NAME: good, OTHER: good}, params)
    assert content(repository) == before
    assert not any(path.exists() for path in (Path("data", OTHER), Path(".incoming")))  # there was none


@pytest.mark.usefixtures("unchecked", "added")
def test_old_data_comes_back_when_moving_fails(repository: Path, good: Path, params: Params) -> None:
    """The first task is in place and the second is half moved when the disk says no."""
    write_response_folder(repository / "data" / OTHER)
    before, rename, moved = content(repository), Path.rename, list[str]()

    def fail(self: Path, target: Path) -> Path:
        moved.append(str(self))
        if str(self) == f".incoming/{OTHER}":
            raise OSError("Input/output error")
        return rename(self, target)

    with patch.object(Path, "rename", fail), pytest.raises(OSError, match="Input/output error"):
        bring({NAME: good, OTHER: good}, params)
    assert f"data/{OTHER}" in moved and content(repository) == before


@pytest.mark.usefixtures("unchecked")
def test_dvc_that_cannot_add_is_quoted_and_the_old_data_stays(repository: Path, good: Path, run: Run) -> None:
    shutil.rmtree(".dvc")
    before = content(repository)
    assert run(good, "--task", NAME) == 1
    assert content(repository) == before
    (line,) = run.err.splitlines()
    assert line.startswith("error: dvc add data failed, the old data stays: ERROR: you are not inside of a DVC")
