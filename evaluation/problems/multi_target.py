"""Metrics of many predicted numbers, such as genes: rows are added up by group once, a resample weighs those sums."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from evaluation.metrics import (
    TOLERANCE,
    Floats,
    Interval,
    centered,
    encode,
    gain,
    group_counts,
    in_blocks,
    numbers,
    percentile_interval,
    weights_of,
)
from evaluation.problems import Columns, Measures, columns_of, names_of
from pipelines.problems import get_problem
from training.problems.multi_target import with_targets

if TYPE_CHECKING:
    from pipelines.params import Task
    from training.contract import Contract
    from training.model.predictor import Predictor


@dataclass(frozen=True)
class TargetIntervals:
    """Metrics of many targets with their intervals."""

    mean: dict[str, Interval]
    by_target: dict[str, list[Interval]]
    undefined: dict[str, int]


class TargetMeasures(Measures):
    """Errors of each target, and their mean over targets."""

    margin_metric = "r2"
    units = ("gene",)
    in_every_mode = ("r2", "mae", "margin")

    def weigh(
        self, target: npt.ArrayLike, outputs: npt.ArrayLike, groups: npt.ArrayLike, counts: npt.ArrayLike, **known: Any
    ) -> dict[str, Floats]:
        """See `weighted_target_metrics`; means over the targets."""
        known.pop("within")
        found = weighted_target_metrics(target, outputs, groups, counts, **known)
        return {name: mean_over_targets(values) for name, values in found.items()}

    def metrics(self, target: npt.ArrayLike, outputs: npt.ArrayLike, **known: Any) -> dict[str, float]:
        """See `Measures.metrics`; metrics that no target has are left out."""
        found = super().metrics(target, outputs, **known)
        return {name: value for name, value in found.items() if np.isfinite(value)}

    def bootstrap(
        self, target: npt.ArrayLike, outputs: npt.ArrayLike, groups: npt.ArrayLike, **known: Any
    ) -> dict[str, Interval]:
        """See `bootstrap_each_target`, whose means these are."""
        known.pop("within", None)
        return bootstrap_each_target(target, outputs, groups, **known).mean

    def weighted(
        self, predictions: pd.DataFrame, *given: Any, scale: pd.Series | None = None, **known: Any
    ) -> dict[str, Floats]:
        """See `Measures.weighted`; ``scale`` holds the spread of each target by its name."""
        names = names_of(predictions, "prediction")
        return super().weighted(predictions, *given, scale=None if scale is None else scale[names].to_numpy(), **known)

    def answers(self, table: pd.DataFrame, samples: Any, outputs: np.ndarray, baseline: np.ndarray) -> pd.DataFrame:
        """See `Measures.answers`."""
        return with_targets(table, samples.targets, samples.target, outputs, baseline)

    def columns(self, predictions: pd.DataFrame) -> Columns:
        """See `Measures.columns`; all are ``(n, targets)``."""
        names = names_of(predictions, "prediction")
        target, outputs = (columns_of(predictions, kind, names) for kind in ("target", "prediction"))
        baseline = columns_of(predictions, "baseline", names) if names_of(predictions, "baseline") else None
        return Columns(target, outputs, baseline, {})

    def learnt(self, task: Task, train: Callable[[], Any]) -> dict[str, Any]:
        """Return the spread of each target, where the task's metric is in units of it."""
        if not task.evaluate.metric.endswith("_sd"):
            return {}
        samples = train()
        return {"scale": pd.Series(target_spreads(samples.target), index=list(samples.targets))}

    def answered(self, model: Predictor, samples: Any, ours: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
        """See `Measures.answered`; targets that the other model does not predict are left out."""
        contract: Any = model.contract
        genes = names_of(ours, "target")
        common = [gene for gene in genes if gene in contract.targets]
        if not common:
            raise ValueError("it predicts none of today's genes")
        outputs = model.outputs(samples.aimed(contract.targets, contract.genes))
        kinds = ("target", "prediction", "baseline")
        mine = ours.drop(columns=[f"{kind}_{gene}" for gene in genes if gene not in common for kind in kinds])
        return mine, mine.assign(**{f"prediction_{gene}": outputs[:, contract.targets.index(gene)] for gene in common})

    def targets(self, contract: Contract) -> list[str]:
        """Return the targets of the model."""
        targets: list[str] = contract.targets  # type: ignore[attr-defined]
        return targets


def target_spreads(target: np.ndarray) -> npt.NDArray[np.float64]:
    """Return the standard deviation of each target over the rows where it is known, ``(targets,)``."""
    known = ~np.isnan(target)
    return np.asarray(np.sqrt((centered(target, known) ** 2).sum(axis=0) / np.maximum(known.sum(axis=0), 1)))


def target_metrics(y: npt.ArrayLike, prediction: npt.ArrayLike, **known: Any) -> dict[str, Floats]:
    """Return the metrics of each target, ``(n_targets,)``; ``known`` as of `weighted_target_metrics`."""
    found = weighted_target_metrics(y, prediction, np.zeros(np.shape(y)[:1], np.intp), np.ones((1, 1)), **known)
    return {name: values[0] for name, values in found.items()}


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
    deviation of each target over the training rows. NaN in ``y`` is a value that was not measured, and is left out.

    - `r2`, `rmse`, `mae` (unit of `y`), `mse` (its square); `rmse_sd`, `mae_sd`: in units of `scale`;
    - `r2_over_baseline`: 1 - SSE(prediction) / SSE(baseline); `margin` over the baseline.

    What the data leave undefined is NaN: `r2` of a target that does not vary, `r2_over_baseline` where the baseline
    makes no error, `rmse_sd` and `mae_sd` where `scale` is 0, everything of a target that was not measured. Values
    closer than a millionth of the target's largest magnitude count as equal.
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
    sums = _Sums(y, prediction, naive, group)
    weights = weights_of(counts, labels.size)
    size = sums.by_group[0].size
    return in_blocks(weights, size, lambda block: sums.metrics(block, spread, names, margin_metric))


def mean_over_targets(values: npt.ArrayLike) -> Floats:
    """Return the mean over the last axis of the defined values; NaN where none is."""
    table = np.asarray(values, dtype=np.float64)
    number = (~np.isnan(table)).sum(axis=-1)
    return np.asarray(np.where(number > 0, np.nansum(table, axis=-1) / np.maximum(number, 1), np.nan))


def bootstrap_each_target(
    y: npt.ArrayLike,
    prediction: npt.ArrayLike,
    groups: npt.ArrayLike,
    *,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    **known: Any,
) -> TargetIntervals:
    """Return metrics of each target and their mean, with intervals; ``known`` as of `weighted_target_metrics`.

    All see the same resamples: the interval of a mean knows that the targets of a sample err together. A target that a
    resample leaves undefined stays out of that resample's mean, and of its own interval.
    """
    labels, _ = encode("groups", groups, np.shape(y)[0] if np.ndim(y) else 0)
    counts = np.vstack([np.ones((1, labels.size)), group_counts(labels.size, resamples, seed)])
    metrics = weighted_target_metrics(y, prediction, groups, counts, **known)

    def interval(column: Floats) -> Interval:
        return percentile_interval(float(column[0]), column[1:], confidence)

    return TargetIntervals(
        mean={name: interval(mean_over_targets(values)) for name, values in metrics.items()},
        by_target={name: [interval(column) for column in values.T] for name, values in metrics.items()},
        undefined={name: int(np.isnan(values[0]).sum()) for name, values in metrics.items()},
    )


class _Sums:
    """Sums over the rows of each group."""

    def __init__(self, y: Floats, prediction: Floats, naive: Floats | None, group: npt.NDArray[np.intp]) -> None:
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
        self.by_group = np.add.reduceat(np.stack(quantities), starts, axis=1)  # (n_quantities, n_groups, n_targets)
        self.smallest = TOLERANCE * magnitude  # (n_targets,) below which a spread is rounding

    def metrics(self, weights: Floats, scale: Floats | None, names: list[str], margin_metric: str) -> dict[str, Floats]:
        """Return the metrics `names`, `(n_weightings, n_targets)` each, for weights `(n_weightings, n_groups)`."""
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


MEASURES = TargetMeasures()
