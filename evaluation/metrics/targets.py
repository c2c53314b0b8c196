"""Metrics of many targets at once, for one sample or for many weightings of it, and their bootstrap intervals.

A row is a sample and has a value of every target, such as a gene in log2 units. As in `evaluation.metrics.regression`,
the value on the test split and on each resample is one computation under different weights. All that is asked adds up
over rows, so rows are added up by group once, and a resample weighs those sums.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evaluation.metrics.regression import Floats, encode
from evaluation.metrics.resample import Interval, group_counts, percentile_interval
from pipelines.problems import get_problem, higher_is_better

# Float32 carries 7 digits: values that differ by less than this share of their magnitude differ by rounding.
_TOLERANCE = 1e-6

# Sums held at once, weightings x targets x quantities: 8 MiB an array, of which some ten are alive together.
_BLOCK = 2**20


@dataclass(frozen=True)
class TargetIntervals:
    """Metrics of many targets with their intervals.

    Attributes
    ----------
    mean
        Of the targets that have the metric, by its name.
    by_target
        Of each target, in their order, by the metric's name.
    undefined
        How many targets do not have the metric, by its name.
    """

    mean: dict[str, Interval]
    by_target: dict[str, list[Interval]]
    undefined: dict[str, int]


def target_metrics(
    y: npt.ArrayLike,
    prediction: npt.ArrayLike,
    *,
    scale: npt.ArrayLike | None = None,
    baseline: npt.ArrayLike | None = None,
    margin_metric: str = "r2",
) -> dict[str, Floats]:
    """Metrics of each target; `mean_over_targets` makes one number of them.

    Parameters
    ----------
    y : array of shape (n_rows, n_targets)
        Measured values; NaN where a target was not measured, which is left out of that target.
    prediction : array of shape (n_rows, n_targets)
        Predicted values, in the unit of `y`.
    scale : array of shape (n_targets,), optional
        Standard deviation of each target over the training rows. Without it `rmse_sd` and `mae_sd` are absent.
    baseline : array of shape (n_rows, n_targets), optional
        What the naive baseline predicts for the same rows. Without it `r2_over_baseline` and `margin` are absent.
    margin_metric : str
        Metric that the margin is taken of.

    Returns
    -------
    dict of str to array of shape (n_targets,)
        - `r2`, `rmse`, `mae` (unit of `y`), `mse` (its square);
        - `rmse_sd`, `mae_sd`: in units of `scale`, in which all targets weigh alike;
        - `r2_over_baseline`: 1 - SSE(prediction) / SSE(baseline);
        - `margin`: what the model is better by than the baseline, positive where it is better, also of a metric that
          is the better the lower it is.

        What the data leave undefined is NaN: `r2` of a target that does not vary, `r2_over_baseline` where the
        baseline makes no error, `rmse_sd` and `mae_sd` where `scale` is 0, everything of a target that was not
        measured. Values closer than a millionth of the target's largest magnitude are the same value.

    Raises
    ------
    ValueError
        If a table is empty, of another shape than `y`, or holds an infinity or, other than `y`, NaN; the message names
        the table, the first such row and its target, counted from 0. If `margin_metric` is none of the metrics.
    """
    n_rows = np.shape(y)[0] if np.ndim(y) else 0
    one_group = np.zeros(n_rows, dtype=np.intp)
    metrics = weighted_target_metrics(
        y, prediction, one_group, np.ones((1, 1)), scale=scale, baseline=baseline, margin_metric=margin_metric
    )
    return {name: values[0] for name, values in metrics.items()}


def weighted_target_metrics(
    y: npt.ArrayLike,
    prediction: npt.ArrayLike,
    groups: npt.ArrayLike,
    counts: npt.ArrayLike,
    *,
    scale: npt.ArrayLike | None = None,
    baseline: npt.ArrayLike | None = None,
    margin_metric: str = "r2",
) -> dict[str, Floats]:
    """`target_metrics` for each of many weightings of the groups.

    A weighting with whole numbers gives what `target_metrics` gives on the rows repeated that often.

    Parameters
    ----------
    y, prediction, scale, baseline, margin_metric
        As in `target_metrics`.
    groups : array of shape (n_rows,)
        Group of each row.
    counts : array of shape (n_weightings, n_groups)
        Weight of each group, in ascending order of the group labels; none negative, not all zero.

    Returns
    -------
    dict of str to array of shape (n_weightings, n_targets)
        The metrics of `target_metrics`.

    Raises
    ------
    ValueError
        As in `target_metrics`, and if `counts` has another shape or a weighting without weight.
    """
    y = _table("y", y, unknown=True)
    prediction = _table("prediction", prediction, y.shape)
    naive = None if baseline is None else _table("baseline", baseline, y.shape)
    spread = None if scale is None else _scale(scale, y.shape[1])
    given = {"rmse_sd": spread, "mae_sd": spread, "r2_over_baseline": naive}
    known = [metric.name for metric in get_problem("multi_target").metrics]
    names = [name for name in known if name != "margin" and given.get(name, y) is not None]
    if naive is not None and margin_metric not in names:
        raise ValueError(f"margin_metric is {margin_metric!r}, not one of {', '.join(names)}")
    labels, group = encode("groups", groups, len(y))
    weights = np.asarray(counts, dtype=np.float64)
    if weights.ndim != 2 or not len(weights) or weights.shape[1] != labels.size:
        raise ValueError(f"counts has shape {weights.shape}, not (n_weightings, {labels.size})")
    if not ((weights >= 0).all() and np.isfinite(weights).all() and weights.any(axis=1).all()):
        raise ValueError("counts holds a negative or non-finite weight, or a weighting without any weight")

    sums = _Sums.build(y, prediction, naive, group)
    step = max(1, _BLOCK // sums.by_group[:, 0].size)
    blocks = [
        sums.metrics(weights[start : start + step], spread, names, margin_metric)
        for start in range(0, len(weights), step)
    ]
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def mean_over_targets(values: npt.ArrayLike) -> Floats:
    """Mean over the last axis of what is defined there; NaN where nothing is."""
    table = np.asarray(values, dtype=np.float64)
    known = ~np.isnan(table)
    number = known.sum(axis=-1)
    total = np.where(known, table, 0.0).sum(axis=-1)
    mean: Floats = np.where(number > 0, total / np.maximum(number, 1), np.nan)
    return mean


def bootstrap_each_target(
    y: npt.ArrayLike,
    prediction: npt.ArrayLike,
    groups: npt.ArrayLike,
    *,
    scale: npt.ArrayLike | None = None,
    baseline: npt.ArrayLike | None = None,
    margin_metric: str = "r2",
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> TargetIntervals:
    """Metrics of each target and their mean, with cluster-bootstrap percentile intervals.

    All targets, model and baseline see the same resamples: `margin` and `r2_over_baseline` are paired comparisons, and
    the interval of a mean knows that the targets of a sample err together.

    Parameters
    ----------
    y, prediction, scale, baseline, margin_metric
        As in `target_metrics`.
    groups : array of shape (n_rows,)
        What varies independently and is drawn anew, such as the patient.
    resamples : int
        Number of resamples.
    confidence : float
        Coverage aimed at, between 0 and 1.
    seed : int
        The same seed gives the same intervals, in whatever order the rows come.

    Returns
    -------
    TargetIntervals
        The metrics of `target_metrics`. A target that a resample leaves undefined stays out of that resample's mean,
        and the resample out of that target's interval.

    Raises
    ------
    ValueError
        As in `target_metrics`; if there is only one group; if `resamples` or `confidence` is off range.

    References
    ----------
    Field C. A., Welsh A. H. (2007). Bootstrapping clustered data. J. R. Stat. Soc. B 69(3), 369-390.
    """
    labels, _ = encode("groups", groups, np.shape(y)[0] if np.ndim(y) else 0)
    counts = np.vstack([np.ones((1, labels.size)), group_counts(labels.size, resamples, seed)])
    metrics = weighted_target_metrics(
        y, prediction, groups, counts, scale=scale, baseline=baseline, margin_metric=margin_metric
    )

    def interval(column: Floats) -> Interval:
        return percentile_interval(float(column[0]), column[1:], confidence)

    return TargetIntervals(
        mean={name: interval(mean_over_targets(values)) for name, values in metrics.items()},
        by_target={name: [interval(column) for column in values.T] for name, values in metrics.items()},
        undefined={name: int(np.isnan(values[0]).sum()) for name, values in metrics.items()},
    )


@dataclass(frozen=True)
class _Sums:
    """What adds up over rows, by group."""

    by_group: Floats  # (n_quantities, n_groups, n_targets)
    smallest: Floats  # (n_targets,) below which a spread is rounding

    @classmethod
    def build(cls, y: Floats, prediction: Floats, naive: Floats | None, group: npt.NDArray[np.intp]) -> _Sums:
        # One canonical order, so that sums round alike in whatever order the rows came.
        columns = np.hstack([y, prediction] if naive is None else [y, prediction, naive])
        order = np.lexsort((*columns.T, group))
        y, prediction, group = y[order], prediction[order], group[order]
        known = ~np.isnan(y)
        magnitude = np.where(known, np.abs(y), 0.0).max(axis=0)
        # Around the median sums of squares keep their digits, also beside an outlier.
        middle = np.nanmedian(np.where(known.any(axis=0), y, 0.0), axis=0)
        centered = np.where(known, y - middle, 0.0)
        error = np.where(known, y - prediction, 0.0)
        quantities = [known.astype(np.float64), centered, centered**2, np.abs(error), error**2]
        if naive is not None:
            naive_error = np.where(known, y - naive[order], 0.0)
            quantities += [np.abs(naive_error), naive_error**2]
        starts = np.flatnonzero(np.r_[True, np.diff(group) != 0])
        by_group = np.add.reduceat(np.stack(quantities), starts, axis=1)
        return cls(by_group, _TOLERANCE * magnitude)

    def metrics(self, weights: Floats, scale: Floats | None, names: list[str], margin_metric: str) -> dict[str, Floats]:
        """The metrics `names` (n_weightings, n_targets), for `weights` of shape (n_weightings, n_groups)."""
        # A product a quantity: within one product equal columns may round differently, as the processor's blocks fall.
        sums = weights @ self.by_group
        rows = np.where(sums[0] > 0, sums[0], np.nan)
        variance = sums[2] / rows - (sums[1] / rows) ** 2
        variance = np.where(variance > self.smallest**2, variance, np.nan)
        found = _errors(sums[3] / rows, sums[4] / rows, variance, scale)
        if len(sums) > 5:
            naive = _errors(sums[5] / rows, sums[6] / rows, variance, scale)
            has_error = naive["rmse"] > self.smallest
            found["r2_over_baseline"] = 1 - found["mse"] / np.where(has_error, naive["mse"], np.nan)
            naive["r2_over_baseline"] = np.zeros_like(found["r2_over_baseline"])
            sign = 1.0 if higher_is_better(margin_metric) else -1.0
            found["margin"] = sign * (found[margin_metric] - naive[margin_metric])
            names = [*names, "margin"]
        return {name: found[name] for name in names}


def _errors(mae: Floats, mse: Floats, variance: Floats, scale: Floats | None) -> dict[str, Floats]:
    metrics = {"r2": 1 - mse / variance, "rmse": np.sqrt(mse), "mae": mae, "mse": mse}
    if scale is not None:
        metrics |= {f"{name}_sd": metrics[name] / scale for name in ("rmse", "mae")}
    return metrics


def _scale(values: npt.ArrayLike, n_targets: int) -> Floats:
    scale = np.asarray(values, dtype=np.float64)
    if scale.shape != (n_targets,):
        raise ValueError(f"scale has shape {scale.shape}, not ({n_targets},)")
    bad = np.flatnonzero((scale < 0) | np.isinf(scale))
    if bad.size:
        raise ValueError(f"scale is {scale[bad[0]]} at target {bad[0]}")
    return np.where(scale > 0, scale, np.nan)


def _table(name: str, values: npt.ArrayLike, shape: tuple[int, ...] | None = None, *, unknown: bool = False) -> Floats:
    try:
        table = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} is not a table of numbers: {error}") from error
    if shape is not None and table.shape != shape:
        raise ValueError(f"{name} has shape {table.shape} and y has {shape}")
    if table.ndim != 2:
        raise ValueError(f"{name} has shape {table.shape}, not (n_rows, n_targets)")
    if table.size == 0:
        raise ValueError(f"{name} is empty")
    bad = np.argwhere(np.isinf(table) if unknown else ~np.isfinite(table))
    if bad.size:
        row, target = bad[0]
        raise ValueError(f"{name} is {table[row, target]} at row {row}, target {target}")
    return table
