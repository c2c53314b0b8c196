"""A cohort in other units than the training data, which would be scored without a word."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest

from evaluation.promotion.scoring import score
from pipelines.datasets import prepare
from pipelines.errors import DataError
from pipelines.params import read_params
from pipelines.simulate.expression import simulate_gene_expression, simulate_tumor_type
from pipelines.simulate.response import simulate_drug_response
from tests.serving.served import save_fitted
from tests.training.tiny import ROOT, SIZE
from training.architectures import get_architecture
from training.model.predictor import Predictor

Change = Callable[[np.ndarray], np.ndarray]


class Scored(NamedTuple):
    model: Predictor
    folder: Path


@pytest.fixture(scope="module", params=["drug_response", "gene_expression", "tumor_type"])
def scored(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Scored:
    folder, name = tmp_path_factory.mktemp(request.param) / "raw", request.param
    simulate, architecture = {
        "drug_response": (lambda: simulate_drug_response(folder, SIZE), "xgboost"),
        "gene_expression": (lambda: simulate_gene_expression(folder, patients=90), "ridge"),
        "tumor_type": (lambda: simulate_tumor_type(folder, patients=160), "logistic_regression"),
    }[name]
    simulate()
    params = read_params(ROOT / "params.yaml")
    task = params.task(name)
    prepared = prepare(task.read(folder), task, params.seed)
    given = get_architecture(architecture, task.modality, task.problem).defaults
    save_fitted(name, architecture, task, prepared, folder.parent / "model", **given)
    return Scored(Predictor().read(folder.parent / "model"), folder)


def _cohort(scored: Scored, into: Path, file: str, change: Change) -> Path:
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


def test_a_cohort_in_another_unit_is_refused_by_file_and_one_in_the_models_scored_without_a_warning(
    scored: Scored, tmp_path: Path
) -> None:
    warnings = score(scored.model, scored.folder)["warnings"]
    assert [each for each in warnings if "'SIMR'" not in each] == []  # the label that was too rare to learn
    for number, (what, change) in enumerate(CHANGES[scored.model.contract.task].items()):
        file = what.split()[0]
        with pytest.raises(DataError) as caught:
            score(scored.model, _cohort(scored, tmp_path / str(number), file, change))
        assert {finding.file for finding in caught.value.findings} == {file}, what


@pytest.mark.parametrize("scored", ["drug_response"], indirect=True)
def test_names_in_another_case_are_the_models_and_unknown_drugs_and_tissues_are_named(
    scored: Scored, tmp_path: Path
) -> None:
    cohort = _cohort(scored, tmp_path / "cohort", "response.parquet", lambda x: x)
    whole = score(scored.model, cohort)
    drugs, lines = (pd.read_csv(cohort / name, dtype=str) for name in ("drugs.csv", "cell_lines.csv"))
    response = pd.read_parquet(cohort / "response.parquet")

    def rewritten(renamed: Callable[[pd.Series], pd.Series], tissue: pd.Series, drugs: pd.DataFrame = drugs) -> None:
        drugs.assign(drug_id=renamed(drugs["drug_id"])).to_csv(cohort / "drugs.csv", index=False)
        response.assign(drug_id=renamed(response["drug_id"])).to_parquet(cohort / "response.parquet", index=False)
        lines.assign(tissue=tissue).to_csv(cohort / "cell_lines.csv", index=False)

    rewritten(lambda ids: ids.str.swapcase(), lines["tissue"].str.swapcase())
    other = score(scored.model, cohort)
    assert other["metrics"] == whole["metrics"]
    assert len(other["warnings"]) == len(whole["warnings"]) + 2
    known = drugs["drug_id"] == drugs["drug_id"].iloc[0]
    new = drugs.assign(smiles=drugs["smiles"].mask(known, "CCOC(=O)C1CCN(CC1)C(=O)NC"), name=drugs["name"].mask(known))
    rewritten(lambda ids: ids.replace(drugs["drug_id"].iloc[0], "NEW"), pd.Series("Mars", index=lines.index), new)
    found = score(scored.model, cohort)
    assert any(f"of {found['n']} samples are of drugs" in said for said in found["warnings"])
    assert any("'Mars'" in said for said in found["warnings"])


@pytest.mark.parametrize("scored", ["drug_response"], indirect=True)
def test_infinite_values_duplicates_and_missing_features_are_refused_by_file(scored: Scored, tmp_path: Path) -> None:
    cohort = _cohort(scored, tmp_path / "cohort", "expression.parquet", lambda x: np.where(x == x.max(), np.inf, x))
    drugs = pd.read_csv(cohort / "drugs.csv", dtype=str)
    pd.concat([drugs, drugs.head(1)]).to_csv(cohort / "drugs.csv", index=False)
    with pytest.raises(DataError) as caught:
        score(scored.model, cohort)
    found = {(finding.file, finding.expectation) for finding in caught.value.findings}
    assert found == {("expression.parquet", "finite"), ("drugs.csv", "unique")}
    table = pd.read_parquet(scored.folder / "expression.parquet")
    gene = scored.model.contract.features["expression"][0]  # type: ignore[attr-defined]
    table.drop(columns=gene).to_parquet(cohort / "expression.parquet", index=False)
    with pytest.raises(DataError, match=f"lacks 1 of the model's .* features: {gene}"):
        score(scored.model, cohort)


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
