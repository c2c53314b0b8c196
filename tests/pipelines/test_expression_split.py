"""A patient, or a copy of one profile, on two sides of the split makes every score of a profile model a lie."""

from __future__ import annotations

import io
from collections import Counter
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from pipelines.groups import group_samples, sample_identities
from pipelines.groups.profiles import similar_profiles
from pipelines.params import Split
from pipelines.samples.expression import ExpressionSamples
from pipelines.split import NO_FOLD, SIDES, SplitError, guard, split_samples, split_sha256
from tests.pipelines.expression_folder import GENES, gene_task, label_task, make_tables, samples_of

SEED = 5
SPLIT = Split("patient_blind", test=0.2, validation=0.15, folds=4, near_identical=0.995)
MODES: tuple[str, ...] = ("patient_blind", "random")


def split_of(mode: str) -> Split:
    return replace(SPLIT, mode=mode)


def samples(
    labels: list[str], patients: list[str], values: np.ndarray | None = None, genes: int = 30
) -> ExpressionSamples:
    """Return profiles in log2 units, each like no other where no ``values`` are given."""
    if values is None:
        values = np.random.default_rng(3).normal(8, 2, (len(labels), genes)).clip(0)
    names = [f"G{number}" for number in range(values.shape[1])]
    tables = make_tables("log2")
    ids = pd.Series([f"s{number:03d}" for number in range(len(labels))])
    expression = pd.DataFrame(values.astype(np.float32), columns=names)
    expression.insert(0, "sample_id", ids)
    about = pd.DataFrame({"sample_id": ids, "patient_id": patients, "label": labels, "sample_type": 1})
    return samples_of(replace(tables, expression=expression, samples=about, genes=None), gene_task())


def groups_of(found: ExpressionSamples, mode: str = "patient_blind") -> list[str]:
    return group_samples(found, split_of(mode))[0].tolist()


def parquet(table: pd.DataFrame) -> bytes:
    file = io.BytesIO()
    table.to_parquet(file, index=False)
    return file.getvalue()


# Any collection.


@st.composite
def collections(draw: st.DrawFn) -> tuple[ExpressionSamples, np.ndarray]:
    """Draw profiles with labels, patients that may be unknown, gaps, and profiles that stand twice or nearly so.

    The second array says what each profile shows: copies, exact or not, have one number.
    """
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    count, patients = draw(st.integers(40, 140)), draw(st.integers(12, 60))
    labels = rng.choice(draw(st.sampled_from([("a", "b"), tuple("abcde")])), count).tolist()
    whose = [f"P{number:02d}" for number in rng.integers(0, patients, count)]
    values = rng.normal(8, 2, (count, 40)).clip(0).astype(np.float32)
    values[rng.random(values.shape) < draw(st.sampled_from([0.0, 0.02]))] = np.nan
    content = np.arange(count)
    twins = rng.permutation(count)[: 2 * draw(st.integers(0, 6))].reshape(-1, 2)
    content[twins[:, 1]] = content[twins[:, 0]]
    values = values[content]
    for number in twins[::2, 1]:  # every other twin was written with fewer digits
        values[number] = np.round(values[number], 2)
    for number in rng.permutation(count)[: draw(st.sampled_from([0, 10]))]:
        whose[number] = f"s{number:03d}"
    return samples(labels, whose, values), content


@pytest.mark.parametrize("mode", MODES)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(drawn=collections(), seed=st.integers(0, 2**32 - 1), order=st.integers(0, 99))
def test_no_patient_and_no_copy_crosses_and_the_same_seed_gives_the_same_bytes(
    mode: str, drawn: tuple[ExpressionSamples, np.ndarray], seed: int, order: int
) -> None:
    found, content = drawn
    try:
        table = split_samples(found, split_of(mode), seed)
    except SplitError as error:
        assert "group" in str(error)  # too few or too uneven after all the merging
        reject()

    assert table["sample_id"].tolist() == sorted(found.table["sample_id"])
    assert set(table["split"]) == set(SIDES)
    assert set(table.loc[table["split"] != "test", "fold"]) == set(range(SPLIT.folds))
    assert set(table.loc[table["split"] == "test", "fold"]) == {NO_FOLD}
    shows = dict(zip(found.table["sample_id"], content, strict=True))
    truth = {"group": table["group"], "digest": table["digest"], "content": table["sample_id"].map(shows)}
    if mode == "patient_blind":
        truth["patient"] = table["patient_id"]
    for name, key in truth.items():
        for place in ("split", "fold"):
            assert (table.groupby(key.to_numpy())[place].nunique() == 1).all(), name

    mixed = found.take(np.random.default_rng(order).permutation(len(found)))
    again = split_samples(mixed, split_of(mode), seed)
    assert split_sha256(again) == split_sha256(table)
    assert parquet(again) == parquet(table)


