"""A history that can be edited unseen proves nothing: an edit breaks the chain, and aliases follow from it alone."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from serving import audit_log
from serving.audit_log import FIRST, Entry, anchor, broken, next_entry, replay

TASK = "drug_response"


def chained(*moves: tuple[str, str, int | None]) -> list[Entry]:
    entries: list[Entry] = []
    for action, alias, version in moves:
        said = {"by": "A. Person", "why": "", "evidence_sha256": "a" * 64, "verdicts": ()}
        before = replay(entries).aliases.get(alias)
        moved = {"action": action, "alias": alias, "from_version": before, "to_version": version}
        entries.append(next_entry(entries, TASK, "2026-11-20T10:00:00+00:00", **said, **moved))
    return entries


def promoted(version: int) -> list[tuple[str, str, int]]:
    return [("register", "candidate", version), ("promote", "staging", version), ("promote", "production", version)]


def test_what_the_rows_amount_to() -> None:
    state = replay(chained(*promoted(1), *promoted(2), ("register", "candidate", 3), ("promote", "staging", 3)))
    assert state.aliases == {"candidate": 3, "staging": 3, "production": 2, "previous": 1}
    assert state.stages == {1: "Archived", 2: "Production", 3: "Staging"}
    assert replay(chained(*promoted(1), ("restore", "", None))) == replay(chained(*promoted(1)))
    # Going back twice goes back twice, and a version that comes again is there once.
    back = [("rollback", "production", version) for version in (2, 1)]
    every = [*promoted(1), *promoted(2), *promoted(3)]
    assert replay(chained(*every)).aliases["previous"] == 2
    assert replay(chained(*every, back[0])).aliases == {"candidate": 3, "production": 2, "previous": 1}
    assert replay(chained(*every, *back)).aliases == {"candidate": 3, "production": 1}
    again = replay(chained(*promoted(1), *promoted(2), *promoted(1)))
    assert again.aliases == {"candidate": 1, "production": 1, "previous": 2}


FIELDS: dict[str, Any] = {
    **{"by": "B", "time": "2020-01-01T00:00:00+00:00", "action": "rollback", "alias": "previous", "why": "because"},
    **{"from_version": 9, "to_version": 9, "verdicts": ({"check": "size", "status": "pass"},), "task": "blood_cell"},
    **{"evidence_sha256": "b" * 64, "previous_hash": "c" * 64, "hash": "d" * 64},
}


@settings(deadline=None)
@given(place=st.integers(0, 5), field=st.sampled_from(sorted(FIELDS)))
def test_an_edit_anywhere_is_found(place: int, field: str) -> None:
    entries = chained(*promoted(1), *promoted(2))
    head = anchor(entries)
    edited = replace(entries[place], **{field: FIELDS[field]})
    assert broken([*entries[:place], edited, *entries[place + 1 :]], head)
    # With its hash made right again the next row, or the anchor, still tells.
    if field not in ("hash",):
        assert broken([*entries[:place], edited.sealed(), *entries[place + 1 :]], head)


@settings(deadline=None)
@given(st.data())
def test_rows_taken_out_doubled_or_swapped_are_found(data: st.DataObject) -> None:
    entries = chained(*promoted(1), *promoted(2))
    places = data.draw(st.lists(st.integers(0, 5), max_size=7))
    if places != list(range(6)):
        assert broken([entries[place] for place in places], anchor(entries))


def test_rows_come_back_as_they_went_and_the_database_stops_whoever_lost_the_turn_without_noticing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, (verbs, action, _, active) = sa.create_engine(f"sqlite:///{tmp_path}/x.db"), audit_log._TRIGGERS["sqlite"]
    with monkeypatch.context() as patched:  # tables are made with the triggers that refuse changes, or not at all
        patched.setitem(audit_log._TRIGGERS, "sqlite", (verbs, action, ["CREATE nonsense"], active))
        with pytest.raises(sa.exc.OperationalError, match="nonsense"):
            audit_log.create(engine)
    assert sa.inspect(engine).get_table_names() == []
    entries = chained(*promoted(1), *promoted(2))
    assert broken(entries, anchor(entries)) == broken([], None) == []
    assert entries[0].previous_hash == FIRST
    verdict = {"check": "size", "status": "pass", "reason": "µ ≤ 1", "by": None}
    entry = replace(entries[0], verdicts=(verdict,), why="größer").sealed()
    assert audit_log.read(engine, TASK).entries == ()
    for _ in range(2):
        audit_log.create(engine)
    intent = audit_log.Intent(entry, {"model.sha256": "a" * 64})
    audit_log.begin(engine, intent)
    assert audit_log.read(engine, TASK) == audit_log.Rows((), intent, ())  # and no trigger is missing
    with pytest.raises(sa.exc.IntegrityError):
        audit_log.begin(engine, audit_log.Intent(entries[1], {}))
    audit_log.append(engine, entry)
    with pytest.raises(sa.exc.IntegrityError):
        audit_log.append(engine, replace(entries[1], number=1).sealed())
    assert audit_log.read(engine, TASK) == audit_log.Rows((entry,), None, ())
    assert audit_log.read(engine, "blood_cell").entries == ()
    assert broken(audit_log.read(engine, TASK).entries, anchor([entry])) == []
