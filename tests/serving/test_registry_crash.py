"""A move that is killed, at any step, leaves the state before or the one after; of two people at once one wins.

On SQLite, on PostgreSQL, and over HTTP with a history in a database of its own.
"""

import itertools
import multiprocessing
import os
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from pipelines.errors import UserError
from serving import alias_moves, audit_log, registry
from serving import registry as problems
from serving.alias_moves import HISTORY_URI, look
from tests.evaluation.made_evidence import TASK
from tests.serving.made_registry import BY, POLICY, aliases, compared_with, empty_registry, made_version, stages

PEOPLE, TURNS = 4, 2
_FORK = multiprocessing.get_context("fork")  # a new interpreter would import for longer than the test runs
# All that a move writes, to the history's database and by MLflow's client.
_ALIASED = ("set_registered_model_alias", "delete_registered_model_alias", "transition_model_version_stage")
WRITES = [
    *((audit_log, name) for name in ("begin", "append")),
    *((MlflowClient, name) for name in (*_ALIASED, "set_model_version_tag", "set_registered_model_tag")),
]
SOAK = [pytest.param(store, marks=pytest.mark.soak) for store in ("http", "postgresql")]


@pytest.fixture(scope="module", params=["sqlite", "http", SOAK[1]])
def client(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowClient]:
    """Give a registry with version 1 in production and versions 2 and 3 that may follow it."""
    with empty_registry(request.param, tmp_path_factory.mktemp("crash")) as made:
        made_version(made)
        registry.promote(TASK, "staging", 1, by=BY, policy=POLICY)
        registry.promote(TASK, "production", 1, by=BY, policy=POLICY)
        every = [*compared_with(1), *compared_with(2)[-1:], *compared_with(3)[-1:]]
        for _ in range(2):
            made_version(made, comparisons=every)
        yield made


def killed(does: Callable[[], object], after: float | None = None) -> int:
    process = _FORK.Process(target=does)
    process.start()
    if after is not None:
        time.sleep(after)
        os.kill(process.pid or 0, signal.SIGKILL)
    process.join(timeout=60)
    assert process.exitcode is not None
    return process.exitcode


def killed_before_write(number: int, does: Callable[[], object]) -> int:
    """Run ``does`` in a process that dies as its write of that number, from 1, is asked for; return its exit code."""

    def run() -> None:
        calls = itertools.count(1)

        def counted(original: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: Any, **named: Any) -> Any:
                if next(calls) == number:
                    os.kill(os.getpid(), signal.SIGKILL)
                return original(*arguments, **named)

            return call

        for owner, name in WRITES:
            setattr(owner, name, counted(getattr(owner, name)))
        does()

    return killed(run)


def state(client: MlflowClient) -> tuple[dict[str, int], dict[int, str], dict[str, str], int]:
    """Return what holds once somebody has looked: aliases, stages, tags of version 3, and the rows of the history."""
    rows = len(registry.history(TASK))
    return aliases(client), stages(client), client.get_model_version(TASK, "3").tags, rows


def to_staging(client: MlflowClient) -> None:
    there = aliases(client)
    others = [number for number in (2, 3) if number != there.get("staging")]
    number = next((each for each in others if each != there["production"]), others[0])
    registry.promote(TASK, "staging", number, by=BY, policy=POLICY)


def staged(client: MlflowClient) -> None:
    there = aliases(client)
    if there.get("staging") in (None, there["production"]):
        to_staging(client)


def to_production(client: MlflowClient) -> None:
    registry.promote(TASK, "production", by=BY, policy=POLICY)


def produced(client: MlflowClient) -> None:
    staged(client)
    to_production(client)


def registered_again(client: MlflowClient) -> None:
    tag = client.get_model_version(TASK, "3").tags.get("seen", "0")
    moved(action="register", alias="candidate", to_version=3, tags={"seen": str(int(tag) + 1), "other": tag})


def back(client: MlflowClient) -> None:
    moved(action="rollback", alias="production", to_version=aliases(client)["previous"])


def taken_back(client: MlflowClient) -> None:
    moved(action="take back", alias="staging", to_version=None)


def moved(**said: Any) -> None:
    alias_moves.move(TASK, expected=look(TASK), by=BY, why="a trial", **said)


# What is killed, what comes before it, and how many of its writes come before it counts as begun.
MOVES: dict[str, tuple[Callable[[MlflowClient], object], Callable[[MlflowClient], object], int]] = {
    "production": (to_production, staged, 2),
    "registered again": (registered_again, aliases, 1),  # nothing to prepare
    "staging": (to_staging, aliases, 2),
    "rollback": (back, produced, 2),
    "take back": (taken_back, staged, 2),
}


