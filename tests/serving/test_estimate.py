"""Performance without labels follows shifts of the inputs, and says where it cannot."""

from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest

from evaluation.metrics import Interval
from pipelines.files import write_json
from serving.continuous_training.on_drift import DONE, called_for
from serving.drift.estimate import Estimate, contradicted, estimate, told
from serving.drift.watch import Performance
from serving.problems import get_problem

NEAR = 0.03


def classified(rows: int, easy: float, rng: np.random.Generator, bias: float = 0.0) -> pd.DataFrame:
    """Return answers as sure as inputs are ``easy``, right as often as they say, or ``bias`` less often."""
    probability = 0.5 + 0.5 * rng.beta(2 * easy, 2, rows)
    right = rng.random(rows) < probability - bias
    return pd.DataFrame({"label": "a", "probability": probability, "target": np.where(right, "a", "b")})


def measured(rows: int, hard: float, rng: np.random.Generator) -> pd.DataFrame:
    """Return numbers whose errors grow with the widths of their intervals, on which the share ``hard`` is wide."""
    width = np.where(rng.random(rows) < hard, 4.0, 1.0)
    target = rng.normal(0, 2, rows)
    prediction = target + rng.normal(0, width / 3, rows)
    low, high = prediction - width / 2, prediction + width / 2
    return pd.DataFrame({"prediction": prediction, "low": low, "high": high, "target": target})


@pytest.mark.parametrize("easy", [0.4, 1.0, 4.0])
@pytest.mark.parametrize("overconfident", [0.0, 0.1])
def test_accuracy_is_estimated_under_shifts_of_the_inputs(easy: float, overconfident: float) -> None:
    rng, worth = np.random.default_rng(0), get_problem("classification").worth()
    assert worth is not None
    held_out = classified(2000, 1.5, rng, overconfident)  # what a probability is worth is learnt from these
    now = classified(4000, easy, rng, overconfident)
    found = estimate(worth, held_out, now.drop(columns="target"), confidence=0.95, seed=1)
    truth = float((now["label"] == now["target"]).mean())
    assert abs(found.now.value - truth) < NEAR
    assert found.now.low - NEAR < truth < found.now.high + NEAR and found.now.high - found.now.low < 0.1
    assert found.then == pytest.approx((held_out["label"] == held_out["target"]).mean())


@pytest.mark.parametrize("hard", [0.05, 0.3, 0.9])
def test_errors_of_numbers_are_estimated_from_their_intervals(hard: float) -> None:
    rng, worth = np.random.default_rng(0), get_problem("regression").worth()
    assert worth is not None
    found = estimate(
        worth,
        measured(10_000, 0.3, rng),  # enough for the error of the estimate itself to be small
        (now := measured(6000, hard, rng)).drop(columns="target"),
        confidence=0.95,
        seed=1,
    )
    truth = float(np.sqrt(((now["prediction"] - now["target"]) ** 2).mean()))
    assert abs(found.now.value - truth) < NEAR * max(1.0, truth)


def test_where_it_cannot_hold_that_is_said() -> None:
    found = Estimate("accuracy", Interval(0.9, 0.88, 0.92), 0.93, 500)
    watched: Any = Mock(novelty=Interval(0.02, 0.01, 0.03), performance=None)
    assert "as long as the same inputs mean the same" in told(found, watched, 0.1)
    watched.novelty = Interval(0.4, 0.3, 0.5)
    assert "not to be relied on" in told(found, watched, 0.1)
    watched.novelty = Interval(0.02, 0.01, 0.03)
    watched.performance = Performance("accuracy", Interval(0.7, 0.65, 0.75), Interval(0.93, 0.9, 0.95), 300, "dropped")
    assert contradicted(found, watched.performance) and "has shifted" in told(found, watched, 0.1)
    same = Performance("accuracy", Interval(0.9, 0.86, 0.94), Interval(0.93, 0.9, 0.95), 300, "held")
    other = Performance("macro_f1", Interval(0.1, 0.0, 0.2), Interval(0.93, 0.9, 0.95), 300, "dropped")
    assert not contradicted(found, same) and not contradicted(found, other)
    assert get_problem("survival").worth() is None


def test_a_report_calls_for_one_retraining(tmp_path: Path) -> None:
    assert called_for("task", tmp_path) is None
    for name, decision in (("2026-11-01", "retrain"), ("2026-11-02", "fine")):
        write_json(tmp_path / "task" / "monitor" / name / "monitor.json", {"decision": decision})
    assert called_for("task", tmp_path) is None, "the last one is fine"
    last = tmp_path / "task" / "monitor" / "2026-11-03"
    write_json(last / "monitor.json", {"decision": "retrain"})
    assert called_for("task", tmp_path) == last
    (last / DONE).touch()
    assert called_for("task", tmp_path) is None
