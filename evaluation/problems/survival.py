"""Metrics of predicted times to an event, under many weightings of the groups; censoring is estimated under each."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import chdtrc

from evaluation.metrics import Floats, encode, gain, in_blocks, numbers, weights_of
from evaluation.problems import Columns, Measures, columns_of, names_of
from pipelines.problems import get_problem
from pipelines.samples.survival import concordance, kaplan_meier, partial_loss

if TYPE_CHECKING:
    from training.model.predictor import Predictor

NAMES = get_problem("survival").reported(within=False)
_BINS, _ROWS_OF_BIN = 5, 20  # of calibration: at most so many bins, of at least so many rows
_LEAST = 1e-300  # of survival, whose logarithm is taken


class SurvivalMeasures(Measures):
    """Concordance, errors of the curve, and calibration at the horizon."""

    promise = "times without an event"
    margin_metric = "concordance"
    units = ("test split",)

    def weigh(
        self,
        target: npt.ArrayLike,
        outputs: npt.ArrayLike,
        groups: npt.ArrayLike,
        counts: npt.ArrayLike,
        *,
        horizons: Sequence[float],
        horizon: float,
        baseline: npt.ArrayLike | None = None,
        within: None = None,
        margin_metric: str = "concordance",
        naive: Sequence[float] | None = None,
        names: Collection[str] = NAMES,
    ) -> dict[str, Floats]:
        """Return metrics of survival curves, see `Measures.weigh`.

        A weighting with whole numbers gives what the rows repeated that often give, save that the bins of `ece` are
        those of the distinct rows. What the data leave undefined is NaN. ``target`` is the time of follow-up, above 0,
        and whether it ended with the event, 1 or 0, ``(n_rows, 2)``; ``outputs`` and ``baseline`` are log hazard and
        predicted share without the event at the ascending horizons, of which the last ranks the rows,
        ``(n_rows, 1 + n_horizons)``. A baseline of log hazards alone has the curve ``naive`` of the contract.

        - `concordance`: Harrell's; `uno_concordance`: Uno's, up to the last horizon;
        - `integrated_brier`: squared error of the curve, weighted by the inverse probability of being censored (Graf et
          al., 1999), mean over time from the first to the last horizon; `brier`: at `horizon`, which is one of them;
        - `ece`: expected calibration error of the risk at `horizon`: the mean distance of predicted risks from those
          observed (Kaplan-Meier) in bins of like prediction;
        - `partial_loss`: negative log partial likelihood (Cox, 1972) per event, ties after Breslow;
        - `margin` over the baseline.
        """
        at = np.asarray(horizons, dtype=np.float64)
        moments, happened = _follow_up(target)
        curves = _curves("survival", np.asarray(outputs)[:, 1:], len(moments), len(at))
        reference = None
        if baseline is not None:
            given = np.asarray(baseline)
            given = given[:, 1:] if given.ndim == 2 else np.tile(np.asarray(naive), (len(given), 1))
            reference = _curves("baseline", given, len(moments), len(at))
        labels, group = encode("groups", groups, len(moments))
        weights = weights_of(counts, labels.size)
        if reference is not None and margin_metric not in NAMES:
            raise ValueError(f"margin_metric is {margin_metric!r}, not one of {', '.join(NAMES)}")
        asked = [name for name in NAMES if name in names and name != "margin"]

        def measure(block: Floats) -> dict[str, Floats]:
            known: dict[str, Any] = {"weights": block[:, group], "horizons": at, "horizon": horizon}
            found = {name: _measure(name, moments, happened, curves, **known) for name in asked}
            if reference is not None and "margin" in names:
                of_both = [_measure(margin_metric, moments, happened, each, **known) for each in (curves, reference)]
                found["margin"] = gain(margin_metric, of_both[0], of_both[1])
            return found

        return in_blocks(weights, len(moments), measure)

    def weighted(self, predictions: pd.DataFrame, metric: str, *given: Any, **known: Any) -> dict[str, Floats]:
        """See `Measures.weighted`."""
        return super().weighted(predictions, metric, *given, names=(metric,), **known)

    def columns(self, predictions: pd.DataFrame) -> Columns:
        """See `Measures.columns`; time and event ``(n, 2)``, log hazard and survival ``(n, 1 + horizons)``."""
        horizons = horizons_of(predictions)
        columns = ["log_hazard", *horizons]
        outputs, baseline = (columns_of(predictions, kind, columns) for kind in ("prediction", "baseline"))
        scoring = {"horizons": [float(each) for each in horizons], "horizon": float(predictions["horizon"].iloc[0])}
        return Columns(predictions[["time", "event"]].to_numpy(np.float64), outputs, baseline, scoring)

    def measured(self, predictions: pd.DataFrame) -> list[str]:
        """Return time and event."""
        return ["time", "event"]

    def answered(self, model: Predictor, samples: Any, ours: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
        """See `Measures.answered`; the other model must answer the same horizons."""
        contract: Any = model.contract
        horizons = [f"{each:g}" for each in contract.horizons]
        if horizons != horizons_of(ours) or contract.horizon != ours["horizon"].iloc[0]:
            raise ValueError(f"its horizons are {', '.join(horizons)}, its risk is until {contract.horizon:g}")
        # Uncalibrated here, since the contract calibrates what it writes into a table.
        outputs = model.estimator.outputs(samples), model.baseline.outputs(samples)
        return ours, contract.predicted(ours, samples, *outputs)


def horizons_of(predictions: pd.DataFrame) -> list[str]:
    """Return the horizons of a table of predictions, as its columns name them."""
    return [name for name in names_of(predictions, "prediction") if name not in ("log_hazard", "risk")]


def _measure(
    name: str, time: Floats, event: Floats, survival: Floats, *, weights: Floats, horizons: Floats, horizon: float
) -> Floats:
    """Return one metric under each weighting of the rows, ``(n_weightings, n_rows)``."""
    if name in ("concordance", "uno_concordance", "partial_loss"):
        risk = np.log(-np.log(np.clip(survival[:, -1], _LEAST, 1 - 1e-16)))
        if name == "partial_loss":
            return partial_loss(time, event, risk, weights)
        until = float(horizons[-1]) if name == "uno_concordance" else None
        return concordance(time, event, risk, weights, until=until)
    at = int(np.searchsorted(horizons, horizon))
    if name == "ece":
        return calibration_error(time, event, 1 - survival[:, at], weights, horizon)
    if name == "brier":
        return brier_scores(time, event, survival[:, [at]], weights, horizons[[at]])[:, 0]
    scores = brier_scores(time, event, survival, weights, horizons)
    return np.trapezoid(scores, horizons, axis=1) / (horizons[-1] - horizons[0])


def brier_scores(time: Floats, event: Floats, survival: Floats, weights: Floats, horizons: Floats) -> Floats:
    """Return the Brier score at each horizon, ``(n_weightings, horizons)``; NaN where nobody is followed up to it."""
    happened = event > 0
    followed = kaplan_meier(time, event, time, weights, censoring=True)
    until = kaplan_meier(time, event, horizons, weights, censoring=True)
    known = np.divide(weights, followed, out=np.zeros_like(followed), where=followed > 0)
    total = weights.sum(axis=1)
    found = np.full((len(weights), len(horizons)), np.nan)
    for place, horizon in enumerate(horizons):
        before, after = happened & (time <= horizon), time > horizon
        gone = (known[:, before] * survival[before, place] ** 2).sum(axis=1)
        there = weights[:, after] @ (1 - survival[after, place]) ** 2
        some = until[:, place] > 0
        found[some, place] = (gone[some] + there[some] / until[some, place]) / total[some]
    return found


def risk_bins(risk: Floats, bins: int) -> npt.NDArray[np.intp]:
    """Return in which of at most ``bins`` bins of about as many rows each risk lies; rows of one risk share a bin."""
    edges = np.unique(np.quantile(risk, np.arange(1, bins) / bins))
    _, codes = np.unique(np.searchsorted(edges, risk, side="left"), return_inverse=True)
    return codes.astype(np.intp)


def calibration_error(time: Floats, event: Floats, risk: Floats, weights: Floats, horizon: float) -> Floats:
    """Return the mean distance of predicted risks from observed ones, over bins weighted by their rows."""
    code = risk_bins(risk, max(1, min(_BINS, len(risk) // _ROWS_OF_BIN)))
    error = np.zeros(len(weights))
    for each in np.unique(code):
        rows = code == each
        own = weights[:, rows]
        total = own.sum(axis=1)
        predicted = np.divide(own @ risk[rows], total, out=np.zeros_like(total), where=total > 0)
        observed = 1 - kaplan_meier(time[rows], event[rows], np.array([horizon]), own)[:, 0]
        error += total * np.abs(predicted - observed)
    return error / weights.sum(axis=1)


def log_rank(target: npt.ArrayLike, groups: npt.ArrayLike) -> dict[str, float]:
    """Return statistic, degrees of freedom and p of the log-rank test (Mantel, 1966); NaN of one group or no event."""
    moments, happened = _follow_up(target)
    code = np.unique(np.asarray(groups), return_inverse=True)[1]
    count = int(code.max()) + 1
    times = np.unique(moments[happened > 0])
    if count < 2 or not len(times):
        return {"statistic": float("nan"), "df": max(count - 1, 0), "p": float("nan")}
    member = code[:, None] == np.arange(count)
    at_risk = (moments[:, None] >= times).astype(np.float64).T @ member
    events = ((moments[:, None] == times) & (happened[:, None] > 0)).astype(np.float64).T @ member
    n, d = at_risk.sum(axis=1), events.sum(axis=1)
    share = at_risk / n[:, None]
    excess = (events - d[:, None] * share).sum(axis=0)[:-1]
    spread = d * np.divide(n - d, n - 1, out=np.zeros_like(n), where=n > 1)
    covariance = np.diag((spread[:, None] * share).sum(axis=0)) - (spread[:, None] * share).T @ share
    statistic = float(excess @ np.linalg.pinv(covariance[:-1, :-1]) @ excess)
    return {"statistic": statistic, "df": count - 1, "p": float(chdtrc(count - 1, statistic))}


def _follow_up(target: npt.ArrayLike) -> tuple[Floats, Floats]:
    time, event = numbers("target", target, (np.shape(target)[0] if np.ndim(target) else 0, 2)).T
    for name, values, wrong in (("time", time, time <= 0), ("event", event, ~np.isin(event, (0, 1)))):
        if wrong.any():
            raise ValueError(f"{name} is {values[wrong][0]:g} at row {np.flatnonzero(wrong)[0]}")
    return time, event


def _curves(name: str, values: npt.ArrayLike, rows: int, horizons: int) -> Floats:
    table = numbers(name, values, (rows, horizons))
    wrong = np.argwhere((table < 0) | (table > 1))
    if len(wrong):
        raise ValueError(f"{name} is {table[tuple(wrong[0])]:g} at row {wrong[0][0]}: it must lie from 0 to 1")
    return table


MEASURES = SurvivalMeasures()
