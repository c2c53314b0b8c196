"""A real PostgreSQL of a test's own, from a wheel, that can be stopped and started."""

import contextlib
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

pgserver = pytest.importorskip("pgserver", reason="there is no wheel of pgserver for this Python")
from pgserver._commands import pg_ctl  # noqa: E402


@dataclass
class Postgres:
    """A running server; ``url`` is for SQLAlchemy, Optuna and MLflow alike."""

    server: Any

    @property
    def url(self) -> str:
        return str(self.server.get_uri()).replace("postgresql://postgres:@", "postgresql+psycopg://postgres@")

    def stop(self) -> None:
        """Stop it at once; every connection breaks."""
        pg_ctl(["-w", "-m", "immediate", "stop"], pgdata=self.server.pgdata, user=self.server.system_user)

    def start(self) -> None:
        self.server.ensure_postgres_running()

    def execute(self, statement: str) -> None:
        with psycopg.connect(self.server.get_uri(), autocommit=True) as connection:
            connection.execute(statement)

    def database(self, name: str) -> str:
        self.execute(f'create database "{name}"')
        return self.url.replace("/postgres?", f"/{name}?")


@contextlib.contextmanager
def postgres(connections: int = 100) -> Iterator[Postgres]:
    """Run a server, which does not wait for the disk.

    Its files do not lie in pytest's folders: as root it runs as another user, from whom every other pytest that starts
    on the machine would lock them.
    """
    with tempfile.TemporaryDirectory(prefix="oncolineage-pg-", ignore_cleanup_errors=True) as folder:
        running = Postgres(pgserver.get_server(folder, cleanup_mode=None))
        try:
            running.execute("alter system set fsync = off")
            running.execute("select pg_reload_conf()")
            if connections != 100:
                running.execute(f"alter system set max_connections = {connections}")
                running.stop()
                running.start()
            yield running
        finally:
            running.server.cleanup()
            with contextlib.suppress(subprocess.CalledProcessError):  # a test may have stopped it
                running.stop()
