"""A move of a version: an intent, the aliases through MLflow's public client, and the row of the history.

The history lies in an SQL database, and MLflow may be a server that is reached by HTTP alone, so no transaction spans
the two. A move therefore has three steps. The row to append is written as an intent; aliases, deprecated stages and
tags are set; the row is appended and the intent deleted. A lock on the task is held meanwhile and is released when its
holder dies. Whoever takes it next and finds an intent finishes the move if its alias was moved, else withdraws it.
"""

import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from filelock import FileLock, Timeout
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from evaluation.promotion.signatures import HEAD, HISTORY_TAG
from pipelines import tracking
from pipelines.errors import UserError
from pipelines.redaction import redacted
from pipelines.store_errors import refusal
from serving import audit_log, signing
from serving.audit_log import (
    ALIASES,
    CANDIDATE,
    RESTORE,
    TRIAL,
    Entry,
    Intent,
    State,
    anchor,
    broken,
    next_entry,
    replay,
)

HISTORY_URI = "ONCOLINEAGE_HISTORY_URI"
WAIT_SECONDS = 30


@dataclass(frozen=True)
class Found:
    """The history of a task, the tag ``head`` of its last row, MLflow's aliases and stages, and an interrupted move."""

    entries: tuple[Entry, ...]
    head: str | None
    aliases: dict[str, int]
    stages: dict[int, str | None]  # None where MLflow no longer has stages
    missing_triggers: tuple[str, ...] = ()
    intent: Intent | None = None  # of a move that this user may not finish
    signature: str | None = None  # tag of the registered model
    tags: Mapping[int, Mapping[str, str]] = field(default_factory=dict)  # of each version

    @property
    def state(self) -> State:
        """Return what the history says."""
        return replay(self.entries)

    @property
    def entries_after(self) -> tuple[Entry, ...]:
        """Return the history as it is once the intent is carried out."""
        return self.entries if self.intent is None else (*self.entries, self.intent.entry)

    def broken(self) -> list[str]:
        """Return what is wrong with the history, a sentence each; its tag may be that of the move under way."""
        after = self.entries_after
        return broken(after if self.head == anchor(after) else self.entries, self.head)

    def moved(self) -> list[str]:
        """Return which aliases do not point where the history says, a sentence each."""
        expected, after = self.state.aliases, replay(self.entries_after).aliases
        return [
            f"alias {alias} points to {_version(self.aliases.get(alias))}, the history says "
            f"{_version(expected.get(alias))}: it was moved without these commands"
            for alias in ALIASES
            if self.aliases.get(alias) not in (expected.get(alias), after.get(alias))
        ]

    def staged_wrongly(self) -> list[str]:
        """Return which versions have another deprecated stage than their alias asks for, a sentence each."""
        expected, after = self.state.stages, replay(self.entries_after).stages
        return [
            f"version {version} has the stage {stage}, its aliases ask for {expected.get(version, 'None')}"
            for version, stage in sorted(self.stages.items())
            if stage not in (None, expected.get(version, "None"), after.get(version, "None"))
        ]

    def last_move(self) -> Entry | None:
        """Return the last row that moved more than ``candidate``."""
        moves = (entry for entry in reversed(self.entries) if entry.alias != CANDIDATE and entry.action != TRIAL)
        return next(moves, None)


def history_uri() -> str:
    """Return the history's database: ``ONCOLINEAGE_HISTORY_URI``, or MLflow's own if that is a database."""
    uri = os.environ.get(HISTORY_URI, "").strip()
    if uri:
        return uri
    uri = str(tracking.mlflow.get_registry_uri())
    try:
        sa.make_url(uri).get_dialect()
    except sa.exc.ArgumentError as error:  # the address of a server, or of files
        raise UserError(
            f"the model registry {redacted(uri)} is no SQL database, and the history of moves needs one; set "
            f"{HISTORY_URI} to the same database for everybody who moves versions, "
            "postgresql://USER:PASSWORD@HOST/DATABASE or sqlite:////PATH/history.db"
        ) from error
    return uri


