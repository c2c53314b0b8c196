"""An MLflow database with nothing in it: its migrations take seconds, a copy of one takes none."""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
from functools import cache
from pathlib import Path

from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore


def empty_store(folder: Path) -> str:
    """Write an empty ``mlflow.db`` into ``folder`` and return its URI."""
    path = folder / "mlflow.db"
    assert not path.exists()
    path.write_bytes(_made())
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE experiments SET artifact_location = ?", [str(folder / "mlruns" / "0")])
    return f"sqlite:///{path}"


@cache
def _made() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        store = SqlAlchemyStore(f"sqlite:///{folder}/mlflow.db", f"{folder}/artifacts")
        store.engine.dispose()
        return Path(folder, "mlflow.db").read_bytes()
