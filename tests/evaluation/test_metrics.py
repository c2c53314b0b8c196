"""What would make a metric or its interval lie: another definition, resampled rows, chance, row order, bad input."""

import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score, root_mean_squared_error

from evaluation import metrics
from evaluation.comparison.paired import p_value
from evaluation.metrics import group_counts, percentile_interval
from evaluation.problems import measures_of
from evaluation.problems.multi_target import bootstrap_each_target, target_metrics, weighted_target_metrics
from pipelines import formatting
from pipelines.problems import get_problem

REGRESSION, TARGETS = measures_of("regression"), get_problem("multi_target")
NAMES, TARGET_NAMES = ([metric.name for metric in get_problem(name).metrics] for name in ("regression", "multi_target"))
Sample = dict[str, Any]  # target, outputs, baseline of n rows, and what else `Measures.weigh` takes
ROWWISE = ("target", "outputs", "baseline", "within")

pytestmark = pytest.mark.usefixtures("quiet")


def regression(rng: np.random.Generator, n: int) -> Sample:
    drug = rng.integers(0, 3, n)
    target = np.round(drug + rng.normal(size=n), 1)
    return {
        "target": target,
        "outputs": np.round(target + rng.normal(size=n), 1),
        "baseline": drug / 1.7,
        "within": np.array([f"D{each}" for each in drug]),
    }


def classification(rng: np.random.Generator, n: int, classes: int = 3) -> Sample:
    target = rng.permutation(np.arange(n) % classes)
    logits = rng.normal(size=(2, n, classes))
    logits[0, np.arange(n), target] += 1
    tables = np.round(np.exp(logits), 1) + 0.1  # ties among rows, and among classes of one row
    outputs, baseline = tables / tables.sum(axis=-1, keepdims=True)
    return {"target": target, "outputs": outputs, "baseline": baseline, "classes": list("abcde")[:classes]}


def sensitivity(rng: np.random.Generator, n: int) -> Sample:
    return {**classification(rng, n, 2), "within": np.array([f"D{each}" for each in rng.integers(0, 3, n)])}


def multi_target(rng: np.random.Generator, n: int) -> Sample:
    target = rng.normal(size=(n, 3)) * [1, 3, 0.1]
    target[::5, 1] = np.nan
    outputs = np.nan_to_num(target) + rng.normal(size=(n, 3)) / 3
    return {"target": target, "outputs": outputs, "baseline": np.full((n, 3), 0.1), "scale": [1.0, 3.0, 0.1]}


def survival(rng: np.random.Generator, n: int) -> Sample:
    risk, horizons = np.round(rng.normal(size=n), 1), np.array([3.0, 6.0, 10.0])
    timed = np.ceil(rng.exponential(8 / np.exp(risk)))
    timed[:2] = 11.0, 12.0
    return {
        "target": np.column_stack([timed, rng.random(n) < 0.7]).astype(float),
        "outputs": np.column_stack([risk, np.exp(-np.exp(risk)[:, None] * horizons / 8)]),
        "baseline": np.tile([0.0, 0.7, 0.5, 0.3], (n, 1)),
        "horizons": horizons,
        "horizon": 6.0,
    }


MADE: dict[str, Callable[..., Sample]] = {
    made.__name__: made for made in (regression, classification, sensitivity, multi_target, survival)
}
PROBLEM = {name: "classification" if name == "sensitivity" else name for name in MADE}
every = pytest.mark.parametrize("kind", MADE)


def taken(sample: Sample, rows: np.ndarray) -> Sample:
    return {key: np.asarray(value)[rows] if key in ROWWISE else value for key, value in sample.items()}


def weighed(kind: str, sample: Sample, groups: Any, counts: Any) -> dict[str, np.ndarray]:
    measures = measures_of(PROBLEM[kind])
    known = {"within": None, "margin_metric": measures.margin_metric, **sample}
    return measures.weigh(groups=groups, counts=counts, **known)


def intervals(kind: str, sample: Sample, groups: Any, **settings: Any) -> dict[str, Any]:
    return measures_of(PROBLEM[kind]).bootstrap(groups=groups, **sample, **settings)


@every
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), random=st.randoms(use_true_random=False))
def test_row_order_does_not_change_any_bit(kind: str, seed: int, random: Any) -> None:
    rng = np.random.default_rng(seed)
    sample, groups = MADE[kind](rng, 30), rng.permutation(np.arange(30) % 5)
    order = np.array(random.sample(range(30), 30))
    straight = intervals(kind, sample, groups, resamples=7)
    turned = intervals(kind, taken(sample, order), groups[order], resamples=7)
    for name, interval in straight.items():
        found, expected = (list(each.as_dict().values()) for each in (turned[name], interval))
        if kind == "survival":  # whose curves are sums over all rows
            np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9, err_msg=name)
        else:
            np.testing.assert_array_equal(found, expected, err_msg=name)