def sound() -> None:
    found = look(TASK)
    assert found.intent is None and found.broken() == found.moved() == found.staged_wrongly() == []


@pytest.mark.parametrize("client", ["sqlite", *SOAK], indirect=True)
def test_a_restore_that_was_killed_is_finished_or_done_again(client: MlflowClient) -> None:
    to_staging(client)
    said = look(TASK).state
    for number in range(1, 20):
        for alias in ("production", "staging"):
            client.set_registered_model_alias(TASK, alias, "1" if said.aliases[alias] != 1 else "2")
        exit_code = killed_before_write(number, lambda: registry.restore(TASK, by=BY, why="found by verify"))
        if look(TASK).moved():
            registry.restore(TASK, by=BY, why="found by verify")
        sound()
        assert look(TASK).state == said
        if exit_code == 0:
            break
    assert number > 3


def test_what_was_moved_by_hand_meanwhile_stays_for_verify_to_find(client: MlflowClient) -> None:
    """A repair finishes the move that was broken off, and covers up no other."""
    staged(client)
    assert killed_before_write(3, lambda: to_production(client)) == -signal.SIGKILL
    client.set_registered_model_alias(TASK, "previous", "1")
    client.set_registered_model_alias(TASK, "candidate", "1")
    rows = len(registry.history(TASK))
    assert {each.alias for each in registry.history(TASK)[-1:]} == {"production"}
    (told,) = [each for each in look(TASK).moved() if "alias candidate" in each]
    assert "without these commands" in told
    with pytest.raises(UserError, match="without these commands"):
        to_staging(client)
    assert len(registry.history(TASK)) == rows
    registry.restore(TASK, by=BY, why="found by verify")
    sound()


