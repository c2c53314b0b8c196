"""What a study optimizes: one number from measured values and a model's outputs, without an interval."""

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


def _of_labels(score: Callable[..., float], **settings: str) -> Callable[[np.ndarray, np.ndarray], float]:
    return lambda target, probabilities: float(score(target, probabilities.argmax(axis=1), **settings))


def _log_loss(target: np.ndarray, probabilities: np.ndarray) -> float:
    return float(metrics.log_loss(target, probabilities, labels=np.arange(probabilities.shape[1])))


def _roc_auc(target: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the area of the second of two classes, or the mean of one against the rest over the classes present."""
    codes = [1] if probabilities.shape[1] == 2 else list(range(probabilities.shape[1]))
    present = [code for code in codes if 0 < (target == code).sum() < len(target)]
    if not present:
        return 0.5  # one class alone cannot be ranked
    return float(np.mean([metrics.roc_auc_score(target == code, probabilities[:, code]) for code in present]))


SCORES: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "rmse": metrics.root_mean_squared_error,
    "mae": metrics.mean_absolute_error,
    "mse": metrics.mean_squared_error,
    "r2": metrics.r2_score,
    "pearson": _correlation(stats.pearsonr),
    "spearman": _correlation(stats.spearmanr),
    "log_loss": _log_loss,
    "accuracy": _of_labels(metrics.accuracy_score),
    "balanced_accuracy": _of_labels(metrics.balanced_accuracy_score),
    "macro_f1": _of_labels(metrics.f1_score, average="macro"),
    "weighted_f1": _of_labels(metrics.f1_score, average="weighted"),
    "roc_auc": _roc_auc,
}
HIGHER_IS_BETTER = {
    *("r2", "pearson", "spearman"),
    *("accuracy", "balanced_accuracy", "macro_f1", "weighted_f1", "roc_auc"),
}
