"""A cohort in other units than the training data, which would be scored without a word, and coverage by novelty."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from evaluation.metrics.means import coverage
from evaluation.promotion.scoring import score
from pipelines.datasets import prepare
from pipelines.errors import DataError
from pipelines.params import Task, read_params
from pipelines.simulate.expression import simulate_gene_expression, simulate_tumor_type
from pipelines.simulate.response import simulate_drug_response
from tests.training.tiny import ROOT, SIZE
from training.architectures import get_architecture
from training.contract import make_contract
from training.model.cross_fit import fit_final
from training.model.predictor import Predictor
from training.model.track import save_model

Change = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Scored:
    """A model, and the raw folder that it was fitted on."""

    model: Predictor
    folder: Path
    task: Task


def _made(name: str, architecture: str, folder: Path) -> Scored:
    params = read_params(ROOT / "params.yaml")
    task, chosen = (
        params.task(name),
        get_architecture(architecture, params.task(name).modality, params.task(name).problem),
    )
    prepared = prepare(task.read(folder), task, params.seed)
    settings = {"rounds": 20, "epochs": 5, "seed": 1, "device": "cpu"}
    final = fit_final(chosen, chosen.defaults, prepared, members=1, settings=settings)
    naive = get_architecture(task.evaluate.baseline, task.modality, task.problem)
    baseline = fit_final(naive, {}, prepared, members=1, settings=settings).estimator
    saved = folder.parent / "model"
    save_model(
        final.estimator, baseline, make_contract(name, architecture, task, prepared=prepared, final=final), saved
    )
    return Scored(Predictor().read(saved), folder, task)


@pytest.fixture(scope="module", params=["drug_response", "gene_expression", "tumor_type"])
def scored(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Scored:
    folder = tmp_path_factory.mktemp(request.param) / "raw"
    if request.param == "drug_response":
        simulate_drug_response(folder, SIZE)
        return _made(request.param, "xgboost", folder)
    if request.param == "gene_expression":
        simulate_gene_expression(folder, patients=90)
        return _made(request.param, "ridge", folder)
    simulate_tumor_type(folder, patients=160)
    return _made(request.param, "logistic_regression", folder)


def _cohort(scored: Scored, into: Path, file: str, change: Change) -> Path:
    """Copy the folder with the numbers of one file changed."""
    into.mkdir()
    for path in scored.folder.iterdir():
        if path.name != file:
            (into / path.name).write_bytes(path.read_bytes())
    table = pd.read_parquet(scored.folder / file)
    numbers = table.select_dtypes("number").columns
    table[numbers] = change(table[numbers].to_numpy(np.float64)).astype(np.float32)
    table.to_parquet(into / file, index=False)
    return into


CHANGES: dict[str, dict[str, Change]] = {
    "drug_response": {
        "expression.parquet linear": lambda x: np.exp2(x) - 1,
        "expression.parquet decimal": lambda x: x * np.log10(2),
        "copy_number.parquet absolute": lambda x: 2 * x,
        "copy_number.parquet whole": lambda x: np.rint(2 * x),
        "copy_number.parquet ratio": lambda x: np.log2(np.maximum(x, 0.01)),
        "methylation.parquet percent": lambda x: 100 * x,
        "mutation.parquet counts": lambda x: np.where(np.arange(x.size).reshape(x.shape) == 3, 7, x),
    },
    "gene_expression": {
        "expression.parquet linear": lambda x: np.exp2(x) - 1,
        "expression.parquet decimal": lambda x: x * np.log10(2),
        "expression.parquet standardized": lambda x: (x - x.mean(axis=0)) / (x.std(axis=0) + 1e-6),
    },
    "tumor_type": {
        "expression.parquet logged": lambda x: np.log2(x + 1),
        "expression.parquet shares": lambda x: x / 1e6,
    },
}


def test_a_cohort_in_another_unit_is_refused_by_file(scored: Scored, tmp_path: Path) -> None:
    for number, (what, change) in enumerate(CHANGES[scored.model.contract.task].items()):
        file = what.split()[0]
        with pytest.raises(DataError) as caught:
            score(scored.model, _cohort(scored, tmp_path / str(number), file, change))
        assert {finding.file for finding in caught.value.findings} == {file}, what


def test_a_cohort_in_the_models_unit_is_scored_without_a_warning(scored: Scored) -> None:
    said = score(scored.model, scored.folder)["warnings"]
    assert [each for each in said if "'SIMR'" not in each] == []  # the label that was too rare to learn


@pytest.mark.parametrize("scored", ["drug_response"], indirect=True)
def test_drugs_that_the_model_does_not_know_are_counted(scored: Scored, tmp_path: Path) -> None:
    cohort = _cohort(scored, tmp_path / "cohort", "response.parquet", lambda x: x)
    drugs = pd.read_csv(cohort / "drugs.csv")
    known = drugs["drug_id"].iloc[0]
    drugs["drug_id"] = drugs["drug_id"].replace(known, "NEW")
    drugs.loc[drugs["drug_id"] == "NEW", ["smiles", "name"]] = ["CCOC(=O)C1CCN(CC1)C(=O)NC", "new"]
    drugs.to_csv(cohort / "drugs.csv", index=False)
    response = pd.read_parquet(cohort / "response.parquet")
    response["drug_id"] = response["drug_id"].replace(known, "NEW")
    response.to_parquet(cohort / "response.parquet", index=False)
    found: dict[str, Any] = score(scored.model, cohort)
    assert len(found["warnings"]) == 1 and f"of {found['n']} samples" in found["warnings"][0]


@pytest.mark.parametrize("scored", ["drug_response"], indirect=True)
def test_drugs_and_tissues_in_another_case_are_the_models_and_unknown_tissues_are_named(
    scored: Scored, tmp_path: Path
) -> None:
    cohort = _cohort(scored, tmp_path / "cohort", "response.parquet", lambda x: x)
    whole = score(scored.model, cohort)
    drugs, lines = (pd.read_csv(cohort / name, dtype=str) for name in ("drugs.csv", "cell_lines.csv"))
    response = pd.read_parquet(cohort / "response.parquet")
    for table, name in ((drugs, "drug_id"), (response, "drug_id"), (lines, "tissue")):
        table[name] = table[name].str.swapcase()
    drugs.to_csv(cohort / "drugs.csv", index=False)
    response.to_parquet(cohort / "response.parquet", index=False)
    lines.to_csv(cohort / "cell_lines.csv", index=False)
    other = score(scored.model, cohort)
    assert other["metrics"] == whole["metrics"]
    assert len(other["warnings"]) == len(whole["warnings"]) + 2
    lines.assign(tissue="Mars").to_csv(cohort / "cell_lines.csv", index=False)
    assert any("'Mars'" in said for said in score(scored.model, cohort)["warnings"])


@pytest.mark.parametrize("scored", ["tumor_type"], indirect=True)
def test_labels_in_another_case_are_the_models_classes_and_others_are_named(scored: Scored, tmp_path: Path) -> None:
    cohort = _cohort(scored, tmp_path / "cohort", "expression.parquet", lambda x: x)
    whole = score(scored.model, cohort)
    samples = pd.read_csv(cohort / "samples.csv", dtype=str)
    samples["label"] = samples["label"].str.lower()
    samples.to_csv(cohort / "samples.csv", index=False)
    lower = score(scored.model, cohort)
    assert lower["metrics"] == whole["metrics"] and len(lower["warnings"]) > len(whole["warnings"])
    strange = samples["label"].iloc[0]
    samples.loc[samples["label"] == strange, "label"] = "Mars"
    samples.to_csv(cohort / "samples.csv", index=False)
    assert any("'Mars'" in said for said in score(scored.model, cohort)["warnings"])


def test_coverage_is_told_on_both_sides_of_the_threshold() -> None:
    held, groups = np.r_[np.ones(90), np.zeros(10)], np.arange(100)
    unlike = groups >= 85
    found = coverage(0.9, held, groups, unlike=unlike, resamples=200, seed=1)
    assert found["observed"] == pytest.approx(0.9)
    assert found["by_novelty"]["like"]["rows"] == 85 and found["by_novelty"]["like"]["observed"] == 1
    assert found["by_novelty"]["unlike"]["rows"] == 15
    assert found["by_novelty"]["unlike"]["observed"] == pytest.approx(5 / 15)
    assert "by_novelty" not in coverage(0.9, held, groups, resamples=20)
    nobody = coverage(0.9, held, groups, unlike=np.zeros(100, dtype=bool), resamples=20)["by_novelty"]["unlike"]
    assert nobody["rows"] == 0 and np.isnan(nobody["observed"])
