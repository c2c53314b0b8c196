"""Fifty studies whose workers are killed at random: no trial is lost, and none is run to its end twice."""

from __future__ import annotations

import pytest

from tests.training.killed_rounds import BUDGET, rounds

pytestmark = pytest.mark.soak


def test_fifty_rounds_of_random_kills_lose_and_double_nothing() -> None:
    counted = rounds(50)
    print(counted)
    assert counted["kills"] >= 50
    assert counted["run again"] > 0, "no kill hit a trial: the test shows nothing"
    assert counted["done"] == 50 * BUDGET
    assert (counted["lost"], counted["doubled"], counted["open"]) == (0, 0, 0)
