"""A hospital or plate on two sides, or a class without training rows, makes the score of unseen hospitals a lie."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from pipelines.datasets import prepare
from pipelines.errors import UserError
from pipelines.params import Split
from pipelines.samples import Kept
from pipelines.samples.barcodes import barcode_parts, origin
from pipelines.samples.expression import ExpressionSamples, ExpressionTables, keep_profiles
from pipelines.split import split_samples
from tests.pipelines.expression_folder import label_task
from tests.pipelines.test_split_integrity import assert_apart, split_soundly

SPLIT = Split("site_blind", test=0.2, validation=0.1, folds=3, near_identical=0.995)
CLASSES = tuple("abc")


def profiles(labels: list[str], sites: Sequence[str | None], patients: list[str] | None = None) -> Kept:
    """Return profiles that are like no other, of patients of their own by default."""
    n = len(labels)
    ids = [f"s{number:03d}" for number in range(n)]
    values = np.random.default_rng(3).normal(8, 2, (n, 40)).clip(0).astype(np.float32)
    expression = pd.DataFrame(values, columns=[f"G{number}" for number in range(40)])
    expression.insert(0, "sample_id", ids)
    about = pd.DataFrame({"sample_id": ids, "patient_id": patients or ids, "label": labels, "sample_type": 1})
    about["site"] = about["plate"] = np.array(sites, dtype=object)
    task = label_task()
    task = replace(task, data=replace(task.data, scale="log2", minimum_patients=3, small_classes="refuse"))
    return keep_profiles(ExpressionTables(expression, about, None), task)


def samples(kept: Kept) -> ExpressionSamples:
    found: ExpressionSamples = kept.samples
    return found


@pytest.mark.parametrize("mode", ["site_blind", "plate_blind"])
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32 - 1), sites=st.integers(30, 60), nested=st.booleans(), shared=st.integers(0, 6))
def test_no_site_and_no_patient_crosses_and_each_class_is_trained_on(
    mode: str, seed: int, sites: int, nested: bool, shared: int
) -> None:
    rng = np.random.default_rng(seed)
    n = 120
    site = rng.integers(0, sites, n)
    labels = rng.choice(CLASSES, n) if not nested else np.array(CLASSES)[site % 3]
    assume(min(np.unique(labels, return_counts=True)[1]) >= 3 and len(np.unique(labels)) == 3)
    patients = [f"p{row:03d}" for row in range(n)]
    for row in rng.permutation(n)[:shared]:  # patients who went from one hospital to the next
        patients[row] = patients[(row + 1) % n]
    found = samples(profiles(labels.tolist(), [f"h{each:02d}" for each in site], patients))
    table = split_soundly(found, found.take(rng.permutation(n)), replace(SPLIT, mode=mode), seed)
    assert_apart(table, table["digest"], table["patient_id"], table["site"])
    assert set(table.loc[table["split"] == "train", "label"]) == set(CLASSES)


def test_a_class_of_one_site_is_trained_on_and_named_as_not_tested() -> None:
    labels = ["a"] * 60 + ["b"] * 60 + ["c"] * 30
    sites = [f"a{row % 12}" for row in range(60)] + [f"b{row % 12}" for row in range(60)] + ["c"] * 30
    task = replace(label_task(), split=SPLIT)
    for seed in range(5):
        prepared = prepare(profiles(labels, sites), task, seed)
        assert set(prepared.table.loc[prepared.table["label"] == "c", "split"]) == {"train"}
        assert prepared.counts["untested_classes"] == ["c"]
        shares = prepared.table["split"].value_counts(normalize=True)
        assert 0.08 < shares["test"] < 0.3
    patients = prepare(profiles(labels, sites), replace(task, split=replace(SPLIT, mode="patient_blind")), 0)
    assert "untested_classes" not in patients.counts


def test_one_large_site_of_a_class_leaves_the_class_on_both_sides() -> None:
    sizes = {"a": [50, 3, 3, 3, 3], "b": [45, 4, 4, 4, 4], "c": [40, 5, 5, 2, 2, 2]}
    labels = [name for name, each in sizes.items() for size in each for _ in range(size)]
    sites = [f"{name}{place}" for name, each in sizes.items() for place, size in enumerate(each) for _ in range(size)]
    for seed in range(10):
        table = split_samples(samples(profiles(labels, sites)), SPLIT, seed)
        largest = table.loc[table["site"].isin(["a0", "b0", "c0"]), "split"]
        assert set(largest) == {"train"} and (table.groupby("label")["split"].nunique() == 3).all()


def test_a_site_that_is_unknown_is_refused_with_its_sample() -> None:
    labels, sites = ["a", "b", "c"] * 20, [f"h{row % 30}" for row in range(60)]
    lacking: list[str | None] = [*sites[:7], None, *sites[8:]]
    with pytest.raises(UserError, match=r"the site of 1 of 60 samples is unknown, such as that of s007"):
        split_samples(samples(profiles(labels, lacking)), SPLIT, 0)
    found = samples(profiles(labels, sites))
    bare = replace(found, table=found.table.drop(columns=["site", "plate"]))
    with pytest.raises(UserError, match=r"plate_blind: samples.csv has no column plate, and the samples' ids are no"):
        split_samples(bare, replace(SPLIT, mode="plate_blind"), 0)


def test_a_column_goes_before_the_barcode_and_what_was_sequenced_twice_has_its_site() -> None:
    ids = ["TCGA-AL-3466-01A-02R-1350-13-HiSeq", "TCGA-OR-A5J1-01A-11R-A29W-13"]
    table = pd.DataFrame({"sample_id": ids})
    assert barcode_parts(table["sample_id"])[["site", "plate"]].to_numpy().tolist() == [["AL", "1350"], ["OR", "A29W"]]
    found, given = origin(table, "site"), origin(table.assign(site=["Hamburg", " "]), "site")
    assert found is not None and given is not None
    assert (found.tolist(), given.tolist()) == (["AL", "OR"], ["Hamburg", None])
    assert origin(pd.DataFrame({"sample_id": ["x", "y"]}), "plate") is None
