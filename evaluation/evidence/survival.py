"""What the evidence of every model of a time to an event says: its curves, its risk groups, and whether risks hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from evaluation.evidence.parts import Evaluation, Evidence
from evaluation.figures import plots
from evaluation.figures.survival import calibration_at_horizon, curves_by_group
from evaluation.metrics.resample import group_counts, percentile_interval
from evaluation.metrics.survival import log_rank, risk_bins
from evaluation.modalities import Modality
from evaluation.problems import Measures
from pipelines.samples.survival import kaplan_meier

_GROUPS = ("low", "medium", "high")  # thirds of the test rows, by predicted risk


def survival_evidence(measures: Measures, run: Evaluation, modality: Modality) -> Evidence:
    """Measure the test rows of a model of a time to an event; see `Measures.evidence`."""
    task, predictions = run.task, run.predictions
    contract: Any = run.contract
    metrics = measures.intervals(predictions, task, run.seed)
    every = {"name": "all", "n": len(predictions), **metrics["concordance"].as_dict()}
    held = held_until(predictions, contract.event_free_until(predictions["prediction_log_hazard"].to_numpy()))
    covered = run.coverage(held)
    groups = risk_groups(predictions)
    by_group, test = by_risk_group(run, groups), log_rank_of_groups(predictions, groups)
    bins = calibration_table(run)
    unit = contract.time_unit
    drawn = {
        "curves_by_risk_group": curves_by_group(predictions, groups, test["p"], run.title, unit),
        "calibration_at_horizon": calibration_at_horizon(bins, float(predictions["horizon"].iloc[0]), run.title, unit),
    }
    if history := run.history():
        drawn["learning_curves"] = plots.learning_curves(history, run.title)
    found = Evidence(
        metrics=metrics,
        test={"events": int(predictions["event"].sum()), "risk_groups": by_group.to_dict("records"), "log_rank": test},
        sections={
            "worst": {"unit": "test split", "metric": "concordance", "rows": [every]},
            "coverage": covered,
            "cross_validation": run.fitted.cross_validation,
            "interval": {
                "coverage": task.evaluate.interval_coverage,
                "slope": contract.slope,
                "covered_on_test": covered["observed"],
                "horizon": contract.horizon,
                "unit": unit,
            },
        },
        tables={"risk_groups": by_group, "calibration_at_horizon": bins},
        figures=drawn,
        logged={"test_interval_coverage": covered["observed"]} | ({"test_log_rank_p": test["p"]} if test["df"] else {}),
    )
    return found | modality.by_stratum(run, lambda part: measures.intervals(part, task, run.seed))


def held_until(predictions: pd.DataFrame, until: np.ndarray) -> np.ndarray:
    """Return 1 where no event came before a time, 0 where one did, ``(n,)``.

    A row that is censored before takes the share of the rows followed longer that have none, in which way the mean is
    that of Kaplan and Meier (Efron, 1967: redistribution to the right).
    """
    time, event = predictions["time"].to_numpy(np.float64), predictions["event"].to_numpy()
    share = time / until
    at_one = kaplan_meier(share, event, np.ones(1), before=True)
    left = kaplan_meier(share, event, share)
    unknown = np.divide(at_one, left, out=np.zeros_like(left), where=left > 0)
    return np.where(share >= 1, 1.0, np.where(event > 0, 0.0, unknown))


def risk_groups(predictions: pd.DataFrame) -> np.ndarray:
    """Return the risk group of each row; fewer where many rows have one risk, and one where all have."""
    code = risk_bins(predictions["prediction_log_hazard"].to_numpy(), len(_GROUPS))
    names = {1: ("all",), 2: ("low", "high"), 3: _GROUPS}[int(code.max()) + 1]
    return np.array(names)[code]


def by_risk_group(run: Evaluation, groups: np.ndarray) -> pd.DataFrame:
    """Return a row a risk group: rows, events, and the risk until the horizon as predicted and as observed."""
    rows = []
    for name in [each for each in (*_GROUPS, "all") if each in groups]:
        part = run.predictions[groups == name]
        rows.append({"group": name, "rows": len(part), "events": int(part["event"].sum()), **_observed(run, part)})
    return pd.DataFrame(rows)


def calibration_table(run: Evaluation) -> pd.DataFrame:
    """Return a row a bin of like predictions: the risk until the horizon as predicted and as observed."""
    code = risk_bins(run.predictions["prediction_risk"].to_numpy(), max(1, min(5, len(run.predictions) // 20)))
    parts = [run.predictions[code == each] for each in np.unique(code)]
    return pd.DataFrame([{"rows": len(part), **_observed(run, part)} for part in parts])


def log_rank_of_groups(predictions: pd.DataFrame, groups: np.ndarray) -> dict[str, float]:
    """Return the log-rank test of the risk groups, on one row a group of the split, since others tell nothing new."""
    first = ~predictions["group"].duplicated().to_numpy()
    return log_rank(predictions[["time", "event"]][first], groups[first])


def _observed(run: Evaluation, part: pd.DataFrame) -> dict[str, Any]:
    """Return predicted and observed risk until the horizon, the latter (Kaplan-Meier) with an interval over groups."""
    time, event = part["time"].to_numpy(np.float64), part["event"].to_numpy()
    at = part["horizon"].to_numpy(np.float64)[:1]
    value = float(1 - kaplan_meier(time, event, at)[0])
    told = {"predicted": float(part["prediction_risk"].mean()), "observed": value}
    code = np.unique(part["group"].to_numpy(str), return_inverse=True)[1]
    if code.max() < 1:
        return {**told, "low": float("nan"), "high": float("nan")}
    counts = group_counts(int(code.max()) + 1, run.task.evaluate.resamples, run.seed)
    found = percentile_interval(
        value, 1 - kaplan_meier(time, event, at, counts[:, code])[:, 0], run.task.evaluate.confidence
    )
    return {**told, "low": found.low, "high": found.high}
