"""Where the platform keeps what no run can make again: databases and artifacts, as the environment names them.

The tracking database holds experiments, runs, the registry and, where the server has accounts, those too; the history
of the registry lies there or in a database of its own, and the studies in another. Artifacts are read and written where
they lie: of a tracking server that hands them on (``mlflow-artifacts:/...``), ``ONCOLINEAGE_ARTIFACTS_URI`` names the
server's own ``--artifacts-destination``, so that a backup needs no running server, and a restore none that would make
tables before it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import urllib.parse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.errors import UserError
from pipelines.redaction import redacted

if TYPE_CHECKING:
    import sqlalchemy as sa

ARTIFACTS_URI = "ONCOLINEAGE_ARTIFACTS_URI"
TRACKING, STUDIES, HISTORY = "tracking", "studies", "history"
SQLITE, POSTGRESQL = "sqlite", "postgresql"


@dataclass(frozen=True)
class Database:
    """One database.

    Attributes
    ----------
    name
        ``tracking``, ``studies`` or ``history``.
    uri
        As SQLAlchemy reads it; it may hold a password, and is shown by ``str`` alone.
    """

    name: str
    uri: str

    def __str__(self) -> str:
        return f"{self.name} database {self._url.render_as_string(hide_password=True)}"

    @property
    def kind(self) -> str:
        """Return ``sqlite`` or ``postgresql``."""
        return self._url.get_backend_name()

    @property
    def path(self) -> Path:
        """Return the file of an SQLite database."""
        assert self.kind == SQLITE
        return Path(str(self._url.database))

    def is_empty(self) -> bool:
        """Whether nothing is there that a restore would write over: no file, or no table."""
        if self.kind == SQLITE:
            return not any(Path(f"{self.path}{end}").exists() for end in ("", "-wal", "-journal"))
        return not self.tables()

    def tables(self) -> list[str]:
        """Return the names of its tables; raises `UserError` where it cannot be asked."""
        import sqlalchemy as sa

        return self._asked(lambda connection: sa.inspect(connection).get_table_names())

    def values(self, column: str) -> set[str]:
        """Return what stands in ``table.column``, none where there is no such table."""
        table, _, name = column.partition(".")
        if table not in self.tables():
            return set()
        rows = self._asked(lambda connection: list(connection.exec_driver_sql(f"SELECT DISTINCT {name} FROM {table}")))
        return {value for (value,) in rows if value}

    def _asked(self, question: Any) -> Any:
        import sqlalchemy as sa

        engine = sa.create_engine(self._url, poolclass=sa.pool.NullPool)
        try:
            with engine.connect() as connection:
                return question(connection)
        except sa.exc.DBAPIError as error:
            raise UserError(f"the {self} cannot be used: {error.orig}") from error
        finally:
            engine.dispose()

    def call(self, tool: str, *arguments: str) -> None:
        """Run one of PostgreSQL's own tools on the database, the password in its environment and not on its line.

        Raises
        ------
        UserError
            The tool is not installed, is older than the server, or failed.
        """
        if (found := shutil.which(tool)) is None:
            raise UserError(
                f"{tool} is not installed; install PostgreSQL's client tools (Debian: postgresql-client), of the "
                "server's version or a newer one"
            )
        url = self._url.set(drivername="postgresql")
        shown = url._replace(password=None).render_as_string(hide_password=False)
        secret = {} if not url.password else {"PGPASSWORD": str(url.password)}
        done = subprocess.run(
            [found, *arguments, f"--dbname={shown}"],
            env={**os.environ, **secret},
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        if done.returncode:
            raise UserError(f"{tool} failed on the {self}: {redacted(done.stderr.strip()) or done.returncode}")

    @property
    def _url(self) -> sa.URL:
        import sqlalchemy as sa

        return sa.make_url(self.uri)


def databases() -> list[Database]:
    """Return the databases that the environment names: tracking, studies, and the history's where it has its own.

    Where tracking is a server, the history's database stands for the server's: it lies there, unless a team reaches the
    server by HTTP alone, and then only who runs the server can save what the server holds.

    Raises
    ------
    UserError
        One is neither PostgreSQL nor an SQLite file, or tracking store and registry are two.
    """
    from pipelines import tracking
    from serving.alias_moves import history_uri
    from training.studies.storage import storage_url

    uri, history = str(tracking.mlflow.get_tracking_uri()), history_uri()
    if uri != str(tracking.mlflow.get_registry_uri()):
        raise UserError("tracking store and registry are two databases; a backup takes one that holds both")
    if uri.startswith(("http://", "https://")):
        uri = history
    found = [Database(TRACKING, uri), Database(STUDIES, storage_url())]
    if history != uri:
        found.append(Database(HISTORY, history))
    for each in found:
        if each.kind not in (SQLITE, POSTGRESQL) or (each.kind == SQLITE and str(each.path) in ("None", ":memory:")):
            raise UserError(f"the {each} is neither PostgreSQL nor an SQLite file, and is not backed up")
    return found


def artifact_locations(database: Database) -> list[str]:
    """Return where the tracking database says that artifacts lie, none of the places below another."""
    from serving.mlflow_private import ARTIFACT_LOCATIONS

    every = {str(location) for column in ARTIFACT_LOCATIONS for location in database.values(column)}
    kept: list[str] = []
    for location in sorted(every):
        if not any(location.startswith(f"{above.rstrip('/')}/") for above in kept):
            kept.append(location)
    return kept


def opened(location: str) -> Any:
    """Return MLflow's repository of an artifact location, that behind the server where the location is the server's.

    Raises
    ------
    UserError
        `ARTIFACTS_URI` is needed and not set, or the library that reads the place is not installed.
    """
    from mlflow.exceptions import MlflowException

    from serving.mlflow_private import artifact_repository

    try:
        return artifact_repository(behind_server(location))
    except (ImportError, MlflowException) as error:
        raise UserError(f"artifacts at {location} cannot be reached: {error}") from error


def behind_server(location: str) -> str:
    """Return a location as the machine itself reaches it."""
    place = re.fullmatch(r"mlflow-artifacts:(?://[^/]*)?/+(.*)", location)
    if place is None:
        return location
    destination = os.environ.get(ARTIFACTS_URI, "").strip()
    if not destination:
        raise UserError(
            f"artifacts lie at {location}, behind the tracking server; set {ARTIFACTS_URI} to what the server was "
            "given as --artifacts-destination"
        )
    return f"{destination.rstrip('/')}/{place[1]}"


def local_folder(location: str) -> Path | None:
    """Return the folder of a location that is one on this machine, else None."""
    parts = urllib.parse.urlparse(behind_server(location))
    return Path(urllib.parse.unquote(parts.path)) if parts.scheme in ("", "file") else None
