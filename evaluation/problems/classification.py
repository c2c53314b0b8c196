"""How predicted classes are measured."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from evaluation.metrics.classification import (
    WITHIN,
    bootstrap_classification,
    classification_metrics,
    weighted_classification_metrics,
)
from evaluation.metrics.resample import Interval
from evaluation.problems import Measures, columns_of, names_of


class ClassificationMeasures(Measures):
    """Shares, areas and calibration, over all rows and of each class."""

    def metrics(self, target: np.ndarray, outputs: np.ndarray, **known: Any) -> dict[str, float]:
        """See `Measures.metrics`."""
        return classification_metrics(target, outputs, **known)

    def bootstrap(
        self, target: np.ndarray, outputs: np.ndarray, groups: npt.ArrayLike, **known: Any
    ) -> dict[str, Interval]:
        """See `Measures.bootstrap`."""
        return bootstrap_classification(target, outputs, groups, **known)

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
        classes = names_of(predictions, "probability")
        to_baseline = metric in ("margin", "r2_over_baseline")
        of_drugs = (margin_metric if metric == "margin" else metric) in (*WITHIN, "prevalence")
        return weighted_classification_metrics(
            predictions["target"].to_numpy(np.int64),
            columns_of(predictions, "probability", classes),
            groups,
            counts,
            classes=classes,
            baseline=columns_of(predictions, "baseline", classes) if to_baseline else None,
            margin_metric=margin_metric if to_baseline else "accuracy",
            within=predictions["drug_id"] if of_drugs else None,
        )


MEASURES = ClassificationMeasures()