@every
def test_a_weighting_gives_what_the_rows_give_repeated_that_often(kind: str) -> None:
    rng = np.random.default_rng(1)
    sample, groups = MADE[kind](rng, 80), np.arange(80) % 16
    counts = group_counts(16, 20, 0)
    found = weighed(kind, sample, groups, counts)
    for place, count in enumerate(counts):
        repeated = taken(sample, np.repeat(np.arange(80), count[groups]))
        if len(np.unique(repeated["target"])) < len(sample.get("classes", ())):
            continue  # means over classes are of all that have rows
        plain = measures_of(PROBLEM[kind]).metrics(**repeated)
        for name in set(plain) - ({"ece"} if kind == "survival" else set()):  # whose bins are of distinct rows
            if not name.startswith("within_drug") or kind == "sensitivity":  # which count distinct rows
                assert found[name][place] == pytest.approx(plain[name], rel=1e-9, abs=1e-9, nan_ok=True), name


@every
def test_an_interval_is_the_percentiles_of_its_resamples_few_or_all_at_a_time_and_of_its_seed(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(2)
    sample, groups = MADE[kind](rng, 90), np.array([f"subject{each}" for each in np.arange(90) % 15])
    found = intervals(kind, sample, groups, resamples=40, confidence=0.8, seed=5)
    resampled = weighed(kind, sample, groups, group_counts(15, 40, 5))
    plain = measures_of(PROBLEM[kind]).metrics(**sample)
    assert set(found) == set(plain)
    for name, interval in found.items():
        assert interval.value == pytest.approx(plain[name], nan_ok=True)
        expected = percentile_interval(plain[name], resampled[name], 0.8)
        assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), nan_ok=True), name
    assert intervals(kind, sample, groups, resamples=40, confidence=0.8, seed=5) == found
    metric = measures_of(PROBLEM[kind]).margin_metric
    assert intervals(kind, sample, groups, resamples=40, seed=6)[metric].low != found[metric].low
    monkeypatch.setattr(metrics, "BLOCK", 100)
    for name, interval in intervals(kind, sample, groups, resamples=40, confidence=0.8, seed=5).items():
        assert interval.as_dict() == pytest.approx(found[name].as_dict(), rel=1e-12, nan_ok=True), name


@pytest.mark.parametrize("undefined", range(0, 21, 2))
def test_resamples_without_a_value_are_counted_told_and_refuse_an_interval_where_they_are_most(undefined: int) -> None:
    values = np.where(np.arange(20) < undefined, np.nan, np.arange(20.0))
    found = percentile_interval(15.0, values, 0.9)
    assert found.dropped == pytest.approx(undefined / 20) and ("dropped" in found.as_dict()) == (undefined > 0)
    refused, told = undefined > 10, formatting.interval(found.as_dict())
    expected = [np.nan] * 2 if refused else np.quantile(values[undefined:], [0.05, 0.95])
    assert [found.low, found.high] == pytest.approx(expected, nan_ok=True)
    assert np.isnan(p_value(values)) == refused
    assert ("no interval" in told) == refused and ("left out" in told) == (1 < undefined <= 10)
    assert percentile_interval(np.nan, np.full(20, np.nan)).dropped == 0  # undefined of the data itself


def test_the_share_of_resamples_without_a_class_is_that_of_the_draws_without_its_groups() -> None:
    sample, groups = classification(np.random.default_rng(3), 60), np.arange(60) // 3
    sample["target"] = np.where(groups == 4, 2, sample["target"] % 2)
    found = intervals("classification", sample, groups, resamples=200, seed=3)
    lost = float((group_counts(20, 200, 3)[:, 4] == 0).mean())
    assert 0.2 < lost < 0.5
    assert (found["recall_c"].dropped, found["macro_f1"].dropped) == (pytest.approx(lost), pytest.approx(lost))
    assert found["accuracy"].dropped == 0


