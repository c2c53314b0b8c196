"""What would make a molecule's graph lie: the order of its atoms, its salt, a drug that has none, shares that leak."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rdkit import Chem

from pipelines.datasets import Prepared
from pipelines.samples.molecules import parent, without_salt
from tests.training.tiny import build, question
from training.estimator import Attribution
from training.features.molecule_graph import (
    ATOM_NAMES,
    BOND_NAMES,
    NO_MOLECULE,
    MoleculeGraphs,
    by_atom,
    drawn_molecule,
    molecule_graph,
)
from training.model.cross_fit import CrossFitted
from training.networks.molecule_encoder import MoleculeEncoder

ETHANOL, BENZENE, METHANE = "CCO", "c1ccccc1", "C"
MOLECULES = (
    *(ETHANOL, BENZENE, METHANE, "Cc1ccc(NC(=O)c2ccc(CN3CCN(C)CC3)cc2)cc1Nc1nccc(-c2cccnc2)n1"),
    "C[C@H](N)C(=O)O",  # alanine, one hand
    "F/C=C/C(=O)[O-]",  # a double bond with sides, a charge
    "CC(C)C[C@H](NC(=O)[C@H](Cc1ccccc1)NC(=O)c1cnccn1)B(O)O",  # bortezomib
    "O=S(=O)(c1ccc(Br)cc1)N1CC[N+](C)(C)CC1",
)


def _rows(smiles: str) -> list[list[Any]]:
    graph = molecule_graph(smiles)
    assert graph is not None
    return [each.tolist() for each in graph]


def _atoms(smiles: str, name: str) -> list[float]:
    return [atom[ATOM_NAMES.index(f"atom:{name}")] for atom in _rows(smiles)[0]]


# Graphs


def test_the_graph_of_ethanol() -> None:
    atoms, bonds, ends = _rows(ETHANOL)
    assert len(atoms) == 3 and ends == [[0, 1], [1, 2]]
    expected = {"element_C": [1, 1, 0], "element_O": [0, 0, 1], "neighbors_2": [0, 1, 0], "aromatic": [0, 0, 0]}
    expected |= {"hydrogens_3": [1, 0, 0], "hydrogens_2": [0, 1, 0], "hydrogens_1": [0, 0, 1], "in_ring": [0, 0, 0]}
    assert {name: _atoms(ETHANOL, name) for name in expected} == expected
    assert [bond[BOND_NAMES.index("bond:type_SINGLE")] for bond in bonds] == [1, 1]


def test_mirror_images_and_sides_of_double_bonds_are_told_apart_and_hands_are_the_chemists() -> None:
    for one, two in (("C[C@H](N)C(=O)O", "C[C@@H](N)C(=O)O"), ("F/C=C/F", "F/C=C\\F"), ("CC[NH3+]", "CCN")):
        assert _rows(one) != _rows(two)
    # The amino acids are all L: only cysteine's sulfur turns the name round.
    for smiles, hand in {"C[C@H](N)C(=O)O": "S", "N[C@@H](CS)C(=O)O": "R", "C[C@@H](N)C(=O)O": "R"}.items():
        assert {each: sum(_atoms(smiles, f"chirality_{each}")) for each in "RS"} == {"R": 0, "S": 0} | {hand: 1}


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(MOLECULES), st.integers(0, 2**31 - 1))
def test_how_a_molecule_is_spelled_changes_nothing_of_its_graph(smiles: str, seed: int) -> None:
    assert _rows(Chem.MolToRandomSmilesVect(Chem.MolFromSmiles(smiles), 1, randomSeed=seed)[0]) == _rows(smiles)


@pytest.mark.parametrize(
    ("salt", "free"),
    [("CCN.Cl", "CCN"), ("[Na+].CC(=O)[O-]", "CC(=O)[O-]"), ("C[C@H](N)C(=O)O.C[C@@H](N)C(=O)O", None)],
)
def test_counter_ions_are_left_out(salt: str, free: str | None) -> None:
    backwards = ".".join(reversed(salt.split(".")))
    assert without_salt(salt) == without_salt(backwards)
    assert _rows(salt) == _rows(backwards)
    if free is not None:
        assert _rows(salt) == _rows(free) and parent(salt) == parent(free)


@pytest.mark.parametrize("smiles", [None, "  ", "no molecule", "C(C)(C)(C)(C)C", "C" * 3000])
def test_what_is_no_molecule_has_no_graph(smiles: str | None) -> None:
    assert molecule_graph(smiles) is drawn_molecule(smiles) is None


def test_graphs_as_arrays_say_what_the_graphs_do() -> None:
    graphs = MoleculeGraphs().fit([ETHANOL, None, BENZENE])
    parts, there, ends = graphs.transform([ETHANOL, None, METHANE, BENZENE])
    assert there.sum(axis=1).tolist() == [3, 0, 1, 6] and (ends[..., 0] >= 0).sum(axis=1).tolist() == [2, 0, 0, 6]
    known: list[Any] = [molecule_graph(each) for each in (ETHANOL, BENZENE)]
    atoms, width = np.concatenate([graph.atoms for graph in known]), len(ATOM_NAMES)
    np.testing.assert_allclose(graphs.atom_mean, atoms.mean(axis=0))
    centered = parts[[0, 3], :6, :width][there[[0, 3]]]
    np.testing.assert_allclose(centered * graphs.atom_scale, atoms - graphs.atom_mean, rtol=0, atol=1e-6)
    assert float(np.square(centered).mean()) == pytest.approx(1, abs=1e-4)
    bonds = [graph.bonds for graph in known]
    np.testing.assert_allclose(graphs.bond_mean, np.concatenate(bonds).mean(axis=0))
    for row, values in zip((0, 3), bonds, strict=True):
        found = parts[row, 6 : 6 + len(values), width:-1] * graphs.bond_scale
        np.testing.assert_allclose(found, values - graphs.bond_mean, rtol=0, atol=1e-6)
    assert not parts[0, 3:6].any() and not parts[0, 6:, :width].any()
    assert np.argwhere(parts[..., -1]).tolist() == [[1, 0]] and parts[1, 0, -1] == 1
    assert graphs.names[-1] == NO_MOLECULE
    none = MoleculeGraphs().fit([None])  # no drug has a molecule
    parts, there, ends = none.transform([None, "nonsense"])
    assert parts.shape == (2, 1, len(none.names)) and not there.any() and ends.shape == (2, 0, 2)
    assert np.isfinite(none.atom_mean).all() and np.isfinite(none.bond_mean).all()


def test_what_a_bond_adds_is_halved_between_its_atoms() -> None:
    _, there, ends = MoleculeGraphs().transform([ETHANOL, None, METHANE])
    parts = np.array([[1, 2, 3, 10, 20], [7, 0, 0, 0, 0], [5, 0, 0, 0, 0]], dtype=float)
    assert ends[0].tolist() == [[0, 1], [1, 2]]
    assert [atoms.tolist() for atoms in by_atom(parts, there, ends)] == [[6, 17, 13], [], [5]]


# The encoder


@torch.no_grad()
def _encoded(arrays: tuple[np.ndarray, ...], convolution: str, activation: str = "silu") -> torch.Tensor:
    torch.manual_seed(0)
    encoder = MoleculeEncoder(width=16, depth=3, convolution=convolution, activation=activation, dropout=0.3).eval()
    return torch.as_tensor(encoder(*map(torch.as_tensor, arrays)))


@pytest.mark.parametrize("convolution", ["gine", "gatv2"])
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31 - 1))
def test_the_order_of_atoms_and_bonds_does_not_matter_to_the_encoder(convolution: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    parts, there, ends = MoleculeGraphs().fit(MOLECULES).transform(MOLECULES)
    shuffled, places = (parts.copy(), there.copy(), ends.copy()), there.shape[1]
    for row in range(len(MOLECULES)):
        atoms, bonds = rng.permutation(places), rng.permutation(ends.shape[1])  # moves the padding, too
        shuffled[0][row, atoms], shuffled[1][row, atoms] = parts[row, :places], there[row]
        shuffled[0][row, places + bonds] = parts[row, places:]
        moved = np.where(ends[row] >= 0, atoms[ends[row]], -1)
        shuffled[2][row, bonds] = moved[:, ::-1]  # and a bond's ends
    found = _encoded((parts, there, ends), convolution)
    torch.testing.assert_close(_encoded(shuffled, convolution), found, rtol=0, atol=1e-5)
    assert len(torch.unique(found.round(decimals=4), dim=0)) == len(MOLECULES)


@pytest.mark.parametrize(("convolution", "activation"), [("gine", "tanh"), ("gine", "silu"), ("gatv2", "silu")])
def test_joins_matter_and_other_molecules_or_an_unknown_one_s_shape_do_not(convolution: str, activation: str) -> None:
    graphs = MoleculeGraphs().fit(MOLECULES)
    parts, there, ends = graphs.transform(["CCCCCC(C)CO", "CCCC(C)CCCO"])  # the same atoms and bonds, joined otherwise
    one, two = _encoded((parts, there, ends), convolution, activation)
    np.testing.assert_allclose(np.sort(parts[0], axis=0), np.sort(parts[1], axis=0), rtol=1e-6, atol=1e-12)
    assert (one - two).abs().max() > 1e-4
    assert not _encoded((np.zeros_like(parts), there, ends), convolution, activation).any()
    every = [*MOLECULES, None]
    for smiles, code in zip(every, _encoded(graphs.transform(every), convolution, activation), strict=True):
        alone = _encoded(graphs.transform([smiles]), convolution, activation)[0]
        torch.testing.assert_close(alone, code, rtol=0, atol=1e-5)


# The model


@pytest.mark.parametrize("smiles", ["nonsense", METHANE, "[Xe]", "C" * 300])
def test_any_drug_is_answered_and_explained(fitted: Any, prepared: Prepared, smiles: str) -> None:
    model = fitted("gnn")
    asked, target = question(prepared.samples, line="NEW", drug="NEW", smiles=smiles), prepared.side("train").target
    assert abs(model.predict(asked)[0] - target.mean()) < 5 * target.std()
    attribution, (atoms,), molecule = model.attribute(asked), model.atom_attributions(asked), drawn_molecule(smiles)
    assert attribution.relative_error < 0.05
    assert len(atoms) == (0 if molecule is None else molecule.GetNumAtoms())
    assert bool(_of_molecule(attribution, NO_MOLECULE).any()) == (molecule is None)
    assert bool(_of_molecule(attribution, "atom:").any()) == (molecule is not None)


def _of_molecule(attribution: Attribution, *tables: str) -> Any:
    """Return the sum of the columns that begin so, ``(n,)``."""
    return attribution.values[:, [name.startswith(tables) for name in attribution.names]].sum(axis=1)


@pytest.mark.parametrize("convolution", ["gine", "gatv2"])
def test_what_atoms_add_is_what_the_molecule_adds(prepared: Prepared, convolution: str) -> None:
    model: Any = build("gnn", {"convolution": convolution}, epochs=3).fit(prepared.side("train"))
    test = prepared.side("test")
    attribution, atoms = model.attribute(test), model.atom_attributions(test)
    of_graph = _of_molecule(attribution, "atom:", "bond:")
    np.testing.assert_allclose([each.sum() for each in atoms], of_graph, rtol=0, atol=1e-6)
    assert np.abs(of_graph).mean() > 1e-3
    without = test.drugs["smiles"].isna().to_numpy()[test.drug]
    assert 0 < without.sum() < len(test) and [len(each) == 0 for each in atoms] == without.tolist()
    assert np.ptp(attribution.base) < 1e-6  # all drugs are told from one baseline


def test_an_ensemble_explains_by_the_mean_of_its_members(fitted: Any, prepared: Prepared) -> None:
    model, other = fitted("gnn"), build("gnn", epochs=1, seed=8).fit(prepared.side("train"))
    own, test = model.get_params(deep=False), prepared.side("test").take(np.arange(6))
    ensemble = CrossFitted(of="gnn", hyperparameters=own, modality="pairs", problem="regression")
    ensemble.members_ = [model, other]
    every: list[Any] = [each.atom_attributions(test) for each in (ensemble, model, other)]
    for mean, first, second in zip(*every, strict=True):
        np.testing.assert_allclose(mean, (first + second) / 2)
    ensemble.members_ = [build("mean_effects")]
    assert ensemble.atom_attributions(test) is None