def look(task: str) -> Found:
    """Return the registry of ``task`` now, after an interrupted move is finished or withdrawn."""
    with _database() as engine:
        found = _found(engine, task)
        if found.intent is not None:
            # A user who may only read sees it as it is.
            with suppress(UserError, MlflowException, sa.exc.DBAPIError, OSError), _turn(engine, task):
                return _settled(engine, task)
        return found


def move(task: str, *, expected: Found, tags: Mapping[str, str] | None = None, **fields: Any) -> Entry:
    """Append a row and put aliases, stages and tags (of the version) where the history then says.

    ``fields`` are the entry's ``by, action, alias, to_version, why`` and, if any, ``evidence_sha256, verdicts``. It is
    a `UserError` if an alias other than ``candidate`` was moved since the state ``expected``, or without this function,
    or the version does not exist.
    """
    fields = {"evidence_sha256": None, "verdicts": ()} | fields
    alias, to_version = fields["alias"], fields["to_version"]
    with _database() as engine:
        audit_log.create(engine)
        with _turn(engine, task):
            now = _settled(engine, task)
            refuse_unsound(now, task, restoring=fields["action"] == RESTORE)
            last = now.last_move()
            if alias != CANDIDATE and last is not None and last != expected.last_move():
                moved = f"moved version {last.to_version} to {last.alias}" if last.alias and last.to_version else ""
                did = moved or f"wrote {last.action!r} to the history"
                raise UserError(f"{last.by} {did} of {task} a moment ago; nothing was changed. Look and try again")
            if to_version is not None and to_version not in now.stages:
                raise UserError(f"{task} has no version {to_version}")
            time = datetime.now(UTC).isoformat(timespec="milliseconds")
            fields |= {"from_version": now.aliases.get(alias), "verdicts": tuple(map(dict, fields["verdicts"]))}
            entry = next_entry(now.entries, task, time, **fields)
            intent = Intent(entry, {**(tags or {}), **signing.signatures(now, entry, tags or {})})
            audit_log.begin(engine, intent)
            try:
                _carry_out(engine, now, intent)
            except MlflowException:
                with suppress(MlflowException):  # the first error is reported
                    _settled(engine, task)
                raise
    return intent.entry


def refuse_unsound(found: Found, task: str, *, restoring: bool = False) -> None:
    """Raise `UserError` where the history was changed or, unless ``restoring``, an alias does not match it."""
    if problems := found.broken():
        advice = f"nothing was changed: check that {HISTORY_URI} names the history's database"
        raise UserError("\n".join([*problems, f"{advice}; if it does, take {task}'s registry from a backup"]))
    if not restoring and (moved := found.moved()):
        restore = f"python -m serving.verify --task {task} --restore"
        raise UserError("\n".join([*moved, f"nothing was changed: put the aliases back with `{restore}`"]))


def _found(engine: sa.Engine, task: str) -> Found:
    """Return history and registry as of one moment: no row was added while the registry was read."""
    rows = audit_log.read(engine, task)
    while True:
        before, registered = rows, _registry(task)
        rows = audit_log.read(engine, task)
        if rows == before:
            return Found(rows.entries, missing_triggers=rows.missing_triggers, intent=rows.intent, **registered)


def _registry(task: str) -> dict[str, Any]:
    """Return MLflow's tags of history and signature, aliases, stages, and the versions' tags."""
    client = MlflowClient()
    try:
        model = client.get_registered_model(task)
    except MlflowException as error:
        if not tracking.absent(error):
            raise
        return {"head": None, "aliases": {}, "stages": {}}
    versions = client.search_model_versions(f"name = '{task}'")
    aliases = {alias: int(version) for alias, version in model.aliases.items() if alias in ALIASES}
    stages = {int(each.version): each.current_stage for each in versions}
    signed = {"signature": model.tags.get(HISTORY_TAG), "tags": {int(each.version): each.tags for each in versions}}
    return {"head": model.tags.get(HEAD), "aliases": aliases, "stages": stages, **signed}


