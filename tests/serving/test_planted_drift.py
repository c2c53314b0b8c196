"""Drift that is planted in samples, not in columns: one panel of genes, other drugs, another mix of tissues."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipelines.params import task_text
from pipelines.policy import Monitor
from pipelines.samples.expression import ExpressionSamples
from pipelines.samples.response import ResponseSamples
from pipelines.simulate.response import Size, simulate_drug_response
from serving.drift.logged import Logged
from serving.drift.watch import Reference, Watched, predictions_of, watch
from tests.training.profile_samples import (
    CLASSES,
    GENES,
    PREDICTORS,
    TARGETS,
    gene_samples,
    labels_samples,
    with_values,
)
from tests.training.tiny import NAME, response_task, tiny_params
from training.contract import Contract, contract_class
from training.features.summaries import DRUG_COLUMNS, choose_panels
from training.modalities.pairs import EXPRESSION

POLICY = Monitor(50, 0.01, 0.2, 0.1, 0.0)
THRESHOLD = 1.0


def watched(contract: Contract, trained: Any, asked: Any, answers: dict[str, Any]) -> Watched:
    """Watch what the endpoint would have logged of ``asked`` against what a version keeps of ``trained``."""
    old, new = contract.describe(trained), contract.describe(asked)
    rng = np.random.default_rng(0)
    said = {key: rng.choice(value, len(old)) for key, value in answers.items()}
    reference = Reference(contract.task, "1", contract, old, predictions_of(contract, pd.DataFrame(said)), THRESHOLD)
    rows = pd.DataFrame({key: rng.choice(value, len(new)) for key, value in answers.items()})
    rows = rows.assign(time=pd.Timestamp("2026-11-01"), model_version="1")
    rows["out_of_distribution"] = rng.uniform(0, THRESHOLD, len(new))
    return watch(reference, Logged(pd.concat([rows, new.add_prefix("input_")], axis=1)), POLICY)


def drifted(found: Watched) -> list[str]:
    """Return the inputs that are named, the farthest first; nothing else may be."""
    assert all(each.startswith("input ") for each in found.findings), found.findings
    return [each.removeprefix("input ").split(" drifted")[0] for each in found.findings]


# --- profiles


def profile_contract(kind: str, trained: ExpressionSamples) -> Contract:
    task = tiny_params().task("tumor_type" if kind == "labels" else "gene_expression")
    genes = list(GENES if kind == "labels" else PREDICTORS)
    shared: dict[str, Any] = {
        "task": "t",
        "architecture": "ridge",
        "baseline": "mean",
        "task_text": task_text(task),
        "coverage": 0.9,
        "genes": genes,
        "known": list(GENES),
        "panels": choose_panels(trained.logged(genes), genes),
    }
    if kind == "labels":
        return contract_class("profiles", "classification")(
            **shared, classes=list(CLASSES), temperature=1.0, threshold=0.5
        )
    many = len(TARGETS)
    said: dict[str, Any] = {"targets": list(TARGETS), "spreads": [1.0] * many, "half_widths": [None] * many}
    return contract_class("profiles", "multi_target")(**shared, **said)


@pytest.mark.parametrize("kind", ["labels", "genes"])
def test_a_panel_of_genes_that_shifts_in_profiles_is_named(kind: str) -> None:
    made = labels_samples if kind == "labels" else gene_samples
    trained, asked = made(600, seed=1), made(200, seed=2)
    contract = profile_contract(kind, trained)
    answers: dict[str, Any] = {"label": list(CLASSES), "probability": np.linspace(0.5, 1, 99)}
    if kind == "genes":
        answers = {"prediction": [json.dumps(dict.fromkeys(TARGETS, value)) for value in np.linspace(3, 9, 99)]}
    assert drifted(watched(contract, trained, asked, answers)) == []

    panels: dict[str, list[str]] = contract.panels  # type: ignore[attr-defined]
    for panel, genes in panels.items():
        columns = [list(GENES).index(gene) for gene in genes]
        values = asked.values[asked.index].astype(np.float64)
        values[:, columns] = values[:, columns] * 4 if kind == "labels" else values[:, columns] + 2
        found = drifted(watched(contract, trained, with_values(asked, values), answers))
        assert panel in found, (panel, found)


# --- responses


@pytest.fixture(scope="module")
def screen(tmp_path_factory: pytest.TempPathFactory) -> tuple[ResponseSamples, ResponseSamples, Any]:
    """Return what a version was trained on, what it is asked about lines of the same kind, and its contract."""
    folder = tmp_path_factory.mktemp("screen")
    simulate_drug_response(folder, Size(lines=600, molecules=12, genes=60, programs=4))
    task = response_task(tiny_params())
    samples = task.read(folder).samples
    assert isinstance(samples, ResponseSamples)
    trained, asked = (samples.take(np.flatnonzero(samples.cell % 3 // 2 == side)) for side in (0, 1))
    lines = np.unique(trained.cell)
    genes = [str(gene) for gene in samples.omics[EXPRESSION]]
    contract: Any = contract_class("pairs", "regression")(
        task=NAME,
        architecture="mlp",
        baseline="mean_effects",
        task_text=task_text(task),
        features={omics: [str(column) for column in table] for omics, table in samples.omics.items()},
        required=[],
        target="ln_ic50",
        half_width=1.0,
        coverage=0.9,
        panels=choose_panels(samples.omics[EXPRESSION].iloc[lines].dropna(how="all").to_numpy(), genes),
        tissues=sorted({str(each) for each in samples.cell_lines["tissue"].iloc[lines]}),
    )
    return trained, asked, contract


Screen = tuple[ResponseSamples, ResponseSamples, Any]
ANSWERS = {"prediction": np.linspace(-3, 6, 99)}


def test_a_panel_of_genes_that_shifts_in_cell_lines_is_named(screen: Screen) -> None:
    trained, asked, contract = screen
    assert drifted(watched(contract, trained, asked, ANSWERS)) == []  # lines and drugs of the same kind
    for panel, genes in contract.panels.items():
        table = asked.omics[EXPRESSION].copy()
        table[genes] += 3.0
        shifted = replace(asked, omics={**asked.omics, EXPRESSION: table})
        found = drifted(watched(contract, trained, shifted, ANSWERS))
        assert f"{EXPRESSION}_{panel}" in found, (panel, found)
        assert all(each.startswith(f"{EXPRESSION}_") for each in found), found


def test_other_drugs_are_named(screen: Screen) -> None:
    trained, asked, contract = screen
    chains = [f"CC{'C' * length}C(=O)O{'C' * length}" for length in range(8, 8 + len(asked.drugs))]
    found = drifted(watched(contract, trained, replace(asked, drugs=asked.drugs.assign(smiles=chains)), ANSWERS))
    assert "molecular_weight" in found and "rotatable_bonds" in found
    assert set(found) <= {*DRUG_COLUMNS, "drug"}, found


def test_another_mix_of_tissues_is_named(screen: Screen) -> None:
    trained, asked, contract = screen
    tissue = asked.cell_lines["tissue"].to_numpy()[asked.cell]
    lung, others = np.flatnonzero(tissue == "lung"), np.flatnonzero(tissue != "lung")
    few = others[asked.cell[others] % 10 == 0]
    found = drifted(watched(contract, trained, asked.take(np.concatenate([lung, few])), ANSWERS))
    assert "tissue" in found
    assert not {*DRUG_COLUMNS, "drug"} & set(found), found
