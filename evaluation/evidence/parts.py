"""A model under evaluation, and the parts of its evidence, for every modality and problem."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from mlflow import MlflowClient

from evaluation.metrics import Interval, as_metrics, mean_of_rows
from pipelines.datasets import Prepared
from pipelines.params import Task
from training.model.final_fit import Fitted
from training.model.predictor import Predictor


@dataclass(frozen=True)
class Evaluation:
    """A fitted model and the test rows that it is measured and explained on."""

    task: Task
    fitted: Fitted
    model: Predictor
    predictions: pd.DataFrame
    prepared: Prepared
    seed: int

    @property
    def contract(self) -> Any:
        """Return the contract of the model, a `training.contract.Contract` of the modality and the problem."""
        return self.model.contract

    @cached_property
    def test(self) -> Any:
        """Return the test rows as samples, in the order of the predictions."""
        return self.prepared.samples.take(self.prepared.tested)

    @cached_property
    def unlike(self) -> np.ndarray | None:
        """Return which test rows the model calls unlike the training data, bool, ``(n,)``; None if it cannot say."""
        return self.model.unlike(self.test)

    @property
    def groups(self) -> np.ndarray:
        """Return the group of each test row, ``(n,)``."""
        return self.predictions["group"].to_numpy()

    @property
    def bootstrap(self) -> dict[str, Any]:
        """Return the settings of every bootstrap."""
        settings = self.task.evaluate
        return {"resamples": settings.resamples, "confidence": settings.confidence, "seed": self.seed}

    @property
    def title(self) -> str:
        """Return the title of figures."""
        return f"{self.fitted.architecture}, {self.task.split.mode}"

    @property
    def explained_samples(self) -> int:
        """Return how many test rows are explained."""
        return self.task.evaluate.explained_samples.of(self.fitted.budget)

    def parts(self, column: str) -> dict[str, pd.DataFrame]:
        """Return the predictions of each value of a column, if they are of more than one group."""
        return {str(value): part for value, part in self.predictions.groupby(column) if part["group"].nunique() > 1}

    def coverage(self, covered: np.ndarray) -> dict[str, Any]:
        """Return the section ``coverage`` of what is ``covered``, ``(n,)`` or ``(n, targets)``, NaN where unknown."""

        def share(rows: Any) -> dict[str, float]:
            found = mean_of_rows(covered[rows], self.groups[rows], **self.bootstrap)
            return {"observed": found.value, "low": found.low, "high": found.high}

        unlike = self.unlike
        sides = {} if unlike is None else {"like": ~unlike, "unlike": unlike}
        every = {"declared": self.task.evaluate.interval_coverage, **share(slice(None))}
        by_novelty = {name: {"rows": int(rows.sum()), **share(rows)} for name, rows in sides.items()}
        return {**every, "by_novelty": by_novelty} if sides else every

    def history(self) -> list[dict[str, float]]:
        """Return the metrics that the fit logged step by step, a row a step."""
        client = MlflowClient()
        rows: dict[int, dict[str, float]] = {}
        for key in client.get_run(self.fitted.run_id).data.metrics:
            if key.startswith("step/"):
                for entry in client.get_metric_history(self.fitted.run_id, key):
                    rows.setdefault(entry.step, {"step": entry.step})[key.removeprefix("step/")] = entry.value
        return [rows[step] for step in sorted(rows)]


@dataclass(frozen=True)
class Explained:
    """The answers that are explained, and the test rows that they are explained on; arrays are ``(n,)``."""

    names: tuple[str, ...]  # of the answers: classes, targets, or that of the only one
    of_row: np.ndarray  # the answer that is explained for each test row
    # Of the outputs before and after features were masked, and of ``of_row``: the change of the answers, ``(n,)``.
    change: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
    every: bool = False  # all answers of a row are explained, one after another
    strata: np.ndarray | None = None  # codes of which rows are chosen evenly; None for the modality's own
    right: np.ndarray | None = None  # whether each test row is answered rightly; None where no answer is right or wrong
    caption: Callable[[int], str] = str  # of a test row in pictures, by its position

    def rows(self, count: int, seed: int, strata: np.ndarray, right: np.ndarray | None = None) -> np.ndarray:
        """Return about ``count`` rows, as many of each stratum, and of its right and wrong ones, as there are."""
        codes = strata if self.strata is None else self.strata
        right = np.ones(len(codes), dtype=bool) if right is None else right
        order = np.random.default_rng(seed).permutation(len(codes))
        turn = pd.DataFrame({"code": codes, "right": right}).iloc[order].groupby(["code", "right"]).cumcount()
        return np.sort(order[np.argsort(turn.to_numpy(), kind="stable")[:count]])

    def output(self, rows: np.ndarray) -> np.ndarray | None:
        """Return the output that is attributed for each of ``rows``; None where a model has only one."""
        return self.of_row[rows] if len(self.names) > 1 else None


@dataclass(frozen=True)
class Evidence:
    """Metrics and explanations before they are written; parts are joined by ``|``."""

    metrics: dict[str, Interval] = field(default_factory=dict)  # of the test rows
    test: dict[str, Any] = field(default_factory=dict)  # further entries of ``evidence.json`` on the test rows
    sections: dict[str, Any] = field(default_factory=dict)  # further sections of ``evidence.json``
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)  # written as ``<name>.csv``
    figures: dict[str, Figure] = field(default_factory=dict)  # written as ``<name>.png``
    drawings: dict[str, str] = field(default_factory=dict)  # the text of ``<name>.svg``
    logged: dict[str, float] = field(default_factory=dict)  # further metrics of the run
    warnings: list[str] = field(default_factory=list)  # for the terminal

    def __or__(self, other: Evidence) -> Evidence:
        """Return both parts as one."""
        joined = {name: one | getattr(other, name) for name, one in vars(self).items() if name != "warnings"}
        return Evidence(**joined, warnings=self.warnings + other.warnings)

    def to_log(self, overall: Collection[str]) -> dict[str, float]:
        """Return the metrics of the run, see `as_metrics`; all but the ``overall`` ones are of classes."""
        groups = {f"{'test' if key in overall else 'by_class'}/{key}": found for key, found in self.metrics.items()}
        logged = dict(self.logged)
        for name, found in groups.items():
            logged |= as_metrics(name, found.as_dict())
        return logged


def worst(unit: str, metric: str, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the section ``worst``: every class, drug or gene with its interval, the lowest first, undefined last."""
    lowest_first = sorted(rows, key=lambda row: (np.isnan(row["value"]), row["value"], row["name"]))
    return {"unit": unit, "metric": metric, "rows": lowest_first}
