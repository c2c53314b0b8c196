"""What would make a metric of survival lie: another definition, censoring taken for health, rows taken for groups."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.evidence.survival import held_until
from evaluation.metrics.survival import log_rank
from evaluation.problems import measures_of
from pipelines.samples.survival import kaplan_meier

HORIZONS = [3.0, 6.0, 10.0]
MEASURES = measures_of("survival")


@st.composite
def follow_ups(draw: st.DrawFn, least: int = 12) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return time and event ``(n, 2)``, survival ``(n, horizons)`` and groups, with ties of every kind."""
    count = draw(st.integers(least, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    time = np.ceil(rng.exponential(6, count)) if draw(st.booleans()) else rng.exponential(6, count) + 1e-3
    time[:2] = 11.0, 12.0  # followed beyond the last horizon
    event = (rng.random(count) < draw(st.floats(0.3, 1.0))).astype(float)
    event[:3] = 0, 0, 1
    time[2] = 2.0
    risk = np.round(rng.normal(size=count), draw(st.integers(0, 3)))
    survival = np.exp(-np.exp(risk)[:, None] * np.array(HORIZONS) / 8)
    return np.column_stack([time, event]), survival, rng.integers(0, max(2, count // 2), count)


def _parts(target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return target[:, 0], target[:, 1]


def _outputs(survival: np.ndarray) -> np.ndarray:
    """Return curves as a model answers them, after a log hazard."""
    return np.column_stack([np.zeros(len(survival)), survival])


def _measured(target: np.ndarray, survival: np.ndarray, **others: Any) -> dict[str, float]:
    if "baseline" in others:
        others["baseline"] = _outputs(others["baseline"])
    return MEASURES.metrics(target, _outputs(survival), horizons=HORIZONS, horizon=HORIZONS[1], **others)


@settings(max_examples=60, deadline=None)
@given(follow_ups())
def test_all_metrics_are_those_of_scikit_survival(drawn: tuple[np.ndarray, ...]) -> None:
    from sksurv.metrics import brier_score, concordance_index_censored, concordance_index_ipcw, integrated_brier_score
    from sksurv.util import Surv

    target, survival, _ = drawn
    time, event = target.T
    known, risk = Surv.from_arrays(event > 0, time), -np.log(survival[:, -1])
    found = _measured(target, survival)
    assert found["concordance"] == pytest.approx(concordance_index_censored(event > 0, time, risk)[0], abs=1e-9)
    uno = concordance_index_ipcw(known, known, risk, tau=HORIZONS[-1])[0]
    assert found["uno_concordance"] == pytest.approx(uno, abs=1e-9)
    assert found["brier"] == pytest.approx(brier_score(known, known, survival, HORIZONS)[1][1], abs=1e-9)
    integrated = integrated_brier_score(known, known, survival, HORIZONS)
    assert found["integrated_brier"] == pytest.approx(integrated, abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(follow_ups())
def test_curves_are_those_of_scikit_survival(drawn: tuple[np.ndarray, ...]) -> None:
    from sksurv.nonparametric import CensoringDistributionEstimator, kaplan_meier_estimator
    from sksurv.util import Surv

    (time, event), at = drawn[0].T, np.array([1.0, 4.0, 9.0])
    moments, expected = kaplan_meier_estimator(event > 0, time)
    np.testing.assert_allclose(kaplan_meier(time, event, moments), expected, rtol=0, atol=1e-12)
    censored = CensoringDistributionEstimator().fit(Surv.from_arrays(event > 0, time))
    followed = kaplan_meier(time, event, at, censoring=True)
    np.testing.assert_allclose(followed, censored.predict_proba(at), rtol=0, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(follow_ups(), st.integers(2, 4))
def test_the_log_rank_test_is_that_of_scikit_survival(drawn: tuple[np.ndarray, ...], count: int) -> None:
    from sksurv.compare import compare_survival
    from sksurv.util import Surv

    target = drawn[0]
    groups = np.arange(len(target)) % count
    statistic, p = compare_survival(Surv.from_arrays(target[:, 1] > 0, target[:, 0]), groups)
    found = log_rank(target, groups)
    assert found["df"] == count - 1
    assert found["statistic"] == pytest.approx(statistic, abs=1e-6)
    assert found["p"] == pytest.approx(p, abs=1e-6)


def test_true_curves_score_better_than_those_of_all_and_risks_that_hold_are_calibrated() -> None:
    rng = np.random.default_rng(0)
    risk = rng.normal(size=4000)
    time, censored = rng.exponential(8 / np.exp(risk)), rng.uniform(2, 14, 4000)
    target = np.column_stack([np.minimum(time, censored), time <= censored]).astype(float)
    true = np.exp(-np.exp(risk)[:, None] * np.array(HORIZONS) / 8)
    naive = np.tile(kaplan_meier(*_parts(target), np.array(HORIZONS)), (4000, 1))
    found = _measured(target, true, baseline=naive, margin_metric="integrated_brier")
    assert found["margin"] > 0.03
    assert found["ece"] < 0.03
    assert _measured(target, true**3)["ece"] > 0.1
    # Harrell's index moves with the censoring; Uno's estimates what it would be without, up to the horizon.
    early = (time < HORIZONS[-1]).astype(float)
    whole = np.column_stack([np.minimum(time, HORIZONS[-1]), early])
    assert found["uno_concordance"] == pytest.approx(_measured(whole, true)["concordance"], abs=0.01)


def test_rows_censored_too_early_count_as_those_that_were_followed_longer() -> None:
    import pandas as pd

    rng = np.random.default_rng(2)
    table = pd.DataFrame({"time": rng.exponential(8, 200), "event": (rng.random(200) < 0.6).astype(int)})
    held = held_until(table, np.full(200, 5.0))
    assert ((held >= 0) & (held <= 1)).all()
    expected = kaplan_meier(table["time"].to_numpy(), table["event"].to_numpy(), np.array([5.0]), before=True)[0]
    assert held.mean() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("target", "survival", "message"),
    [
        ([[0.0, 1.0], [2.0, 0.0]], [[0.9] * 3] * 2, "time is 0 at row 0"),
        ([[1.0, 1.0], [2.0, 2.0]], [[0.9] * 3] * 2, "event is 2 at row 1"),
        ([[1.0, 1.0], [np.nan, 0.0]], [[0.9] * 3] * 2, "time is nan at row 1"),
        ([[1.0, 1.0], [2.0, 0.0]], [[0.9] * 2] * 2, "survival has shape"),
        ([[1.0, 1.0], [2.0, 0.0]], [[0.9] * 3, [0.9, 1.1, 0.2]], "survival is 1.1 at row 1"),
        ([1.0, 2.0], [[0.9] * 3] * 2, "target has shape"),
    ],
)
def test_what_cannot_be_measured_is_refused_by_row(target: Any, survival: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _measured(np.array(target), np.array(survival))
