"""What would make any metric or its interval lie, whatever the problem: row order, rows for groups, other resamples."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation import metrics
from evaluation.metrics import group_counts, percentile_interval
from evaluation.problems import measures_of
from pipelines.problems import get_problem

Sample = dict[str, Any]  # target, outputs, baseline of n rows, and what else `Measures.weigh` takes
ROWWISE = ("target", "outputs", "baseline", "within")


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


pytestmark = pytest.mark.usefixtures("quiet")


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
def test_an_interval_is_the_percentiles_of_its_resamples_and_another_seed_gives_another(kind: str) -> None:
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


@every
def test_few_resamples_at_a_time_give_what_all_at_once_give(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sample, groups = MADE[kind](np.random.default_rng(3), 60), np.arange(60) // 4
    whole = intervals(kind, sample, groups, resamples=30)
    monkeypatch.setattr(metrics, "BLOCK", 100)
    for name, interval in intervals(kind, sample, groups, resamples=30).items():
        assert interval.as_dict() == pytest.approx(whole[name].as_dict(), rel=1e-12, nan_ok=True), name


@every
def test_a_baseline_against_itself_has_no_margin_and_no_width(kind: str) -> None:
    sample = MADE[kind](np.random.default_rng(4), 60)
    found = intervals(kind, {**sample, "outputs": sample["baseline"]}, np.arange(60) // 2, resamples=40)
    assert set(found["margin"].as_dict().values()) == {0.0}
    names = get_problem(PROBLEM[kind]).reported(within="within" in sample)
    assert set(names) <= {*found, "margin"}


@every
def test_rows_that_are_copies_do_not_make_an_interval_narrow(kind: str) -> None:
    sample, metric = MADE[kind](np.random.default_rng(5), 60), measures_of(PROBLEM[kind]).margin_metric
    copied = taken(sample, np.repeat(np.arange(60), 6))
    widths = [
        (found := intervals(kind, copied, groups, resamples=200, seed=1)[metric]).high - found.low
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
