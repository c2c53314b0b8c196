"""A number is predicted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.problems import MARGIN, Metric, Problem, Score, low, of_sklearn

if TYPE_CHECKING:
    import numpy as np


def _correlation(function: str) -> Score:
    """Return a correlation of SciPy's; 0 for a constant prediction, of which SciPy's NaN cannot be ranked."""

    def score(target: np.ndarray, prediction: np.ndarray) -> float:
        from scipy import stats

        varies = float(prediction.max() - prediction.min()) > 1e-9
        return float(getattr(stats, function)(target, prediction)[0]) if varies else 0.0

    return score


R2 = Metric("r2", "share of variance that is explained", score=of_sklearn("r2_score"), label="R²")
RMSE = low("rmse", "root of the mean squared error", of_sklearn("root_mean_squared_error"), label="RMSE")
MAE = low("mae", "mean absolute error", of_sklearn("mean_absolute_error"), label="Mean absolute error")
MSE = low("mse", "mean squared error", of_sklearn("mean_squared_error"))
R2_OVER_BASELINE = Metric("r2_over_baseline", "share of {baseline}'s squared error that is saved")

PROBLEM = Problem(
    "regression",
    (
        *(R2, RMSE, MAE, MSE),
        Metric("pearson", "correlation over all rows", score=_correlation("pearsonr")),
        Metric("spearman", "rank correlation over all rows", score=_correlation("spearmanr")),
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
