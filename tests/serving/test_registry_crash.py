"""A promotion that is killed, at any point, leaves the state before or the one after, and nothing in between."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from mlflow import MlflowClient

from serving import history_table, ledger, registry
from serving import registry_checks as problems
from tests.empty_store import empty_store
from tests.evaluation.made_evidence import TASK
from tests.serving.made_registry import (
    BY,
    POLICY,
    aliases,
    compared_with,
    made_version,
    postgres,
    prepare_folder,
    stages,
    tracked,
)

_FORK = multiprocessing.get_context("fork")
KILLS = 12


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def client(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowClient]:
    folder = tmp_path_factory.mktemp("crash")

    def ready(uri: str) -> Iterator[MlflowClient]:
        with pytest.MonkeyPatch.context() as patch:
            prepare_folder(folder, patch)
            with tracked(uri) as made:
                made_version(made)
                registry.promote(TASK, "staging", 1, by=BY, policy=POLICY)
                registry.promote(TASK, "production", 1, by=BY, policy=POLICY)
                every = [*compared_with(1), *compared_with(2)[-1:], *compared_with(3)[-1:]]
                for _ in range(2):
                    made_version(made, comparisons=every)
                yield made

    if request.param == "sqlite":
        yield from ready(empty_store(folder))
    else:
        with postgres() as uri:
            yield from ready(uri)


def killed(does: Callable[[], None], after: float | None = None) -> int:
    """Run ``does`` in a process of its own, kill it after so many seconds, and return its exit code."""
    process = _FORK.Process(target=does)
    process.start()
    if after is not None:
        time.sleep(after)
        os.kill(process.pid or 0, signal.SIGKILL)
    process.join(timeout=60)
    assert process.exitcode is not None
    return process.exitcode


def state(client: MlflowClient) -> tuple[dict[str, int], dict[int, str], int]:
    return aliases(client), stages(client), len(registry.history(TASK))


def die(*_: Any, **__: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def before_and_after(module: Any, name: str) -> dict[str, Callable[[], None]]:
    """Return two ways to die: when a function is called, and when it has returned."""
    original = getattr(module, name)

    def then(*arguments: Any, **named: Any) -> Any:
        original(*arguments, **named)
        die()

    return {
        f"before {name}": lambda: setattr(module, name, die),
        f"after {name}": lambda: setattr(module, name, then),
    }


POINTS: dict[str, Callable[[], None]] = {
    **before_and_after(history_table, "create"),
    **before_and_after(history_table, "append"),
    **before_and_after(ledger, "_put"),
    **before_and_after(ledger, "_set_aliases"),
    **before_and_after(ledger, "_set_stages"),
    "before commit": lambda: sa.event.listen(sa.Engine, "commit", die),
}


@pytest.mark.parametrize("point", POINTS)
def test_killed_inside_the_transaction_nothing_has_happened(client: MlflowClient, point: str) -> None:
    before = state(client)
    to = "staging" if "staging" not in before[0] else "production"

    def promote() -> None:
        POINTS[point]()
        registry.promote(TASK, to, None if to == "production" else 2, by=BY, policy=POLICY)  # type: ignore[arg-type]

    assert killed(promote) == -signal.SIGKILL
    assert state(client) == before
    assert problems.verify(TASK) == []
    # And whoever comes next is not held up.
    registry.promote(TASK, "staging", 5 - (before[0].get("staging") or 2), by=BY, policy=POLICY)
    assert problems.verify(TASK) == []


def test_killed_after_the_transaction_all_has_happened(client: MlflowClient) -> None:
    entries = registry.history(TASK)
    number = 5 - aliases(client).get("staging", 2)

    def promote() -> None:
        registry.promote(TASK, "staging", number, by=BY, policy=POLICY)
        die()

    assert killed(promote) == -signal.SIGKILL
    assert aliases(client)["staging"] == number
    assert stages(client)[number] == "Staging"
    assert len(registry.history(TASK)) == len(entries) + 1
    assert problems.verify(TASK) == []


def test_killed_at_any_moment_the_state_is_one_that_the_history_tells(client: MlflowClient) -> None:
    """Somebody promotes all the time, and is killed again and again."""

    def promote() -> None:
        while True:
            for number in (2, 3):
                registry.promote(TASK, "staging", number, by=BY, policy=POLICY)

    def once() -> None:
        registry.promote(TASK, "staging", 5 - aliases(client).get("staging", 2), by=BY, policy=POLICY)

    began = time.monotonic()
    assert killed(once) == 0
    takes = time.monotonic() - began
    moments = random.Random(5)
    rows = [len(registry.history(TASK))]
    for _ in range(KILLS):
        assert killed(promote, moments.uniform(0, 3 * takes)) == -signal.SIGKILL
        found = ledger.look(TASK)
        assert history_table.broken(found.entries, found.head) == []
        assert found.moved() == found.staged_wrongly() == []
        rows.append(len(found.entries))
    assert rows == sorted(rows)
    assert rows[-1] > rows[0], "no promotion came through; the test has seen nothing"
    assert problems.verify(TASK) == []


def test_the_database_is_not_left_locked(client: MlflowClient) -> None:
    began = time.monotonic()
    assert ledger.look(TASK).entries
    found = ledger.look(TASK)
    ledger.move(TASK, expected=found, by=BY, action="restore", alias="", to_version=None, why="a trial")
    assert time.monotonic() - began < ledger.WAIT_SECONDS / 2
