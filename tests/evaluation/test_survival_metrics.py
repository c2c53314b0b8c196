"""What would make a metric of survival lie: another definition, censoring taken for health, rows taken for groups."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.evidence.survival import free_of_event
from evaluation.problems import measures_of
from evaluation.problems.survival import log_rank
from pipelines.params import read_params
from pipelines.samples.expression import ExpressionSamples
from pipelines.samples.survival import kaplan_meier
from tests.evaluation.planted import Known, Setting, split_by
from tests.training.profile_samples import GENES
from tests.training.survival_samples import follow_up_samples
from training.estimator import Attribution

ROOT = Path(__file__).parents[2]
HORIZONS = [3.0, 6.0, 10.0]
MEASURES = measures_of("survival")


@st.composite
def follow_ups(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Return time and event ``(n, 2)`` and survival ``(n, horizons)``, with ties of every kind."""
    count = draw(st.integers(12, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    time = np.ceil(rng.exponential(6, count)) if draw(st.booleans()) else rng.exponential(6, count) + 1e-3
    time[:3] = 11.0, 12.0, 2.0  # two are followed beyond the last horizon
    event = (rng.random(count) < draw(st.floats(0.3, 1.0))).astype(float)
    event[:3] = 0, 0, 1
    risk = np.round(rng.normal(size=count), draw(st.integers(0, 3)))
    return np.column_stack([time, event]), np.exp(-np.exp(risk)[:, None] * np.array(HORIZONS) / 8)


def _outputs(survival: np.ndarray) -> np.ndarray:
    return np.column_stack([np.zeros(len(survival)), survival])


def _measured(target: np.ndarray, survival: np.ndarray, **others: Any) -> dict[str, float]:
    if "baseline" in others:
        others["baseline"] = _outputs(others["baseline"])
    return MEASURES.metrics(target, _outputs(survival), horizons=HORIZONS, horizon=HORIZONS[1], **others)


@settings(max_examples=40, deadline=None)
@given(follow_ups(), st.integers(2, 4))
def test_metrics_curves_and_the_log_rank_test_are_those_of_scikit_survival(
    drawn: tuple[np.ndarray, np.ndarray], count: int
) -> None:
    from sksurv.compare import compare_survival
    from sksurv.metrics import brier_score, concordance_index_censored, concordance_index_ipcw, integrated_brier_score
    from sksurv.nonparametric import CensoringDistributionEstimator, kaplan_meier_estimator
    from sksurv.util import Surv

    target, survival = drawn
    time, event = target.T
    known, risk = Surv.from_arrays(event > 0, time), -np.log(survival[:, -1])
    expected = {
        "concordance": concordance_index_censored(event > 0, time, risk)[0],
        "uno_concordance": concordance_index_ipcw(known, known, risk, tau=HORIZONS[-1])[0],
        "brier": brier_score(known, known, survival, HORIZONS)[1][1],
        "integrated_brier": integrated_brier_score(known, known, survival, HORIZONS),
    }
    found = _measured(target, survival)
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-9)
    moments, curve = kaplan_meier_estimator(event > 0, time)
    np.testing.assert_allclose(kaplan_meier(time, event, moments), curve, rtol=0, atol=1e-12)
    at = np.array([1.0, 4.0, 9.0])
    followed = CensoringDistributionEstimator().fit(known).predict_proba(at)
    np.testing.assert_allclose(kaplan_meier(time, event, at, censoring=True), followed, rtol=0, atol=1e-12)
    groups = np.arange(len(target)) % count
    statistic, p = compare_survival(known, groups)
    assert log_rank(target, groups) == pytest.approx({"statistic": statistic, "df": count - 1, "p": p}, abs=1e-6)


def test_true_curves_score_better_than_those_of_all_and_risks_that_hold_are_calibrated() -> None:
    rng = np.random.default_rng(0)
    risk = rng.normal(size=4000)
    time, censored = rng.exponential(8 / np.exp(risk)), rng.uniform(2, 14, 4000)
    target = np.column_stack([np.minimum(time, censored), time <= censored]).astype(float)
    true = np.exp(-np.exp(risk)[:, None] * np.array(HORIZONS) / 8)
    naive = np.tile(kaplan_meier(target[:, 0], target[:, 1], np.array(HORIZONS)), (4000, 1))
    found = _measured(target, true, baseline=naive, margin_metric="integrated_brier")
    assert found["margin"] > 0.03
    assert found["ece"] < 0.03
    assert _measured(target, true**3)["ece"] > 0.1
    # Rows that were censored too early count as those that were followed longer.
    followed = kaplan_meier(target[:, 0], target[:, 1], np.array([5.0]), before=True)[0]
    held = free_of_event(pd.DataFrame(target, columns=["time", "event"]), np.full(4000, 5.0))
    assert ((held >= 0) & (held <= 1)).all() and held.mean() == pytest.approx(followed, abs=1e-9)
    # Harrell's index moves with the censoring; Uno's estimates what it would be without, up to the horizon.
    early = (time < HORIZONS[-1]).astype(float)
    whole = np.column_stack([np.minimum(time, HORIZONS[-1]), early])
    assert found["uno_concordance"] == pytest.approx(_measured(whole, true)["concordance"], abs=0.01)


class Planted(Known):
    """Names the genes that raise the hazard in `follow_up_samples`; all alike if it is ``flat``."""

    def __init__(self, flat: bool = False) -> None:
        self.flat = flat

    @property
    def weights(self) -> np.ndarray:
        return np.where(np.arange(len(GENES)) < 8, 0.0 if self.flat else 0.16, 0.0)

    def predict(self, samples: ExpressionSamples) -> np.ndarray:
        return (samples.logged(GENES) - 6.0) @ self.weights

    def attribute(self, samples: ExpressionSamples, output: np.ndarray | None = None) -> Attribution:
        values, base = (samples.logged(GENES) - 6.0) * self.weights, np.zeros(len(samples))
        return Attribution([f"expression:{gene}" for gene in GENES], values, base, values.sum(axis=1), "planted")


@pytest.mark.parametrize("flat", [False, True])
def test_the_evidence_parts_rows_by_risk_and_shows_what_their_risk_came_to(flat: bool, run_id: str) -> None:
    samples, model, times = follow_up_samples(240), Planted(flat), np.arange(1.0, 301.0)
    prepared = split_by(samples, np.where(np.arange(240) < 100, "train", "test"), np.zeros(240))
    contract: dict[str, Any] = {"time_unit": "days", "horizons": [50.0, 100.0, 200.0], "horizon": 100.0}
    contract |= {"slope": 1.0, "end": 300.0, "times": times.tolist(), "hazard": (times / 100).tolist()}
    contract |= {"spread": [[0.01, 0.0], [0.0, 0.01]], "genes": list(GENES), "known": list(GENES)}
    contract["naive"] = [0.6, 0.4, 0.2]
    task = read_params(ROOT / "params.yaml").task("breast_survival")
    setting = Setting(task, prepared, pd.DataFrame(), contract, run_id).evaluated(resamples=60)
    rows, test = prepared.table.iloc[prepared.rows("test")], prepared.side("test")
    known: Any = setting.run(model).contract
    predictions = known.predicted(rows, test, model.predict(test), np.zeros(len(test)))
    found = replace(setting, predictions=predictions).evidence(model)
    groups = {row["group"]: row for row in found.test["risk_groups"]}
    assert sum(row["rows"] for row in groups.values()) == len(test)
    assert set(found.figures) >= {"curves_by_risk_group", "calibration_at_horizon"}
    if flat:
        assert list(groups) == ["all"] and found.test["log_rank"]["df"] == 0
        return
    assert list(groups) == ["low", "medium", "high"]
    assert groups["low"]["high"] < groups["high"]["low"] and found.test["log_rank"]["p"] < 1e-3
    assert all(row["low"] <= row["observed"] <= row["high"] for row in groups.values())
    assert found.metrics["concordance"].low > 0.55
    assert MEASURES.measured(predictions) == ["time", "event"]
    theirs: Any = SimpleNamespace(contract=known, estimator=model, baseline=Planted(flat=True))
    pd.testing.assert_frame_equal(MEASURES.answered(theirs, test, predictions)[1], predictions)
    theirs.contract = replace(known, horizons=[50.0, 100.0])
    with pytest.raises(ValueError, match="its horizons are 50, 100, its risk is until 100"):
        MEASURES.answered(theirs, test, predictions)
    assert found.tables["calibration"]["observed"].is_monotonic_increasing
    assert set(found.tables["genes_by_class"]["gene"].head(8)) == {f"expression:{gene}" for gene in GENES[:8]}
