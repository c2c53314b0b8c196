"""Drift that is planted in samples, not in columns: one panel of genes, other drugs, another mix of tissues."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipelines.params import task_text
from pipelines.policy import Monitor
from pipelines.samples.response import ResponseSamples
from pipelines.simulate.response import Size, simulate_drug_response
from serving.drift.logged import Logged
from serving.drift.watch import Reference, predictions_of, watch
from tests.training.tiny import NAME, response_task, tiny_params
from training.contract import contract_class
from training.features.summaries import DRUG_COLUMNS, choose_panels
from training.modalities.pairs import EXPRESSION

POLICY = Monitor(50, 0.01, 0.2, 0.1, 0.0)
THRESHOLD = 1.0


Screen = tuple[ResponseSamples, ResponseSamples, Any]


def drifted(screen: Screen, asked: ResponseSamples | None = None) -> list[str]:
    """Return the inputs that a watch names, the farthest first, if a version is ``asked`` so; nothing else may be."""
    trained, usual, contract = screen
    old, new = contract.describe(trained), contract.describe(usual if asked is None else asked)
    rng = np.random.default_rng(0)
    said, rows = (pd.DataFrame({"prediction": rng.choice(np.linspace(-3, 6, 99), len(each))}) for each in (old, new))
    reference = Reference(contract.task, "1", contract, old, predictions_of(contract, said), THRESHOLD)
    rows = rows.assign(time=pd.Timestamp("2026-11-01"), model_version="1")
    rows["out_of_distribution"] = rng.uniform(0, THRESHOLD, len(new))
    found = watch(reference, Logged(pd.concat([rows, new.add_prefix("input_")], axis=1)), POLICY).findings
    assert all(each.startswith("input ") for each in found), found
    return [each.removeprefix("input ").split(" drifted")[0] for each in found]


@pytest.fixture(scope="module")
def screen(tmp_path_factory: pytest.TempPathFactory) -> Screen:
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
        **{"task": NAME, "architecture": "mlp", "baseline": "mean_effects", "task_text": task_text(task)},
        **{"required": [], "target": "ln_ic50", "half_width": 1.0, "coverage": 0.9},
        features={omics: [str(column) for column in table] for omics, table in samples.omics.items()},
        panels=choose_panels(samples.omics[EXPRESSION].iloc[lines].dropna(how="all").to_numpy(), genes),
        tissues=sorted({str(each) for each in samples.cell_lines["tissue"].iloc[lines]}),
    )
    return trained, asked, contract


def test_a_panel_of_genes_that_shifts_in_cell_lines_is_named(screen: Screen) -> None:
    _, asked, contract = screen
    assert drifted(screen) == []  # lines and drugs of the same kind
    for panel, genes in contract.panels.items():
        table = asked.omics[EXPRESSION].copy()
        table[genes] += 3.0
        found = drifted(screen, replace(asked, omics={**asked.omics, EXPRESSION: table}))
        assert f"{EXPRESSION}_{panel}" in found, (panel, found)
        assert all(each.startswith(f"{EXPRESSION}_") for each in found), found


def test_other_drugs_and_another_mix_of_tissues_are_named(screen: Screen) -> None:
    _, asked, _ = screen
    chains = [f"CC{'C' * length}C(=O)O{'C' * length}" for length in range(8, 8 + len(asked.drugs))]
    found = drifted(screen, replace(asked, drugs=asked.drugs.assign(smiles=chains)))
    assert {"molecular_weight", "rotatable_bonds"} <= set(found) <= {*DRUG_COLUMNS, "drug"}, found
    tissue = asked.cell_lines["tissue"].to_numpy()[asked.cell]
    lung, others = np.flatnonzero(tissue == "lung"), np.flatnonzero(tissue != "lung")
    few = others[asked.cell[others] % 10 == 0]
    found = drifted(screen, asked.take(np.concatenate([lung, few])))
    assert "tissue" in found
    assert not {*DRUG_COLUMNS, "drug"} & set(found), found
