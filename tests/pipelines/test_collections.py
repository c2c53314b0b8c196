"""The shipped samples must be reproducible, small, valid, plainly simulated, and without a shortcut.

Real collections hold faults that nobody simulates.
"""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats.contingency import association

from pipelines.datasets import prepare
from pipelines.groups.pairs import cell_line_groups, drug_groups
from pipelines.modalities.pairs import PairsTask
from pipelines.params import read_params
from pipelines.samples import Kept
from pipelines.samples.formats import ResponseTables, read_response_tables
from pipelines.samples.molecules import pubchem_id
from pipelines.samples.response import keep_samples, molecule_keys
from pipelines.simulate.__main__ import main, simulators
from pipelines.simulate.expression import RARE
from pipelines.simulate.response import Size
from pipelines.simulate.survival import log_hazard
from pipelines.split import SIDES
from pipelines.validate import validate_folder
from tests.pipelines.damages import files_below
from tests.pipelines.response_tables import MODES, REAL_DATA, ROOT, shipped_task

SIMULATE = simulators()
TASKS: dict[str, Any] = read_params(ROOT / "params.yaml").tasks
DRUGS, BLOOD, LEUKEMIA, TUMOR, GENE = "drug_response", "blood_cell", "leukemia_cell", "tumor_type", "gene_expression"
SMALL: dict[str, dict[str, Any]] = {
    DRUGS: {"size": Size(lines=30, molecules=12, genes=40)},
    BLOOD: {"per_class": 2, "subjects": 2},
    LEUKEMIA: {"subjects": 4, "per_subject": 2},
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {name: tmp_path_factory.mktemp("simulated") / name for name in SIMULATE}
    for name, simulate in SIMULATE.items():
        simulate(made[name])
    return made


@pytest.mark.parametrize("name", SIMULATE)
def test_the_same_seed_gives_the_same_bytes_and_another_gives_others(name: str, tmp_path: Path) -> None:
    size = SMALL.get(name, {"patients": 30})
    for folder, seed in (("first", 1), ("second", 2), ("second", 1), ("third", 2)):  # what was there is replaced
        SIMULATE[name](tmp_path / folder, **size, seed=seed)
    first, second, third = (files_below(tmp_path / folder) for folder in ("first", "second", "third"))
    assert first == second and set(first) == set(third)
    same = {file for file in first if first[file] == third[file]}
    assert same <= {"images.csv"}


def test_the_command_writes_a_sample_and_all_are_small_enough_for_git(folders: dict[str, Path], tmp_path: Path) -> None:
    main(["--task", DRUGS, "--out", str(tmp_path / "out")])
    assert files_below(tmp_path / "out") == files_below(folders[DRUGS])
    assert set(folders) == set(TASKS)
    assert sum(len(data) for folder in folders.values() for data in files_below(folder).values()) < 6_000_000


@pytest.mark.parametrize("name", SIMULATE)
def test_it_is_valid_and_every_table_says_that_it_is_simulated(name: str, folders: dict[str, Path]) -> None:
    assert [str(finding) for finding in validate_folder(folders[name], name, TASKS[name]).errors] == []
    tables = {path.name: pd.read_csv(path, dtype=str) for path in folders[name].glob("*.csv")}
    main_table = next(each for file, each in tables.items() if file in ("images.csv", "samples.csv", "cell_lines.csv"))
    assert main_table["simulated"].str.lower().eq("true").all()
    names = ["sample_id", "patient_id", "subject_id", "cell_line_id", "drug_id", "platform", "symbol"]
    for file, table in tables.items():
        for column in table.columns.intersection(names):
            assert table[column].dropna().str.startswith("SIM").all(), (file, column)
    for path in folders[name].glob("*.parquet"):  # nobody takes them for real genes
        genes = pd.read_parquet(path).columns.difference([*names, "study", "ln_ic50"])
        assert genes.str.startswith("SIMG").all(), path.name


def test_it_can_be_split_in_every_mode_as_shipped_and_holds_the_doubled_molecules(folders: dict[str, Path]) -> None:
    task = shipped_task()
    tables = read_response_tables(folders[DRUGS], task)
    for mode in MODES:
        folds = 3 if mode == "tissue_blind" else task.split.folds  # six tissues and the unknown one
        split = replace(task.split, mode=mode, folds=folds)
        prepared = prepare(keep_samples(tables, task), replace(task, split=split), 1)
        assert set(prepared.table["split"]) == set(SIDES)
        assert prepared.counts["rows"]["dropped"]["without_expression"] > 0
    assert tables.drugs["smiles"].isna().any() and tables.drugs["smiles"].dropna().duplicated().sum() >= 5


def test_follow_up_has_a_signal_and_censoring(folders: dict[str, Path]) -> None:
    assert 0.25 < 1 - pd.read_csv(folders["breast_survival"] / "samples.csv")["relapse"].mean() < 0.6
    assert log_hazard(np.random.default_rng(0).normal(size=(500, 6))).std() > 0.8
    assert log_hazard(np.zeros((1, 6)))[0] == 0


@pytest.mark.parametrize("name", [TUMOR, GENE])
def test_platforms_are_not_confounded(name: str, folders: dict[str, Path]) -> None:
    samples = pd.read_csv(folders[name] / "samples.csv", dtype={"sample_type": str})
    assert samples["platform"].nunique() == 2
    common = samples[samples["label"] != RARE]
    for column in ("label", "sample_type"):
        assert association(pd.crosstab(common[column], common["platform"]).to_numpy(), method="cramer") < 0.1


# GDSC's responses with DepMap's omics, 247,000 measurements.

SECONDS = 15.0  # for what takes two on an idle core: a bound on the order of growth, not a race


@pytest.fixture(scope="module")
def task() -> PairsTask:
    if not REAL_DATA.is_dir():
        pytest.skip("../shared/data/drug_response is not there")
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


@pytest.mark.real_data
def test_every_row_is_kept_or_counted(tables: ResponseTables, kept: Kept) -> None:
    rows = kept.counts["rows"]
    assert rows["raw"] == len(tables.response) == rows["kept"] + sum(rows["dropped"].values()) == 247_199
    dropped = {name: count for name, count in rows["dropped"].items() if count}
    assert dropped == {"unknown_cell_line": 1_825, "without_expression": 97_948}
    assert kept.counts["cell_lines"] == {"raw": 834, "kept": 446}
    assert kept.counts["drugs"] == {"raw": 436, "kept": 436}
    without = {name: count["kept"] for name, count in kept.counts["without"].items() if count["kept"]}
    assert without == {"mutation": 80, "tissue": 1, "smiles": 28}


@pytest.mark.real_data
def test_drugs_measured_under_two_ids_are_one_and_no_two_cell_lines_are(kept: Kept, task: PairsTask) -> None:
    drugs = kept.samples.drugs
    groups = drug_groups(drugs)
    assert groups.nunique() == 349 < molecule_keys(drugs).nunique() < len(drugs)
    name = drugs["name"].str.casefold().str.replace(r"[\W_]", "", regex=True)
    for key in (name, drugs["pubchem_id"].map(pubchem_id)):
        assert groups.groupby(key).nunique().max() == 1
    # 27 drugs have "none" or "several" for a number; literally taken they would be two
    words = drugs["pubchem_id"].isin(["none", "several"])
    assert words.sum() == 27 and groups[words].nunique() > 20
    first, second = "GDSC1:1053", "GDSC2:MK-2206"  # a dihydrochloride
    assert (drugs.loc[first, ["pubchem_id", "smiles"]] != drugs.loc[second, ["pubchem_id", "smiles"]]).all()
    assert groups[first] == groups[second]
    for limit, lines in ((task.split.near_identical, 446), (0.975, 445)):  # the closest correlate 0.981
        assert cell_line_groups(kept.samples, limit).nunique() == lines


@pytest.mark.real_data
def test_it_splits_in_seconds_without_a_leak(kept: Kept, task: PairsTask) -> None:
    started = time.perf_counter()
    table = prepare(kept, task, seed=1).table
    assert time.perf_counter() - started < SECONDS
    assert len(table) == 147_426 and table["fold"].nunique() == task.split.folds + 1
    share = table["split"].value_counts(normalize=True)
    assert share[["test", "validation"]].tolist() == pytest.approx([0.2, 0.1], abs=0.02)
    assert table.groupby("cell_line_id")[["split", "fold"]].nunique().max().max() == 1
