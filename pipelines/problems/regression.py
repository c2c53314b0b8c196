"""A number is predicted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.problems import MARGIN, Metric, Problem

if TYPE_CHECKING:
    import numpy as np

# scikit-learn and SciPy take a second to import, and who reads params.yaml needs neither: hence the local imports.


def rmse_score(target: np.ndarray, prediction: np.ndarray) -> float:
    """Return the root of the mean squared error, of several targets its mean."""
    from sklearn.metrics import root_mean_squared_error

    return float(root_mean_squared_error(target, prediction))


def mae_score(target: np.ndarray, prediction: np.ndarray) -> float:
    """Return the mean absolute error, of several targets its mean."""
    from sklearn.metrics import mean_absolute_error

    return float(mean_absolute_error(target, prediction))


def mse_score(target: np.ndarray, prediction: np.ndarray) -> float:
    """Return the mean squared error, of several targets its mean."""
    from sklearn.metrics import mean_squared_error

    return float(mean_squared_error(target, prediction))


def r2_score(target: np.ndarray, prediction: np.ndarray) -> float:
    """Return the share of variance that is explained, of several targets its mean."""
    from sklearn import metrics

    return float(metrics.r2_score(target, prediction))


def _pearson(target: np.ndarray, prediction: np.ndarray) -> float:
    from scipy import stats

    return float(stats.pearsonr(target, prediction)[0]) if _varies(prediction) else 0.0


def _spearman(target: np.ndarray, prediction: np.ndarray) -> float:
    from scipy import stats

    return float(stats.spearmanr(target, prediction)[0]) if _varies(prediction) else 0.0


def _varies(prediction: np.ndarray) -> bool:
    """Whether a prediction correlates with anything; SciPy says NaN of a constant one, which a study cannot rank."""
    return float(prediction.max() - prediction.min()) > 1e-9


R2 = Metric("r2", "share of variance that is explained", score=r2_score, label="R²")
RMSE = Metric(
    "rmse", "root of the mean squared error; low is good", higher_is_better=False, score=rmse_score, label="RMSE"
)
MAE = Metric(
    "mae", "mean absolute error; low is good", higher_is_better=False, score=mae_score, label="Mean absolute error"
)
MSE = Metric("mse", "mean squared error; low is good", higher_is_better=False, score=mse_score)
R2_OVER_BASELINE = Metric("r2_over_baseline", "share of {baseline}'s squared error that is saved")

PROBLEM = Problem(
    "regression",
    (
        *(R2, RMSE, MAE, MSE),
        Metric("pearson", "correlation over all rows", score=_pearson),
        Metric("spearman", "rank correlation over all rows", score=_spearman),
        Metric(
            *("within_drug_pearson", "mean over drugs of the correlation within each"),
            within=True,
            label="Correlation within a drug",
        ),
        Metric("within_drug_spearman", "mean over drugs of the rank correlation within each", within=True),
        *(R2_OVER_BASELINE, MARGIN),
    ),
    ("validation_rmse",),
)
