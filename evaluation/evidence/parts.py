"""What is evaluated, and what the evidence of it is made of, whatever its modality and problem."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from mlflow import MlflowClient

from evaluation.metrics.means import coverage
from evaluation.metrics.resample import Interval
from pipelines.datasets import Prepared
from pipelines.params import Task
from training.contract import Contract
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
    def contract(self) -> Contract:
        """Return what the model takes and answers."""
        return self.model.contract

    @cached_property
    def test(self) -> Any:
        """Return the test rows as samples, in the order of the predictions."""
        return self.prepared.side("test")

    @property
    def groups(self) -> np.ndarray:
        """Return what varies independently, ``(n,)``."""
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
        """Return the predictions of each value of a column that are of more than one group."""
        parts = self.predictions.groupby(column)
        return {str(value): part for value, part in parts if part["group"].nunique() > 1}

    def coverage(self, held: np.ndarray) -> dict[str, Any]:
        """Return the section ``coverage``; ``held`` as of `evaluation.metrics.means.coverage`."""
        declared = self.task.evaluate.interval_coverage
        unlike = self.model.unlike(self.test)
        return coverage(declared, held, self.predictions["group"], unlike=unlike, **self.bootstrap)

    def history(self) -> list[dict[str, float]]:
        """Return the metrics that the fit logged step by step, a row a step."""
        client = MlflowClient()
        rows: dict[int, dict[str, float]] = {}
        for key in client.get_run(self.fitted.run_id).data.metrics:
            if key.startswith("step_"):
                for entry in client.get_metric_history(self.fitted.run_id, key):
                    rows.setdefault(entry.step, {"step": entry.step})[key.removeprefix("step_")] = entry.value
        return [rows[step] for step in sorted(rows)]


@dataclass(frozen=True)
class Explained:
    """Which answers are to be explained, and of which test rows.

    Attributes
    ----------
    names
        Of the answers of a model: classes, targets, or that of the only one.
    of_row
        Which of them is explained of each test row, ``(n,)``.
    change
        Of the outputs before and after features were masked, and of ``of_row``, ``(n,)``: how much the answer changed.
    every
        Whether all answers of a row are explained, one after another.
    strata
        Codes of which rows are chosen evenly, ``(n,)``; None where the modality's own strata are.
    right
        Whether each test row is answered rightly, ``(n,)``; None where no answer is right or wrong.
    caption
        Of a test row in pictures, by its position.
    """

    names: tuple[str, ...]
    of_row: np.ndarray
    change: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
    every: bool = False
    strata: np.ndarray | None = None
    right: np.ndarray | None = None
    caption: Callable[[int], str] = str

    def rows(self, count: int, seed: int, strata: np.ndarray, right: np.ndarray | None = None) -> np.ndarray:
        """Return about ``count`` rows, as many of each stratum as far as there are any."""
        codes = strata if self.strata is None else self.strata
        right = np.ones(len(codes), dtype=bool) if right is None else right
        order = np.random.default_rng(seed).permutation(len(codes))
        turn: dict[tuple[int, bool], int] = {}
        place = np.empty(len(codes), dtype=int)
        for row in order:
            key = (int(codes[row]), bool(right[row]))
            place[row] = turn[key] = turn.get(key, -1) + 1
        return np.sort(order[np.argsort(place[order], kind="stable")[:count]])

    def output(self, rows: np.ndarray) -> np.ndarray | None:
        """Return which output is attributed of each of ``rows``; None where a model has only one."""
        return self.of_row[rows] if len(self.names) > 1 else None


@dataclass(frozen=True)
class Evidence:
    """Measured and explained, before it is written; parts are joined by ``|``.

    Attributes
    ----------
    metrics
        Of the test rows, by name.
    strata
        The same within parts of the test rows.
    test
        What else ``evidence.json`` says of the test rows.
    sections
        Further sections of ``evidence.json``.
    tables, figures, drawings
        Written as ``<name>.csv``, ``<name>.png`` and ``<name>.svg``; a drawing is the text of the SVG.
    logged
        Further metrics of the run.
    warnings
        Sentences for the terminal.
    """

    metrics: dict[str, Interval] = field(default_factory=dict)
    strata: dict[str, dict[str, Interval]] = field(default_factory=dict)
    test: dict[str, Any] = field(default_factory=dict)
    sections: dict[str, Any] = field(default_factory=dict)
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    figures: dict[str, Figure] = field(default_factory=dict)
    logged: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    drawings: dict[str, str] = field(default_factory=dict)

    def __or__(self, other: Evidence) -> Evidence:
        """Return both parts as one."""
        parts = ((each.name, getattr(self, each.name), getattr(other, each.name)) for each in fields(Evidence))
        return Evidence(**{name: one + two if name == "warnings" else one | two for name, one, two in parts})

    def to_log(self) -> dict[str, float]:
        """Return the metrics of the run: ``test_<metric>``, with ``_low`` and ``_high``, as far as they are defined."""
        named = {f"test_{key}": value for key, value in self.metrics.items()}
        named |= {f"test_{key}_{part}": value for part, found in self.strata.items() for key, value in found.items()}
        logged = dict(self.logged)
        for key, interval in named.items():
            for suffix, number in (("", interval.value), ("_low", interval.low), ("_high", interval.high)):
                if np.isfinite(number):
                    logged[key + suffix] = number
        return logged
