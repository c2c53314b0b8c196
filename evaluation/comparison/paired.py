"""The difference of a metric between two models on the same test rows, with an interval and a p-value.

Two intervals that overlap say little: models err on the same hard samples. Both models are therefore measured on the
same resamples, and the difference is taken within each. As everywhere, groups are resampled, never rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from evaluation.evidence.classes import columns_of
from evaluation.metrics import classification, regression, targets
from evaluation.metrics.regression import Floats
from evaluation.metrics.resample import group_count_blocks, percentile_interval
from pipelines.faults import UserError
from pipelines.modalities.pairs import PairsTask
from pipelines.params import Task
from pipelines.tasks.pairs_classification import PairsClassification
from pipelines.tasks.profiles_multi_target import ProfilesMultiTarget

ID = "sample_id"

# Targets went through float32 once: what agrees to six digits is the same measurement.
_SAME = 1e-6


@dataclass(frozen=True)
class Difference:
    """One model against another.

    Attributes
    ----------
    metric
        Name of the metric.
    difference, low, high
        Of the metric, in its unit, and the ends of the confidence interval. Positive: the first model is better, also
        in a metric that is the better the lower it is. NaN where the metric is undefined.
    p
        Two-sided, of the hypothesis that the models are equally good; NaN where no resample defines the metric.
    rows, groups
        Test rows, and the groups among them that were resampled.
    """

    metric: str
    difference: float
    low: float
    high: float
    p: float
    rows: int
    groups: int

    def as_dict(self) -> dict[str, str | float | int]:
        """The fields by name. NaN stays NaN: who writes JSON writes it as null."""
        return asdict(self)


@dataclass(frozen=True)
class Resampled:
    """A metric of one model: its value, and its values on the resamples, shape ``(resamples,)``, NaN if undefined."""

    value: float
    values: Floats


def paired_difference(
    task: Task,
    ours: pd.DataFrame,
    theirs: pd.DataFrame,
    metric: str,
    *,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    scale: npt.ArrayLike | None = None,
) -> Difference:
    """Return by how much ``ours`` is better than ``theirs``.

    Parameters
    ----------
    task
        Of both models.
    ours, theirs
        Predictions of the same test rows, as `training.model.fitted.fit` writes them, in any order.
    metric
        Any metric of the task's family, by name.
    resamples, confidence, seed
        Number of resamples, coverage aimed at, and seed: the resamples are those of the intervals in the evidence.
    scale : array of shape (n_targets,), optional
        Of the targets over the training rows, in the order of ``ours``; `rmse_sd` and `mae_sd` need it.

    Raises
    ------
    UserError
        If rows, targets, groups or classes differ, if there is only one group, or if the family lacks the metric.

    References
    ----------
    Field C. A., Welsh A. H. (2007). Bootstrapping clustered data. J. R. Stat. Soc. B 69(3), 369-390.
    Efron B., Tibshirani R. J. (1993). An Introduction to the Bootstrap, ch. 16: what the interval excludes is rejected.
    """
    theirs = matched(ours, theirs)
    first, second = (
        resample(task, frame, metric, resamples=resamples, seed=seed, scale=scale) for frame in (ours, theirs)
    )
    rows, groups = len(ours), int(ours["group"].nunique())
    return subtract(task, metric, first, second, confidence=confidence, rows=rows, groups=groups)


def matched(ours: pd.DataFrame, theirs: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of ``theirs`` in the order of ``ours``; refuse other rows, targets or groups.

    Raises
    ------
    UserError
        Naming the first row that differs.
    """
    for whose, frame in (("first", ours), ("second", theirs)):
        if missing := [name for name in (ID, "group") if name not in frame]:
            raise UserError(f"the {whose} model's predictions lack the column {missing[0]}; run its fit stage again")
        if (doubled := frame[ID].duplicated()).any():
            raise UserError(f"{ID} {frame.loc[doubled, ID].iloc[0]!r} stands twice in the {whose} model's predictions")
    only_ours, only_theirs = set(ours[ID]) - set(theirs[ID]), set(theirs[ID]) - set(ours[ID])
    if only_ours or only_theirs:
        whose, other = ("first", only_ours) if only_ours else ("second", only_theirs)
        raise UserError(
            f"the models predict other test rows ({len(only_ours)} only of the first, {len(only_theirs)} only of the "
            f"second, such as {min(map(str, other))} of the {whose}); fit both on the split that is there now"
        )
    # Classes are numbered by their order; genes are named, and stand in whatever order.
    classes, other_classes = (_names(frame, "probability") for frame in (ours, theirs))
    answers, other_answers = (_targets(frame) for frame in (ours, theirs))
    if classes != other_classes or set(answers) != set(other_answers):
        raise UserError("the models predict other classes or targets; fit both on the data that is there now")
    columns = [name for name in ours.columns if name in theirs]
    same_order = theirs.set_index(ID, drop=False).loc[list(ours[ID]), columns].reset_index(drop=True)
    for name in answers:
        measured, other_measured = (frame[name].to_numpy(np.float64) for frame in (ours, same_order))
        _refuse(~np.isclose(measured, other_measured, rtol=_SAME, atol=_SAME, equal_nan=True), ours, name)
    _refuse(ours["group"].astype(str).to_numpy() != same_order["group"].astype(str).to_numpy(), ours, "group")
    return same_order


