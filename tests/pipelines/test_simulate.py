"""The shipped sample must be reproducible, small, valid, plainly simulated, and hold the faults of real collections."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipelines.datasets import prepare
from pipelines.modalities.pairs import PairsTask
from pipelines.samples.formats import ResponseTables, read_response_tables
from pipelines.samples.response import keep_samples
from pipelines.simulate.__main__ import main
from pipelines.simulate.response import Size, simulate_drug_response
from pipelines.split import SIDES
from pipelines.validate import validate_folder
from tests.pipelines.response_tables import MODES, NAME, shipped_task

SMALL = Size(lines=30, molecules=12, genes=40)
MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def task() -> PairsTask:
    return shipped_task()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("simulated") / NAME
    simulate_drug_response(folder)
    return folder


@pytest.fixture(scope="module")
def tables(folder: Path, task: PairsTask) -> ResponseTables:
    return read_response_tables(folder, task)


def hashes(folder: Path) -> dict[str, str]:
    files = [path for path in sorted(folder.iterdir()) if path.is_file()]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_same_seed_gives_the_same_bytes_and_another_gives_others(tmp_path: Path) -> None:
    for name, seed in (("first", 1), ("second", 1), ("third", 2)):
        simulate_drug_response(tmp_path / name, SMALL, seed)
    first, second, third = (hashes(tmp_path / name) for name in ("first", "second", "third"))
    assert first == second
    assert len(first) == 7
    assert {name for name in first if first[name] == third[name]} == set()


def test_simulating_again_replaces_what_was_there(tmp_path: Path) -> None:
    simulate_drug_response(tmp_path, SMALL, 2)
    simulate_drug_response(tmp_path, SMALL, 1)
    simulate_drug_response(tmp_path / "fresh", SMALL, 1)
    assert hashes(tmp_path / "fresh") == hashes(tmp_path)


def test_the_command_writes_the_default_sample(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["--task", NAME, "--out", str(tmp_path / "out")])
    assert hashes(tmp_path / "out") == hashes(folder)
    assert str(tmp_path / "out") in capsys.readouterr().out


def test_it_validates_without_a_finding(folder: Path, task: PairsTask) -> None:
    validation = validate_folder(folder, NAME, task)
    assert [str(finding) for finding in validation.findings] == []
    assert validation.counts["rows"]["response.parquet"] > 1000


def test_it_is_small_enough_for_a_git_repository(folder: Path) -> None:
    assert sum(path.stat().st_size for path in folder.iterdir()) < MEGABYTE


def test_it_says_that_it_is_simulated(tables: ResponseTables) -> None:
    assert tables.cell_lines["simulated"].eq(True).all()
    assert tables.cell_lines["cell_line_id"].str.startswith("SIM-").all()
    assert tables.drugs["drug_id"].str.startswith("SIM").all()
    assert tables.response["study"].str.startswith("SIM").all()
    for omics, table in tables.omics.items():
        genes = table.columns.drop("cell_line_id")
        assert genes.str.startswith("SIMG").all(), omics  # nobody takes them for real genes


def test_it_holds_the_gaps_of_real_collections(tables: ResponseTables, task: PairsTask) -> None:
    lines = set(tables.cell_lines["cell_line_id"])
    for omics in ("expression", "mutation", "copy_number", "methylation"):
        lacking = lines - set(tables.omics[omics]["cell_line_id"])
        assert 0.02 < len(lacking) / len(lines) < 0.4, omics
    assert 0 < tables.cell_lines["tissue"].isna().sum() < 0.2 * len(lines)
    assert 0 < tables.drugs["smiles"].isna().sum() < len(tables.drugs) / 2
    assert tables.drugs["pubchem_id"].eq("none").sum() > 1
    pairs = tables.response["cell_line_id"] + tables.response["drug_id"]
    possible = len(lines) * tables.drugs["drug_id"].nunique()
    assert pairs.nunique() < possible  # holes in the matrix


def test_molecules_were_measured_under_two_ids_in_two_studies(tables: ResponseTables) -> None:
    smiles = tables.drugs.dropna(subset="smiles").groupby("smiles")["drug_id"].agg(list)
    doubled = smiles[smiles.map(len) > 1]
    assert len(doubled) >= 5
    assert all({drug.split(":")[0] for drug in drugs} == {"SIM1", "SIM2"} for drugs in doubled)
    study = tables.response.groupby("drug_id")["study"].unique().map(list)
    assert all(studies == [str(drug).split(":")[0]] for drug, studies in study.items())


def test_two_studies_of_a_molecule_agree_but_for_noise(tables: ResponseTables) -> None:
    values = tables.response.pivot(index="cell_line_id", columns="drug_id", values="ln_ic50")
    correlation = values.corr()
    doubled = [str(drug) for drug in values if str(drug).startswith("SIM2:")]
    same = np.diag(correlation.loc[doubled, [drug.replace("SIM2", "SIM1") for drug in doubled]])
    assert same.mean() > correlation.loc[doubled, "SIM1:01"].mean() + 0.3


def test_responses_lie_in_the_range_of_params(tables: ResponseTables, task: PairsTask) -> None:
    low, high = task.validate.target_range
    assert tables.response["ln_ic50"].between(low, high).all()
    assert not tables.response.duplicated(["study", "cell_line_id", "drug_id"]).any()


@pytest.mark.parametrize("mode", MODES)
def test_it_can_be_split_in_every_mode_as_shipped(mode: str, tables: ResponseTables, task: PairsTask) -> None:
    folds = 3 if mode == "tissue_blind" else task.split.folds  # six tissues and the unknown one
    split = replace(task.split, mode=mode, folds=folds)
    prepared = prepare(keep_samples(tables, task), replace(task, split=split), 1)
    assert set(prepared.table["split"]) == set(SIDES)
    assert prepared.counts["rows"]["dropped"]["without_expression"] > 0


def test_any_size_can_be_simulated(tmp_path: Path, task: PairsTask) -> None:
    for size in (Size(lines=12, molecules=6, genes=8, programs=2), Size(lines=40, molecules=60, genes=50)):
        folder = tmp_path / str(size.genes)
        simulate_drug_response(folder, size)
        read = read_response_tables(folder, task)
        assert read.response["cell_line_id"].nunique() == size.lines
        assert len(read.drugs) == size.molecules + size.molecules // 2
        assert {len(table.columns) - 1 for name, table in read.omics.items() if name != "methylation"} == {
            size.genes,
            min(30, size.genes),
        }


def test_drugs_are_molecules_of_their_own(tables: ResponseTables) -> None:
    known = tables.drugs[tables.drugs["drug_id"].str.startswith("SIM1")].dropna(subset="smiles")
    assert known["smiles"].is_unique
    assert pd.Series(known["name"]).is_unique
