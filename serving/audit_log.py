"""The history of a task's aliases: an append-only, hash-chained SQL table, and the intent of a move under way.

Every row holds the hash of the row before it, so an edited or deleted row breaks the chain. A tag of the registered
model holds the number and hash of the last row, so rows cannot be cut off the end. On SQLite and PostgreSQL, triggers
refuse updates and deletions. The position of every alias follows from the rows alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import sqlalchemy as sa

TABLE, INTENTS = "oncolineage_history", "oncolineage_intents"
FIRST = "0" * 64  # previous hash of the first row
REGISTER, PROMOTE, ROLLBACK, RESTORE = "register", "promote", "rollback", "restore"
TRIAL, TAKE_BACK = "trial", "take back"  # of what is in staging: it goes on, which moves nothing; it leaves
SIGN = "sign"  # a version as it is, which was not signed, or by a key that no longer counts; moves nothing
CANDIDATE, STAGING, PRODUCTION, PREVIOUS = "candidate", "staging", "production", "previous"
_UNMOVED = {RESTORE: "aliases put back", SIGN: "version {}", TRIAL: "version {} goes on"}
ALIASES = (CANDIDATE, STAGING, PRODUCTION, PREVIOUS)


@dataclass(frozen=True)
class Entry:
    """A row of the history, numbered from 1 within a task; verdicts are those of `evaluation.promotion.gate`."""

    task: str
    number: int
    time: str  # UTC in ISO 8601
    by: str
    action: str  # `RESTORE` puts all aliases where the rows before it say: it has no alias and no versions
    alias: str
    from_version: int | None  # None: the alias pointed nowhere
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
        """Return the hash of all fields but ``hash``."""
        content = {key: value for key, value in asdict(self).items() if key != "hash"}
        return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()

    def __str__(self) -> str:
        from_, to = ("-" if version is None else version for version in (self.from_version, self.to_version))
        moved = f"{self.alias} {from_} -> {to}" if self.alias else _UNMOVED.get(self.action, "").format(to)
        why = f": {self.why}" if self.why else ""
        return f"{self.number:>4}  {self.time}  {self.action:<9}  {moved:<24}  {self.by}{why}"


class State(NamedTuple):
    """Alias to version, and version to MLflow's deprecated stage; aliases and stages that are not set are left out."""

    aliases: dict[str, int]
    stages: dict[int, str]


class Intent(NamedTuple):
    """A move under way: the row to append, and the tags to set on its version."""

    entry: Entry
    tags: dict[str, str]


class Rows(NamedTuple):
    """The content of the database for a task: the history by number, the move under way, and missing triggers."""

    entries: tuple[Entry, ...] = ()
    intent: Intent | None = None
    missing_triggers: tuple[str, ...] = ()


def replay(entries: Sequence[Entry]) -> State:
    """Return the aliases and stages that follow from the rows.

    A version leaves staging when it goes to production. A rollback removes the version that it leaves from the
    sequence of versions in production: two rollbacks go back two versions.
    """
    candidate: int | None = None
    staging: int | None = None
    produced: list[int] = []  # the present one last
    seen: set[int] = set()
    for entry in entries:
        version = entry.to_version
        if entry.action == TAKE_BACK:
            staging = None
        if entry.action in (RESTORE, SIGN, TRIAL) or version is None:
            continue
        if entry.alias == CANDIDATE:
            candidate = version
            continue
        seen.add(version)
        if entry.alias == STAGING:
            staging = version
        elif entry.action == ROLLBACK:
            produced = produced[:-1] if produced[-2:-1] == [version] else [version]
        elif entry.alias == PRODUCTION:
            produced = [each for each in produced if each != version] + [version]
            staging = None if staging == version else staging
    found = {CANDIDATE: candidate, STAGING: staging}
    found |= dict(zip((PRODUCTION, PREVIOUS), reversed(produced), strict=False))
    stages = dict.fromkeys(seen, "Archived")
    if staging is not None:
        stages[staging] = "Staging"
    if produced:
        stages[produced[-1]] = "Production"
    return State({alias: version for alias, version in found.items() if version is not None}, stages)


def broken(entries: Sequence[Entry], head: str | None) -> list[str]:
    """Return what is wrong with the chain, a sentence each; ``head`` is the registered model's tag."""
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
    """Return the tag of the registered model, ``<number>:<hash>`` of the last row."""
    return f"{entries[-1].number}:{entries[-1].hash}" if entries else None


