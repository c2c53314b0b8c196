from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.drift.distribution import (
    Drift,
    category_drift,
    column_drifts,
    corrected,
    independent_rows,
    number_drift,
    population_stability,
)

SIGNIFICANCE, STABILITY = 0.01, 0.2
TISSUES = ("lung", "skin", "blood", "breast", "colon")


def sample(rows: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(rng.normal(size=(rows, 12)), columns=[f"component_{place}" for place in range(12)])
    table["sharpness"] = rng.lognormal(size=rows)
    table["rings"] = rng.poisson(3, size=rows)
    table["flag"] = rng.integers(0, 2, size=rows)
    table["sometimes"] = np.where(rng.random(rows) < 0.1, np.nan, rng.normal(size=rows))
    table["tissue"] = rng.choice(TISSUES, size=rows, p=[0.4, 0.3, 0.2, 0.07, 0.03])
    return table


def alarms(drifts: list[Drift]) -> set[tuple[str, str]]:
    return {(each.column, each.kind) for each in corrected(drifts) if each.drifted(SIGNIFICANCE, STABILITY)}


def test_tests_alone_alarm_as_seldom_as_significance_says() -> None:
    # Without the effect size, which would hide a test that alarms too often.
    level, repeats = 0.1, 40
    alarmed = 0
    for seed in range(repeats):
        found = corrected(column_drifts(sample(400, 5_000 + seed), sample(100, 9_000 + seed)))
        alarmed += any(each.adjusted < level for each in found)
    allowed = level * repeats + 2.6 * np.sqrt(level * (1 - level) * repeats)
    assert alarmed <= allowed


def test_a_trifle_in_a_large_log_is_no_alarm() -> None:
    reference, logged = sample(2_000, 1), sample(20_000, 2)
    logged["component_3"] += 0.15
    drift = next(each for each in corrected(column_drifts(reference, logged)) if each.column == "component_3")
    assert drift.adjusted < SIGNIFICANCE  # it is there
    assert not drift.drifted(SIGNIFICANCE, STABILITY)  # and does not matter


def pairs(lines: int, drugs: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    of_line = pd.DataFrame(
        {
            "expression_mean": rng.normal(size=lines),
            "expression_spread": rng.normal(size=lines),
            "detected": rng.integers(900, 1000, size=lines),
            "tissue": rng.choice(TISSUES, size=lines),
        }
    )
    of_drug = pd.DataFrame({"weight": np.random.default_rng(0).lognormal(size=drugs)})
    return of_line.merge(of_drug, how="cross")


def test_fifty_rows_of_a_cell_line_are_one_cell_line() -> None:
    worth = independent_rows(pairs(40, 50, 1), pairs(8, 50, 2))
    of_line = dict.fromkeys(("expression_mean", "expression_spread", "detected", "tissue"), 8)
    assert {column: round(rows[1]) for column, rows in worth.items()} == {**of_line, "weight": 50}
    # Eight new lines of the same kind, in 400 rows: counted as rows they would be another population every time.
    assert not any(alarms(column_drifts(pairs(40, 50, 100 + seed), pairs(8, 50, seed))) for seed in range(10))


def test_an_atom_is_no_entity() -> None:
    # Half of the images are all foreground: they are images of their own, and count as such.
    table = sample(300, 1).assign(foreground=lambda table: np.minimum(1.0, table["sharpness"] + 0.5))
    assert independent_rows(table, table)["foreground"] == (300, 300)


_COUNTS = st.lists(st.integers(0, 500), min_size=2, max_size=12)


@given(old=_COUNTS, new=_COUNTS)
@settings(max_examples=60, deadline=None)
def test_stability_is_finite_and_never_negative(old: list[int], new: list[int]) -> None:
    bins = min(len(old), len(new))
    first, second = np.array(old[:bins]), np.array(new[:bins])
    if first.sum() and second.sum():
        index = population_stability(first, second, (first.sum(), second.sum()))
        assert 0 <= index < np.inf
        assert population_stability(first, first, (first.sum(), first.sum())) == 0


def test_numbers_and_categories_agree_with_their_textbook_tests() -> None:
    from scipy import stats

    rng = np.random.default_rng(0)
    one, two = rng.normal(size=300), rng.normal(0.3, 1.2, size=200)
    assert number_drift("x", one, two).p == pytest.approx(stats.ks_2samp(one, two, method="asymp").pvalue)
    first, second = (pd.Series(rng.choice(["a", "b", "c"], 300, p=p)) for p in ([0.3, 0.3, 0.4], [0.5, 0.2, 0.3]))
    table = np.stack([each.value_counts().sort_index() for each in (first, second)])
    assert category_drift("x", first, second).p == pytest.approx(stats.chi2_contingency(table).pvalue)


def test_columns_without_a_value_or_a_variation_do_not_stop_the_report() -> None:
    reference = sample(200, 1).assign(never=np.nan, always=1.0, one="x")
    logged = sample(100, 2).assign(never=np.nan, always=1.0, one="x")
    found = {(each.column, each.kind): each for each in column_drifts(reference, logged)}
    assert found["always", "number"].p == 1
    assert found["one", "category"].p == 1
    assert ("never", "number") not in found
    assert alarms(list(found.values())) == set()
    gone = logged.assign(component_0=np.nan)
    assert alarms(column_drifts(reference, gone)) == {("component_0", "missing")}
