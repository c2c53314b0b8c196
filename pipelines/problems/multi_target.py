"""Many numbers are predicted at once, such as the expression of many genes."""

from pipelines.problems import MARGIN, Problem, low
from pipelines.problems.regression import MAE, MSE, R2, R2_OVER_BASELINE, RMSE

PROBLEM = Problem(
    "multi_target",
    (
        *(R2, RMSE, MAE, MSE),
        low("rmse_sd", "RMSE in standard deviations of each gene"),
        low("mae_sd", "MAE in standard deviations of each gene"),
        *(R2_OVER_BASELINE, MARGIN),
    ),
    ("validation_rmse",),
)
