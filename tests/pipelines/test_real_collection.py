"""Real collections hold faults that nobody simulates: GDSC's responses with DepMap's omics, 247,000 measurements."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from pipelines.datasets import prepare
from pipelines.groups import sample_identities
from pipelines.groups.pairs import cell_line_groups, drug_groups
from pipelines.modalities.pairs import PairsTask
from pipelines.samples import Kept
from pipelines.samples.formats import ResponseTables, read_response_tables
from pipelines.samples.molecules import pubchem_id
from pipelines.samples.response import keep_samples, molecule_keys
from pipelines.split import SIDES, SplitError, guard, split_samples
from tests.pipelines.response_tables import MODES, REAL_DATA, shipped_task

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(not REAL_DATA.is_dir(), reason="../shared/data/drug_response is not there"),
]
SECONDS = 15.0  # for what takes two on an idle core: a bound on the order of growth, not a race


@pytest.fixture(scope="module")
def task() -> PairsTask:
    task = shipped_task()
    missing = replace(task.data.missing, expression="drop", smiles="one_hot", tissue="one_hot")
    return replace(task, data=replace(task.data, missing=missing))


@pytest.fixture(scope="module")
def tables(task: PairsTask) -> ResponseTables:
    started = time.perf_counter()
    tables = read_response_tables(REAL_DATA, task)
    assert time.perf_counter() - started < SECONDS
    return tables


@pytest.fixture(scope="module")
def kept(tables: ResponseTables, task: PairsTask) -> Kept:
    return keep_samples(tables, task)


def test_every_row_is_kept_or_counted(tables: ResponseTables, kept: Kept) -> None:
    rows = kept.counts["rows"]
    assert rows["raw"] == len(tables.response) == rows["kept"] + sum(rows["dropped"].values()) == 247_199
    dropped = {name: count for name, count in rows["dropped"].items() if count}
    assert dropped == {"unknown_cell_line": 1_825, "without_expression": 97_948}
    assert kept.counts["cell_lines"] == {"raw": 834, "kept": 446}
    assert kept.counts["drugs"] == {"raw": 436, "kept": 436}
    without = {name: count["kept"] for name, count in kept.counts["without"].items() if count["kept"]}
    assert without == {"mutation": 80, "tissue": 1, "smiles": 28}


def test_drugs_measured_under_two_ids_are_found(kept: Kept) -> None:
    drugs = kept.samples.drugs
    groups = drug_groups(drugs)
    assert groups.nunique() == 349 < molecule_keys(drugs).nunique() < len(drugs)
    name = drugs["name"].str.casefold().str.replace(r"[\W_]", "", regex=True)
    for key in (name, drugs["pubchem_id"].map(pubchem_id)):
        assert groups.groupby(key).nunique().max() == 1
    # 27 drugs have "none" or "several" for a number; literally taken they would be two
    words = drugs["pubchem_id"].isin(["none", "several"])
    assert words.sum() == 27 and groups[words].nunique() > 20


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("GDSC1:203", "GDSC2:BMS-345541"),  # hydrochloride
        ("GDSC1:1053", "GDSC2:MK-2206"),  # dihydrochloride
        ("GDSC1:1259", "GDSC2:Talazoparib"),  # tautomer
        ("GDSC1:3", "GDSC2:Rapamycin"),  # a wrong structure in the one
    ],
)
def test_one_drug_with_two_structures_and_two_pubchem_ids_is_one(first: str, second: str, kept: Kept) -> None:
    drugs = kept.samples.drugs
    for column in ("pubchem_id", "smiles"):
        assert drugs[column][first] != drugs[column][second]
    groups = drug_groups(drugs)
    assert groups[first] == groups[second]


def test_no_two_cell_lines_are_one(kept: Kept, task: PairsTask) -> None:
    for limit, lines in ((task.split.near_identical, 446), (0.975, 445)):  # the closest correlate 0.981
        assert cell_line_groups(kept.samples, limit).nunique() == lines


@pytest.mark.parametrize("mode", MODES)
def test_it_splits_in_seconds_without_a_leak(mode: str, tables: ResponseTables, task: PairsTask) -> None:
    started = time.perf_counter()
    made = prepare(keep_samples(tables, task), replace(task, split=replace(task.split, mode=mode)), seed=1)
    assert time.perf_counter() - started < SECONDS
    table, samples = made.table, made.samples
    assert len(table) == len(samples) == 147_426
    share = table["split"].value_counts(normalize=True)
    assert set(share.index) == set(SIDES)
    assert share["test"] == pytest.approx(0.2, abs=0.02)
    assert share["validation"] == pytest.approx(0.1, abs=0.02)
    assert table["fold"].nunique() == task.split.folds + 1

    # The truth, by other means than the module's.
    name = samples.drugs["name"].str.casefold().to_numpy()[samples.drug]
    truth = {
        "random": table["cell_line_id"] + "|" + name,
        "cell_blind": table["cell_line_id"],
        "drug_blind": pd.Series(name),
        "tissue_blind": pd.Series(samples.cell_lines["tissue"].to_numpy()[samples.cell]),
    }[mode]
    assert table.groupby(truth)[["split", "fold"]].nunique().max().max() == 1

    identities = sample_identities(samples, mode)
    guard(table, identities)
    row = np.flatnonzero(table["split"] == "train")[0]
    moved = table.copy()
    for column, value in (("split", "validation"), ("group", "a group of its own")):
        moved[column] = np.where(np.arange(len(table)) == row, value, table[column])
    if mode == "random" and (truth == truth.iloc[row]).sum() == 1:
        guard(moved, identities)  # a pair that was measured once may stand anywhere
    else:
        with pytest.raises(SplitError, match="the split leaks: 1 "):
            guard(moved, identities)


def test_lines_are_held_out_across_studies(kept: Kept, task: PairsTask) -> None:
    split = replace(task.split, mode="cross_study", train_study="GDSC1", test_study="GDSC2")
    table = split_samples(kept.samples, split, seed=1)
    studies = {"test": ["GDSC2"], "train": ["GDSC1"], "validation": ["GDSC1"]}
    assert table.groupby("split")["study"].unique().map(list).to_dict() == studies
    assert table.groupby("cell_line_id")["split"].nunique().max() == 1
    lines = table.drop_duplicates("cell_line_id")["split"].value_counts(normalize=True)
    assert lines["test"] == pytest.approx(0.2, abs=0.03)
    # Two in five drugs of the tested study are known from the other one, under ids of their own.
    tested, trained = (set(table.loc[table["split"] == side, "drug_id"]) for side in ("test", "train"))
    assert not tested & trained
    keys = molecule_keys(kept.samples.drugs)
    assert keys[sorted(tested)].isin(set(keys[sorted(trained)])).mean() > 0.35
