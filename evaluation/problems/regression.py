"""How predicted numbers are measured."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from evaluation.metrics.regression import regression_metrics, weighted_regression_metrics
from evaluation.metrics.resample import Interval, bootstrap_regression
from evaluation.problems import Measures


class RegressionMeasures(Measures):
    """Errors and correlations; the margin is what is saved of the baseline's squared error, whatever the metric."""

    def metrics(self, target: np.ndarray, outputs: np.ndarray, **known: Any) -> dict[str, float]:
        """See `Measures.metrics`."""
        return regression_metrics(target, outputs, within=known["within"], baseline=known["baseline"])

    def bootstrap(
        self, target: np.ndarray, outputs: np.ndarray, groups: npt.ArrayLike, **known: Any
    ) -> dict[str, Interval]:
        """See `Measures.bootstrap`."""
        known.pop("margin_metric")
        return bootstrap_regression(target, outputs, groups, **known)

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
        """See `Measures.weighted`."""
        return weighted_regression_metrics(
            predictions["target"],
            predictions["prediction"],
            groups,
            counts,
            within=predictions["drug_id"] if metric.startswith("within_drug_") else None,
            baseline=predictions.get("baseline") if metric in ("margin", "r2_over_baseline") else None,
        )


MEASURES = RegressionMeasures()
