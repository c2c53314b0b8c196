"""A backup that does not come back is none: originals are destroyed, then registry, history and studies read."""

import json
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from unittest.mock import Mock

import optuna
import pytest
import sqlalchemy as sa
from mlflow import MlflowClient

from pipelines.errors import UserError
from pipelines.file_hashes import file_hashes
from serving import alias_moves, audit_log, registry
from serving import backup as serving_backup
from serving.registry import verify
from serving.stores import Database, artifact_locations, backup, behind_server, databases, restore
from tests.evaluation.made_evidence import TASK
from tests.serving.made_registry import BY, POLICY, aliases, made_again, made_once, made_version, tracked


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a checkout whose version 1 is in staging, with a study beside it."""
    folder = tmp_path_factory.mktemp("backup") / "checkout"
    with made_once(folder) as client:
        made_version(client)
        registry.promote(TASK, "staging", by=BY, policy=POLICY)
        study = optuna.create_study(study_name="kept", storage=f"sqlite:///{folder}/optuna.db")
        study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
    return folder


@pytest.fixture
def checkout(made: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("OPTUNA_STORAGE", f"sqlite:///{made}/optuna.db")
    with made_again(made):
        yield made


def destroy(folder: Path) -> None:
    for name in ("mlflow.db", "optuna.db"):
        (folder / name).unlink()
    shutil.rmtree(folder / "mlruns")


def test_what_was_destroyed_comes_back(checkout: Path, tmp_path: Path) -> None:
    to = tmp_path / "saved"
    artifacts = file_hashes(checkout / "mlruns")
    assert artifacts
    client = MlflowClient()
    history, pointed = registry.history(TASK), aliases(client)
    assert [entry.action for entry in history] == ["register", "promote"]
    backup(to)
    destroy(checkout)
    restore(to)
    assert registry.history(TASK) == history
    assert aliases(client) == pointed == {"candidate": 1, "staging": 1}
    assert verify(TASK) == []  # history, aliases, evidence, files, and the triggers that keep the history
    assert file_hashes(checkout / "mlruns") == artifacts
    study = optuna.load_study(study_name="kept", storage=f"sqlite:///{checkout}/optuna.db")
    assert len(study.trials) == 3
    assert to.stat().st_mode & 0o077 == 0  # accounts' password hashes are in it


def test_a_history_with_a_database_of_its_own_comes_back_too(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    to, own = tmp_path / "saved", checkout / "history.db"
    monkeypatch.setenv("ONCOLINEAGE_HISTORY_URI", f"sqlite:///{own}")
    shutil.copy(checkout / "mlflow.db", own)
    assert [each.name for each in databases()] == ["tracking", "studies", "history"]
    with monkeypatch.context() as patched:  # a version is moved between one database and the other
        save = Database.save

        def moved(database: Database, file: Path) -> None:
            save(database, file)
            if database.name == "tracking":
                made_version(MlflowClient())

        patched.setattr(Database, "save", moved)
        with pytest.raises(UserError, match="a version was moved meanwhile, nothing was saved"):
            backup(to)
        assert not to.exists()
    history = registry.history(TASK)
    backup(to)
    destroy(checkout)
    own.unlink()
    with monkeypatch.context() as patched:
        patched.delenv("ONCOLINEAGE_HISTORY_URI")
        with pytest.raises(UserError, match=r"holds a history database .*set ONCOLINEAGE_HISTORY_URI"):
            restore(to)
    restore(to)
    assert registry.history(TASK) == history and own.is_file()
    assert verify(TASK) == []


def test_over_http_the_history_is_saved_and_the_lack_of_runs_is_told(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = audit_log.read(sa.create_engine(alias_moves.history_uri()), TASK)
    own = f"sqlite:///{checkout}/history.db"
    monkeypatch.setenv("ONCOLINEAGE_HISTORY_URI", own)
    audit_log.create(sa.create_engine(own))
    for entry in rows.entries:
        audit_log.append(sa.create_engine(own), entry)
    monkeypatch.setattr("sys.argv", ["serving.backup", "--to", str(tmp_path / "saved")])
    with tracked("http://127.0.0.1:9"):  # which is not asked
        assert serving_backup.main() == 0
        assert "holds no runs and artifacts" in capsys.readouterr().out
        for name in ("history.db", "optuna.db"):
            (checkout / name).unlink()
        restore(tmp_path / "saved")
    assert audit_log.read(sa.create_engine(own), TASK) == rows


def test_nothing_is_written_over_and_a_restore_that_was_broken_off_goes_on(checkout: Path, tmp_path: Path) -> None:
    to = tmp_path / "saved"
    backup(to)
    before = file_hashes(checkout)
    with pytest.raises(UserError, match="is not empty; nothing was restored"):
        restore(to)
    with pytest.raises(UserError, match="is not overwritten"):
        backup(to)
    assert file_hashes(checkout) == before
    stores = [checkout / "mlflow.db", checkout / "optuna.db"]
    for store in stores:
        store.unlink()
    victim = next((checkout / "mlruns").rglob("code.py"))
    victim.write_text("answer = 43\n")
    with pytest.raises(UserError, match=r"lie other artifacts .*code\.py was changed"):
        restore(to)
    assert not stores[0].exists() and victim.read_text() == "answer = 43\n"
    victim.unlink()  # the others are there already
    restore(to)
    assert verify(TASK) == []
    shutil.rmtree(checkout / "mlruns")
    now = [store.read_bytes() for store in stores]
    assert verify(TASK) != []
    restore(to, artifacts_only=True)  # a lost store comes back alone
    assert verify(TASK) == []
    assert [store.read_bytes() for store in stores] == now


def test_a_damaged_or_rewritten_backup_is_refused_by_name(checkout: Path, tmp_path: Path) -> None:
    to = tmp_path / "whole"
    backup(to)
    destroy(checkout)
    damages: list[tuple[str, Callable[[Path], object], str]] = [
        ("databases/tracking.db", lambda path: path.write_bytes(path.read_bytes() + b"x"), "was changed"),
        ("databases/studies.db", Path.unlink, "is missing"),
        ("code.py", lambda path: path.rename(f"{path}.x"), "was added"),
    ]
    for place, (name, damage, says) in enumerate(damages):
        damaged = shutil.copytree(to, tmp_path / str(place))
        damage(damaged / name if "/" in name else next(damaged.rglob(name)))
        with pytest.raises(UserError, match=rf"damaged, nothing was restored: .*{Path(name).name}.*{says}"):
            restore(damaged)
    with pytest.raises(UserError, match="it is another backup, or was changed"):
        restore(to, sha256="0" * 64)
    manifest = json.loads((to / "manifest.json").read_text())
    (to / "manifest.json").write_text(json.dumps(manifest | {"format": 2}))
    with pytest.raises(UserError, match="format 2"):
        restore(to)
    assert not (checkout / "mlflow.db").exists() and not (checkout / "mlruns").exists()


def test_a_database_that_is_written_meanwhile_is_saved_whole(checkout: Path, tmp_path: Path) -> None:
    """Every transaction writes two rows: a torn copy would hold an odd number, or fail SQLite's own check."""
    database, begun, stop = checkout / "mlflow.db", threading.Event(), threading.Event()
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE pairs (number INTEGER)")

    def write() -> None:
        with closing(sqlite3.connect(database, timeout=30)) as connection:
            while not stop.wait(0.002):
                with connection:
                    connection.execute("INSERT INTO pairs VALUES (1)")
                    connection.execute("INSERT INTO pairs VALUES (1)")
                begun.set()

    with ThreadPoolExecutor() as pool, tracked(f"sqlite:///{database}"):
        writing = pool.submit(write)
        try:
            assert begun.wait(30)
            backup(tmp_path / "saved")
        finally:
            stop.set()
        writing.result()
    with closing(sqlite3.connect(tmp_path / "saved" / "databases" / "tracking.db")) as saved:
        assert saved.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        pairs = saved.execute("SELECT COUNT(*) FROM pairs").fetchone()[0]
    with closing(sqlite3.connect(database)) as now:
        written = now.execute("SELECT COUNT(*) FROM pairs").fetchone()[0]
    assert 2 < written >= pairs > 0 and pairs % 2 == 0


