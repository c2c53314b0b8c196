"""The metrics of predictions and the evidence made of them: a module a problem, found by its name."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from evaluation.metrics import Floats, Interval, encode, group_counts, percentile_interval
from pipelines.errors import UserError

if TYPE_CHECKING:
    from evaluation.evidence.parts import Evaluation, Evidence, Explained
    from evaluation.modalities import Modality
    from pipelines.params import Task
    from training.contract import Contract
    from training.model.predictor import Predictor


class Columns(NamedTuple):
    """A table of predictions as arrays: measured, predicted by the model, and by the naive baseline."""

    target: np.ndarray
    outputs: np.ndarray
    baseline: np.ndarray | None
    scoring: dict[str, Any]  # further arguments of the metrics, such as names of classes


class Measures(ABC):
    """The metrics of a problem on test rows; `pipelines.problems` has their names and directions."""

    answer: ClassVar[str] = "prediction"  # prefix of the columns of a table of predictions with the model's answers
    promise: ClassVar[str] = "prediction intervals"  # what an answer is declared to cover the true value with
    margin_metric: ClassVar[str]  # where none is named
    units: ClassVar[tuple[str, ...]]  # that a floor can be set for, as the evidence's section ``worst`` names them
    in_every_mode: ClassVar[tuple[str, ...]] = ()  # metrics of `evaluation.generalize`, if it makes a table

    @abstractmethod
    def weigh(self, *columns: Any, **known: Any) -> dict[str, Floats]:
        """Return every metric under each of many weightings of the groups, ``(n_weightings,)``.

        ``target``, ``outputs`` and ``baseline`` are measured, predicted by the model (calibrated) and by the naive
        baseline, without which there is no margin (of ``margin_metric``); ``groups`` and ``counts`` are the group of
        each row and the weights of the groups, in ascending order of their names. Within each part (drug) that
        ``within`` names metrics are taken too; it is None where samples have no parts. Other arguments are of
        `training.contract.Contract.scoring` or `learnt`. A column of another shape or with an impossible value is a
        ``ValueError`` that names column and row.
        """

    def metrics(self, target: npt.ArrayLike, outputs: npt.ArrayLike, **known: Any) -> dict[str, float]:
        """Return every metric, without an interval; parameters as of `weigh`, all others optional."""
        one_group = np.zeros(np.shape(target)[:1], np.intp)
        found = self.weigh(target, outputs, one_group, np.ones((1, 1)), **self._settings(known))
        return {name: float(values[0]) for name, values in found.items()}

    def bootstrap(
        self,
        target: npt.ArrayLike,
        outputs: npt.ArrayLike,
        groups: npt.ArrayLike,
        *,
        resamples: int = 1000,
        confidence: float = 0.95,
        seed: int = 0,
        **known: Any,
    ) -> dict[str, Interval]:
        """Return every metric with its cluster-bootstrap percentile interval; ``known`` as of `metrics`.

        Model and baseline see the same resamples: a margin is a paired comparison. Resamples that leave a metric
        undefined stay out of its interval. See Field C. A., Welsh A. H. (2007), J. R. Stat. Soc. B 69(3), 369-390, and
        Efron B., Tibshirani R. J. (1993), An Introduction to the Bootstrap, ch. 13.
        """
        value = self.metrics(target, outputs, **known)
        labels, _ = encode("groups", groups, np.shape(target)[0])
        counts = group_counts(labels.size, resamples, seed)
        resampled = self.weigh(target, outputs, groups, counts, **self._settings(known))
        return {name: percentile_interval(value[name], resampled[name], confidence) for name in value}

    def _settings(self, known: dict[str, Any]) -> dict[str, Any]:
        margin_metric = known.get("margin_metric") or self.margin_metric
        return {"baseline": None, "within": None, **known, "margin_metric": margin_metric}

    def weighted(
        self, predictions: pd.DataFrame, metric: str, counts: npt.ArrayLike, *, margin_metric: str, **learnt: Any
    ) -> dict[str, Floats]:
        """Return ``metric`` of a table of predictions, and whatever is found with it, under each weighting."""
        target, outputs, baseline, scoring = self.columns(predictions)
        asked = margin_metric if metric == "margin" else metric
        within = predictions["drug_id"] if asked.startswith("within_drug_") or asked == "prevalence" else None
        known: dict[str, Any] = {"within": within, "baseline": None, "margin_metric": self.margin_metric}
        if metric in ("margin", "r2_over_baseline"):
            known |= {"baseline": baseline, "margin_metric": margin_metric}
        return self.weigh(target, outputs, predictions["group"].to_numpy(str), counts, **known, **scoring, **learnt)

    @abstractmethod
    def columns(self, predictions: pd.DataFrame) -> Columns:
        """Return a table of predictions as arrays, as `bootstrap` takes them."""

    def alone(self, predictions: pd.DataFrame, task: Task) -> dict[str, float]:
        """Return every metric of a table of predictions, without an interval."""
        return self.metrics(**self._known(predictions, task))

    def intervals(self, predictions: pd.DataFrame, task: Task, seed: int) -> dict[str, Interval]:
        """Return every metric of a table of predictions with its interval."""
        known = self._known(predictions, task)
        known |= {"resamples": task.evaluate.resamples, "confidence": task.evaluate.confidence, "seed": seed}
        return self.bootstrap(groups=predictions["group"], **known)

    def resampled(self, predictions: pd.DataFrame, task: Task, counts: npt.ArrayLike) -> dict[str, Floats]:
        """Return every metric of a table of predictions under each weighting of its groups, see `weigh`."""
        known = self._settings(self._known(predictions, task))
        return self.weigh(groups=predictions["group"].to_numpy(str), counts=counts, **known)

    def _known(self, predictions: pd.DataFrame, task: Task) -> dict[str, Any]:
        target, outputs, baseline, scoring = self.columns(predictions)
        within = predictions["drug_id"] if task.within else None
        settings = {"baseline": baseline, "within": within, "margin_metric": task.evaluate.metric}
        return {"target": target, "outputs": outputs, **settings, **scoring}

    def answers(self, table: pd.DataFrame, samples: Any, outputs: np.ndarray, baseline: np.ndarray) -> pd.DataFrame:
        """Return a table of predictions: ``table``, a row of ``samples`` each, with outputs of model and baseline."""
        return table.assign(prediction=outputs, baseline=baseline)

    # Two models on the same rows.

    def measured(self, predictions: pd.DataFrame) -> list[str]:
        """Return the columns of a table of predictions with measured values: two models must agree on them."""
        return [str(column) for column in predictions if column == "target" or str(column).startswith("target_")]

    def naive(self, predictions: pd.DataFrame) -> pd.DataFrame:
        """Return predictions with those of the naive baseline, made by the fit stage too, in place of the model's."""
        baselines = [str(name) for name in predictions if name == "baseline" or str(name).startswith("baseline_")]
        if not baselines:
            raise UserError("the predictions have no column baseline; run the fit stage again")
        return predictions.assign(**{name.replace("baseline", self.answer, 1): predictions[name] for name in baselines})

    def learnt(self, task: Task, train: Callable[[], Any]) -> dict[str, Any]:
        """Return further arguments of `weighted` for the task's metric; ``train`` reads the training rows."""
        return {}

    def answered(self, model: Predictor, samples: Any, ours: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Return the part of ``ours``, the rows of ``samples``, that an earlier model can answer too, and its answers.

        Models that have nothing in common, such as a class or a target, are a ``ValueError``.
        """
        return ours, ours.assign(prediction=model.outputs(samples))

    # A labelled cohort.

    def classes(self, contract: Contract) -> list[str] | None:
        """Return the classes that a label must be one of; None where no label is predicted."""
        return None

    def targets(self, contract: Contract) -> list[str]:
        """Return the features of a raw table that are predicted, such as genes."""
        return []

    # The evidence, made by `evaluation.evidence.<problem>`, which loads what draws.

    def evidence(self, run: Evaluation, modality: Modality) -> Evidence:
        """Return metrics, the sections ``worst`` and ``coverage``, and other tables and figures of the errors."""
        module = importlib.import_module(f"evaluation.evidence.{run.task.problem}")
        made: Evidence = module.evidence(self, run, modality)
        return made

    def explained(self, run: Evaluation) -> Explained:
        """Return the answers that are explained, and the test rows that they are explained on."""
        made: Explained = importlib.import_module(f"evaluation.evidence.{run.task.problem}").explained(self, run)
        return made

    def by_part(self, predictions: pd.DataFrame, names: dict[str, str]) -> pd.DataFrame | None:
        """Return a row a drug, ``names`` by their ids; None where a problem has no such table."""
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