def naive(task: Task, predictions: pd.DataFrame) -> pd.DataFrame:
    """Return ``predictions`` as the naive baseline, which the fit stage predicted beside the model, would have them."""
    answer = "probability" if task.problem == "classification" else "prediction"
    places = {str(name).replace("baseline", answer, 1): name for name in predictions.columns if _of(name, "baseline")}
    if not places:
        raise UserError("the predictions have no column baseline; run the fit stage again")
    return predictions.assign(**{place: predictions[name] for place, name in places.items()})


def resample(
    task: Task,
    predictions: pd.DataFrame,
    metric: str,
    *,
    resamples: int,
    seed: int,
    scale: npt.ArrayLike | None = None,
) -> Resampled:
    """Return a metric of one model on the test rows and on every resample of their groups.

    Which groups a resample draws depends on the groups, ``resamples`` and ``seed`` alone: what two models of the same
    test rows return may be subtracted. Parameters and errors as in `paired_difference`.
    """
    groups = predictions["group"].to_numpy(str)
    count = len(np.unique(groups))
    if count < 2:
        raise UserError(f"the test rows are of {count} group: whether models differ cannot be told from it")
    value = _measure(task, predictions, metric, groups, np.ones((1, count), np.int64), scale)
    blocks = [
        _measure(task, predictions, metric, groups, counts, scale)
        for counts in group_count_blocks(count, resamples, seed)
    ]
    return Resampled(float(value[0]), np.concatenate(blocks))


def _measure(
    task: Task,
    predictions: pd.DataFrame,
    metric: str,
    groups: npt.NDArray[np.str_],
    counts: npt.NDArray[np.int64],
    scale: npt.ArrayLike | None,
) -> Floats:
    """Return ``metric`` under each weighting of the groups, shape ``(n_weightings,)``."""
    to_baseline = metric in ("margin", "r2_over_baseline")  # the rest is not computed where nobody asks for it
    if isinstance(task, PairsTask) and not isinstance(task, PairsClassification):
        found = regression.weighted_regression_metrics(
            predictions["target"],
            predictions["prediction"],
            groups,
            counts,
            within=predictions["drug_id"] if metric.startswith("within_drug_") else None,
            baseline=predictions.get("baseline") if to_baseline else None,
        )
    elif isinstance(task, ProfilesMultiTarget):
        genes = _names(predictions, "prediction")
        by_target = targets.weighted_target_metrics(
            columns_of(predictions, "target", genes),
            columns_of(predictions, "prediction", genes),
            groups,
            counts,
            scale=scale,
            baseline=columns_of(predictions, "baseline", genes) if to_baseline else None,
            margin_metric=task.evaluate.metric,
        )
        found = {name: targets.mean_over_targets(values) for name, values in by_target.items()}
    else:
        classes = _names(predictions, "probability")
        of_drugs = (task.evaluate.metric if metric == "margin" else metric) in (*classification.WITHIN, "prevalence")
        found = classification.weighted_classification_metrics(
            predictions["target"].to_numpy(np.int64),
            columns_of(predictions, "probability", classes),
            groups,
            counts,
            classes=classes,
            baseline=columns_of(predictions, "baseline", classes) if to_baseline else None,
            margin_metric=task.evaluate.metric if to_baseline else "accuracy",
            within=predictions["drug_id"] if of_drugs else None,
        )
    if metric not in found:
        raise UserError(f"metric {metric!r} cannot be measured on these predictions; there are {', '.join(found)}")
    return found[metric]


