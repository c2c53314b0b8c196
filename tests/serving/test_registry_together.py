"""Two people promote at once: one wins, the other is told, and the history has no gap.

On SQLite, on PostgreSQL, and over HTTP with a history in a database of its own.
"""

from __future__ import annotations

import multiprocessing
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from mlflow import MlflowClient

from pipelines.errors import UserError
from serving import alias_moves, audit_log, registry
from tests.evaluation.made_evidence import TASK
from tests.serving.made_registry import POLICY, aliases, empty_registry, made_version, stages

PEOPLE = 4
ROUNDS = 2
_FORK = multiprocessing.get_context("fork")  # a new interpreter would import for longer than the test runs


@pytest.fixture(scope="module", params=["sqlite", "postgresql", pytest.param("http", marks=pytest.mark.soak)])
def client(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowClient]:
    with empty_registry(request.param, tmp_path_factory.mktemp("together")) as made:
        for _ in range(PEOPLE):
            made_version(made)
        yield made


def together(does: Callable[[int, Any], str], count: int = PEOPLE) -> list[str]:
    """Run ``does`` with a number and a barrier in so many processes at once and return what each said."""
    barrier, said = _FORK.Barrier(count), _FORK.Queue()

    def person(number: int) -> None:
        try:
            answer = does(number, barrier)
        except UserError as error:
            answer = f"told: {error}"
        except BaseException:
            answer = f"raised: {traceback.format_exc()}"
        said.put((number, answer))

    processes = [_FORK.Process(target=person, args=(number,)) for number in range(count)]
    for process in processes:
        process.start()
    answers = dict(said.get(timeout=60) for _ in processes)
    for process in processes:
        process.join(timeout=60)
        assert process.exitcode == 0
    assert not [answer for answer in answers.values() if answer.startswith("raised")], answers
    return [answers[number] for number in range(count)]


def seen_by_all(barrier: Any) -> Callable[[str], alias_moves.Found]:
    return lambda task: (alias_moves.look(task), barrier.wait(timeout=60))[0]


def sound(client: MlflowClient) -> None:
    found = alias_moves.look(TASK)
    assert audit_log.broken(found.entries, found.head) == []
    assert [entry.number for entry in found.entries] == list(range(1, len(found.entries) + 1))
    assert aliases(client) == found.state.aliases
    assert {version: stage for version, stage in stages(client).items() if stage != "None"} == found.state.stages


def test_of_people_who_promote_different_versions_one_wins(client: MlflowClient) -> None:
    for _ in range(ROUNDS):
        before = len(registry.history(TASK))
        staged = aliases(client).get("staging")
        others = [number for number in range(1, PEOPLE + 1) if number != staged]

        def person(number: int, barrier: Any, others: list[int] = others) -> str:
            registry.look = seen_by_all(barrier)  # type: ignore[assignment]
            done = registry.promote(TASK, "staging", others[number], by=f"Person {number}", policy=POLICY)
            return f"won: {done.version}"

        answers = together(person, len(others))
        (won,) = [answer for answer in answers if answer.startswith("won")]
        winner = answers.index(won)
        told = [answer for answer in answers if answer.startswith("told")]
        assert len(told) == len(others) - 1
        assert all(f"Person {winner} moved version {others[winner]} to staging" in answer for answer in told)
        assert aliases(client)["staging"] == others[winner]
        assert len(registry.history(TASK)) == before + 1
        sound(client)


def test_people_who_register_promote_and_look_as_they_like_leave_no_gap(client: MlflowClient) -> None:
    """Nobody waits for anybody: every success is a row, every row a success."""
    before = len(registry.history(TASK))

    def person(number: int, barrier: Any) -> str:
        rows = 0
        barrier.wait(timeout=60)
        for turn in range(ROUNDS):
            version = 1 + (number + turn) % PEOPLE
            try:
                moved = registry.promote(TASK, "staging", version, by=f"Person {number}", policy=POLICY)
                rows += moved.entry is not None
            except registry.GateError as error:  # not compared with what is in production
                assert {each.check for each in error.verdicts if each.status == "fail"} == {"production"}
            except UserError as error:
                assert "a moment ago" in str(error)
            found = alias_moves.look(TASK)
            sha256 = next(entry.evidence_sha256 for entry in found.entries if entry.to_version == version)
            said: dict[str, Any] = {"by": f"Person {number}", "why": "", "action": "register", "alias": "candidate"}
            alias_moves.move(TASK, expected=found, to_version=version, evidence_sha256=sha256, **said)
            rows += 1
            assert audit_log.broken(found.entries, found.head) == []
            assert found.moved() == []
        return str(rows)

    written = sum(int(answer) for answer in together(person))
    assert len(registry.history(TASK)) == before + written
    sound(client)


def test_the_history_refuses_changes_where_it_is_kept(client: MlflowClient) -> None:
    statements = [f"UPDATE {audit_log.TABLE} SET why = 'x'", f"DELETE FROM {audit_log.TABLE}"]
    if alias_moves.history_uri().startswith("postgresql"):
        statements.append(f"TRUNCATE {audit_log.TABLE}")
    for statement in statements:
        with (
            sa.create_engine(alias_moves.history_uri()).connect() as connection,
            pytest.raises(sa.exc.DBAPIError, match="append-only"),
        ):
            connection.execute(sa.text(statement))
    assert alias_moves.look(TASK).missing_triggers == ()
