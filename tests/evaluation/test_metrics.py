"""What would make a regression metric or its interval lie: another definition, resampled rows, chance, bad rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score

from evaluation.metrics import group_counts
from pipelines.problems import get_problem
from tests.evaluation.measures import REGRESSION, bootstrap_regression, regression_metrics

NAMES = [metric.name for metric in get_problem("regression").metrics]


def _screen(rng: np.random.Generator, cell_lines: int, drugs: int, share: float = 1.0) -> pd.DataFrame:
    """Return responses of which the rounding makes ties, and drugs that lose all variance in some resamples."""
    pairs = rng.choice(cell_lines * drugs, int(share * cell_lines * drugs), replace=False)
    cell_line, drug = np.divmod(pairs, drugs)
    effect = rng.normal(0, 2, drugs)[drug]
    y = effect + rng.normal(0, 1, cell_lines)[cell_line] + rng.normal(0, 1, pairs.size)
    names = [(f"cl{line}", f"drug{code}") for line, code in zip(cell_line, drug, strict=True)]
    outputs = np.round(effect + 0.4 * (y - effect) + rng.normal(0, 0.7, pairs.size))
    table = pd.DataFrame(names, columns=["cell_line", "within"])
    return table.assign(target=np.round(y), outputs=outputs, baseline=effect)


def _correlation(statistic, y, prediction):
    if np.ptp(y) == 0:
        return np.nan
    return 0.0 if np.ptp(prediction) == 0 else statistic(y, prediction)[0]


def _by_other_libraries(drawn: pd.DataFrame, unit: pd.Series, min_rows: int = 5) -> dict[str, float]:
    inside = [drug for _, drug in drawn.groupby(unit) if drug["row"].nunique() >= min_rows]

    def mean_within(statistic):
        values = [_correlation(statistic, drug["target"], drug["outputs"]) for drug in inside]
        values = [value for value in values if not np.isnan(value)]
        return np.mean(values) if values else np.nan

    y, prediction, baseline = drawn["target"], drawn["outputs"], drawn["baseline"]
    constant = np.ptp(y) == 0
    return {
        "r2": np.nan if constant else r2_score(y, prediction),
        "rmse": mean_squared_error(y, prediction) ** 0.5,
        "mae": mean_absolute_error(y, prediction),
        "mse": mean_squared_error(y, prediction),
        "pearson": _correlation(pearsonr, y, prediction),
        "spearman": _correlation(spearmanr, y, prediction),
        "within_drug_pearson": mean_within(pearsonr),
        "within_drug_spearman": mean_within(spearmanr),
        "r2_over_baseline": 1 - mean_squared_error(y, prediction) / mean_squared_error(y, baseline),
        "margin": np.nan if constant else r2_score(y, prediction) - r2_score(y, baseline),
    }


def test_values_are_those_of_scikit_learn_and_scipy():
    table = _screen(np.random.default_rng(7), 40, 12, 0.7)
    metrics = regression_metrics(**table.drop(columns="cell_line"))
    expected = _by_other_libraries(table.assign(row=table.index), table["within"])
    assert list(metrics) == NAMES == list(expected)
    assert metrics == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("groups", ["cell_line", "within", "cluster"])
def test_resampled_metrics_equal_those_of_physically_repeated_rows(groups):
    table = _screen(np.random.default_rng(0), cell_lines=9, drugs=6, share=0.8)
    # Some drugs lie whole in one group, alone or together, and the others cross groups.
    cluster = {"drug0": "first", "drug1": "first", "drug2": "second"}
    table["cluster"] = table["within"].map(cluster).fillna(table["cell_line"])
    labels, counts = sorted(table[groups].unique()), group_counts(table[groups].nunique(), 8, 0)
    known = {"within": table["within"], "baseline": table["baseline"], "min_rows": 4}
    fast = REGRESSION.weigh(table["target"], table["outputs"], table[groups], counts, **known)
    nested = table.groupby("within")[groups].agg(lambda names: len(set(names)) == 1)
    expected = []
    for count in counts:
        copies = [
            table[table[groups] == group].assign(row=lambda rows: rows.index, copy=str(copy))
            for group, times in zip(labels, count, strict=True)
            for copy in range(times)
        ]
        drawn = pd.concat(copies, ignore_index=True)
        # Each draw of a group that holds a drug whole draws that drug anew.
        unit = drawn["within"].where(~drawn["within"].map(nested), drawn["within"] + "#" + drawn["copy"])
        expected.append(_by_other_libraries(drawn, unit, 4))
    for name, values in pd.DataFrame(expected).items():
        np.testing.assert_allclose(fast[str(name)], values, rtol=1e-9, atol=1e-12, err_msg=str(name))


def test_a_drug_mean_or_a_constant_scores_zero_within_drug_even_after_rounding():
    table = _screen(np.random.default_rng(7), 40, 12, 0.7)
    drug_mean = table.groupby("within")["target"].transform("mean").to_numpy()
    noise = np.random.default_rng(1).uniform(-1, 1, len(table))
    for prediction in (drug_mean, drug_mean * (1 + 1e-7 * noise)):
        metrics = regression_metrics(table["target"], prediction, within=table["within"])
        assert metrics["within_drug_pearson"] == metrics["within_drug_spearman"] == 0.0
        assert metrics["pearson"] > 0.5
    for constant in (0.0, 0.1, -3.7, 1e6):
        metrics = regression_metrics(np.arange(9.0), np.full(9, constant) + np.spacing(constant) * np.arange(9))
        assert metrics["pearson"] == metrics["spearman"] == 0.0


def test_what_the_data_leave_undefined_is_nan_and_the_errors_are_not():
    metrics = regression_metrics(np.full(6, 2.0), np.arange(6.0), within=np.zeros(6), baseline=np.full(6, 2.0))
    assert {name for name, value in metrics.items() if np.isnan(value)} == set(NAMES) - {"rmse", "mae", "mse"}
    no_drug = regression_metrics(np.arange(6.0), np.arange(6.0), within=np.arange(6))
    assert np.isnan([no_drug["within_drug_pearson"], no_drug["within_drug_spearman"]]).all()
    # Constant y inside each group: a resample that draws one group alone has no r2.
    y = np.repeat([1.0, 2.0], 6)
    drawn = bootstrap_regression(y, y + np.tile([0.1, -0.1], 6), np.repeat(["a", "b"], 6), resamples=50)
    assert np.isfinite([drawn["r2"].low, drawn["r2"].high]).all()


def test_a_far_outlier_does_not_cost_the_other_rows_their_digits():
    rng = np.random.default_rng(3)
    y, prediction = np.r_[rng.normal(size=30), 1e5], np.r_[rng.normal(size=30), -1e5]
    weights = [[1.0, 0.0]]  # the outlier is not drawn, yet it set the scale and the mean
    metrics = REGRESSION.weigh(y, prediction, np.r_[np.zeros(30), 1], weights)
    assert metrics["pearson"][0] == pytest.approx(pearsonr(y[:30], prediction[:30])[0], rel=1e-9)
    assert metrics["r2"][0] == pytest.approx(r2_score(y[:30], prediction[:30]), rel=1e-9)


def test_group_counts_are_drawn_with_replacement_and_each_alike():
    counts = group_counts(7, 4000, 0)
    assert (counts.sum(axis=1) == 7).all()
    assert counts.mean(axis=0) == pytest.approx(np.ones(7), abs=0.06)
    # The counts of two groups have covariance -1/7 and variance 6/7.
    np.testing.assert_allclose(np.cov(counts.T), np.eye(7) - 1 / 7, atol=0.08)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target": [1.0, 2.0, np.nan, np.nan]}, "target is nan at row 2"),
        ({"baseline": [1.0, 2.0, 3.0, -np.inf]}, "baseline is -inf at row 3"),
        ({"outputs": [1.0, 2.0, 3.0]}, r"prediction has shape \(3,\), not \(4,\)"),
        ({"within": ["a", "b", float("nan"), "b"]}, "within has a missing label at row 2"),
        ({"within": np.array(["a", 1, "b", 2], dtype=object)}, "within mixes labels"),
        ({"target": []}, "target has shape"),
        ({"outputs": ["1", "x", "3", "4"]}, "prediction holds what is no number"),
        ({"min_rows": 1}, "min_rows is 1"),
    ],
)
def test_bad_input_is_refused_with_its_column_and_row(change: dict[str, Any], message: str):
    good: dict[str, Any] = {"target": [1.0, 2.0, 3.0, 4.0], "outputs": [1.0, 2.0, 3.0, 5.0]}
    with pytest.raises(ValueError, match=message):
        regression_metrics(**(good | change))
