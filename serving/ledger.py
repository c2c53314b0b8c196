"""One transaction for all of a move: history row, aliases, deprecated stages and tags, on MLflow's own SQL store.

MLflow's client sets an alias in one transaction and a stage in another, without looking whether somebody else was
faster. Here the database is locked first, the state is read again, and all is written or nothing.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from mlflow.store.model_registry.dbmodels.models import (
    SqlModelVersion,
    SqlModelVersionTag,
    SqlRegisteredModelAlias,
    SqlRegisteredModelTag,
)
from mlflow.utils.workspace_utils import DEFAULT_WORKSPACE_NAME

from pipelines import tracking
from pipelines.faults import UserError
from pipelines.store_errors import refusal
from serving import history_table
from serving.history_table import ALIASES, CANDIDATE, Entry, State, anchor, broken, next_entry, replay

REGISTRY_URI = "ONCOLINEAGE_REGISTRY_URI"
HEAD = "oncolineage.history"  # tag of the registered model: number and hash of the last row
WAIT_SECONDS = 30

_VERSIONS, _VERSION_TAGS = SqlModelVersion.__table__, SqlModelVersionTag.__table__
_ALIASES, _MODEL_TAGS = SqlRegisteredModelAlias.__table__, SqlRegisteredModelTag.__table__
_DELETED = "Deleted_Internal"


@dataclass(frozen=True)
class Found:
    """What a task's registry holds at one moment.

    Attributes
    ----------
    entries, head
        The history, and what the registered model's tag says of its last row.
    aliases
        As MLflow has them; others than the platform's are left out.
    stages
        Version to stage, as MLflow has them; versions that were deleted are left out.
    missing_triggers
        Of the history's table.
    """

    entries: tuple[Entry, ...]
    head: str | None
    aliases: dict[str, int]
    stages: dict[int, str]
    missing_triggers: tuple[str, ...] = ()

    @property
    def state(self) -> State:
        """Return what the history says."""
        return replay(self.entries)

    def moved(self) -> list[str]:
        """Return which aliases do not point where the history says, a sentence each."""
        said = self.state.aliases
        return [
            f"alias {alias} points to {_version(self.aliases.get(alias))}, "
            f"the history says {_version(said.get(alias))}: it was moved behind the tools' back"
            for alias in ALIASES
            if self.aliases.get(alias) != said.get(alias)
        ]

    def staged_wrongly(self) -> list[str]:
        """Return which versions have another deprecated stage than their alias asks for, a sentence each."""
        said = self.state.stages
        return [
            f"version {version} has the stage {stage or 'None'}, its aliases ask for {said.get(version, 'None')}"
            for version, stage in sorted(self.stages.items())
            if (stage or "None") != said.get(version, "None")
        ]

    def last_move(self) -> Entry | None:
        """Return the last row that moved more than ``candidate``."""
        return next((entry for entry in reversed(self.entries) if entry.alias != CANDIDATE), None)


def database_uri() -> str:
    """Return the registry's database: MLflow's, or what ``ONCOLINEAGE_REGISTRY_URI`` names where that is a server.

    Raises
    ------
    UserError
        It is neither SQLite nor PostgreSQL.
    """
    uri = str(tracking.mlflow.get_registry_uri())
    if uri.startswith(("http://", "https://")):
        uri = os.environ.get(REGISTRY_URI, "")
        if not uri:
            raise UserError(
                f"the registry is an MLflow server, which cannot move aliases and history in one transaction; "
                f"set {REGISTRY_URI} to the server's own database, postgresql://... or sqlite:///..."
            )
    if not uri.startswith(("sqlite:", "postgresql")):
        scheme = uri.split(":")[0]
        raise UserError(f"the registry is kept in {scheme!r}; aliases are moved in SQLite or PostgreSQL only")
    return uri


def look(task: str) -> Found:
    """Return what the registry holds of ``task`` now."""
    with _transaction(writes=False) as connection:
        return _found(connection, task)


def move(
    task: str,
    *,
    expected: Found,
    by: str,
    action: str,
    alias: str,
    to_version: int | None,
    why: str,
    evidence_sha256: str | None = None,
    verdicts: Sequence[Mapping[str, Any]] = (),
    tags: Mapping[str, str] | None = None,
) -> Entry:
    """Append a row and put aliases, stages and tags where the history then says, all or nothing.

    Parameters
    ----------
    expected
        What the decision was made on. Where an alias other than ``candidate`` was moved since, nothing is written.
    by, action, alias, to_version, why, evidence_sha256, verdicts
        Of the `serving.history_table.Entry`.
    tags
        Of the version ``to_version``.

    Raises
    ------
    UserError
        Somebody was faster; an alias was moved behind the tools' back; the version is not there.
    """
    with _transaction(writes=True) as connection:
        history_table.create(connection)
        now = _found(connection, task)
        refuse_unsound(now, task, restoring=action == history_table.RESTORE)
        if alias != CANDIDATE:
            _refuse_stale(expected, now, task)
        if to_version is not None and to_version not in now.stages:
            raise UserError(f"{task} has no version {to_version}")
        entry = next_entry(
            now.entries,
            task,
            datetime.now(UTC).isoformat(timespec="milliseconds"),
            by=by,
            action=action,
            alias=alias,
            from_version=now.aliases.get(alias),
            to_version=to_version,
            why=why,
            evidence_sha256=evidence_sha256,
            verdicts=tuple(dict(verdict) for verdict in verdicts),
        )
        history_table.append(connection, entry)
        entries = (*now.entries, entry)
        _put(connection, _MODEL_TAGS, {"name": task, "key": HEAD}, value=anchor(entries))
        state = replay(entries)
        _set_aliases(connection, task, now.aliases, state.aliases)
        _set_stages(connection, task, now.stages, state.stages)
        for key, value in (tags or {}).items():
            _put(connection, _VERSION_TAGS, {"name": task, "version": to_version, "key": key}, value=value)
    return entry


def refuse_unsound(found: Found, task: str, *, restoring: bool = False) -> None:
    """Refuse to decide anything on a history that was changed, or while aliases do not point where it says.

    Parameters
    ----------
    restoring
        Whether it is the aliases that are about to be put right.

    Raises
    ------
    UserError
        Names what does not fit, and what to do.
    """
    if problems := broken(found.entries, found.head):
        raise UserError("\n".join([*problems, f"nothing was changed: take {task}'s registry from a backup"]))
    if not restoring and (moved := found.moved()):
        restore = f"python -m serving.verify --task {task} --restore"
        raise UserError("\n".join([*moved, f"nothing was changed: put the aliases back with `{restore}`"]))


def _refuse_stale(expected: Found, now: Found, task: str) -> None:
    """Refuse a decision that was made on what no longer holds."""
    last = now.last_move()
    if last is not None and last != expected.last_move():
        did = f"moved version {last.to_version} to {last.alias}" if last.alias else "put aliases back"
        raise UserError(f"{last.by} {did} of {task} a moment ago; nothing was changed. Look and try again")


def _found(connection: sa.Connection, task: str) -> Found:
    entries = history_table.read(connection, task)
    there = history_table.exists(connection)
    head = connection.execute(sa.select(_MODEL_TAGS.c.value).where(*_of(_MODEL_TAGS, name=task, key=HEAD))).scalar()
    named = connection.execute(sa.select(_ALIASES.c.alias, _ALIASES.c.version).where(*_of(_ALIASES, name=task)))
    aliases = {alias: int(version) for alias, version in named if alias in ALIASES}
    staged = connection.execute(
        sa.select(_VERSIONS.c.version, _VERSIONS.c.current_stage).where(*_of(_VERSIONS, name=task))
    )
    stages = {int(version): stage for version, stage in staged if stage != _DELETED}
    triggers = history_table.missing_triggers(connection) if there else []
    return Found(tuple(entries), head, aliases, stages, tuple(triggers))


def _set_aliases(connection: sa.Connection, task: str, now: Mapping[str, int], wanted: Mapping[str, int]) -> None:
    for alias in ALIASES:
        if alias in wanted and now.get(alias) != wanted[alias]:
            _put(connection, _ALIASES, {"name": task, "alias": alias}, version=wanted[alias])
        elif alias in now and alias not in wanted:
            connection.execute(sa.delete(_ALIASES).where(*_of(_ALIASES, name=task, alias=alias)))


def _set_stages(connection: sa.Connection, task: str, now: Mapping[int, str], wanted: Mapping[int, str]) -> None:
    """Keep the stage column right while MLflow still has it, for older UIs."""
    for version, stage in now.items():
        if (stage or "None") != (right := wanted.get(version, "None")):
            statement = sa.update(_VERSIONS).where(*_of(_VERSIONS, name=task, version=version))
            time = int(datetime.now(UTC).timestamp() * 1000)
            connection.execute(statement.values(current_stage=right, last_updated_time=time))


def _of(table: sa.Table, **values: Any) -> list[sa.ColumnElement[bool]]:
    return [table.c[key] == value for key, value in {"workspace": DEFAULT_WORKSPACE_NAME, **values}.items()]


def _put(connection: sa.Connection, table: sa.Table, key: dict[str, Any], **values: Any) -> None:
    """Update the row with this key, or insert it."""
    if connection.execute(sa.update(table).where(*_of(table, **key)).values(**values)).rowcount == 0:
        connection.execute(sa.insert(table).values(workspace=DEFAULT_WORKSPACE_NAME, **key, **values))


def _version(version: int | None) -> str:
    return "nothing" if version is None else f"version {version}"


@contextmanager
def _transaction(*, writes: bool) -> Iterator[sa.Connection]:
    """Open a transaction that no other writer shares, with faults of the database told in a sentence."""
    uri = database_uri()
    engine = _engine(uri, writes)
    try:
        with engine.begin() as connection:
            if writes and connection.dialect.name == "postgresql":
                connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{WAIT_SECONDS}s'")
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(zlib.crc32(history_table.TABLE.encode()))))
            yield connection
    except sa.exc.DBAPIError as error:
        shown = sa.make_url(uri).render_as_string(hide_password=True)
        store = f"the registry's database {shown}"
        raise refusal(error, store) or UserError(f"{store} cannot be used: {error.orig}; try again") from error
    finally:
        engine.dispose()


def _engine(uri: str, writes: bool) -> sa.Engine:
    """Return an engine of its own: MLflow's would begin a transaction on SQLite only with the first write."""
    engine = sa.create_engine(_with_driver(uri), poolclass=sa.pool.NullPool)
    if engine.dialect.name == "postgresql" and not writes:  # all that is read is of one moment
        return engine.execution_options(isolation_level="REPEATABLE READ")
    if engine.dialect.name == "sqlite":
        begin = "BEGIN IMMEDIATE" if writes else "BEGIN"

        def connected(connection: Any, _: Any) -> None:
            connection.isolation_level = None  # SQLAlchemy, not the driver, begins
            connection.execute(f"PRAGMA busy_timeout = {WAIT_SECONDS * 1000}")

        def begun(connection: sa.Connection) -> None:
            connection.exec_driver_sql(begin)

        _listen(engine, "connect", connected)
        _listen(engine, "begin", begun)
    return engine


def _listen(engine: sa.Engine, event: str, does: Callable[..., None]) -> None:
    sa.event.listen(engine, event, does)


def _with_driver(uri: str) -> str:
    """Name psycopg where the URI names no driver: SQLAlchemy's default is psycopg2, which is not installed."""
    return uri.replace("postgresql:", "postgresql+psycopg:", 1) if uri.startswith("postgresql:") else uri