def test_another_seed_gives_another_split() -> None:
    found = samples_of(make_tables())
    first, second = (split_samples(found, SPLIT, seed) for seed in (1, 2))
    assert split_sha256(first) != split_sha256(second)


@pytest.mark.parametrize("seed", range(8))
def test_every_side_and_fold_has_every_label_that_the_rules_keep(seed: int) -> None:
    """A class of the fewest patients that are allowed still reaches train, validation and test."""
    task = label_task()
    tables = make_tables(patients=30)
    rare = [f"P{number:03d}" for number in range(task.data.minimum_patients)]
    label = tables.samples["label"].where(~tables.samples["patient_id"].isin(rare), "RARE")
    found = samples_of(replace(tables, samples=tables.samples.assign(label=label)))
    table = split_samples(found, task.split, seed)
    for side in SIDES:
        assert set(table.loc[table["split"] == side, "label"]) == {"BLUE", "GREEN", "RARE", "RED"}, side
    held = Counter(table.loc[table["split"] == "test", "label"])
    for name, count in Counter(table["label"]).items():
        assert abs(held[name] - task.split.test * count) <= 3


# What one group is.


def copied(values: np.ndarray, how: str) -> np.ndarray:
    rng = np.random.default_rng(0)
    return {
        "as it stands": values,
        "fewer digits": np.round(values, 2),
        "other depth": values + 0.3,
        "a little noise": values + rng.normal(0, 0.02, values.shape),
        "a gap": np.where(np.arange(len(values)) == 4, np.nan, values),
    }[how]


@pytest.mark.parametrize("how", ["as it stands", "fewer digits", "other depth", "a little noise", "a gap"])
@pytest.mark.parametrize("mode", MODES)
def test_copies_are_one_group_with_all_that_their_patients_have(mode: str, how: str) -> None:
    values = np.random.default_rng(1).normal(8, 2, (40, 200)).clip(0)
    values[5] = copied(values[0], how)
    patients = ["P1", "P1", "P2", "P2", "P3", "P4", *(f"Q{number}" for number in range(34))]
    groups = groups_of(samples(["a", "b"] * 20, patients, values), mode)
    assert groups[0] == groups[5]
    if mode == "patient_blind":
        assert groups[0] == groups[1]  # the copy ties P4 to all of P1
        assert groups[2] == groups[3]
    assert len(set(groups)) == (37 if mode == "patient_blind" else 39)


def test_profiles_of_one_tissue_are_no_copies() -> None:
    """Levels of genes alone make any two profiles correlate above 0.99."""
    rng = np.random.default_rng(2)
    values = rng.uniform(0, 16, 300) + rng.normal(0, 0.3, (60, 300))
    found = samples(["a"] * 60, [f"P{number}" for number in range(60)], values.clip(0))
    assert np.corrcoef(found.values)[0, 1] > 0.99
    assert len(set(groups_of(found))) == 60


def test_pairs_of_copies_are_told_once_with_how_alike_they_are() -> None:
    values = np.random.default_rng(4).normal(8, 2, (30, 100)).clip(0)
    values[[7, 11]] = values[3]
    values[20] = np.round(values[9], 2)
    pairs = similar_profiles(samples(["a"] * 30, ["P"] * 30, values), 0.995)
    told = [(a, b, how) for a, b, _, how in pairs.itertuples(index=False)]
    assert told == [(3, 7, "identical"), (7, 11, "identical"), (9, 20, "near")]
    assert pairs["similarity"].between(0.995, 1).all()
    assert len(similar_profiles(samples(["a"] * 30, ["P"] * 30), 0.995)) == 0


def test_the_threshold_is_the_tasks() -> None:
    values = np.random.default_rng(4).normal(8, 2, (30, 100)).clip(0)
    values[9] = values[3] + np.random.default_rng(5).normal(0, 1, 100)
    found = samples(["a"] * 30, [f"P{number}" for number in range(30)], values)
    assert len(similar_profiles(found, 0.995)) == 0
    assert similar_profiles(found, 0.7)[["a", "b"]].to_numpy().tolist() == [[3, 9]]


