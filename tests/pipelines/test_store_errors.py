"""A store that refuses for good is not waited for: it is told what it is, which one, and what to do.

Tests run as root, whom permissions do not bind: stores are read-only by their address, full by SQLite's own bound.
"""

from __future__ import annotations

import errno
import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
import mlflow.cli
import pytest
import requests
import sqlalchemy
from click.testing import CliRunner
from mlflow.exceptions import MlflowException, get_error_code
from optuna.study import StudyDirection
from sqlalchemy.engine import Engine

from pipelines import tracking
from pipelines.command import run_command
from pipelines.errors import UserError
from pipelines.files import write_json, written_whole
from pipelines.retry import Unreachable
from pipelines.step_metrics import sending
from pipelines.store_errors import StoreError, refusal
from serving.alias_moves import look
from tests.empty_store import empty_store
from training.studies.storage import open_storage

TASK = "a_task"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OUTAGE_SECONDS", "300")  # a store that is waited for lets the test take so long
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "false")
    monkeypatch.setattr(tracking, "git", lambda *arguments: None)
    before = mlflow.get_tracking_uri()
    yield tmp_path
    mlflow.set_tracking_uri(before)


def _read_only(folder: Path) -> str:
    return f"{empty_store(folder).replace('///', '///file:')}?mode=ro&uri=true"


def _garbage(folder: Path) -> str:
    (folder / "mlflow.db").write_bytes(b"no database " * 500)
    return f"sqlite:///{folder / 'mlflow.db'}"


def _damaged(folder: Path) -> str:
    uri = empty_store(folder)
    with (folder / "mlflow.db").open("r+b") as file:
        file.seek(2 * 4096)
        file.write(b"\xff" * 4096 * 58)
    return uri


def _other_release(folder: Path) -> str:
    uri = empty_store(folder)
    with sqlite3.connect(folder / "mlflow.db") as database:
        database.execute("UPDATE alembic_version SET version_num = 'abc'")
    return uri


STORES: dict[str, tuple[Callable[[Path], str], str]] = {
    "read-only": (_read_only, "is read-only"),
    "garbage": (_garbage, "is no SQLite database"),
    "damaged": (_damaged, "is damaged"),
    "of another release": (_other_release, "another release of MLflow.*mlflow db upgrade"),
}


@pytest.mark.parametrize(("made", "told"), STORES.values(), ids=STORES)
def test_a_tracking_store_that_refuses_is_told_at_once(made: Callable[[Path], str], told: str, here: Path) -> None:
    mlflow.set_tracking_uri(made(here))
    began = time.monotonic()
    with pytest.raises(StoreError, match=f"mlflow.db.*MLFLOW_TRACKING_URI.*{told}"), tracking.run(TASK, "fit", "a run"):
        pass
    assert time.monotonic() - began < 20


@pytest.fixture
def bounded() -> Iterator[None]:
    """Let every SQLite database that is opened from here on be as full as it is."""

    def full(connection: sqlite3.Connection, _: object) -> None:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")

    sqlalchemy.event.listen(Engine, "connect", full)
    yield
    sqlalchemy.event.remove(Engine, "connect", full)


@pytest.mark.usefixtures("bounded")
def test_a_full_tracking_store_is_told_at_once_by_calls_and_by_step_metrics(here: Path) -> None:
    mlflow.set_tracking_uri(empty_store(here))
    run_id = mlflow.MlflowClient().create_run("0").info.run_id
    full = pytest.raises(StoreError, match=r"mlflow\.db.* is full; free or add space")
    with full:
        for number in range(200):
            tracking.patiently(lambda number=number: mlflow.MlflowClient().set_tag(run_id, str(number), "x" * 4000))  # type: ignore[misc]
    with full, sending(run_id) as steps:
        for step in range(50_000):
            steps.log({"loss": 1.0}, step)


