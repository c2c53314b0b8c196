"""Metrics of many targets at once, for one sample or for many weightings of it, and their bootstrap intervals.

A row is a sample and has a value of every target, such as a gene in log2 units. As in `evaluation.metrics.regression`,
the value on the test split and on each resample is one computation under different weights. All that is asked adds up
over rows, so rows are added up by group once, and a resample weighs those sums.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evaluation.metrics.columns import TOLERANCE, Floats, encode, gain, in_blocks, numbers, weights_of
from evaluation.metrics.resample import Interval, group_counts, percentile_interval
from pipelines.problems import get_problem


@dataclass(frozen=True)
class TargetIntervals:
    """Metrics of many targets with their intervals."""

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
    """Return the metrics of each target, ``(n_targets,)``; see `weighted_target_metrics` and `mean_over_targets`."""
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
    """Return metrics of each target under each of many weightings of the groups, ``(n_weightings, n_targets)`` each.

    A weighting with whole numbers gives what the rows give when repeated that often. ``scale`` is the standard
    deviation of each target over the training rows; a value of ``y`` that is NaN was not measured, and is left out of
    its target.

    Returns
    -------
    dict of str to array
        - `r2`, `rmse`, `mae` (unit of `y`), `mse` (its square); `rmse_sd`, `mae_sd`: in units of `scale`;
        - `r2_over_baseline`: 1 - SSE(prediction) / SSE(baseline); `margin` over the baseline.

        What the data leave undefined is NaN: `r2` of a target that does not vary, `r2_over_baseline` where the baseline
        makes no error, `rmse_sd` and `mae_sd` where `scale` is 0, everything of a target that was not measured. Values
        closer than a millionth of the target's largest magnitude are the same value.
    """
    shape = np.shape(y)
    if len(shape) != 2:
        raise ValueError(f"y has shape {shape}, not (n_rows, n_targets)")
    y, prediction = numbers("y", y, shape, unknown=True), numbers("prediction", prediction, shape)
    naive = None if baseline is None else numbers("baseline", baseline, shape)
    spread = None if scale is None else numbers("scale", scale, shape[1:])
    if spread is not None:
        if (spread < 0).any():
            raise ValueError(f"scale is {spread.min()} at target {spread.argmin()}")
        spread = np.where(spread > 0, spread, np.nan)
    given = {"rmse_sd": spread, "mae_sd": spread, "r2_over_baseline": naive}
    known = [metric.name for metric in get_problem("multi_target").metrics]
    names = [name for name in known if name != "margin" and given.get(name, y) is not None]
    if naive is not None and margin_metric not in names:
        raise ValueError(f"margin_metric is {margin_metric!r}, not one of {', '.join(names)}")
    labels, group = encode("groups", groups, len(y))
    sums = _Sums.build(y, prediction, naive, group)
    return in_blocks(
        weights_of(counts, labels.size),
        sums.by_group[:, 0].size,
        lambda block: sums.metrics(block, spread, names, margin_metric),
    )


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
    """Return metrics of each target and their mean, with cluster-bootstrap percentile intervals.

    All targets, model and baseline see the same resamples: the interval of a mean knows that the targets of a sample
    err together. A target that a resample leaves undefined stays out of that resample's mean, and of its own interval.
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
        return cls(by_group, TOLERANCE * magnitude)

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
            found["margin"] = gain(margin_metric, found[margin_metric], naive[margin_metric])
            names = [*names, "margin"]
        return {name: found[name] for name in names}


def _errors(mae: Floats, mse: Floats, variance: Floats, scale: Floats | None) -> dict[str, Floats]:
    metrics = {"r2": 1 - mse / variance, "rmse": np.sqrt(mse), "mae": mae, "mse": mse}
    if scale is not None:
        metrics |= {f"{name}_sd": metrics[name] / scale for name in ("rmse", "mae")}
    return metrics