def test_linear_profiles_are_compared_in_log2() -> None:
    tables = make_tables("linear")
    linear = similar_profiles(samples_of(tables), 0.6)
    logged = similar_profiles(samples_of(make_tables("log2"), gene_task()), 0.6)
    assert len(linear) > 0
    assert linear[["a", "b"]].to_numpy().tolist() == logged[["a", "b"]].to_numpy().tolist()


def test_genes_that_nobody_measured_are_no_likeness() -> None:
    values = np.random.default_rng(4).normal(8, 2, (30, 40)).clip(0)
    values[:, 10:20] = np.nan
    values[0] = np.nan
    with np.errstate(all="raise"):
        assert len(similar_profiles(samples(["a"] * 30, ["P"] * 30, values), 0.995)) == 0


def test_the_stratum_of_a_group_is_its_most_frequent_label() -> None:
    found = samples(["b", "a", "b", "c", "a"], ["P1", "P1", "P1", "P2", "P3"])
    assert group_samples(found, SPLIT)[1].tolist() == ["b", "b", "b", "c", "a"]


def test_random_keeps_copies_together_but_not_patients() -> None:
    values = np.random.default_rng(6).normal(8, 2, (60, 40)).clip(0)
    values[54:] = values[:6]
    found = samples(["a", "b"] * 30, [f"P{number % 8}" for number in range(60)], values)
    table = split_samples(found, split_of("random"), SEED).set_index("sample_id")
    side = table["split"].astype(str).to_dict()
    for copy in range(6):
        assert side[f"s{copy:03d}"] == side[f"s{54 + copy:03d}"]
    assert table.groupby("patient_id")["split"].nunique().max() == 3
    assert set(sample_identities(found, "random")) == {"profile"}
    assert set(sample_identities(found, "patient_blind")) == {"profile", "patient"}


# The guard.


@pytest.fixture(scope="module")
def found() -> ExpressionSamples:
    """Return 60 profiles of 20 patients, the last the same as the first."""
    values = np.random.default_rng(7).normal(8, 2, (60, 40)).clip(0)
    values[59] = values[0]
    return samples(["a", "b"] * 30, [f"P{number // 3:02d}" for number in range(57)] + ["Q1", "Q2", "Q3"], values)


def moved(table: pd.DataFrame, sample: str) -> pd.DataFrame:
    """Put a sample onto another side, with a group of its own so that the group column tells nothing."""
    at = table["sample_id"] == sample
    other = "train" if table.loc[at, "split"].iloc[0] == "test" else "test"
    return table.assign(
        group=table["sample_id"],
        split=table["split"].where(~at, other),
        fold=table["fold"].where(~at, 0 if other == "train" else NO_FOLD),
    )


@pytest.mark.parametrize(
    ("sample", "says"),
    [("s030", r"1 patient\(s\) on two sides, for instance 'P10'"), ("s059", r"1 profile\(s\) on two sides")],
)
def test_the_guard_refuses_a_planted_leak_by_name(sample: str, says: str, found: ExpressionSamples) -> None:
    table = split_samples(found, SPLIT, SEED)
    identities = sample_identities(found, "patient_blind")
    guard(table, identities)
    leaking = moved(table, sample)
    name = says.split(r"\(")[0].split(" ", 1)[1]
    with pytest.raises(SplitError, match=f"the split leaks: {says}.*; make the split anew"):
        guard(leaking, {name: identities[name]})
    with pytest.raises(SplitError, match="the split leaks"):
        guard(leaking, identities)


def test_the_guard_of_random_lets_patients_pass_and_copies_not(found: ExpressionSamples) -> None:
    table, identities = split_samples(found, SPLIT, SEED), sample_identities(found, "random")
    guard(moved(table, "s030"), identities)
    with pytest.raises(SplitError, match=r"1 profile\(s\) on two sides"):
        guard(moved(table, "s059"), identities)


@pytest.mark.parametrize("patients", [1, 2, 4])
def test_too_few_patients_are_refused_with_advice(patients: int) -> None:
    few = samples(["a", "b"] * 20, [f"P{number % patients}" for number in range(40)])
    with pytest.raises(SplitError, match=f"finds {patients} groups; .*need at least 5: bring more data"):
        split_samples(few, SPLIT, SEED)


def test_the_folder_builder_has_patients_of_several_samples() -> None:
    tables = make_tables()
    assert tables.samples["patient_id"].nunique() < len(tables.samples)
    assert len(similar_profiles(samples_of(tables), label_task().split.near_identical)) == 0
    assert tables.expression.shape[1] == len(GENES) + 1
