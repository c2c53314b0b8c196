"""How what is predicted is measured: a module a problem, found by its name."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from evaluation.metrics.resample import Interval


class Measures(ABC):
    """The metrics of a problem on test rows; their names and directions stand in `pipelines.problems`."""

    @abstractmethod
    def metrics(
        self,
        target: np.ndarray,
        outputs: np.ndarray,
        *,
        baseline: np.ndarray,
        within: npt.ArrayLike | None,
        margin_metric: str,
        **scoring: Any,
    ) -> dict[str, float]:
        """Return every metric, without an interval.

        Parameters
        ----------
        target, outputs, baseline
            Measured, answered by the model (calibrated), and by the naive baseline.
        within
            The part (drug) of each row within which metrics are taken too; None where samples have no parts.
        margin_metric
            The task's metric.
        scoring
            Of `training.contract.Contract.scoring`.
        """

    @abstractmethod
    def bootstrap(
        self,
        target: np.ndarray,
        outputs: np.ndarray,
        groups: npt.ArrayLike,
        *,
        baseline: np.ndarray | None,
        within: npt.ArrayLike | None,
        margin_metric: str,
        resamples: int,
        confidence: float,
        seed: int,
        **scoring: Any,
    ) -> dict[str, Interval]:
        """Return every metric with its interval from resampled groups; parameters as of `metrics`."""

    @abstractmethod
    def weighted(
        self,
        predictions: pd.DataFrame,
        metric: str,
        groups: npt.ArrayLike,
        counts: npt.NDArray[np.int64],
        *,
        margin_metric: str,
        scale: npt.ArrayLike | None = None,
    ) -> dict[str, npt.NDArray[np.float64]]:
        """Return ``metric``, and whatever is found with it, under each weighting of the groups, ``(n_weightings,)``.

        Parameters
        ----------
        predictions
            Of the fit stage: see `training.contract.Contract.predicted`.
        metric
            What is not needed for it is not computed.
        groups, counts
            Group of each row, and how often each group counts.
        margin_metric
            The task's metric.
        scale
            Spreads of several targets.
        """


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
