"""A store that refuses for good is not waited for: it is told what it is, which one, and what to do.

Tests run as root, whom permissions do not bind: stores are read-only by their address, full by SQLite's own bound.
"""

import errno
import re
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock, patch

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
from tests.empty_store import empty_store, working_in
from training.studies.storage import open_storage

TASK = "a_task"


@pytest.fixture(autouse=True)
def here(tmp_path: Path) -> Iterator[Path]:
    """Work where a store that is waited for lets the test take 300 seconds."""
    with working_in(tmp_path, "sqlite:///none.db", MLFLOW_TRACKING_USERNAME="eve", OUTAGE_SECONDS="300"):
        yield tmp_path


def store(folder: Path, how: str) -> str:
    uri, file = empty_store(folder), folder / "mlflow.db"
    if how == "read-only":
        return f"{uri.replace('///', '///file:')}?mode=ro&uri=true"
    if how == "of another release":
        with sqlite3.connect(file) as database:
            database.execute("UPDATE alembic_version SET version_num = 'abc'")
    else:
        pages = file.read_bytes()
        damaged = pages[: 2 * 4096] + b"\xff" * 4096 * 58 + pages[60 * 4096 :]
        file.write_bytes(damaged if how == "damaged" else b"no database " * 500)
    return uri


STORES = {
    "read-only": "is read-only",
    "garbage": "is no SQLite database",
    "damaged": "is damaged",
    "of another release": "another release of MLflow.*mlflow db upgrade",
}


@pytest.mark.parametrize(("how", "told"), STORES.items())
def test_a_tracking_store_that_refuses_is_told_at_once(how: str, told: str, here: Path) -> None:
    mlflow.set_tracking_uri(store(here, how))
    began = time.monotonic()
    with pytest.raises(StoreError, match=f"mlflow.db.*MLFLOW_TRACKING_URI.*{told}"), tracking.run(TASK, "fit", "a run"):
        pass
    assert time.monotonic() - began < 20
    if how == "garbage":  # the registry says so too
        with pytest.raises(UserError, match=told):
            look(TASK)


def test_a_full_tracking_store_is_told_at_once_by_calls_and_by_step_metrics(
    here: Path, request: pytest.FixtureRequest
) -> None:
    def keep_size(connection: sqlite3.Connection, _: object) -> None:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")

    sqlalchemy.event.listen(Engine, "connect", keep_size)
    request.addfinalizer(lambda: sqlalchemy.event.remove(Engine, "connect", keep_size))
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
    said = "(sqlite3.OperationalError) database is locked\n[SQL: x] [parameters: ('database or disk is full',)]"
    locked_twice = Mock(side_effect=[MlflowException(said), MlflowException(said), "done"])
    assert tracking.patiently(locked_twice) == "done"
    monkeypatch.setenv("OUTAGE_SECONDS", "0.1")
    with pytest.raises(Unreachable, match="database is locked"):
        tracking.patiently(Mock(side_effect=MlflowException(said)))


def test_a_deleted_experiment_or_run_is_named_with_what_restores_it(here: Path) -> None:
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
    mlflow.delete_run(run_id := run.info.run_id)
    told = pytest.raises(StoreError, match=f"mlflow runs restore --run-id {run_id}")
    with told, tracking.run(TASK, "fit", "again", run_id=run_id):
        pass
    with told:
        tracking.patiently(lambda: mlflow.log_metric("loss", 1.0, run_id=run_id))


def test_a_studies_database_that_refuses_is_told_at_once(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = here / "studies.db"
    monkeypatch.setenv("OPTUNA_STORAGE", f"sqlite:///{path}")
    path.mkdir()
    with pytest.raises(StoreError, match=r"studies\.db \(OPTUNA_STORAGE\) cannot be opened"):
        open_storage(wait=True)
    path.rmdir()
    path.write_bytes(b"no database " * 500)
    for wait in (True, False):
        with pytest.raises(StoreError, match=r"studies\.db \(OPTUNA_STORAGE\) is no SQLite database"):
            open_storage(wait=wait)
    path.unlink()
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


POSTGRESQL = {
    "cannot execute INSERT in a read-only transaction": "is read-only",
    'could not extend file "base/1": No space left on device': "is full",
    'FATAL:  password authentication failed for user "eve"': "account",
    'no pg_hba.conf entry for host "10.0.0.1"': "account",
    'FATAL:  database "mlflow" does not exist': "createdb",
    "permission denied for table runs": "right",
    'relation "experiments" does not exist': "other tables",
    **dict.fromkeys(
        ("connection refused", "the database system is starting up", "remaining connection slots are reserved")
    ),
}


@pytest.mark.parametrize(("said", "told"), POSTGRESQL.items())
def test_what_postgresql_says_is_understood_and_its_outages_are_waited_out(said: str, told: str | None) -> None:
    error = MlflowException(f"(psycopg.OperationalError) {said}\n[SQL: SELECT 'is read-only']")
    found = refusal(error, "the store")
    assert (found is None) == (told is None) == tracking.is_outage(error)
    assert told is None or told in str(found)


def test_a_file_that_cannot_be_written_is_named_with_the_reason(here: Path) -> None:
    full = patch.object(Path, "write_text", side_effect=OSError(errno.ENOSPC, "No space left on device"))
    with full, pytest.raises(StoreError, match=r"report\.json: .*full"):
        write_json(here / "report.json", {})
    assert not list(here.iterdir()), "nothing half written is left"
    error = OSError(errno.EROFS, "Read-only file system", str(here / "reports"))
    read_only = patch.object(Path, "mkdir", side_effect=error)
    with read_only, pytest.raises(StoreError, match=r"report\.json: is on a read-only file system"):
        write_json(here / "reports" / "report.json", {})
    with pytest.raises(FileNotFoundError), written_whole(here / "report.json"):
        (here / "what the block reads").read_bytes()
    with pytest.raises(PermissionError), written_whole(here / "report.json"):
        raise PermissionError(errno.EACCES, "Permission denied", str(here / "what the block reads"))


# Commands: one line for a refusal, a traceback for every other error.


def printed(error: BaseException, capsys: pytest.CaptureFixture[str], code: int = 1) -> str:
    def failed() -> int:
        raise error

    with pytest.raises(SystemExit) as ended:
        run_command(failed)
    assert ended.value.code == code
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (MlflowException("no", error_code=get_error_code(401)), "the tracking server .*set MLFLOW_TRACKING_USERNAME"),
        (MlflowException("no", error_code=get_error_code(403)), "the tracking server refuses: the account 'eve'"),
        (requests.HTTPError("403 Client Error", response=Mock(status_code=403)), "the tracking server refuses"),
        (OSError(errno.ENOSPC, "No space left on device", "mlruns/1/model"), "mlruns/1/model: .*full"),
        (PermissionError(errno.EACCES, "Permission denied", "mlruns"), "mlruns: .*permissions"),
        (MlflowException("(sqlite3.OperationalError) database or disk is full"), "the tracking store .*full"),
    ],
)
def test_a_refusal_is_one_line(error: Exception, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(error, capsys)
    assert text.count("\n") == 1 and re.match(f"error: {told}", text)


def test_another_error_keeps_its_traceback_and_an_interrupt_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    for error in (MlflowException("a fault", error_code=get_error_code(500)), KeyError("a fault")):
        text = printed(error, capsys)
        assert text.startswith("Traceback") and "a fault" in text
    assert printed(KeyboardInterrupt(), capsys, code=130) == "interrupted; run the same command to go on\n"
