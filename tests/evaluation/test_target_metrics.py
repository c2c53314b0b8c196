"""What would make a mean over genes lie: another definition, a gene that does not vary, rows taken for groups."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score, root_mean_squared_error

from evaluation.metrics.resample import group_counts, percentile_interval
from evaluation.metrics.targets import bootstrap_each_target, mean_over_targets, target_metrics, weighted_target_metrics
from pipelines.problems.multi_target import PROBLEM
from tests.evaluation.measures import bootstrap_targets

NAMES = [metric.name for metric in PROBLEM.metrics]

ERRORS = ("rmse", "mae", "mse", "rmse_sd", "mae_sd")


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """A warning, such as of a division by zero, is a fault."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def table(n_rows: int = 60, n_targets: int = 4, seed: int = 0) -> dict[str, Any]:
    """Return genes of different level and spread, a fair prediction and the mean as the baseline."""
    rng = np.random.default_rng(seed)
    level, spread = rng.uniform(2, 12, n_targets), rng.uniform(0.5, 3, n_targets)
    y = level + spread * rng.normal(size=(n_rows, n_targets))
    prediction = y + 0.5 * spread * rng.normal(size=y.shape)
    return {"y": y, "prediction": prediction, "baseline": np.tile(level, (n_rows, 1)), "scale": spread}


# One sample.


def test_values_of_each_target_are_those_of_scikit_learn() -> None:
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


def test_means_are_what_a_study_optimizes_and_what_a_leaderboard_can_show() -> None:
    given = table()
    found = bootstrap_targets(**given, groups=np.arange(60), resamples=10)
    for name in PROBLEM.tunable:
        assert found[name].value == pytest.approx(PROBLEM.score(name, given["y"], given["prediction"])), name
    assert set(found) == set(PROBLEM.reported(within=False))


def test_what_was_not_asked_for_is_absent() -> None:
    given = table()
    assert list(target_metrics(given["y"], given["prediction"])) == ["r2", "rmse", "mae", "mse"]
    with_scale = target_metrics(given["y"], given["prediction"], scale=given["scale"])
    assert list(with_scale) == ["r2", *ERRORS]


