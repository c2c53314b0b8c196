"""What would make a regression metric lie: another definition, a constant prediction, a bad row."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score

from evaluation.metrics.regression import weighted_regression_metrics
from pipelines.problems import get_problem
from tests.evaluation.measures import regression_metrics

NAMES = [metric.name for metric in get_problem("regression").metrics]


@pytest.fixture
def screen() -> pd.DataFrame:
    """40 cell lines x 12 drugs with a third missing, y rounded so that ties occur."""
    rng = np.random.default_rng(7)
    cell_line, drug = np.divmod(rng.choice(480, 320, replace=False), 12)
    effect = rng.normal(0, 2, 12)[drug]
    y = np.round(effect + rng.normal(0, 1, 40)[cell_line] + rng.normal(0, 1, 320), 1)
    prediction = np.round(effect + 0.5 * (y - effect) + rng.normal(0, 1, 320), 1)
    return pd.DataFrame({"cell_line": cell_line, "drug": drug, "y": y, "prediction": prediction, "baseline": effect})


def test_values_are_those_of_scikit_learn_and_scipy(screen):
    y, prediction, baseline = screen["y"], screen["prediction"], screen["baseline"]
    metrics = regression_metrics(y, prediction, within=screen["drug"], baseline=baseline)
    by_drug = [drug for _, drug in screen.groupby("drug") if len(drug) >= 5]
    assert len(by_drug) == 12
    expected = {
        "r2": r2_score(y, prediction),
        "rmse": mean_squared_error(y, prediction) ** 0.5,
        "mae": mean_absolute_error(y, prediction),
        "mse": mean_squared_error(y, prediction),
        "pearson": pearsonr(y, prediction)[0],
        "spearman": spearmanr(y, prediction)[0],
        "within_drug_pearson": np.mean([pearsonr(d["y"], d["prediction"])[0] for d in by_drug]),
        "within_drug_spearman": np.mean([spearmanr(d["y"], d["prediction"])[0] for d in by_drug]),
        "r2_over_baseline": 1 - mean_squared_error(y, prediction) / mean_squared_error(y, baseline),
        "margin": r2_score(y, prediction) - r2_score(y, baseline),
    }
    assert list(metrics) == NAMES == list(expected)
    assert metrics == pytest.approx(expected, rel=1e-12)


def test_a_perfect_prediction_scores_exactly_one():
    y = np.random.default_rng(0).normal(size=50)
    metrics = regression_metrics(y, y, within=np.repeat(["a", "b"], 25), baseline=np.zeros(50))
    ones = ["r2", "pearson", "spearman", "within_drug_pearson", "within_drug_spearman", "r2_over_baseline"]
    assert {name: metrics[name] for name in ones} == dict.fromkeys(ones, 1.0)
    assert metrics["rmse"] == metrics["mae"] == metrics["mse"] == 0


def test_a_drug_mean_scores_zero_within_drug_even_after_rounding(screen):
    drug_mean = screen.groupby("drug")["y"].transform("mean").to_numpy()
    noise = np.random.default_rng(1).uniform(-1, 1, len(screen))
    exact = regression_metrics(screen["y"], drug_mean, within=screen["drug"])
    rounded = regression_metrics(screen["y"], drug_mean * (1 + 1e-7 * noise), within=screen["drug"])
    for metrics in (exact, rounded):
        assert metrics["within_drug_pearson"] == metrics["within_drug_spearman"] == 0.0
        assert metrics["pearson"] > 0.5


@pytest.mark.parametrize("constant", [0.0, 0.1, -3.7, 1e6])
def test_a_constant_prediction_scores_zero_not_nan(constant):
    prediction = np.full(9, constant) + np.spacing(constant) * np.arange(9)
    metrics = regression_metrics(np.arange(9.0), prediction, within=np.zeros(9))
    names = ["pearson", "spearman", "within_drug_pearson", "within_drug_spearman"]
    assert {name: metrics[name] for name in names} == dict.fromkeys(names, 0.0)


def test_drugs_with_few_rows_or_constant_response_are_left_out():
    drug = np.repeat(["few", "flat", "good"], [4, 6, 6])
    y = np.r_[1, 2, 3, 4, np.full(6, 2.5), 1, 2, 3, 4, 5, 6]
    prediction = np.r_[4, 3, 2, 1, 1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5, 6]
    assert regression_metrics(y, prediction, within=drug)["within_drug_pearson"] == pytest.approx(1)
    with_few = regression_metrics(y, prediction, within=drug, min_rows=4)
    assert with_few["within_drug_pearson"] == pytest.approx(0, abs=1e-12)


def test_every_drug_weighs_the_same_however_many_rows_it_has():
    drug = np.repeat(["small", "large"], [5, 500])
    y = np.r_[np.arange(5.0), np.arange(500.0)]
    prediction = np.r_[np.arange(5.0), -np.arange(500.0)]
    metrics = regression_metrics(y, prediction, within=drug)
    assert metrics["within_drug_spearman"] == pytest.approx(0, abs=1e-12)


def test_what_the_data_leave_undefined_is_nan_and_the_errors_are_not():
    metrics = regression_metrics(np.full(6, 2.0), np.arange(6.0), within=np.zeros(6), baseline=np.full(6, 2.0))
    undefined = {name for name, value in metrics.items() if np.isnan(value)}
    assert undefined == set(NAMES) - {"rmse", "mae", "mse"}
    no_drug = regression_metrics(np.arange(6.0), np.arange(6.0), within=np.arange(6))
    assert np.isnan(no_drug["within_drug_pearson"])
    assert np.isnan(no_drug["within_drug_spearman"])
    assert np.isnan(regression_metrics([1.0], [1.0])["r2"])


def test_a_far_outlier_does_not_cost_the_other_rows_their_digits():
    rng = np.random.default_rng(3)
    y = np.r_[rng.normal(size=30), 1e5]
    prediction = np.r_[rng.normal(size=30), -1e5]
    weights = [[1.0, 0.0]]  # the outlier is not drawn, yet it set the scale and the mean
    metrics = weighted_regression_metrics(y, prediction, np.r_[np.zeros(30), 1], weights)
    assert metrics["pearson"][0] == pytest.approx(pearsonr(y[:30], prediction[:30])[0], rel=1e-9)
    assert metrics["r2"][0] == pytest.approx(r2_score(y[:30], prediction[:30]), rel=1e-9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": [1.0, 2.0, np.nan, np.nan]}, "y is nan at row 2"),
        ({"prediction": [1.0, np.inf, 3.0, 4.0]}, "prediction is inf at row 1"),
        ({"baseline": [1.0, 2.0, 3.0, -np.inf]}, "baseline is -inf at row 3"),
        ({"prediction": [1.0, 2.0, 3.0]}, r"prediction has shape \(3,\), not \(4,\)"),
        ({"within": ["a", None, "b", "b"]}, "within has a missing label at row 1"),
        ({"within": ["a", "b", float("nan"), "b"]}, "within has a missing label at row 2"),
        ({"within": pd.array([1, 1, 1, pd.NA], dtype="Int64")}, "within has a missing label at row 3"),
        ({"within": np.array(["a", 1, "b", 2], dtype=object)}, "within mixes labels"),
        ({"y": []}, "y has shape"),
        ({"y": 3.0}, "y has shape"),
        ({"prediction": [[1.0], [2.0], [3.0], [4.0]]}, r"prediction has shape \(4, 1\)"),
        ({"prediction": ["1", "x", "3", "4"]}, "prediction holds what is no number"),
        ({"min_rows": 1}, "min_rows is 1"),
    ],
)
def test_bad_input_is_refused_with_its_column_and_row(change, message):
    good = {"y": [1.0, 2.0, 3.0, 4.0], "prediction": [1.0, 2.0, 3.0, 5.0]}
    with pytest.raises(ValueError, match=message):
        regression_metrics(**(good | change))