def test_a_database_that_is_locked_is_waited_for(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def locked_twice() -> str:
        calls.append(1)
        if len(calls) < 3:
            raise MlflowException(
                "(sqlite3.OperationalError) database is locked\n[SQL: x] [parameters: ('database or disk is full',)]"
            )
        return "done"

    assert tracking.patiently(locked_twice) == "done"
    monkeypatch.setenv("OUTAGE_SECONDS", "0.1")
    calls.clear()
    with pytest.raises(Unreachable, match="database is locked"):
        tracking.patiently(locked_twice)


# Deleted in the UI


def test_a_deleted_experiment_is_named_with_what_restores_it(here: Path) -> None:
    mlflow.set_tracking_uri(uri := empty_store(here))
    deleted = mlflow.create_experiment(TASK)
    mlflow.delete_experiment(deleted)
    command = f"mlflow experiments restore --experiment-id {deleted}"
    with pytest.raises(StoreError, match=f"{TASK}.*{command}"), tracking.run(TASK, "fit", "a run"):
        pass
    with pytest.raises(StoreError, match=command):
        tracking.patiently(lambda: mlflow.MlflowClient().create_run(deleted))
    done = CliRunner().invoke(mlflow.cli.cli, command.split()[1:], env={"MLFLOW_TRACKING_URI": uri})
    assert done.exit_code == 0, done.output
    with tracking.run(TASK, "fit", "a run") as run:
        assert run.info.experiment_id == deleted


def test_a_deleted_run_is_named_with_what_restores_it(here: Path) -> None:
    mlflow.set_tracking_uri(empty_store(here))
    with tracking.run(TASK, "fit", "a run") as run:
        pass
    mlflow.delete_run(run_id := run.info.run_id)
    told = pytest.raises(StoreError, match=f"mlflow runs restore --run-id {run_id}")
    with told, tracking.run(TASK, "fit", "again", run_id=run_id):
        pass
    with told:
        tracking.patiently(lambda: mlflow.log_metric("loss", 1.0, run_id=run_id))


# Other stores


def test_a_studies_database_that_refuses_is_told_at_once(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = here / "studies.db"
    monkeypatch.setenv("OPTUNA_STORAGE", f"sqlite:///{path}")
    refusing: list[tuple[Callable[[], object], Callable[[], object], str]] = [
        (lambda: path.write_bytes(b"no database " * 500), path.unlink, "is no SQLite database"),
        (path.mkdir, path.rmdir, "cannot be opened"),
    ]
    for made, unmade, told in refusing:
        made()
        for wait in (True, False):
            with pytest.raises(StoreError, match=rf"studies\.db \(OPTUNA_STORAGE\) {told}"):
                open_storage(wait=wait)
        unmade()
    open_storage(wait=False)
    monkeypatch.setenv("OPTUNA_STORAGE", f"sqlite:///file:{path}?mode=ro&uri=true")
    storage = open_storage(wait=False)
    assert storage.get_all_studies() == []
    with pytest.raises(StoreError, match="is read-only"):
        storage.create_new_study([StudyDirection.MINIMIZE], "one")
    with sqlite3.connect(path) as database:
        database.execute("UPDATE alembic_version SET version_num = 'v2.4.0.a'")
    with pytest.raises(StoreError, match=r"another release of Optuna.*optuna storage upgrade"):
        open_storage(wait=False)


def test_the_registry_says_what_is_wrong_with_its_database(here: Path) -> None:
    mlflow.set_tracking_uri(_garbage(here))
    with pytest.raises(UserError, match="is no SQLite database"):
        look(TASK)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("cannot execute INSERT in a read-only transaction", "is read-only"),
        ('could not extend file "base/1": No space left on device', "is full"),
        ('FATAL:  password authentication failed for user "eve"', "account"),
        ('no pg_hba.conf entry for host "10.0.0.1"', "account"),
        ('FATAL:  role "eve" does not exist', "account"),
        ('FATAL:  database "mlflow" does not exist', "createdb"),
        ("permission denied for table runs", "right"),
        ('relation "experiments" does not exist', "other tables"),
        ("connection refused", None),
        ("the database system is starting up", None),
        ("server closed the connection unexpectedly", None),
        ("remaining connection slots are reserved", None),
    ],
)
def test_what_postgresql_says_is_understood_and_its_outages_are_waited_out(said: str, told: str | None) -> None:
    error = MlflowException(f"(psycopg.OperationalError) {said}\n[SQL: SELECT 'is read-only']")
    found = refusal(error, "the store")
    assert (found is None) == (told is None) == tracking.is_outage(error)
    assert told is None or told in str(found)


# Files


def test_a_file_that_cannot_be_written_is_named_with_the_reason(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        with Path("/dev/full").open("wb", buffering=0) as file:
            file.write(b"x")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_text", full)
        with pytest.raises(StoreError, match=r"report\.json: .*full"):
            write_json(here / "report.json", {})
    assert not list(here.iterdir()), "nothing half written is left"
    read_only = OSError(errno.EROFS, "Read-only file system", str(here / "reports"))
    with monkeypatch.context() as patched:
        patched.setattr(Path, "mkdir", lambda *_, **__: (_ for _ in ()).throw(read_only))
        with pytest.raises(StoreError, match=r"report\.json: is on a read-only file system"):
            write_json(here / "reports" / "report.json", {})
    with pytest.raises(FileNotFoundError), written_whole(here / "report.json"):
        (here / "what the block reads").read_bytes()
    with pytest.raises(PermissionError), written_whole(here / "report.json"):
        raise PermissionError(errno.EACCES, "Permission denied", str(here / "what the block reads"))


# Commands: one line for a refusal, a traceback for every other error.


FORBIDDEN = requests.Response()
FORBIDDEN.status_code = 403


def printed(error: Exception, capsys: pytest.CaptureFixture[str]) -> str:
    """Return what a command prints that fails with ``error``."""

    def failed() -> int:
        raise error

    with pytest.raises(SystemExit) as ended:
        run_command(failed)
    assert ended.value.code == 1
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (MlflowException("no", error_code=get_error_code(401)), "the tracking server .*set MLFLOW_TRACKING_USERNAME"),
        (MlflowException("no", error_code=get_error_code(403)), "the tracking server refuses: the account 'eve'"),
        (requests.HTTPError("403 Client Error", response=FORBIDDEN), "the tracking server refuses"),
        (OSError(errno.ENOSPC, "No space left on device", "mlruns/1/model"), "mlruns/1/model: .*full"),
        (PermissionError(errno.EACCES, "Permission denied", "mlruns"), "mlruns: .*permissions"),
        (MlflowException("(sqlite3.OperationalError) database or disk is full"), "the tracking store .*full"),
    ],
)
def test_a_refusal_is_one_line(
    error: Exception, told: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "eve")
    text = printed(error, capsys)
    assert text.count("\n") == 1 and re.match(f"error: {told}", text)


@pytest.mark.parametrize("error", [MlflowException("a fault", error_code=get_error_code(500)), KeyError("a fault")])
def test_another_error_keeps_its_traceback(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(error, capsys)
    assert text.startswith("Traceback") and "a fault" in text


def test_interrupting_a_command_says_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted() -> int:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as ended:
        run_command(interrupted)
    assert ended.value.code == 130
    assert capsys.readouterr().err == "interrupted; run the same command to go on\n"
