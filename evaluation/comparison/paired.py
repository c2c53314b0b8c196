"""The difference of a metric between two models on the same resamples of test groups, with interval and p-value."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from evaluation.metrics import Floats, defined, group_count_blocks, percentile_interval
from evaluation.problems import measures_of, names_of
from pipelines.errors import UserError
from pipelines.params import Task
from pipelines.problems import higher_is_better

ID = "sample_id"
_SAME = 1e-6  # targets went through float32 once: what agrees to six digits is the same measurement


@dataclass(frozen=True)
class Difference:
    """One model against another."""

    metric: str
    difference: float
    low: float
    high: float
    p: float
    rows: int
    groups: int
    dropped: float = 0.0  # see `evaluation.metrics.Interval`


@dataclass(frozen=True)
class Resampled:
    """A metric of one model: its value, and its values on the resamples, shape ``(resamples,)``, NaN if undefined."""

    value: float
    values: Floats


def paired_difference(
    task: Task, ours: pd.DataFrame, theirs: pd.DataFrame, metric: str, *, confidence: float = 0.95, **known: Any
) -> Difference:
    """Return by how much ``ours`` is better than ``theirs``; ``known`` as of `resample`.

    See Field C. A., Welsh A. H. (2007), J. R. Stat. Soc. B 69(3), 369-390, and Efron B., Tibshirani R. J. (1993), An
    Introduction to the Bootstrap, ch. 16: what the interval excludes is rejected.
    """
    frames = (ours, matched(task, ours, theirs))
    first, second = (resample(task, frame, metric, **known) for frame in frames)
    size = {"rows": len(ours), "groups": int(ours["group"].nunique())}
    return subtract(task, metric, first, second, confidence=confidence, **size)


def matched(task: Task, ours: pd.DataFrame, theirs: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of ``theirs`` in the order of ``ours``; refuse other rows, targets or groups."""
    for whose, frame in (("first", ours), ("second", theirs)):
        if missing := [name for name in (ID, "group") if name not in frame]:
            raise UserError(f"the {whose} model's predictions lack the column {missing[0]}; run its fit stage again")
        if doubled := frame.loc[frame[ID].duplicated(), ID].tolist():
            raise UserError(f"{ID} {doubled[0]!r} is a duplicate in the {whose} model's predictions")
    only_ours, only_theirs = set(ours[ID]) - set(theirs[ID]), set(theirs[ID]) - set(ours[ID])
    if only_ours or only_theirs:
        whose, other = ("first", only_ours) if only_ours else ("second", only_theirs)
        raise UserError(
            f"the models predict other test rows ({len(only_ours)} only of the first, {len(only_theirs)} only of the "
            f"second, such as {min(map(str, other))} of the {whose}); fit both on the split that is there now"
        )
    # Classes are numbered by their order; genes are named, in any order.
    classes, other_classes = (names_of(frame, "probability") for frame in (ours, theirs))
    answers, other_answers = (measures_of(task.problem).measured(frame) for frame in (ours, theirs))
    if classes != other_classes or set(answers) != set(other_answers):
        raise UserError("the models predict other classes or targets; fit both on the data that is there now")
    columns = [name for name in ours.columns if name in theirs]
    same_order = theirs.set_index(ID, drop=False).loc[list(ours[ID]), columns].reset_index(drop=True)
    groups, other_groups = (frame["group"].astype(str).to_numpy() for frame in (ours, same_order))
    differs = {"group": groups != other_groups}
    for name in answers:
        measured, other_measured = (frame[name].to_numpy(np.float64) for frame in (ours, same_order))
        differs[name] = ~np.isclose(measured, other_measured, rtol=_SAME, atol=_SAME, equal_nan=True)
    for name in (*answers, "group"):
        if differs[name].any():
            raise UserError(
                f"the models differ in {name} of {int(differs[name].sum())} test rows, the first of them "
                f"{ours[ID].iloc[int(np.argmax(differs[name]))]}; fit both on the data and the split that are there now"
            )
    return same_order


def resample(
    task: Task, predictions: pd.DataFrame, metric: str, *, resamples: int = 1000, seed: int = 0, **learnt: Any
) -> Resampled:
    """Return a metric of one model on the test rows and on every resample of their groups.

    Which groups a resample draws depends on the groups, ``resamples`` and ``seed`` alone: results of two models on the
    same test rows may be subtracted.
    """
    count = len(np.unique(predictions["group"].to_numpy(str)))
    if count < 2:
        raise UserError(f"the test rows are of {count} group; a comparison of models needs at least two")
    measures = measures_of(task.problem)

    def measure(counts: npt.NDArray[np.int64]) -> Floats:
        found = measures.weighted(predictions, metric, counts, margin_metric=task.evaluate.metric, **learnt)
        if metric not in found:
            raise UserError(f"metric {metric!r} cannot be measured on these predictions; there are {', '.join(found)}")
        return found[metric]

    value = measure(np.ones((1, count), np.int64))
    blocks = [measure(counts) for counts in group_count_blocks(count, resamples, seed)]
    return Resampled(float(value[0]), np.concatenate(blocks))


def subtract(
    task: Task, metric: str, first: Resampled, second: Resampled, *, confidence: float, rows: int, groups: int
) -> Difference:
    """Return by how much the first model is better, from what both reach on the same resamples."""
    sign = 1.0 if higher_is_better(metric) else -1.0
    differences = sign * (first.values - second.values)
    interval = percentile_interval(sign * (first.value - second.value), differences, confidence)
    found = (interval.value, interval.low, interval.high, p_value(differences))
    return Difference(metric, *found, rows=rows, groups=groups, dropped=interval.dropped)


def p_value(differences: npt.ArrayLike) -> float:
    """Return the two-sided bootstrap p-value of resampled ``differences`` (n,), the undefined ones left aside.

    Twice the share of resamples on the rarer side of zero, zero itself counted on both, one resample added (Davison,
    Hinkley, 1997, Bootstrap Methods and their Application, ch. 4): no finite number of resamples proves a p of 0.
    """
    values, _ = defined(np.asarray(differences, dtype=np.float64))
    if not values.size:
        return float("nan")
    rarer = min(np.count_nonzero(values <= 0), np.count_nonzero(values >= 0))
    return min(1.0, 2 * (rarer + 1) / (values.size + 1))


def holm(p: Sequence[float]) -> list[float]:
    """Return p-values corrected for how many there are (Holm S., 1979, Scand. J. Stat. 6(2), 65-70), NaN aside."""
    values = np.asarray(p, dtype=np.float64)
    corrected = np.full(values.shape, np.nan)
    order = np.argsort(values, kind="stable")[: np.count_nonzero(~np.isnan(values))]
    corrected[order] = np.minimum(np.maximum.accumulate(values[order] * np.arange(order.size, 0, -1)), 1.0)
    return [float(each) for each in corrected]