def test_who_may_only_read_sees_a_move_that_was_broken_off_and_leaves_it(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = alias_moves.history_uri()
    if not uri.startswith("sqlite"):
        pytest.skip("tests/end_to_end/test_servers.py has a login that reads")
    before = state(client)
    assert killed_before_write(3, lambda: to_staging(client)) == -signal.SIGKILL
    with monkeypatch.context() as patched:
        patched.setenv(HISTORY_URI, f"{uri.replace('///', '///file:')}?mode=ro&uri=true")
        found = look(TASK)
        assert found.intent is not None and len(found.entries) == before[-1]
        assert found.broken() == found.moved() == found.staged_wrongly() == []
        (problem,) = [each for each in problems.verify(TASK) if each.kind != "evidence"]
        assert problem.kind == "history" and f"{BY} moves it to staging" in problem.message
        with pytest.raises(UserError, match="is read-only"):
            to_staging(client)
    sound()
    assert len(registry.history(TASK)) == before[-1] + 1


def test_a_move_that_mlflow_refuses_is_withdrawn_and_an_intent_that_somebody_forged_moves_nothing(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who writes to the history's database alone does not get a version moved by the next who looks."""
    before, found = state(client), look(TASK)
    said = {"by": "X", "why": "", "evidence_sha256": None, "verdicts": (), "action": "promote", "from_version": None}
    aliased = {"alias": "production", "to_version": 5 - before[0].get("production", 1)}
    forged = audit_log.next_entry(found.entries, TASK, "2026-11-20T10:00:00+00:00", **said, **aliased)
    for entry in (forged, audit_log.replace(forged, previous_hash="0" * 64).sealed()):
        with alias_moves._database() as engine:
            audit_log.begin(engine, audit_log.Intent(entry, {}))
        assert state(client) == before
    sound()

    def refused(*_: Any, **__: Any) -> None:
        raise MlflowException("the account 'reader' may not do this")

    with monkeypatch.context() as patched:
        patched.setattr(MlflowClient, "set_registered_model_alias", refused)
        with pytest.raises(MlflowException, match="may not do this"):
            to_staging(client)
    monkeypatch.setattr(alias_moves, "_settled", lambda *_: pytest.fail("there was something left to settle"))
    assert state(client) == before


def test_the_turn_falls_free_with_who_held_it(client: MlflowClient) -> None:
    def hold() -> None:
        with alias_moves._database() as engine, alias_moves._turn(engine, TASK):
            time.sleep(60)

    assert killed(hold, 0.5) == -signal.SIGKILL
    began = time.monotonic()
    to_staging(client)
    assert time.monotonic() - began < alias_moves.WAIT_SECONDS / 2


# First the store that the tests before leave, whose server need not be started again.
STEPS = {"every": range(1, 20), "few": (2, 3, 19)}  # of the few, one before a move counts, one after, and none
SHORT = [("http", "production", "few"), ("sqlite", "production", "every"), ("sqlite", "registered again", "every")]
LONG = [each for each in itertools.product(("sqlite", "http", "postgresql"), MOVES, ["every"]) if each not in SHORT]


@pytest.mark.parametrize(
    ("client", "move", "steps"),
    [*SHORT, *(pytest.param(*each, marks=pytest.mark.soak) for each in LONG)],
    indirect=["client"],
)
def test_killed_at_any_step_the_old_state_holds_or_the_new(client: MlflowClient, move: str, steps: str) -> None:
    does, prepare, before_it_counts = MOVES[move]
    for number in STEPS[steps]:
        prepare(client)
        old = state(client)
        exit_code = killed_before_write(number, lambda: does(client))
        new = state(client)
        sound()
        if exit_code == 0:
            break
        assert exit_code == -signal.SIGKILL
        if number <= before_it_counts:
            assert new == old
        else:
            assert new[-1] == old[-1] + 1 and new[:-1] != old[:-1]
    else:
        pytest.fail("the move has no end")
    assert number > 5  # so many writes were seen
    assert [each for each in problems.verify(TASK) if each.kind != "evidence"] == []
    to_staging(client)  # whoever comes next is not held up
    sound()


@pytest.fixture(scope="module", params=["sqlite", "postgresql", SOAK[0]])
def people(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowClient]:
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


def whole(people: MlflowClient) -> None:
    sound()
    found = look(TASK)
    assert [entry.number for entry in found.entries] == list(range(1, len(found.entries) + 1))
    assert aliases(people) == found.state.aliases
    assert {version: stage for version, stage in stages(people).items() if stage != "None"} == found.state.stages


def test_of_people_who_promote_different_versions_one_wins(people: MlflowClient) -> None:
    before = len(registry.history(TASK))
    staged = aliases(people).get("staging")
    others = [number for number in range(1, PEOPLE + 1) if number != staged]

    def person(number: int, barrier: Any) -> str:
        registry.look = lambda task: (look(task), barrier.wait(timeout=60))[0]
        done = registry.promote(TASK, "staging", others[number], by=f"Person {number}", policy=POLICY)
        return f"won: {done.version}"

    answers = together(person, len(others))
    (won,) = [answer for answer in answers if answer.startswith("won")]
    winner = answers.index(won)
    told = [answer for answer in answers if answer.startswith("told")]
    assert len(told) == len(others) - 1
    assert all(f"Person {winner} moved version {others[winner]} to staging" in answer for answer in told)
    assert aliases(people)["staging"] == others[winner]
    assert len(registry.history(TASK)) == before + 1
    whole(people)


def test_people_who_register_promote_and_look_as_they_like_leave_no_gap(people: MlflowClient) -> None:
    """Nobody waits for anybody: every success is a row, every row a success."""
    before = len(registry.history(TASK))

    def person(number: int, barrier: Any) -> str:
        rows = 0
        barrier.wait(timeout=60)
        for turn in range(TURNS):
            version = 1 + (number + turn) % PEOPLE
            try:
                moved = registry.promote(TASK, "staging", version, by=f"Person {number}", policy=POLICY)
                rows += moved.entry is not None
            except registry.GateError as error:  # not compared with what is in production
                assert {each.check for each in error.verdicts if each.status == "fail"} == {"production"}
            except UserError as error:
                assert "a moment ago" in str(error)
            found = look(TASK)
            sha256 = next(entry.evidence_sha256 for entry in found.entries if entry.to_version == version)
            said: dict[str, Any] = {"by": f"Person {number}", "why": "", "action": "register", "alias": "candidate"}
            alias_moves.move(TASK, expected=found, to_version=version, evidence_sha256=sha256, **said)
            rows += 1
            assert audit_log.broken(found.entries, found.head) == []
            assert found.moved() == []
        return str(rows)

    written = sum(int(answer) for answer in together(person))
    assert len(registry.history(TASK)) == before + written
    whole(people)


def test_the_history_refuses_changes_where_it_is_kept(people: MlflowClient) -> None:
    uri, changes = alias_moves.history_uri(), ["UPDATE {} SET why = 'x'", "DELETE FROM {}"]
    for change in [*changes, *["TRUNCATE {}"] * uri.startswith("postgresql")]:
        with sa.create_engine(uri).connect() as connection, pytest.raises(sa.exc.DBAPIError, match="append-only"):
            connection.execute(sa.text(change.format(audit_log.TABLE)))
    assert look(TASK).missing_triggers == ()