def subtract(
    task: Task, metric: str, first: Resampled, second: Resampled, *, confidence: float, rows: int, groups: int
) -> Difference:
    """Return by how much the first model is better, from what both reach on the same resamples."""
    sign = 1.0 if higher_is_better(task, metric) else -1.0
    differences = sign * (first.values - second.values)
    interval = percentile_interval(sign * (first.value - second.value), differences, confidence)
    return Difference(metric, interval.value, interval.low, interval.high, p_value(differences), rows, groups)


def p_value(differences: npt.ArrayLike) -> float:
    """Return the two-sided bootstrap p-value of resampled ``differences`` (n,), the undefined ones left aside.

    Twice the share of resamples on the rarer side of zero, zero itself counted on both, one resample added: no finite
    number of resamples proves a p of 0. It is below ``1 - confidence`` about where the interval excludes zero.

    References
    ----------
    Davison A. C., Hinkley D. V. (1997). Bootstrap Methods and their Application, ch. 4: the resample that is added.
    """
    values = np.asarray(differences, dtype=np.float64)
    values = values[~np.isnan(values)]
    if not values.size:
        return float("nan")
    rarer = min(np.count_nonzero(values <= 0), np.count_nonzero(values >= 0))
    return min(1.0, 2 * (rarer + 1) / (values.size + 1))


def holm(p: Sequence[float]) -> list[float]:
    """Return p-values corrected for how many there are; NaN stays NaN and is not counted.

    The chance that any of the hypotheses that hold is rejected stays below the level, however they depend.

    References
    ----------
    Holm S. (1979). A simple sequentially rejective multiple test procedure. Scand. J. Stat. 6(2), 65-70.
    """
    values = np.asarray(p, dtype=np.float64)
    corrected = np.full(values.shape, np.nan)
    order = np.argsort(values, kind="stable")[: np.count_nonzero(~np.isnan(values))]
    steps = values[order] * np.arange(order.size, 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return [float(each) for each in corrected]


def higher_is_better(task: Task, metric: str) -> bool:
    """Return whether more of ``metric`` is better; so it is of every metric of a single class."""
    if isinstance(task, PairsTask) and not isinstance(task, PairsClassification):
        return regression.HIGHER_IS_BETTER.get(metric, True)
    if isinstance(task, ProfilesMultiTarget):
        return targets.HIGHER_IS_BETTER.get(metric, True)
    return classification.HIGHER_IS_BETTER.get(metric, True)


def _refuse(differs: npt.NDArray[np.bool_], ours: pd.DataFrame, column: str) -> None:
    if differs.any():
        raise UserError(
            f"the models differ in {column} of {int(differs.sum())} test rows, the first of them "
            f"{ours[ID].iloc[int(np.argmax(differs))]}; fit both on the data and the split that are there now"
        )


def _targets(predictions: pd.DataFrame) -> list[str]:
    return ["target"] if "target" in predictions else [f"target_{gene}" for gene in _names(predictions, "target")]


def _of(name: object, kind: str) -> bool:
    return name == kind or str(name).startswith(f"{kind}_")


def _names(predictions: pd.DataFrame, kind: str) -> list[str]:
    """Return the classes or genes that columns ``<kind>_<name>`` are of, in their order."""
    return [str(name)[len(kind) + 1 :] for name in predictions.columns if str(name).startswith(f"{kind}_")]