@every
def test_a_baseline_against_itself_has_no_margin_and_copies_of_rows_do_not_make_an_interval_narrow(kind: str) -> None:
    sample = MADE[kind](np.random.default_rng(4), 60)
    found = intervals(kind, {**sample, "outputs": sample["baseline"]}, np.arange(60) // 2, resamples=40)
    assert set(found["margin"].as_dict().values()) == {0.0}
    names = get_problem(PROBLEM[kind]).reported(within="within" in sample)
    assert set(names) <= {*found, "margin"}
    metric, copied = measures_of(PROBLEM[kind]).margin_metric, taken(sample, np.repeat(np.arange(60), 6))
    widths = [
        (drawn := intervals(kind, copied, groups, resamples=200, seed=1)[metric]).high - drawn.low
        for groups in (np.repeat(np.arange(60), 6), np.arange(360))
    ]
    assert widths[0] > 1.6 * widths[1]


@every
def test_weights_groups_and_settings_that_do_not_fit_are_refused(kind: str) -> None:
    sample, groups = MADE[kind](np.random.default_rng(0), 9), list("abcabcabc")
    for counts, message in (
        ([[1, 1]], "counts has shape"),
        ([1, 1, 1], "has shape"),
        ([[0, 0, 0]], "without any"),
        ([[1, -1, 1]], "negative"),
    ):
        with pytest.raises(ValueError, match=message):
            weighed(kind, sample, groups, counts)
    for wrong, drawn, message in (
        (["a"] * 9, {}, r"at least two groups and there is 1: .* Evaluate on more groups"),
        ([*groups[:4], None, *groups[5:]], {}, "groups has a missing label at row 4"),
        (groups[:5], {}, "groups has shape"),
        (groups, {"resamples": 0}, "resamples is 0"),
        (groups, {"confidence": 95}, "confidence is 95"),
    ):
        with pytest.raises(ValueError, match=message):
            intervals(kind, sample, wrong, **drawn)


@every
def test_thousands_of_rows_take_seconds_and_little_memory(kind: str) -> None:
    sample = MADE[kind](np.random.default_rng(0), 3000 if kind != "survival" else 300)
    tracemalloc.start()
    begin = time.process_time()
    intervals(kind, sample, np.arange(len(sample["target"])) // 2, resamples=200)
    seconds = time.process_time() - begin
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 300e6 and seconds < 8


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


def test_groups_are_drawn_with_replacement_and_each_alike():
    counts = group_counts(7, 4000, 0)
    assert (counts.sum(axis=1) == 7).all() and counts.mean(axis=0) == pytest.approx(np.ones(7), abs=0.06)
    # The counts of two groups have covariance -1/7 and variance 6/7.
    np.testing.assert_allclose(np.cov(counts.T), np.eye(7) - 1 / 7, atol=0.08)


@pytest.mark.parametrize("groups", ["cell_line", "within", "cluster"])
def test_resampled_metrics_equal_those_of_physically_repeated_rows(groups):
    table = _screen(np.random.default_rng(0), cell_lines=9, drugs=6, share=0.8)
    # Some drugs lie whole in one group, alone or together, and the others cross groups.
    cluster = {"drug0": "first", "drug1": "first", "drug2": "second"}
    table["cluster"] = table["within"].map(cluster).fillna(table["cell_line"])
    labels = sorted(table[groups].unique())
    counts = np.vstack([np.ones(len(labels), int), group_counts(len(labels), 8, 0)])  # the rows as they are, too
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
    assert list(fast) == NAMES == list(expected[0])
    for name, values in pd.DataFrame(expected).items():
        np.testing.assert_allclose(fast[str(name)], values, rtol=1e-9, atol=1e-12, err_msg=str(name))


def test_a_drug_mean_or_a_constant_scores_zero_within_drug_even_after_rounding():
    table = _screen(np.random.default_rng(7), 40, 12, 0.7)
    drug_mean = table.groupby("within")["target"].transform("mean").to_numpy()
    noise = np.random.default_rng(1).uniform(-1, 1, len(table))
    for prediction in (drug_mean, drug_mean * (1 + 1e-7 * noise)):
        metrics = REGRESSION.metrics(table["target"], prediction, within=table["within"])
        assert metrics["within_drug_pearson"] == metrics["within_drug_spearman"] == 0.0
        assert metrics["pearson"] > 0.5
    for constant in (0.0, 0.1, -3.7, 1e6):
        metrics = REGRESSION.metrics(np.arange(9.0), np.full(9, constant) + np.spacing(constant) * np.arange(9))
        assert metrics["pearson"] == metrics["spearman"] == 0.0


def test_what_the_data_leave_undefined_is_nan_and_the_errors_are_not():
    metrics = REGRESSION.metrics(np.full(6, 2.0), np.arange(6.0), within=np.zeros(6), baseline=np.full(6, 2.0))
    assert {name for name, value in metrics.items() if np.isnan(value)} == set(NAMES) - {"rmse", "mae", "mse"}
    no_drug = REGRESSION.metrics(np.arange(6.0), np.arange(6.0), within=np.arange(6))
    assert np.isnan([no_drug["within_drug_pearson"], no_drug["within_drug_spearman"]]).all()
    # Constant y inside each group: a resample that draws one group alone has no r2.
    y = np.repeat([1.0, 2.0], 6)
    drawn = REGRESSION.bootstrap(y, y + np.tile([0.1, -0.1], 6), np.repeat(["a", "b"], 6), resamples=50)
    assert np.isfinite([drawn["r2"].low, drawn["r2"].high]).all()


def test_a_far_outlier_does_not_cost_the_other_rows_their_digits() -> None:
    rng = np.random.default_rng(3)
    y, prediction = np.r_[rng.normal(size=30), 1e5], np.r_[rng.normal(size=30), -1e5]
    drawn = np.r_[np.zeros(30), 1], [[1.0, 0.0]]  # the outlier is not drawn, yet it set the scale and the mean
    metrics = REGRESSION.weigh(y, prediction, *drawn)
    each = weighted_target_metrics(y[:, None], prediction[:, None], *drawn)
    assert metrics["pearson"][0] == pytest.approx(pearsonr(y[:30], prediction[:30])[0], rel=1e-9)
    assert [metrics["r2"][0], each["r2"][0, 0]] == pytest.approx([r2_score(y[:30], prediction[:30])] * 2, rel=1e-9)


def table() -> dict[str, Any]:
    """Return genes of different level and spread, a fair prediction and the mean as the baseline."""
    rng = np.random.default_rng(0)
    level, spread = rng.uniform(2, 12, 4), rng.uniform(0.5, 3, 4)
    y = level + spread * rng.normal(size=(60, 4))
    prediction = y + 0.5 * spread * rng.normal(size=y.shape)
    return {"y": y, "prediction": prediction, "baseline": np.tile(level, (60, 1)), "scale": spread}


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
    assert list(found) == TARGET_NAMES == list(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-10, err_msg=name)
    assert (target_metrics(**given, margin_metric="rmse")["margin"] > 0).all()  # a smaller error is better
    means = measures_of("multi_target").bootstrap(
        y, prediction, np.arange(60), baseline=baseline, scale=scale, resamples=10
    )
    for name in TARGETS.tunable:
        assert means[name].value == pytest.approx(TARGETS.score(name, y, prediction)), name
    assert set(means) == set(TARGETS.reported(within=False))


@pytest.mark.parametrize("level", [0.0, 7.3, -1e6])
def test_a_constant_target_has_no_r2_but_errors_and_is_left_out_and_counted(level: float) -> None:
    given = table()
    given["y"][:, 1] = level + np.spacing(level) * np.arange(60)
    found = bootstrap_each_target(**given, groups=np.arange(60) // 3, resamples=100)
    assert found.undefined == {**dict.fromkeys(TARGET_NAMES, 0), "r2": 1, "margin": 1}
    assert np.isnan(list(found.by_target["r2"][1].as_dict().values())).all()
    assert found.by_target["rmse"][1].value > 0
    others = [0, 2, 3]
    expected = r2_score(given["y"][:, others], given["prediction"][:, others])
    assert found.mean["r2"].value == pytest.approx(expected)
    assert found.mean["r2"].low < expected < found.mean["r2"].high
    flat = np.full((6, 2), 3.0)
    found = bootstrap_each_target(flat, np.zeros((6, 2)), np.arange(6), baseline=flat, scale=[0.0, 0.0])
    assert found.undefined == {**dict.fromkeys(TARGET_NAMES, 2), "rmse": 0, "mae": 0, "mse": 0}
    assert np.isnan([found.mean["r2"].value, found.mean["r2"].low]).all()
    assert found.mean["rmse"].value == 3
    y = np.array([[0.0, 0.0], [0.0, 1.0], [0.0, 2.0], [1.0, 3.0]])  # the first varies by the last patient alone
    found = bootstrap_each_target(y, y + 0.1, np.arange(4), resamples=300)
    assert found.undefined["r2"] == 0  # a resample that leaves it constant stays out of its interval
    for interval in (*found.by_target["r2"], found.mean["r2"]):
        assert np.isfinite(list(interval.as_dict().values())).all()


def test_what_was_not_measured_is_left_out_of_its_target_alone() -> None:
    given = table()
    holes = given["y"].copy()
    holes[5:20, 2] = np.nan
    holes[:, 3] = np.nan
    found, whole = target_metrics(**{**given, "y": holes}), target_metrics(**given)
    rows = np.r_[0:5, 20:60]
    part = target_metrics(**{key: value[rows] if key != "scale" else value for key, value in given.items()})
    for name in TARGET_NAMES:
        np.testing.assert_allclose(found[name][:2], whole[name][:2], err_msg=name)
        assert found[name][2] == pytest.approx(part[name][2]), name
        assert np.isnan(found[name][3]), name


def survived(target: Any, survival: Any = ((0.9,) * 3,) * 2) -> object:
    outputs = np.column_stack([np.zeros(2), np.array(survival)])
    return measures_of("survival").metrics(np.array(target), outputs, horizons=[3.0, 6.0, 10.0], horizon=6.0)


PROBABLE = {
    "target": [0, 1, 1],
    "outputs": [[0.5, 0.5], [0.2, 0.8], [1.0, 0.0]],
    "groups": list("xyy"),
    "classes": "ab",
}
GOOD: dict[str, tuple[Callable[..., object], dict[str, Any]]] = {
    "numbers": (REGRESSION.metrics, {"target": [1.0, 2.0, 3.0, 4.0], "outputs": [1.0, 2.0, 3.0, 5.0]}),
    "classes": (measures_of("classification").bootstrap, PROBABLE),
    "targets": (target_metrics, {"y": np.arange(6.0).reshape(3, 2), "prediction": np.zeros((3, 2))}),
    "times": (survived, {"target": [[1.0, 1.0], [2.0, 0.0]]}),
}
BAD: list[tuple[str, dict[str, Any], str]] = [
    ("numbers", {"target": [1.0, 2.0, np.nan, np.nan]}, "target is nan at row 2"),
    ("numbers", {"baseline": [1.0, 2.0, 3.0, -np.inf]}, "baseline is -inf at row 3"),
    ("numbers", {"outputs": [1.0, 2.0, 3.0]}, r"prediction has shape \(3,\), not \(4,\)"),
    ("numbers", {"within": ["a", "b", float("nan"), "b"]}, "within has a missing label at row 2"),
    ("numbers", {"within": np.array(["a", 1, "b", 2], dtype=object)}, "within mixes labels"),
    ("numbers", {"outputs": ["1", "x", "3", "4"]}, "prediction holds what is no number"),
    ("numbers", {"min_rows": 1}, "min_rows is 1"),
    ("classes", {"target": [0, 1, 2]}, "target is 2 at row 2, and there are 2 classes"),
    ("classes", {"target": [0.0, 1.0, 1.0]}, "of float64, not the numbers of classes"),
    ("classes", {"target": [0, 1]}, r"probabilities has shape \(3, 2\), not \(2, 2\)"),
    ("classes", {"outputs": [[0.5, 0.5], [1.0, 0.0], [3.0, 1.0]]}, "at row 2: no probabilities that sum to one"),
    ("classes", {"baseline": [[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]]}, "baseline is .* at row 1"),
    ("classes", {"classes": ["a"]}, "classes are a: at least two"),
    ("classes", {"margin_metric": "r2"}, "margin_metric is 'r2', not one of accuracy"),
    ("targets", {"y": [[1.0, 2.0], [np.inf, 2.0], [1.0, 2.0]]}, "y is inf at row 1, column 0"),
    ("targets", {"prediction": [[1.0, 2.0], [3.0, 2.0], [1.0, np.nan]]}, "prediction is nan at row 2, column 1"),
    ("targets", {"y": [1.0, 2.0, 3.0]}, r"y has shape \(3,\), not \(n_rows, n_targets\)"),
    ("targets", {"scale": [1.0, -2.0]}, "scale is -2.0 at target 1"),
    ("targets", {"baseline": [[1, 1]] * 3, "margin_metric": "rmse_sd"}, "margin_metric is 'rmse_sd', not one of r2,"),
    ("times", {"target": [[0.0, 1.0], [2.0, 0.0]]}, "time is 0 at row 0"),
    ("times", {"target": [[1.0, 1.0], [2.0, 2.0]]}, "event is 2 at row 1"),
    ("times", {"target": [[1.0, 1.0], [np.nan, 0.0]]}, "target is nan at row 1"),
    ("times", {"survival": [[0.9] * 3, [0.9, 1.1, 0.2]]}, "survival is 1.1 at row 1"),
]


@pytest.mark.parametrize(("kind", "change", "message"), BAD)
def test_bad_input_is_refused_with_its_column_and_row(kind: str, change: dict[str, Any], message: str) -> None:
    measure, good = GOOD[kind]
    with pytest.raises(ValueError, match=message):
        measure(**(good | change))
