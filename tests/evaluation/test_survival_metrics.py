"""What would make a metric of survival lie: another definition, censoring taken for health, rows taken for groups."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.evidence.survival import held_until
from evaluation.metrics.resample import group_counts
from evaluation.metrics.survival import log_rank
from evaluation.problems import measures_of
from pipelines.problems import get_problem
from pipelines.samples.survival import concordance, kaplan_meier, partial_loss

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


@settings(max_examples=40, deadline=None)
@given(follow_ups())
def test_a_weighting_is_the_same_as_rows_repeated(drawn: tuple[np.ndarray, ...]) -> None:
    target, survival, groups = drawn
    labels, code = np.unique(groups, return_inverse=True)
    naive = np.tile([0.8, 0.6, 0.4], (len(target), 1))
    counts = group_counts(len(labels), 3, 0)
    shared: dict[str, Any] = {"horizons": HORIZONS, "horizon": HORIZONS[1], "margin_metric": "integrated_brier"}
    weighed = {"baseline": _outputs(naive), "within": None, **shared}
    found = MEASURES.weigh(target, _outputs(survival), groups, counts, **weighed)
    for number, weights in enumerate(counts[:, code]):
        rows = np.repeat(np.arange(len(target)), weights)
        expected = MEASURES.metrics(target[rows], _outputs(survival[rows]), baseline=_outputs(naive[rows]), **shared)
        for name in set(expected) - {"ece"}:  # whose bins are those of the distinct rows
            assert found[name][number] == pytest.approx(expected[name], abs=1e-9, nan_ok=True)


@settings(max_examples=40, deadline=None)
@given(follow_ups(), st.integers(0, 1000))
def test_the_order_of_the_rows_changes_nothing(drawn: tuple[np.ndarray, ...], seed: int) -> None:
    target, survival, groups = drawn
    order = np.random.default_rng(seed).permutation(len(target))
    known: dict[str, Any] = {"horizons": HORIZONS, "horizon": HORIZONS[0], "resamples": 20}
    first = MEASURES.bootstrap(target, _outputs(survival), groups, **known)
    second = MEASURES.bootstrap(target[order], _outputs(survival[order]), groups[order], **known)
    for name, interval in first.items():
        for end in ("value", "low", "high"):
            assert getattr(second[name], end) == pytest.approx(getattr(interval, end), abs=1e-9, nan_ok=True)


@settings(max_examples=40, deadline=None)
@given(follow_ups())
def test_metrics_stay_within_their_bounds(drawn: tuple[np.ndarray, ...]) -> None:
    target, survival, _ = drawn
    found = _measured(target, survival)
    assert all(0 <= found[name] <= 1 or np.isnan(found[name]) for name in ("concordance", "uno_concordance", "ece"))
    assert found["integrated_brier"] >= 0
    turned = float(concordance(*_parts(target), np.log(survival[:, -1])))  # the other way round
    assert turned == pytest.approx(1 - found["concordance"], abs=1e-9)


def test_the_registry_names_what_is_measured() -> None:
    target = np.column_stack([np.arange(1.0, 31), np.arange(30) % 2])
    survival = np.tile([0.9, 0.8, 0.5], (30, 1))
    names = get_problem("survival").reported(within=False)
    assert tuple(_measured(target, survival, baseline=survival)) == names


def test_the_same_risk_for_all_earns_nothing() -> None:
    target = np.column_stack([np.arange(1.0, 31), np.arange(30) % 2])
    alike = np.tile([0.9, 0.8, 0.5], (30, 1))
    found = _measured(target, alike, baseline=alike)
    assert found["concordance"] == found["uno_concordance"] == 0.5
    assert found["margin"] == 0


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


def test_an_interval_is_wider_where_rows_come_in_groups() -> None:
    rng = np.random.default_rng(1)
    risk = rng.normal(size=40)
    time = rng.exponential(8 / np.exp(risk))
    target, survival = np.column_stack([time, np.ones(40)]), np.exp(-np.exp(risk)[:, None] * np.array(HORIZONS) / 8)
    thrice = np.repeat(np.arange(40), 3)
    known: dict[str, Any] = {"horizons": HORIZONS, "horizon": HORIZONS[0], "resamples": 300}
    widths = []
    for groups in (thrice, np.arange(120)):
        found = MEASURES.bootstrap(target[thrice], _outputs(survival[thrice]), groups, **known)["concordance"]
        widths.append(found.high - found.low)
    assert widths[0] > 1.4 * widths[1]


def test_rows_censored_too_early_count_as_those_that_were_followed_longer() -> None:
    import pandas as pd

    rng = np.random.default_rng(2)
    table = pd.DataFrame({"time": rng.exponential(8, 200), "event": (rng.random(200) < 0.6).astype(int)})
    held = held_until(table, np.full(200, 5.0))
    assert ((held >= 0) & (held <= 1)).all()
    expected = kaplan_meier(table["time"].to_numpy(), table["event"].to_numpy(), np.array([5.0]), before=True)[0]
    assert held.mean() == pytest.approx(expected, abs=1e-9)


def test_the_loss_is_smaller_where_risks_are_right() -> None:
    time, event = np.arange(1.0, 21), np.ones(20)
    losses = [partial_loss(time, event, sign * -time / 5) for sign in (1, 0, -1)]
    assert losses == sorted(losses)
    assert np.isnan(partial_loss(time, np.zeros(20), time))


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