def vouching(entries: Sequence[Entry], version: int) -> str | None:
    """Return number and hash of the row by which a version has its evidence and its signature."""
    rows = [each for each in entries if each.to_version == version and each.action in (REGISTER, SIGN)]
    return anchor(rows[-1:])


def next_entry(entries: Sequence[Entry], task: str, time: str, **fields: Any) -> Entry:
    """Return the row that follows ``entries``."""
    before = entries[-1].hash if entries else FIRST
    return Entry(task, len(entries) + 1, time, **fields, previous_hash=before).sealed()


# The tables have their own metadata: MLflow's migrations do not see them.

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
# Whoever moves versions of a task has a row here in an open transaction; no row is ever committed.
TURNS = sa.Table("oncolineage_turns", _METADATA, sa.Column("task", sa.String(256), primary_key=True))

_APPEND_ONLY = f"{TABLE} is append-only"
_FUNCTION = (
    f"CREATE OR REPLACE FUNCTION {TABLE}_refuse() RETURNS trigger LANGUAGE plpgsql AS "
    f"$$ BEGIN RAISE EXCEPTION '{_APPEND_ONLY}'; END $$"
)
# By dialect: what is refused, how, what is created first, and the query for the triggers that are active.
_TRIGGERS: dict[str, tuple[tuple[str, ...], str, list[str], str]] = {
    "sqlite": (
        ("update", "delete"),
        f"BEGIN SELECT RAISE(ABORT, '{_APPEND_ONLY}'); END",
        [],
        "SELECT name FROM sqlite_master WHERE type = 'trigger'",
    ),
    "postgresql": (
        ("update", "delete", "truncate"),
        f"FOR EACH STATEMENT EXECUTE FUNCTION {TABLE}_refuse()",
        [_FUNCTION],
        "SELECT tgname FROM pg_trigger WHERE tgenabled <> 'D'",
    ),
}


def create(engine: sa.Engine) -> None:
    """Create missing tables and their triggers, all or none."""
    if not (missing := _missing_tables(engine)):
        return
    verbs, action, statements, _ = _TRIGGERS.get(engine.dialect.name, ((), "", [], ""))
    triggers = [f"CREATE TRIGGER {TABLE}_no_{verb} BEFORE {verb} ON {TABLE} {action}" for verb in verbs]
    try:
        with engine.begin() as connection:
            if engine.dialect.name == "sqlite":  # its driver opens no transaction for CREATE
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            for table in missing:
                connection.execute(sa.schema.CreateTable(table))
            for statement in [*statements, *triggers] if _TABLE in missing else []:
                connection.exec_driver_sql(statement)
    except sa.exc.DBAPIError:
        if _missing_tables(engine):  # else another process created them meanwhile
            raise


def _missing_tables(engine: sa.Engine) -> list[sa.Table]:
    there = sa.inspect(engine).get_table_names()
    return [table for table in _METADATA.sorted_tables if table.name not in there]


def read(engine: sa.Engine, task: str) -> Rows:
    """Return the rows of a task; none where there is no table yet."""
    missing = _missing_tables(engine)
    if _TABLE in missing:
        return Rows()
    verbs, _, _, active = _TRIGGERS.get(engine.dialect.name, ((), "", [], ""))
    with engine.begin() as connection:
        rows = connection.execute(sa.select(_TABLE).where(_TABLE.c.task == task).order_by(_TABLE.c.number)).mappings()
        entries = tuple(_entry({**row, "verdicts": json.loads(row["verdicts"])}) for row in rows)
        row = None
        if _INTENTS not in missing:
            row = connection.execute(sa.select(_INTENTS).where(_INTENTS.c.task == task)).first()
        intent = None if row is None else Intent(_entry(json.loads(row.entry)), json.loads(row.tags))
        there = set(connection.scalars(sa.text(active))) if verbs else set()
    names = [f"{TABLE}_no_{verb}" for verb in verbs]
    return Rows(entries, intent, tuple(name for name in names if name not in there))


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
    """Write a row and delete its intent; raises `sqlalchemy.exc.IntegrityError` where its number is taken."""
    row = {**asdict(entry), "verdicts": json.dumps(entry.verdicts, sort_keys=True, ensure_ascii=False)}
    with engine.begin() as connection:
        connection.execute(sa.insert(_TABLE).values(**row))
        connection.execute(sa.delete(_INTENTS).where(_INTENTS.c.task == entry.task))


def _short(head: str | None) -> str:
    return "nothing" if head is None else f"row {head[: head.find(':') + 13]}"
