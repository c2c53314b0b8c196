"""How many predicted numbers are measured: each target, and their mean."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from evaluation.metrics.resample import Interval
from evaluation.metrics.targets import bootstrap_targets, mean_over_targets, target_metrics, weighted_target_metrics
from evaluation.problems import Measures, columns_of, names_of


class TargetMeasures(Measures):
    """Errors of each target, and their mean over targets."""

    def metrics(self, target: np.ndarray, outputs: np.ndarray, **known: Any) -> dict[str, float]:
        """See `Measures.metrics`; metrics that no target has are left out."""
        known.pop("within")
        found = target_metrics(target, outputs, **known)
        with np.errstate(invalid="ignore"):
            return {name: float(np.nanmean(values)) for name, values in found.items() if np.isfinite(values).any()}

    def bootstrap(
        self, target: np.ndarray, outputs: np.ndarray, groups: npt.ArrayLike, **known: Any
    ) -> dict[str, Interval]:
        """See `Measures.bootstrap`."""
        known.pop("within")
        return bootstrap_targets(target, outputs, groups, **known)

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
        names = names_of(predictions, "prediction")
        to_baseline = metric in ("margin", "r2_over_baseline")
        found = weighted_target_metrics(
            columns_of(predictions, "target", names),
            columns_of(predictions, "prediction", names),
            groups,
            counts,
            scale=scale,
            baseline=columns_of(predictions, "baseline", names) if to_baseline else None,
            margin_metric=margin_metric,
        )
        return {name: mean_over_targets(values) for name, values in found.items()}


MEASURES = TargetMeasures()
