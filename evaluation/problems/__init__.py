"""How what is predicted is measured, compared and told: a module a problem, found by its name."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from evaluation.metrics.columns import Floats, encode
from evaluation.metrics.resample import Interval, group_counts, percentile_interval
from pipelines.errors import UserError

if TYPE_CHECKING:
    from evaluation.evidence.parts import Evaluation, Evidence, Explained
    from evaluation.modalities import Modality
    from pipelines.params import Task
    from training.contract import Contract
    from training.model.predictor import Predictor


class Columns(NamedTuple):
    """What a table of predictions holds: measured, answered by the model, and by the naive baseline.

    ``scoring`` is what metrics have to know besides, as far as the table says it: names of classes.
    """

    target: np.ndarray
    outputs: np.ndarray
    baseline: np.ndarray | None
    scoring: dict[str, Any]


class Measures(ABC):
    """The metrics of a problem on test rows; `pipelines.problems` has their names and directions.

    Attributes
    ----------
    answer
        What the columns of a table of predictions that hold the model's answers begin with.
    margin_metric
        What the margin is taken of where no metric is named.
    units
        What the floor may be asked of, as the evidence's section ``worst`` names it.
    promise
        What an answer is declared to hold the true value in.
    in_every_mode
        Metrics of `evaluation.generalize`; empty where no such table is made.
    """

    answer: ClassVar[str] = "prediction"
    promise: ClassVar[str] = "prediction intervals"
    margin_metric: ClassVar[str]
    units: ClassVar[tuple[str, ...]]
    in_every_mode: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def weigh(
        self,
        target: npt.ArrayLike,
        outputs: npt.ArrayLike,
        groups: npt.ArrayLike,
        counts: npt.ArrayLike,
        *,
        baseline: npt.ArrayLike | None,
        within: npt.ArrayLike | None,
        margin_metric: str,
        **scoring: Any,
    ) -> dict[str, Floats]:
        """Return every metric under each of many weightings of the groups, ``(n_weightings,)``.

        Parameters
        ----------
        target, outputs, baseline
            Measured, answered by the model (calibrated), and by the naive baseline; without it no margin is taken.
        groups, counts
            Group of each row, and how often each group counts, in ascending order of their names.
        within
            The part (drug) of each row within which metrics are taken too; None where samples have no parts.
        margin_metric
            The metric that the margin is taken of.
        scoring
            Of `training.contract.Contract.scoring`, or `learnt`.
        """

    def metrics(
        self,
        target: npt.ArrayLike,
        outputs: npt.ArrayLike,
        *,
        baseline: npt.ArrayLike | None = None,
        within: npt.ArrayLike | None = None,
        margin_metric: str | None = None,
        **scoring: Any,
    ) -> dict[str, float]:
        """Return every metric, without an interval; parameters as of `weigh`."""
        one = np.zeros(np.shape(target)[0] if np.ndim(target) else 0, dtype=np.intp)
        known: dict[str, Any] = {"baseline": baseline, "within": within}
        known |= {"margin_metric": margin_metric or self.margin_metric, **scoring}
        found = self.weigh(target, outputs, one, np.ones((1, 1)), **known)
        return {name: float(values[0]) for name, values in found.items()}

    def bootstrap(
        self,
        target: npt.ArrayLike,
        outputs: npt.ArrayLike,
        groups: npt.ArrayLike,
        *,
        baseline: npt.ArrayLike | None = None,
        within: npt.ArrayLike | None = None,
        margin_metric: str | None = None,
        resamples: int = 1000,
        confidence: float = 0.95,
        seed: int = 0,
        **scoring: Any,
    ) -> dict[str, Interval]:
        """Return every metric with its cluster-bootstrap percentile interval.

        Model and baseline see the same resamples: a margin is a paired comparison. Resamples that leave a metric
        undefined stay out of its interval.

        References
        ----------
        Field C. A., Welsh A. H. (2007). Bootstrapping clustered data. J. R. Stat. Soc. B 69(3), 369-390.
        Efron B., Tibshirani R. J. (1993). An Introduction to the Bootstrap, ch. 13: percentile intervals.
        """
        known: dict[str, Any] = {"baseline": baseline, "within": within}
        known |= {"margin_metric": margin_metric or self.margin_metric, **scoring}
        value = self.metrics(target, outputs, **known)
        labels, _ = encode("groups", groups, np.shape(target)[0])
        counts = group_counts(labels.size, resamples, seed)
        resampled = self.weigh(target, outputs, groups, counts, **known)
        return {name: percentile_interval(value[name], resampled[name], confidence) for name in value}

    def weighted(
        self,
        predictions: pd.DataFrame,
        metric: str,
        groups: npt.ArrayLike,
        counts: npt.ArrayLike,
        *,
        margin_metric: str,
        **learnt: Any,
    ) -> dict[str, Floats]:
        """Return ``metric`` of a table of predictions, and whatever is found with it, under each weighting."""
        target, outputs, baseline, scoring = self.columns(predictions)
        asked = margin_metric if metric == "margin" else metric
        to_baseline = metric in ("margin", "r2_over_baseline")
        return self.weigh(
            target,
            outputs,
            groups,
            counts,
            baseline=baseline if to_baseline else None,
            within=predictions["drug_id"] if asked.startswith("within_drug_") or asked == "prevalence" else None,
            margin_metric=margin_metric if to_baseline else self.margin_metric,
            **scoring,
            **learnt,
        )

    @abstractmethod
    def columns(self, predictions: pd.DataFrame) -> Columns:
        """Return what a table of predictions holds, as `bootstrap` takes it."""

    def alone(self, predictions: pd.DataFrame, task: Task) -> dict[str, float]:
        """Return every metric of a table of predictions, without an interval."""
        target, outputs, known = self._known(predictions, task)
        return self.metrics(target, outputs, **known)

    def intervals(self, predictions: pd.DataFrame, task: Task, seed: int) -> dict[str, Interval]:
        """Return every metric of a table of predictions with its interval."""
        target, outputs, known = self._known(predictions, task)
        known |= {"resamples": task.evaluate.resamples, "confidence": task.evaluate.confidence, "seed": seed}
        return self.bootstrap(target, outputs, predictions["group"], **known)

    def _known(self, predictions: pd.DataFrame, task: Task) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        target, outputs, baseline, scoring = self.columns(predictions)
        within = predictions["drug_id"] if task.within else None
        known = {"baseline": baseline, "within": within, "margin_metric": task.evaluate.metric, **scoring}
        return target, outputs, known

    # Two models on the same rows.

    def measured(self, predictions: pd.DataFrame) -> list[str]:
        """Return the columns of a table of predictions that hold what was measured: two models must agree on them."""
        return [str(column) for column in predictions if column == "target" or str(column).startswith("target_")]

    def naive(self, predictions: pd.DataFrame) -> pd.DataFrame:
        """Return predictions as the naive baseline, which the fit stage predicted beside the model, has them."""
        baselines = [str(name) for name in predictions if name == "baseline" or str(name).startswith("baseline_")]
        if not baselines:
            raise UserError("the predictions have no column baseline; run the fit stage again")
        return predictions.assign(**{name.replace("baseline", self.answer, 1): predictions[name] for name in baselines})

    def learnt(self, task: Task, train: Callable[[], Any]) -> dict[str, Any]:
        """Return what `weighted` has to know for the task's metric besides; ``train`` reads the training rows."""
        return {}

    def answered(self, model: Predictor, samples: Any, ours: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Return the part of ``ours`` that another model can answer too, and what it answers.

        Parameters
        ----------
        model
            An earlier version, of which classes and targets may be others.
        samples, ours
            The same rows as samples and as predictions.

        Raises
        ------
        ValueError
            There is nothing in common to be compared.
        """
        return ours, ours.assign(prediction=model.outputs(samples))

    # A labelled cohort.

    def classes(self, contract: Contract) -> list[str] | None:
        """Return the classes that a label must be one of; None where no label is predicted."""
        return None

    def targets(self, contract: Contract) -> list[str]:
        """Return the features of a raw table that are predicted, such as genes."""
        return []

    # The evidence.

    @abstractmethod
    def evidence(self, run: Evaluation, modality: Modality) -> Evidence:
        """Return metrics, the sections ``worst`` and ``coverage`` and whatever else tells how good a model is."""

    @abstractmethod
    def explained(self, run: Evaluation) -> Explained:
        """Return which answers are to be explained, and of which test rows."""

    def by_part(self, predictions: pd.DataFrame, names: dict[str, str]) -> pd.DataFrame | None:
        """Return a row a drug, of which ``names`` are those by id; None where there is nothing to tell."""
        return None


@cache
def measures_of(problem: str) -> Measures:
    """Return the measures of the problem ``problem``."""
    measures: Measures = importlib.import_module(f"{__name__}.{problem}").MEASURES
    return measures


def names_of(predictions: pd.DataFrame, kind: str) -> list[str]:
    """Return the names of the columns ``<kind>_<name>`` of a table of predictions, in their order."""
    return [str(column).removeprefix(f"{kind}_") for column in predictions if str(column).startswith(f"{kind}_")]


def columns_of(predictions: pd.DataFrame, kind: str, names: list[str]) -> npt.NDArray[np.float64]:
    """Return the columns ``<kind>_<name>``, ``(n, names)``."""
    return predictions[[f"{kind}_{name}" for name in names]].to_numpy(np.float64)
