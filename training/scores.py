"""What a study optimizes: one number from measured and predicted, without an interval."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import stats
from sklearn import metrics


def _correlation(of: Callable[..., tuple[float, float]]) -> Callable[[np.ndarray, np.ndarray], float]:
    def score(target: np.ndarray, prediction: np.ndarray) -> float:
        # A constant prediction correlates with nothing: 0, where SciPy says NaN, which a study cannot rank.
        return float(of(target, prediction)[0]) if np.ptp(prediction) > 1e-9 else 0.0

    return score


SCORES: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "rmse": metrics.root_mean_squared_error,
    "mae": metrics.mean_absolute_error,
    "mse": metrics.mean_squared_error,
    "r2": metrics.r2_score,
    "pearson": _correlation(stats.pearsonr),
    "spearman": _correlation(stats.spearmanr),
}
HIGHER_IS_BETTER = {"r2", "pearson", "spearman"}
