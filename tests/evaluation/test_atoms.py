"""Drawings of molecules that would mislead: colors of other atoms, a drug that stands twice, another molecule."""

import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from evaluation.explain.atoms import DRUGS, LINES, DrugAtoms, draw, drawings, explain_atoms, table
from evaluation.explain.pairs import explain_pairs
from pipelines.params import PerBudget
from pipelines.samples.response import ResponseSamples, make_samples
from tests.evaluation.planted import Known, pairs_setting
from tests.training.tiny import build, tiny_prepared
from training.architectures import get_architecture
from training.features.molecule_graph import drawn_molecule

ASPIRIN = "CC(=O)Oc1ccccc1C(=O)O"
SVG = "{http://www.w3.org/2000/svg}"
UNIT = "ln IC50 (µM)"


class Planted(Known):
    """Says of every oxygen that it adds what its line's gene A is."""

    def atom_attributions(self, samples: ResponseSamples, output: np.ndarray | None = None) -> Any:
        gene = samples.omics["expression"]["A"].to_numpy(np.float64)[samples.cell]
        return [
            np.array([float(symbol == "O") for symbol in _symbols(smiles)]) * value
            for smiles, value in zip(samples.drugs["smiles"].iloc[samples.drug], gene, strict=True)
        ]


def _symbols(smiles: str | None) -> list[str]:
    molecule = drawn_molecule(smiles)
    return [] if molecule is None else [atom.GetSymbol() for atom in molecule.GetAtoms()]


@pytest.fixture
def samples() -> ResponseSamples:
    drugs = {"S1:1": ASPIRIN, "S2:1": "OC(=O)c1ccccc1OC(C)=O.[Na+]", "S1:2": "CCO", "S1:3": None, "S1:4": "CCCC"}
    lines = pd.Index([f"L{number}" for number in range(40)])
    pairs = pd.DataFrame([(line, drug) for line in lines for drug in drugs], columns=["cell_line_id", "drug_id"])
    names = ["aspirin <&>", "aspirin", None, "unknown", ""]
    return make_samples(
        pairs,
        pd.DataFrame({"tissue": "lung"}, index=lines),
        pd.DataFrame({"smiles": list(drugs.values()), "name": names}, index=pd.Index(list(drugs))),
        {"expression": pd.DataFrame({"A": np.linspace(1, 2, 40)}, index=lines)},
    )


def _highlights(svg: str) -> dict[int, str]:
    found = {}
    for each in ET.fromstring(svg).iter(f"{SVG}ellipse"):
        atom = re.fullmatch(r"atom-(\d+)", each.get("class", ""))
        assert atom is not None
        found[int(atom[1])] = re.search(r"fill:(#[0-9A-Fa-f]{6})", each.get("style", ""))[1]  # type: ignore[index]
    return found


def test_planted_atoms_are_found_and_listed_beside_their_drawing(samples: ResponseSamples) -> None:
    found = explain_atoms(Planted(), samples, seed=1)
    assert [drug.drug_id for drug in found][1:] == [drug.name for drug in found][1:] == ["S1:2", "S1:4"]
    assert found[0].drug_id in ("S1:1", "S2:1")  # one molecule, which stands once
    listed = table(found)
    assert list(drawings(found, UNIT)) == list(dict.fromkeys(listed["drawing"]))
    for (_, part), drug in zip(listed.groupby("drawing"), found, strict=True):
        oxygen = np.array(_symbols(drug.smiles)) == "O"
        assert (drug.contributions[oxygen] > 1).all() and not drug.contributions[~oxygen].any()
        assert drug.rows == LINES
        assert part["atom"].tolist() == list(range(len(drug.contributions)))
        assert part["element"].tolist() == _symbols(drug.smiles)
        assert part["contribution"].tolist() == drug.contributions.tolist()
    # Models without atoms and drugs without molecules explain nothing.
    assert explain_atoms(Known(), samples, seed=1) == []
    assert explain_atoms(Planted(), samples.take(samples.drug == 3), seed=1) == []
    assert drawings([], UNIT) == {} and table([]).empty


def test_colors_say_which_atoms_raise_and_which_lower_and_those_of_another_molecule_are_refused() -> None:
    contributions = np.array([0.4, -0.4, 0.2, *[0.0] * 9, -0.1])
    colors = _highlights(draw(DrugAtoms("S1:1", "aspirin", ASPIRIN, contributions, 7), UNIT))
    red = {atom: int(color[1:3], 16) - int(color[5:7], 16) for atom, color in colors.items()}
    assert sorted(red) == list(range(13))
    assert red[0] > red[2] > abs(red[3]) and red[1] < red[12] < -abs(red[3])
    assert abs(red[3]) < 10
    for smiles in (ASPIRIN, "no molecule", ""):
        with pytest.raises(ValueError, match="S1:1: 3 contributions do not fit"):
            draw(DrugAtoms("S1:1", "aspirin", smiles, np.array([0.1, 0.2, 0.3]), 7), UNIT)


def test_evidence_of_a_graph_network_has_atoms_and_drawings(tmp_path: Path) -> None:
    prepared = tiny_prepared(tmp_path / "raw")
    made = build(get_architecture("gnn", "pairs", "regression"), epochs=2)
    test = prepared.side("test")
    predicted = made.fit(prepared.side("train"), prepared.side("validation")).predict(test)
    predictions = test.pairs.assign(group=test.pairs["cell_line_id"], prediction=predicted)
    setting = pairs_setting(prepared, predictions, resamples=50, explained_samples=PerBudget(12, 12))
    found = explain_pairs(setting.run(made), UNIT)
    listed = found.tables["atoms"]
    assert set(listed["drug_id"]) <= set(prepared.side("test").drugs["smiles"].dropna().index)
    assert 1 < listed["drug_id"].nunique() <= DRUGS
    assert list(found.drawings) == list(dict.fromkeys(listed["drawing"]))
    for name, part in listed.groupby("drawing"):
        assert sorted(_highlights(found.drawings[str(name)])) == part["atom"].tolist()
