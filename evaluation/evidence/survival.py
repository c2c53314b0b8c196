"""The evidence of every model of a time to an event: its curves, its risk groups, and the calibration of its risks."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from evaluation.evidence import strata
from evaluation.evidence.parts import Evaluation, Evidence, Explained, worst
from evaluation.figures.plots import BLUE, GRAY, RED, styled
from evaluation.metrics import over_groups
from evaluation.modalities import Modality
from evaluation.problems import Measures
from evaluation.problems.survival import log_rank, risk_bins
from evaluation.results import against
from pipelines.samples.survival import kaplan_meier

_COLORS = {"low": BLUE, "medium": GRAY, "high": RED, "all": BLUE}  # of the thirds of the test rows, by predicted risk


def evidence(measures: Measures, run: Evaluation, modality: Modality) -> Evidence:
    """Measure the test rows of a model of a time to an event; see `Measures.evidence`."""
    task, contract, predictions = run.task, run.contract, run.predictions
    metrics = measures.intervals(predictions, task, run.seed)
    every = {"name": "all", "n": len(predictions), **metrics["concordance"].as_dict()}
    until = contract.event_free_until(predictions["prediction_log_hazard"].to_numpy())
    free = free_of_event(predictions, until)
    covered = run.coverage(free)
    groups = risk_groups(predictions)
    first = ~predictions["group"].duplicated().to_numpy()  # rows of one group are not independent
    test = log_rank(predictions[["time", "event"]][first], groups[first])
    by_group = pd.DataFrame(
        [
            {"group": name, "rows": len(part), "events": int(part["event"].sum()), **_observed(run, part)}
            for name in _COLORS
            if len(part := predictions[groups == name])
        ]
    )
    code = risk_bins(predictions["prediction_risk"].to_numpy(), max(1, min(5, len(predictions) // 20)))
    parts = [predictions[code == each] for each in np.unique(code)]
    bins = pd.DataFrame([{"rows": len(part), **_observed(run, part)} for part in parts])
    horizon, unit = float(predictions["horizon"].iloc[0]), contract.time_unit
    drawn = {
        "curves_by_risk_group": curves_by_group(predictions, groups, test["p"], run.title, unit),
        "calibration_at_horizon": calibration_at_horizon(bins, horizon, run.title, unit),
    }
    risk, followed = (predictions[name].to_numpy(np.float64) for name in ("prediction_risk", "time"))
    tables = {"risk_groups": by_group, "calibration": bins}
    tables["predicted"] = against(followed, risk, run.seed)
    interval = {"coverage": task.evaluate.interval_coverage, "slope": contract.slope}
    interval |= {"covered_on_test": covered["observed"]}
    found = Evidence(
        metrics=metrics,
        test={"events": int(predictions["event"].sum()), "risk_groups": by_group.to_dict("records"), "log_rank": test},
        sections={
            "worst": worst("test split", "concordance", [every]),
            "coverage": covered,
            "cross_validation": run.fitted.cross_validation,
            "interval": {**interval, "horizon": contract.horizon, "unit": unit},
        },
        tables=tables,
        figures=drawn,
        logged={"test/interval_coverage": covered["observed"]} | ({"test/log_rank_p": test["p"]} if test["df"] else {}),
    )
    return found | strata.evidence(run, measures, free)


def explained(measures: Measures, run: Evaluation) -> Explained:
    """Explain the log hazard, which may move either way; see `Measures.explained`."""
    first = np.zeros(len(run.predictions), dtype=np.int64)
    return Explained(("log hazard",), first, lambda before, after, of_row: np.abs(after - before))


def free_of_event(predictions: pd.DataFrame, until: np.ndarray) -> np.ndarray:
    """Return 1 where no event came before a time, 0 where one did, ``(n,)``.

    A row that is censored before takes the share of the rows followed longer that have none, so that the mean is that
    of Kaplan and Meier (Efron, 1967: redistribution to the right).
    """
    time, event = predictions["time"].to_numpy(np.float64), predictions["event"].to_numpy()
    share = time / until
    at_one = kaplan_meier(share, event, np.ones(1), before=True)
    left = kaplan_meier(share, event, share)
    unknown = np.divide(at_one, left, out=np.zeros_like(left), where=left > 0)
    return np.where(share >= 1, 1.0, np.where(event > 0, 0.0, unknown))


def risk_groups(predictions: pd.DataFrame) -> np.ndarray:
    """Return the risk group of each row; fewer where many rows have one risk, and one where all have."""
    code = risk_bins(predictions["prediction_log_hazard"].to_numpy(), 3)
    names = {1: ("all",), 2: ("low", "high"), 3: ("low", "medium", "high")}[int(code.max()) + 1]
    return np.array(names)[code]


def _observed(run: Evaluation, part: pd.DataFrame) -> dict[str, Any]:
    """Return predicted and observed risk until the horizon, the latter (Kaplan-Meier) with an interval over groups."""
    time, event = part["time"].to_numpy(np.float64), part["event"].to_numpy()
    at = part["horizon"].to_numpy(np.float64)[:1]
    labels, code = np.unique(part["group"].to_numpy(str), return_inverse=True)

    def observed(counts: np.ndarray) -> np.ndarray:
        return 1 - kaplan_meier(time, event, at, counts[:, code])[:, 0]

    found = over_groups(float(1 - kaplan_meier(time, event, at)[0]), len(labels), observed, **run.bootstrap)
    predicted = float(part["prediction_risk"].mean())
    return {"predicted": predicted, "observed": found.value, "low": found.low, "high": found.high}


@styled
def curves_by_group(predictions: pd.DataFrame, groups: np.ndarray, p: float, title: str, unit: str) -> Figure:
    """Return the Kaplan-Meier curve of each risk group, with marks where a follow-up ended, and the test's p."""
    figure, axes = plt.subplots(figsize=(5.4, 3.8))
    for name in [each for each in _COLORS if each in groups]:
        part = predictions[groups == name]
        time, event = part["time"].to_numpy(np.float64), part["event"].to_numpy()
        at = np.r_[0.0, np.unique(time)]
        label = f"{name}: {len(part)} rows, {int(event.sum())} events"
        axes.step(at, kaplan_meier(time, event, at), where="post", color=_COLORS[name], label=label)
        ended = np.unique(time[event == 0])
        axes.plot(ended, kaplan_meier(time, event, ended), "|", color=_COLORS[name], markersize=5)
    test = "" if np.isnan(p) else f", log-rank p {'< 0.001' if p < 0.001 else f'= {p:.3f}'}"
    axes.set(xlabel=unit, ylabel="share without the event", ylim=(0, 1.02), title=f"{title}{test}")
    axes.legend(title="predicted risk", frameon=False, loc="lower left")
    return figure


@styled
def calibration_at_horizon(bins: pd.DataFrame, horizon: float, title: str, unit: str) -> Figure:
    """Return the observed risk until the horizon over the predicted one, of bins of like predictions."""
    figure, axes = plt.subplots(figsize=(4.2, 4.0))
    axes.plot([0, 1], [0, 1], color=GRAY, linewidth=1)
    axes.vlines(bins["predicted"], bins["low"], bins["high"], color=BLUE, linewidth=2)
    axes.scatter(bins["predicted"], bins["observed"], color=BLUE, zorder=3)
    axes.set(xlabel=f"predicted risk until {horizon:g} {unit}", ylabel="observed risk (Kaplan-Meier)", title=title)
    axes.set(xlim=(0, 1), ylim=(0, 1))
    return figure
