"""What became of a task's versions: an append-only, hash-chained table in an SQL database.

Every row holds the hash of the row before it, so a row that is changed or taken out breaks the chain; the registered
model carries the hash of the last one as a tag, so that rows cannot be cut off the end. On SQLite and PostgreSQL,
triggers refuse updates and deletions. Which alias points where follows from the rows alone. Beside it lies the intent
of a move that is under way: the row that is going to be appended.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import sqlalchemy as sa

TABLE, INTENTS = "oncolineage_history", "oncolineage_intents"
FIRST = "0" * 64  # what the first row has in place of the hash of the one before
REGISTER, PROMOTE, ROLLBACK, RESTORE = "register", "promote", "rollback", "restore"
CANDIDATE, STAGING, PRODUCTION, PREVIOUS = "candidate", "staging", "production", "previous"
ALIASES = (CANDIDATE, STAGING, PRODUCTION, PREVIOUS)


@dataclass(frozen=True)
class Entry:
    """A row: who moved which alias when, from where to where, why, and by which evidence.

    Attributes
    ----------
    number
        From 1, without a gap, within a task.
    time
        UTC, ISO 8601.
    action
        ``register``, ``promote``, ``rollback`` or ``restore``; the last moves no alias of itself but puts all where
        the rows before it say.
    from_version, to_version
        Of the alias; None where it pointed nowhere.
    evidence_sha256
        Of the evidence that the move rests on.
    verdicts
        Of the gate, as in `evaluation.promotion.gate.Verdict`.
    previous_hash, hash
        The chain.
    """

    task: str
    number: int
    time: str
    by: str
    action: str
    alias: str
    from_version: int | None
    to_version: int | None
    why: str
    evidence_sha256: str | None
    verdicts: tuple[dict[str, Any], ...]
    previous_hash: str
    hash: str = ""

    def sealed(self) -> Entry:
        """Return the entry with its hash."""
        return replace(self, hash=self.computed_hash())

    def computed_hash(self) -> str:
        """Return the hash over all that the row says but its own hash."""
        content = {key: value for key, value in asdict(self).items() if key != "hash"}
        return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()

    def __str__(self) -> str:
        from_, to = ("-" if version is None else version for version in (self.from_version, self.to_version))
        moved = f"{self.alias} {from_} -> {to}" if self.alias else "aliases as they were"
        return f"{self.number:>4}  {self.time}  {self.action:<8}  {moved:<24}  {self.by}" + (
            f": {self.why}" if self.why else ""
        )


@dataclass(frozen=True)
class State:
    """Where the aliases point after some rows.

    Attributes
    ----------
    aliases
        Alias to version; one that points nowhere is left out.
    stages
        Version to the stage that MLflow's deprecated column is to show; what is not named has none.
    """

    aliases: dict[str, int]
    stages: dict[int, str]


def replay(entries: Sequence[Entry]) -> State:
    """Return what the rows amount to.

    A version leaves staging when it goes to production. ``previous`` is what was in production before, and a rollback
    takes the version that it leaves off the list: going back twice goes back twice, never forth.
    """
    candidate: int | None = None
    staging: int | None = None
    line: list[int] = []  # versions in production, the present one last
    seen: set[int] = set()
    for entry in entries:
        version = entry.to_version
        if entry.action == RESTORE or version is None:
            continue
        if entry.alias == CANDIDATE:
            candidate = version
        elif entry.alias == STAGING:
            staging = version
        elif entry.action == ROLLBACK:
            line = line[:-1] if line[-2:-1] == [version] else [version]
        elif entry.alias == PRODUCTION:
            line = [each for each in line if each != version] + [version]
            staging = None if staging == version else staging
        if entry.alias != CANDIDATE:
            seen.add(version)
    found = {CANDIDATE: candidate, STAGING: staging, PRODUCTION: None, PREVIOUS: None}
    found |= dict(zip((PRODUCTION, PREVIOUS), reversed(line), strict=False))
    stages = dict.fromkeys(seen, "Archived")
    if staging is not None:
        stages[staging] = "Staging"
    if line:
        stages[line[-1]] = "Production"
    return State({alias: version for alias, version in found.items() if version is not None}, stages)


def broken(entries: Sequence[Entry], head: str | None) -> list[str]:
    """Return what is wrong with the chain, a sentence each.

    Parameters
    ----------
    entries
        All of a task, by number.
    head
        What the registered model says of the last row: ``<number>:<hash>``; None where it says nothing.
    """
    problems, before = [], FIRST
    for place, entry in enumerate(entries, start=1):
        if entry.number != place:
            problems.append(f"the history has no row {place}: row {entry.number} follows row {place - 1}")
            return problems
        if entry.hash != entry.computed_hash():
            problems.append(f"row {place} of the history was edited: its content does not match its hash")
        if entry.previous_hash != before:
            problems.append(f"row {place} of the history does not follow from the row before it")
        before = entry.hash
    expected = anchor(entries)
    if head != expected:
        problems.append(f"the history ends at {_short(expected)}, the registered model's tag says {_short(head)}")
    return problems


def anchor(entries: Sequence[Entry]) -> str | None:
    """Return what the registered model says of the last row."""
    return f"{entries[-1].number}:{entries[-1].hash}" if entries else None


def next_entry(entries: Sequence[Entry], task: str, time: str, **said: Any) -> Entry:
    """Return the row that follows ``entries``."""
    before = entries[-1].hash if entries else FIRST
    return Entry(task, len(entries) + 1, time, **said, previous_hash=before).sealed()


# The tables. A metadata of its own: MLflow's migrations do not know of it, and leave it alone.

_METADATA = sa.MetaData()
_TABLE = sa.Table(
    TABLE,
    _METADATA,
    sa.Column("task", sa.String(256), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("time", sa.String(40), nullable=False),
    sa.Column("by", sa.Text, nullable=False),
    sa.Column("action", sa.String(20), nullable=False),
    sa.Column("alias", sa.String(20), nullable=False),
    sa.Column("from_version", sa.Integer),
    sa.Column("to_version", sa.Integer),
    sa.Column("why", sa.Text, nullable=False),
    sa.Column("evidence_sha256", sa.String(64)),
    sa.Column("verdicts", sa.Text, nullable=False),
    sa.Column("previous_hash", sa.String(64), nullable=False),
    sa.Column("hash", sa.String(64), nullable=False),
    sa.UniqueConstraint("task", "previous_hash"),
)
_INTENTS = sa.Table(
    INTENTS,
    _METADATA,
    sa.Column("task", sa.String(256), primary_key=True),
    sa.Column("entry", sa.Text, nullable=False),
    sa.Column("tags", sa.Text, nullable=False),
)
# Never holds a row that others see: who holds a task's turn has one here in an open transaction.
TURNS = sa.Table("oncolineage_turns", _METADATA, sa.Column("task", sa.String(256), primary_key=True))

_REFUSED = f"{TABLE} is append-only"
_REFUSED_VERBS = {"sqlite": ("update", "delete"), "postgresql": ("update", "delete", "truncate")}
_TRIGGERS = {
    "sqlite": [
        f"CREATE TRIGGER {TABLE}_no_{verb} BEFORE {verb} ON {TABLE} BEGIN SELECT RAISE(ABORT, '{_REFUSED}'); END"
        for verb in _REFUSED_VERBS["sqlite"]
    ],
    "postgresql": [
        f"CREATE OR REPLACE FUNCTION {TABLE}_refuse() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{_REFUSED}'; END $$",
        *(
            f"CREATE TRIGGER {TABLE}_no_{verb} BEFORE {verb} ON {TABLE} "
            f"FOR EACH STATEMENT EXECUTE FUNCTION {TABLE}_refuse()"
            for verb in _REFUSED_VERBS["postgresql"]
        ),
    ],
}
_TRIGGERS_THERE = {
    "sqlite": "SELECT name FROM sqlite_master WHERE type = 'trigger'",
    "postgresql": "SELECT tgname FROM pg_trigger WHERE tgenabled <> 'D'",
}


@dataclass(frozen=True)
class Intent:
    """A move that is under way.

    Attributes
    ----------
    entry
        The row of the history that it ends with.
    tags
        Of the version that is moved.
    """

    entry: Entry
    tags: dict[str, str]


class Rows(NamedTuple):
    """What the database holds of a task: the history by number, the move under way, and which triggers are missing."""

    entries: tuple[Entry, ...] = ()
    intent: Intent | None = None
    missing_triggers: tuple[str, ...] = ()


def create(engine: sa.Engine) -> None:
    """Make tables and triggers that are not there, all or none."""
    if not (missing := _missing_tables(engine)):
        return
    try:
        with engine.begin() as connection:
            if engine.dialect.name == "sqlite":  # whose driver opens no transaction for a CREATE
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            for table in missing:
                connection.execute(sa.schema.CreateTable(table))
            for statement in _TRIGGERS.get(engine.dialect.name, []) if _TABLE in missing else []:
                connection.exec_driver_sql(statement)
    except sa.exc.DBAPIError:
        if _missing_tables(engine):  # else another process made them in the meantime
            raise


def _missing_tables(engine: sa.Engine) -> list[sa.Table]:
    there = sa.inspect(engine).get_table_names()
    return [table for table in _METADATA.sorted_tables if table.name not in there]


def read(engine: sa.Engine, task: str) -> Rows:
    """Return the rows of a task; none where there is no table yet."""
    missing = _missing_tables(engine)
    if _TABLE in missing:
        return Rows()
    with engine.begin() as connection:
        rows = connection.execute(sa.select(_TABLE).where(_TABLE.c.task == task).order_by(_TABLE.c.number)).mappings()
        entries = tuple(_entry({**row, "verdicts": json.loads(row["verdicts"])}) for row in rows)
        row = None
        if _INTENTS not in missing:
            row = connection.execute(sa.select(_INTENTS).where(_INTENTS.c.task == task)).first()
        intent = None if row is None else Intent(_entry(json.loads(row.entry)), json.loads(row.tags))
        dialect = engine.dialect.name
        there = set(connection.scalars(sa.text(_TRIGGERS_THERE[dialect]))) if dialect in _TRIGGERS else set()
    wanted = [f"{TABLE}_no_{verb}" for verb in _REFUSED_VERBS.get(dialect, ())]
    return Rows(entries, intent, tuple(name for name in wanted if name not in there))


def _entry(values: Mapping[str, Any]) -> Entry:
    return Entry(**{**values, "verdicts": tuple(values["verdicts"])})


def begin(engine: sa.Engine, intent: Intent) -> None:
    """Write an intent; raises `sqlalchemy.exc.IntegrityError` where the task has one."""
    row = {"entry": json.dumps(asdict(intent.entry)), "tags": json.dumps(intent.tags)}
    with engine.begin() as connection:
        connection.execute(sa.insert(_INTENTS).values(task=intent.entry.task, **row))


def withdraw(engine: sa.Engine, intent: Intent) -> None:
    """Delete an intent."""
    with engine.begin() as connection:
        connection.execute(sa.delete(_INTENTS).where(_INTENTS.c.task == intent.entry.task))


def append(engine: sa.Engine, entry: Entry) -> None:
    """Write a row, and delete its intent with it; raises `sqlalchemy.exc.IntegrityError` where its number is taken."""
    row = {**asdict(entry), "verdicts": json.dumps(entry.verdicts, sort_keys=True, ensure_ascii=False)}
    with engine.begin() as connection:
        connection.execute(sa.insert(_TABLE).values(**row))
        connection.execute(sa.delete(_INTENTS).where(_INTENTS.c.task == entry.task))


def _short(head: str | None) -> str:
    return "nothing" if head is None else f"row {head[: head.find(':') + 13]}"