def test_what_cannot_be_saved_is_said_and_leaves_nothing(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ONCOLINEAGE_ARTIFACTS_URI", raising=False)
    with pytest.raises(UserError, match="set ONCOLINEAGE_ARTIFACTS_URI"):
        behind_server("mlflow-artifacts:/1")
    monkeypatch.setenv("ONCOLINEAGE_ARTIFACTS_URI", "s3://bucket/runs/")
    assert behind_server("mlflow-artifacts://host:5000/1/a") == "s3://bucket/runs/1/a"
    assert behind_server("mlflow-artifacts:/1") == "s3://bucket/runs/1"
    places = artifact_locations(databases()[0])
    assert places and not any(a != b and a.startswith(f"{b}/") for a in places for b in places)
    monkeypatch.setattr("serving.stores.artifact_repository", Mock(side_effect=UserError("cannot be reached")))
    with pytest.raises(UserError, match="cannot be reached"):
        backup(tmp_path / "saved")
    for name in ("get_tracking_uri", "get_registry_uri"):
        monkeypatch.setattr(f"mlflow.{name}", lambda: f"sqlite:///{tmp_path}/none.db")
    with pytest.raises(UserError, match="no tracking database to save"):
        backup(tmp_path / "saved")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv("OPTUNA_STORAGE", "mysql+pymysql://lab:secret-word@host/studies")
    with pytest.raises(UserError, match="is neither PostgreSQL") as caught:
        databases()
    assert "secret-word" not in str(caught.value)