def _settled(engine: sa.Engine, task: str) -> Found:
    """Finish or withdraw an interrupted move and return the state; the caller holds the lock."""
    found = _found(engine, task)
    if found.intent is None or found.broken():
        return found
    entry, after, now = found.intent.entry, found.entries_after, found.aliases
    begun = now.get(entry.alias) == entry.to_version if entry.alias else now == replay(after).aliases
    if (begun or found.head == anchor(after)) and not broken(after, anchor(after)):
        _carry_out(engine, found, found.intent)
    else:
        audit_log.withdraw(engine, found.intent)
    return _found(engine, task)


def _carry_out(engine: sa.Engine, now: Found, intent: Intent) -> None:
    """Do what is left of a move; every step may be done twice."""
    client, entry = MlflowClient(), intent.entry
    entries = (*now.entries, entry)
    state = replay(entries)
    # The entry's own alias is moved first: it tells whether an interrupted move had begun.
    for alias in sorted(ALIASES, key=lambda each: each != entry.alias):
        here, to = now.aliases.get(alias), state.aliases.get(alias)
        foreign = entry.action != RESTORE and here != now.state.aliases.get(alias)  # is left for `verify` to find
        if here == to or foreign or (to is not None and to not in now.stages):
            continue
        if to is None:
            client.delete_registered_model_alias(entry.task, alias)
        else:
            client.set_registered_model_alias(entry.task, alias, str(to))
    for version, stage in now.stages.items():  # the deprecated stages, where the server has them
        if stage is not None and stage != (wanted := state.stages.get(version, "None")):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)
                client.transition_model_version_stage(entry.task, str(version), wanted)
    for key, value in intent.tags.items():
        if key == HISTORY_TAG:
            client.set_registered_model_tag(entry.task, key, value)
        else:
            client.set_model_version_tag(entry.task, str(entry.to_version), key, value)
    client.set_registered_model_tag(entry.task, HEAD, anchor(entries))
    audit_log.append(engine, entry)


def _version(version: int | None) -> str:
    return "nothing" if version is None else f"version {version}"


@contextmanager
def _database() -> Iterator[sa.Engine]:
    """Yield the history's database; its errors become a sentence."""
    uri = history_uri()
    store = f"the history's database {redacted(uri)}"
    try:
        url = sa.make_url(uri)
        limits = {"timeout": WAIT_SECONDS} if url.get_backend_name() == "sqlite" else {}
        engine = sa.create_engine(url, poolclass=sa.pool.NullPool, connect_args=limits)
    except (sa.exc.ArgumentError, ImportError) as error:
        raise UserError(f"{store} cannot be used: {error}; check {HISTORY_URI}") from error
    try:
        yield engine
    except sa.exc.IntegrityError as error:
        raise UserError(f"another user moved a version at the same time; look and try again ({error.orig})") from error
    except sa.exc.DBAPIError as error:
        raise refusal(error, store) or UserError(f"{store} cannot be used: {error.orig}; try again") from error
    finally:
        engine.dispose()


@contextmanager
def _turn(engine: sa.Engine, task: str) -> Iterator[None]:
    """Hold the task's lock: others wait until the block ends or this process dies."""
    if engine.dialect.name == "sqlite":  # has one writer at a time, and MLflow may need to write meanwhile
        path = Path(str(engine.url.database).removeprefix("file:"))
        try:
            with FileLock(f"{path}.lock", timeout=WAIT_SECONDS):
                yield
        except Timeout as error:
            raise UserError(f"another user is moving a version of {task} since {WAIT_SECONDS} s; try again") from error
        return
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{WAIT_SECONDS}s'")
        # Waits for a transaction that inserted the same row; closing the connection rolls it back.
        connection.execute(sa.insert(audit_log.TURNS).values(task=task))
        yield
