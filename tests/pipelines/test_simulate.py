"""The shipped samples must be reproducible, small, valid, plainly simulated, and without a shortcut."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats.contingency import association

from pipelines.datasets import prepare
from pipelines.params import read_params
from pipelines.samples.formats import ResponseTables, read_response_tables
from pipelines.samples.images import ImageSamples, read_images
from pipelines.samples.response import keep_samples
from pipelines.simulate.__main__ import main, simulators
from pipelines.simulate.expression import NORMAL, RARE
from pipelines.simulate.response import Size
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
MEGABYTE = 1_000_000


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("simulated")
    for name, simulate in SIMULATE.items():
        simulate(base / name)
    return {name: base / name for name in SIMULATE}


# Every sample.


def test_every_task_has_a_sample() -> None:
    assert set(SIMULATE) == set(TASKS)


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


def test_all_are_small_enough_for_a_git_repository(folders: dict[str, Path]) -> None:
    assert sum(len(data) for folder in folders.values() for data in content(folder).values()) < 6 * MEGABYTE


@pytest.mark.parametrize("name", SIMULATE)
def test_it_is_valid_and_every_table_says_that_it_is_simulated(name: str, folders: dict[str, Path]) -> None:
    assert [str(finding) for finding in validate_folder(folders[name], name, TASKS[name]).errors] == []
    tables = {path.name: pd.read_csv(path, dtype=str) for path in folders[name].glob("*.csv")}
    main_table = next(each for file, each in tables.items() if file in ("images.csv", "samples.csv", "cell_lines.csv"))
    assert main_table["simulated"].str.lower().eq("true").all()
    for file, table in tables.items():
        for column in table.columns.intersection(
            ["sample_id", "patient_id", "subject_id", "cell_line_id", "drug_id", "platform", "symbol"]
        ):
            assert table[column].dropna().str.startswith("SIM").all(), (file, column)
    for path in folders[name].glob("*.parquet"):  # nobody takes them for real genes
        genes = pd.read_parquet(path).columns.drop(
            ["sample_id", "cell_line_id", "drug_id", "study", "ln_ic50"], errors="ignore"
        )
        assert genes.str.startswith("SIMG").all(), path.name


# Pairs.


@pytest.fixture(scope="module")
def tables(folders: dict[str, Path]) -> ResponseTables:
    return read_response_tables(folders[DRUGS], shipped_task())


def test_it_holds_the_gaps_and_the_doubled_molecules_of_real_collections(tables: ResponseTables) -> None:
    lines = set(tables.cell_lines["cell_line_id"])
    for omics in ("expression", "mutation", "copy_number", "methylation"):
        lacking = lines - set(tables.omics[omics]["cell_line_id"])
        assert 0.02 < len(lacking) / len(lines) < 0.4, omics
    assert 0 < tables.cell_lines["tissue"].isna().sum() < 0.2 * len(lines)
    assert 0 < tables.drugs["smiles"].isna().sum() < len(tables.drugs) / 2
    values = tables.response.pivot(index="cell_line_id", columns="drug_id", values="ln_ic50")
    assert values.isna().any(axis=None)  # holes in the matrix
    smiles = tables.drugs.dropna(subset="smiles").groupby("smiles")["drug_id"].agg(list)
    doubled = smiles[smiles.map(len) > 1]
    assert len(doubled) >= 5
    assert all({drug.split(":")[0] for drug in drugs} == {"SIM1", "SIM2"} for drugs in doubled)
    correlation = values.corr()  # two studies of a molecule agree but for noise
    second = [str(drug) for drug in values if str(drug).startswith("SIM2:")]
    same = np.diag(correlation.loc[second, [drug.replace("SIM2", "SIM1") for drug in second]])
    assert same.mean() > correlation.loc[second, "SIM1:01"].mean() + 0.3


@pytest.mark.parametrize("mode", MODES)
def test_it_can_be_split_in_every_mode_as_shipped(mode: str, tables: ResponseTables) -> None:
    task = shipped_task()
    folds = 3 if mode == "tissue_blind" else task.split.folds  # six tissues and the unknown one
    prepared = prepare(keep_samples(tables, task), replace(task, split=replace(task.split, mode=mode, folds=folds)), 1)
    assert set(prepared.table["split"]) == set(SIDES)
    assert prepared.counts["rows"]["dropped"]["without_expression"] > 0


# Images.


@pytest.fixture(scope="module")
def samples(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, ImageSamples]:
    cache = tmp_path_factory.mktemp("cache")
    return {name: read_images(folders[name], TASKS[name], cache=cache).samples for name in (BLOOD, LEUKEMIA)}


def test_subjects_are_as_in_real_collections(samples: dict[str, ImageSamples]) -> None:
    table = samples[BLOOD].table
    known = table.dropna(subset="subject_id")
    assert 0.2 < 1 - len(known) / len(table) < 0.5
    assert known.groupby("subject_id")["label"].nunique().min() == 5
    table = samples[LEUKEMIA].table
    assert table["subject_id"].nunique() == 24
    assert table.groupby("subject_id")["label"].nunique().max() == 1
    sizes = table["subject_id"].value_counts()
    assert sizes.max() >= 2 * sizes.min()


@pytest.mark.parametrize("name", [BLOOD, LEUKEMIA])
def test_it_can_be_split_as_shipped_with_every_class_on_every_side(
    name: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    kept = read_images(folders[name], TASKS[name], cache=tmp_path)
    table = prepare(kept, TASKS[name], 1).table
    assert table.groupby("split")["label"].nunique().to_dict() == dict.fromkeys(SIDES, len(kept.samples.classes))


# Profiles.


@dataclass(frozen=True)
class Profiles:
    values: pd.DataFrame  # log2, indexed by sample_id
    samples: pd.DataFrame
    genes: pd.DataFrame


@pytest.fixture(scope="module")
def profiles(folders: dict[str, Path]) -> dict[str, Profiles]:
    found = {}
    for name in (TUMOR, GENE):
        values = pd.read_parquet(folders[name] / "expression.parquet").set_index("sample_id")
        samples = pd.read_csv(folders[name] / "samples.csv", dtype={"sample_type": str})
        genes = pd.read_csv(folders[name] / "genes.csv")
        found[name] = Profiles(values.transform(lambda x: np.log2(x + 1)) if name == TUMOR else values, samples, genes)
    return found


@pytest.mark.parametrize("name", [TUMOR, GENE])
def test_platforms_are_not_confounded_and_two_patients_are_no_copies(name: str, profiles: dict[str, Profiles]) -> None:
    samples, values = profiles[name].samples, profiles[name].values.to_numpy(np.float64)
    assert samples["platform"].nunique() == 2
    common = samples[samples["label"] != RARE]
    for column in ("label", "sample_type"):
        assert association(pd.crosstab(common[column], common["platform"]).to_numpy(), method="cramer") < 0.1
    tumor = samples["sample_type"].ne(NORMAL).to_numpy()
    patient, label = samples["patient_id"].to_numpy()[tumor], samples["label"].to_numpy()[tumor]
    correlation = np.corrcoef(values[tumor])
    upper = np.triu(np.ones_like(correlation, bool), 1)
    one = upper & (patient[:, None] == patient)
    others = upper & ~one
    same_label = others & (label[:, None] == label)
    assert np.median(correlation[one]) > np.quantile(correlation[same_label], 0.8)
    assert correlation[others].max() < 0.985  # 0.99 is what a near-identical profile means elsewhere
