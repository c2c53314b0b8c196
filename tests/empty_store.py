"""An MLflow database with nothing in it: its migrations take seconds, a copy of one takes none."""

import contextlib
import sqlite3
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import mlflow
import pytest
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from pipelines import tracking


def empty_store(folder: Path) -> str:
    """Write an empty ``mlflow.db`` into ``folder`` and return its URI."""
    path = folder / "mlflow.db"
    assert not path.exists()
    path.write_bytes(_made())
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE experiments SET artifact_location = ?", [str(folder / "mlruns" / "0")])
    return f"sqlite:///{path}"


@contextlib.contextmanager
def working_in(folder: Path, uri: str | None = None, **env: str) -> Iterator[Path]:
    """Work in a folder with a tracking store of its own, an empty one without ``uri``, and without git."""
    before, uri = mlflow.get_tracking_uri(), uri or empty_store(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(tracking, "git", lambda *arguments: None)
        for name, value in {"MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING": "false", "MLFLOW_TRACKING_URI": uri, **env}.items():
            patch.setenv(name, value)
        mlflow.set_tracking_uri(uri)
        try:
            yield folder
        finally:
            mlflow.set_tracking_uri(before)


@cache
def _made() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        store = SqlAlchemyStore(f"sqlite:///{folder}/mlflow.db", f"{folder}/artifacts")
        store.engine.dispose()
        return Path(folder, "mlflow.db").read_bytes()
