"""What would make a mean over genes lie: another definition, a gene that does not vary, rows taken for groups."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score, root_mean_squared_error

from evaluation.problems.multi_target import bootstrap_each_target, target_metrics, weighted_target_metrics
from pipelines.problems.multi_target import PROBLEM
from tests.evaluation.measures import bootstrap_targets

NAMES = [metric.name for metric in PROBLEM.metrics]

pytestmark = pytest.mark.usefixtures("quiet")


def table(n_rows: int = 60, n_targets: int = 4, seed: int = 0) -> dict[str, Any]:
    """Return genes of different level and spread, a fair prediction and the mean as the baseline."""
    rng = np.random.default_rng(seed)
    level, spread = rng.uniform(2, 12, n_targets), rng.uniform(0.5, 3, n_targets)
    y = level + spread * rng.normal(size=(n_rows, n_targets))
    prediction = y + 0.5 * spread * rng.normal(size=y.shape)
    return {"y": y, "prediction": prediction, "baseline": np.tile(level, (n_rows, 1)), "scale": spread}


def test_values_of_each_target_are_those_of_scikit_learn_and_means_those_of_a_study() -> None:
    given = table()
    y, prediction, baseline, scale = (given[key] for key in ("y", "prediction", "baseline", "scale"))
    found = target_metrics(**given)
    each: dict[str, Any] = {"multioutput": "raw_values"}
    expected = {
        "r2": r2_score(y, prediction, **each),
        "rmse": root_mean_squared_error(y, prediction, **each),
        "mae": mean_absolute_error(y, prediction, **each),
        "mse": mean_squared_error(y, prediction, **each),
        "rmse_sd": root_mean_squared_error(y / scale, prediction / scale, **each),
        "mae_sd": mean_absolute_error(y / scale, prediction / scale, **each),
        "r2_over_baseline": 1 - mean_squared_error(y, prediction, **each) / mean_squared_error(y, baseline, **each),
        "margin": r2_score(y, prediction, **each) - r2_score(y, baseline, **each),
    }
    assert list(found) == NAMES == list(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-10, err_msg=name)
    means = bootstrap_targets(y, prediction, np.arange(60), baseline=baseline, scale=scale, resamples=10)
    for name in PROBLEM.tunable:
        assert means[name].value == pytest.approx(PROBLEM.score(name, y, prediction)), name
    assert set(means) == set(PROBLEM.reported(within=False))


@pytest.mark.parametrize("metric", [name for name in NAMES if name != "margin"])
def test_the_margin_of_any_metric_is_positive_where_the_model_is_better(metric: str) -> None:
    given = table()
    margin = target_metrics(**given, margin_metric=metric)["margin"]
    assert (margin > 0).all()
    swapped = {**given, "prediction": given["baseline"], "baseline": given["prediction"]}
    worse = target_metrics(**swapped, margin_metric=metric)["margin"]
    assert (worse < 0).all()
    if metric != "r2_over_baseline":  # which names its own baseline
        np.testing.assert_allclose(margin, -worse)


@pytest.mark.parametrize("level", [0.0, 7.3, -1e6])
def test_a_constant_target_has_no_r2_but_errors_and_is_left_out_and_counted(level: float) -> None:
    given = table()
    given["y"][:, 1] = level + np.spacing(level) * np.arange(60)
    found = bootstrap_each_target(**given, groups=np.arange(60) // 3, resamples=100)
    assert found.undefined == {**dict.fromkeys(NAMES, 0), "r2": 1, "margin": 1}
    assert np.isnan(list(found.by_target["r2"][1].as_dict().values())).all()
    assert found.by_target["rmse"][1].value > 0
    others = [0, 2, 3]
    expected = r2_score(given["y"][:, others], given["prediction"][:, others])
    assert found.mean["r2"].value == pytest.approx(expected)
    assert found.mean["r2"].low < expected < found.mean["r2"].high
    flat = np.full((6, 2), 3.0)
    found = bootstrap_each_target(flat, np.zeros((6, 2)), np.arange(6), baseline=flat, scale=[0.0, 0.0])
    assert found.undefined == {**dict.fromkeys(NAMES, 2), "rmse": 0, "mae": 0, "mse": 0}
    assert np.isnan([found.mean["r2"].value, found.mean["r2"].low]).all()
    assert found.mean["rmse"].value == 3


def test_what_was_not_measured_is_left_out_of_its_target_alone() -> None:
    given = table()
    holes = given["y"].copy()
    holes[5:20, 2] = np.nan
    holes[:, 3] = np.nan
    found, whole = target_metrics(**{**given, "y": holes}), target_metrics(**given)
    rows = np.r_[0:5, 20:60]
    part = target_metrics(**{key: value[rows] if key != "scale" else value for key, value in given.items()})
    for name in NAMES:
        np.testing.assert_allclose(found[name][:2], whole[name][:2], err_msg=name)
        assert found[name][2] == pytest.approx(part[name][2]), name
        assert np.isnan(found[name][3]), name


def test_a_far_outlier_does_not_cost_the_other_rows_their_digits() -> None:
    rng = np.random.default_rng(3)
    y, prediction = np.r_[rng.normal(size=30), 1e5][:, None], np.r_[rng.normal(size=30), -1e5][:, None]
    groups = np.r_[np.zeros(30), 1]  # the outlier is not drawn
    found = weighted_target_metrics(y, prediction, groups, [[1.0, 0.0]])
    assert found["r2"][0, 0] == pytest.approx(r2_score(y[:30], prediction[:30]), rel=1e-9)


def test_a_resample_that_leaves_a_target_constant_stays_out_of_its_interval() -> None:
    y = np.array([[0.0, 0.0], [0.0, 1.0], [0.0, 2.0], [1.0, 3.0]])  # the first varies by the last patient alone
    found = bootstrap_each_target(y, y + 0.1, np.arange(4), resamples=300)
    assert found.undefined["r2"] == 0
    for interval in (*found.by_target["r2"], found.mean["r2"]):
        assert np.isfinite(list(interval.as_dict().values())).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": [[1.0, 2.0], [np.inf, 2.0], [1.0, 2.0]]}, "y is inf at row 1, column 0"),
        ({"prediction": [[1.0, 2.0], [3.0, 2.0], [1.0, np.nan]]}, "prediction is nan at row 2, column 1"),
        ({"prediction": [[1.0, 2.0]]}, r"prediction has shape \(1, 2\), not \(3, 2\)"),
        ({"y": [1.0, 2.0, 3.0]}, r"y has shape \(3,\), not \(n_rows, n_targets\)"),
        ({"scale": [1.0]}, r"scale has shape \(1,\), not \(2,\)"),
        ({"scale": [1.0, -2.0]}, "scale is -2.0 at target 1"),
        ({"baseline": np.zeros((3, 2)), "margin_metric": "rmse_sd"}, "margin_metric is 'rmse_sd', not one of r2,"),
    ],
)
def test_bad_input_is_refused_with_its_table_row_and_target(change: dict[str, Any], message: str) -> None:
    good: dict[str, Any] = {"y": np.arange(6.0).reshape(3, 2), "prediction": np.zeros((3, 2))}
    with pytest.raises(ValueError, match=message):
        target_metrics(**(good | change))