def test_a_perfect_prediction_scores_exactly_one_and_the_baseline_exactly_nothing_over_itself() -> None:
    given = table()
    perfect = target_metrics(**{**given, "prediction": given["y"]})
    assert (perfect["r2"] == 1).all()
    assert (perfect["r2_over_baseline"] == 1).all()
    assert not any(perfect[name].any() for name in ERRORS)
    itself = bootstrap_targets(**{**given, "prediction": given["baseline"]}, groups=np.arange(60) // 2, resamples=50)
    for name in ("margin", "r2_over_baseline"):
        assert set(itself[name].as_dict().values()) == {0.0}, name


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


@pytest.mark.parametrize("level", [0.0, 0.1, 7.3, -1e6])
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


def test_a_target_that_varies_little_is_not_taken_for_constant() -> None:
    rng = np.random.default_rng(0)
    y = 1000 + 5e-3 * rng.normal(size=(40, 1))
    assert target_metrics(y, y + 1e-3)["r2"][0] == pytest.approx(r2_score(y, y + 1e-3), rel=1e-9)


def test_targets_that_are_all_undefined_give_nan_not_an_error() -> None:
    found = bootstrap_each_target(
        np.full((6, 2), 3.0), np.zeros((6, 2)), np.arange(6), baseline=np.full((6, 2), 3.0), scale=[0.0, 0.0]
    )
    assert found.undefined == {**dict.fromkeys(NAMES, 2), "rmse": 0, "mae": 0, "mse": 0}
    assert np.isnan(found.mean["r2"].value)
    assert np.isnan(found.mean["r2"].low)
    assert found.mean["rmse"].value == 3


def test_what_was_not_measured_is_left_out_of_its_target_alone() -> None:
    given = table()
    holes = given["y"].copy()
    holes[5:20, 2] = np.nan
    holes[:, 3] = np.nan
    found = target_metrics(**{**given, "y": holes})
    whole = target_metrics(**given)
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


def test_the_mean_leaves_out_what_is_undefined() -> None:
    np.testing.assert_array_equal(mean_over_targets([[1.0, np.nan, 3.0], [np.nan] * 3]), [2.0, np.nan])


# Resamples.

_VALUES = st.integers(-20, 20).map(lambda k: k / 4)
_ROWS = st.lists(st.tuples(*[_VALUES] * 6, st.integers(0, 3)), min_size=3, max_size=30)


def _columns(rows: list[tuple[Any, ...]]) -> tuple[dict[str, Any], np.ndarray]:
    values = np.array(rows, dtype=np.float64)
    parts = {"y": values[:, :2], "prediction": values[:, 2:4], "baseline": values[:, 4:6], "scale": [0.5, 2.0]}
    return parts, values[:, 6].astype(int)


@settings(max_examples=60, deadline=None)
@given(rows=_ROWS, metric=st.sampled_from([name for name in NAMES if name != "margin"]))
def test_a_weighting_is_the_metric_of_the_rows_repeated_that_often(rows: list[tuple[Any, ...]], metric: str) -> None:
    given, groups = _columns(rows)
    labels, code = np.unique(groups, return_inverse=True)
    counts = np.random.default_rng(0).integers(0, 4, (5, labels.size)) + np.eye(5, labels.size, dtype=int)
    counts[counts.sum(axis=1) == 0] = 1
    found = weighted_target_metrics(**given, groups=groups, counts=counts, margin_metric=metric)
    for at, count in enumerate(counts):
        chosen = np.repeat(np.arange(len(rows)), count[code])
        part = {key: np.asarray(value)[chosen] if key != "scale" else value for key, value in given.items()}
        for name, values in target_metrics(**part, margin_metric=metric).items():
            np.testing.assert_allclose(found[name][at], values, rtol=1e-9, atol=1e-9, err_msg=name)


@settings(max_examples=60, deadline=None)
@given(rows=_ROWS, random=st.randoms(use_true_random=False))
def test_row_order_does_not_change_any_bit(rows: list[tuple[Any, ...]], random: Any) -> None:
    results = []
    for ordered in (rows, random.sample(rows, len(rows))):
        given, groups = _columns([(*(value / 3 for value in row[:6]), row[6]) for row in ordered])  # sums that round
        n_groups = np.unique(groups).size
        counts = np.random.default_rng(0).integers(0, 3, (6, n_groups)) + 1
        results.append(weighted_target_metrics(**given, groups=groups, counts=counts))
    for name in NAMES:
        np.testing.assert_array_equal(results[0][name], results[1][name], err_msg=name)


@settings(max_examples=60, deadline=None)
@given(rows=_ROWS, factor=st.sampled_from([1e-3, 0.5, 1e3]), shift=st.sampled_from([0.0, 5.0]))
def test_r2_and_errors_in_sd_do_not_depend_on_the_unit(
    rows: list[tuple[Any, ...]], factor: float, shift: float
) -> None:
    given, _ = _columns(rows)
    moved: dict[str, Any] = {key: np.asarray(value) * factor + shift * (key != "scale") for key, value in given.items()}
    before, after = target_metrics(**given), target_metrics(**moved)
    for name in ("r2", "rmse_sd", "mae_sd", "r2_over_baseline", "margin"):
        np.testing.assert_allclose(after[name], before[name], rtol=1e-6, atol=1e-6, err_msg=name)


def test_intervals_are_those_of_resampled_groups_one_by_one() -> None:
    given = table()
    groups = np.arange(60) // 4
    found = bootstrap_each_target(**given, groups=groups, resamples=40, seed=3)
    resampled = []
    for count in group_counts(15, 40, 3):
        rows = np.repeat(np.arange(60), count[groups])
        resampled.append(r2_score(given["y"][rows], given["prediction"][rows], multioutput="raw_values"))
    for target, column in enumerate(np.array(resampled).T):
        expected = percentile_interval(0.0, column)
        assert found.by_target["r2"][target].low == pytest.approx(expected.low)
        assert found.by_target["r2"][target].high == pytest.approx(expected.high)
    assert found.mean["r2"].low == pytest.approx(percentile_interval(0.0, np.mean(resampled, axis=1)).low)


def test_rows_of_one_patient_do_not_make_an_interval_narrow() -> None:
    given = table(30)
    alone = bootstrap_targets(**given, groups=np.arange(30), seed=1)["r2"]
    copied: dict[str, Any] = {
        key: np.repeat(value, 10, axis=0) if key != "scale" else value for key, value in given.items()
    }
    together = bootstrap_targets(**copied, groups=np.repeat(np.arange(30), 10), seed=1)["r2"]
    as_rows = bootstrap_targets(**copied, groups=np.arange(300), seed=1)["r2"]
    assert together.low == pytest.approx(alone.low)
    assert as_rows.high - as_rows.low < 0.5 * (together.high - together.low)


def test_the_margin_is_paired_and_so_narrower_than_the_metric() -> None:
    given = table()
    given["y"][:3] += 20  # three patients decide either score, and both alike
    given["baseline"] = given["prediction"] + 0.3
    found = bootstrap_targets(**given, groups=np.arange(60), margin_metric="rmse")
    widths = {name: found[name].high - found[name].low for name in ("rmse", "margin")}
    assert widths["margin"] < 0.25 * widths["rmse"]


def test_a_resample_that_leaves_a_target_constant_stays_out_of_its_interval() -> None:
    y = np.array([[0.0, 0.0], [0.0, 1.0], [0.0, 2.0], [1.0, 3.0]])  # the first varies by the last patient alone
    found = bootstrap_each_target(y, y + 0.1, np.arange(4), resamples=300)
    assert found.undefined["r2"] == 0
    for interval in (*found.by_target["r2"], found.mean["r2"]):
        assert np.isfinite(list(interval.as_dict().values())).all()


def test_the_whole_table_of_a_task_takes_well_under_a_second() -> None:
    given = table(200, 50)
    began = time.perf_counter()
    bootstrap_each_target(**given, groups=np.arange(200) % 150, resamples=1000)
    assert time.perf_counter() - began < 1.5  # 0.2 s on an idle core


def test_blocks_do_not_change_the_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    given = table()
    whole = bootstrap_targets(**given, groups=np.arange(60), resamples=30)
    monkeypatch.setattr("evaluation.metrics.targets._BLOCK", 100)
    parts = bootstrap_targets(**given, groups=np.arange(60), resamples=30)
    for name, interval in whole.items():
        assert parts[name].as_dict() == pytest.approx(interval.as_dict(), rel=1e-12), name


# What is refused.


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": [[1.0, 2.0], [np.inf, 2.0], [1.0, 2.0]]}, "y is inf at row 1, target 0"),
        ({"prediction": [[1.0, 2.0], [3.0, 2.0], [1.0, np.nan]]}, "prediction is nan at row 2, target 1"),
        ({"baseline": [[-np.inf, 2.0], [3.0, 2.0], [1.0, 2.0]]}, "baseline is -inf at row 0, target 0"),
        ({"prediction": [[1.0, 2.0]]}, r"prediction has shape \(1, 2\) and y has \(3, 2\)"),
        ({"prediction": [["a", "b"]] * 3}, "prediction is not a table of numbers"),
        ({"y": [1.0, 2.0, 3.0]}, r"y has shape \(3,\), not \(n_rows, n_targets\)"),
        ({"y": np.empty((0, 2))}, "y is empty"),
        ({"scale": [1.0]}, r"scale has shape \(1,\), not \(2,\)"),
        ({"scale": [1.0, -2.0]}, "scale is -2.0 at target 1"),
        ({"baseline": np.zeros((3, 2)), "margin_metric": "accuracy"}, "margin_metric is 'accuracy', not one of r2,"),
        ({"baseline": np.zeros((3, 2)), "margin_metric": "rmse_sd"}, "margin_metric is 'rmse_sd'"),
    ],
)
def test_bad_input_is_refused_with_its_table_row_and_target(change: dict[str, Any], message: str) -> None:
    good: dict[str, Any] = {"y": np.arange(6.0).reshape(3, 2), "prediction": np.zeros((3, 2))}
    with pytest.raises(ValueError, match=message):
        target_metrics(**(good | change))


@pytest.mark.parametrize(
    ("counts", "message"),
    [([[1, 1]], "counts has shape"), ([[0, 0, 0]], "without any weight"), ([[1, -1, 1]], "negative")],
)
def test_weights_that_fit_no_group_are_refused(counts: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        weighted_target_metrics(np.eye(3), np.eye(3), ["a", "b", "c"], counts)


def test_one_group_has_no_interval() -> None:
    with pytest.raises(ValueError, match="at least two groups"):
        bootstrap_targets(np.eye(3), np.eye(3), ["a"] * 3)
