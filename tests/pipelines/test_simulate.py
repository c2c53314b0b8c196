"""The shipped samples must be reproducible, small, valid, plainly simulated, and without a shortcut."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats.contingency import association

from pipelines.datasets import prepare
from pipelines.params import read_params
from pipelines.samples import Kept
from pipelines.samples.formats import read_response_tables
from pipelines.samples.images import read_images
from pipelines.samples.response import keep_samples
from pipelines.simulate.__main__ import main, simulators
from pipelines.simulate.expression import RARE
from pipelines.simulate.response import Size
from pipelines.simulate.survival import log_hazard
from pipelines.split import SIDES
from pipelines.validate import validate_folder
from tests.pipelines.response_tables import MODES, ROOT, shipped_task

SIMULATE = simulators()
TASKS: dict[str, Any] = read_params(ROOT / "params.yaml").tasks
DRUGS, BLOOD, LEUKEMIA, TUMOR, GENE = "drug_response", "blood_cell", "leukemia_cell", "tumor_type", "gene_expression"
SMALL: dict[str, dict[str, Any]] = {
    DRUGS: {"size": Size(lines=30, molecules=12, genes=40)},
    BLOOD: {"per_class": 2, "subjects": 2},
    LEUKEMIA: {"subjects": 4, "per_subject": 2},
}


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("simulated")
    for name, simulate in SIMULATE.items():
        simulate(base / name)
    return {name: base / name for name in SIMULATE}


@pytest.mark.parametrize("name", SIMULATE)
def test_the_same_seed_gives_the_same_bytes_and_another_gives_others(name: str, tmp_path: Path) -> None:
    size = SMALL.get(name, {"patients": 30})
    for folder, seed in (("first", 1), ("second", 2), ("second", 1), ("third", 2)):  # what was there is replaced
        SIMULATE[name](tmp_path / folder, **size, seed=seed)
    first, second, third = (content(tmp_path / folder) for folder in ("first", "second", "third"))
    assert first == second and set(first) == set(third)
    same = {file for file in first if first[file] == third[file]}
    assert same <= {"images.csv"}


def test_the_command_writes_the_default_sample(folders: dict[str, Path], tmp_path: Path) -> None:
    main(["--task", DRUGS, "--out", str(tmp_path / "out")])
    assert content(tmp_path / "out") == content(folders[DRUGS])


def test_every_task_has_a_sample_and_all_are_small_enough_for_a_git_repository(folders: dict[str, Path]) -> None:
    assert set(folders) == set(TASKS)
    assert sum(len(data) for folder in folders.values() for data in content(folder).values()) < 6_000_000


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


@pytest.fixture(scope="module")
def kept_images(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Kept]:
    cache = tmp_path_factory.mktemp("cache")
    return {name: read_images(folders[name], TASKS[name], cache=cache) for name in (BLOOD, LEUKEMIA)}


@pytest.mark.parametrize("name", [BLOOD, LEUKEMIA])
def test_it_can_be_split_as_shipped_with_every_class_on_every_side(name: str, kept_images: dict[str, Kept]) -> None:
    table, classes = prepare(kept_images[name], TASKS[name], 1).table, kept_images[name].samples.classes
    assert table.groupby("split")["label"].nunique().to_dict() == dict.fromkeys(SIDES, len(classes))


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
