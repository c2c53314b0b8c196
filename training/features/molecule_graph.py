"""A molecule as a graph of atoms and bonds, each encoded as a row of zeros and ones."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np

from pipelines.samples.molecules import parse, without_salt
from training.estimator import Featurizer

NO_MOLECULE = "molecule:none"


@dataclass(frozen=True)
class _Property:
    """A property of an atom or a bond, encoded as a flag or as a column per value and one for all others."""

    name: str
    of: Callable[[Any], Any]
    values: tuple[Any, ...] | None = None

    @property
    def columns(self) -> list[str]:
        return [self.name] if self.values is None else [f"{self.name}_{value}" for value in (*self.values, "other")]

    def encode(self, part: Any) -> list[float]:
        value = self.of(part)
        if self.values is None:
            return [float(value)]
        place = self.values.index(value) if value in self.values else len(self.values)
        return [float(place == column) for column in range(len(self.values) + 1)]


def _handedness(atom: Any) -> str:
    """Return R or S, which unlike RDKit's own tag does not depend on the order of the neighbors."""
    return str(atom.GetProp("_CIPCode")) if atom.HasProp("_CIPCode") else "none"


_OF_ATOMS = (
    _Property("element", lambda atom: atom.GetSymbol(), ("B", "C", "N", "O", "F", "Si", "P", "S", "Cl", "Br", "I")),
    _Property("neighbors", lambda atom: atom.GetDegree(), (1, 2, 3, 4)),
    _Property("charge", lambda atom: atom.GetFormalCharge(), (-1, 0, 1)),
    _Property("hydrogens", lambda atom: atom.GetTotalNumHs(), (0, 1, 2, 3)),
    _Property("hybridization", lambda atom: str(atom.GetHybridization()), ("SP", "SP2", "SP3")),
    _Property("chirality", _handedness, ("none", "R", "S")),
    _Property("aromatic", lambda atom: atom.GetIsAromatic()),
    _Property("in_ring", lambda atom: atom.IsInRing()),
)
_OF_BONDS = (
    _Property("type", lambda bond: str(bond.GetBondType()), ("SINGLE", "DOUBLE", "TRIPLE", "AROMATIC")),
    _Property("stereo", lambda bond: str(bond.GetStereo()).removeprefix("STEREO"), ("NONE", "Z", "E")),
    _Property("conjugated", lambda bond: bond.GetIsConjugated()),
    _Property("in_ring", lambda bond: bond.IsInRing()),
)
ATOM_NAMES = [f"atom:{column}" for each in _OF_ATOMS for column in each.columns]
BOND_NAMES = [f"bond:{column}" for each in _OF_BONDS for column in each.columns]


def drawn_molecule(smiles: str | None) -> Any | None:
    """Return RDKit's molecule without counter-ions, atoms in the order of `molecule_graph`; None if there is none."""
    fragment = without_salt(smiles) if isinstance(smiles, str) else None
    return None if fragment is None else parse(fragment)


class Graph(NamedTuple):
    """Atoms ``(atoms, len(ATOM_NAMES))`` and bonds ``(bonds, len(BOND_NAMES))``, float32, and their ends."""

    atoms: np.ndarray
    bonds: np.ndarray
    ends: np.ndarray  # ``(bonds, 2)``


@lru_cache(maxsize=8192)
def molecule_graph(smiles: str | None) -> Graph | None:
    """Return the graph of a molecule, the same for any spelling of its SMILES, which is cached; None if it has none."""
    molecule = drawn_molecule(smiles)
    if molecule is None:
        return None
    atoms = [[number for each in _OF_ATOMS for number in each.encode(atom)] for atom in molecule.GetAtoms()]
    bonds = [[number for each in _OF_BONDS for number in each.encode(bond)] for bond in molecule.GetBonds()]
    ends = [(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()) for bond in molecule.GetBonds()]
    shaped = np.array(bonds, np.float32).reshape(-1, len(BOND_NAMES))
    return Graph(np.array(atoms, np.float32), shaped, np.array(ends, np.int64).reshape(-1, 2))


@dataclass
class MoleculeGraphs(Featurizer):
    """Graphs of drugs as arrays with a row per drug, centered and scaled by all atoms and bonds of training drugs."""

    arrays: ClassVar[tuple[str, ...]] = (
        "molecule_parts",
        "atom_mask",
        "bond_ends",
    )  # names of what `transform` returns

    atom_mean: np.ndarray = field(default_factory=lambda: np.zeros(len(ATOM_NAMES)))
    bond_mean: np.ndarray = field(default_factory=lambda: np.zeros(len(BOND_NAMES)))
    atom_scale: float = 1.0
    bond_scale: float = 1.0

    def fit(self, smiles: Sequence[str | None]) -> Self:
        """Learn the averages of the training drugs."""
        graphs = [graph for each in smiles if (graph := molecule_graph(each)) is not None]
        self.atom_mean, self.atom_scale = _center_and_scale([graph.atoms for graph in graphs], len(ATOM_NAMES))
        bonds = [graph.bonds.repeat(2, axis=0) for graph in graphs]  # once for each of its atoms
        self.bond_mean, self.bond_scale = _center_and_scale(bonds, len(BOND_NAMES))
        return self

    def transform(self, smiles: Sequence[str | None]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the parts of molecules, a mask of atoms ``(n, atoms)``, and the ends of bonds ``(n, bonds, 2)``.

        The parts, float32 ``(n, atoms + bonds, len(names))``, are atoms, then bonds, with zeros in the other's columns;
        the first part of a drug without a molecule says so. Absent bonds join -1.
        """
        graphs = [molecule_graph(each) for each in smiles]
        known = [graph for graph in graphs if graph is not None]
        atoms = max([1, *(len(graph.atoms) for graph in known)])
        bonds = max([0, *(len(graph.bonds) for graph in known)])
        parts = np.zeros((len(graphs), atoms + bonds, len(self.names)), np.float32)
        there = np.zeros((len(graphs), atoms), bool)
        ends = np.full((len(graphs), bonds, 2), -1)
        for row, graph in enumerate(graphs):
            if graph is None:
                parts[row, 0, -1] = 1
                continue
            count, joined = len(graph.atoms), len(graph.bonds)
            there[row, :count] = True
            ends[row, :joined] = graph.ends
            parts[row, :count, : len(ATOM_NAMES)] = (graph.atoms - self.atom_mean) / self.atom_scale
            of_bonds = (graph.bonds - self.bond_mean) / self.bond_scale
            parts[row, atoms : atoms + joined, len(ATOM_NAMES) : -1] = of_bonds
        return parts, there, ends

    @property
    def names(self) -> list[str]:
        """Return the names of the last axis of the parts."""
        return [*ATOM_NAMES, *BOND_NAMES, NO_MOLECULE]


def _center_and_scale(tables: list[np.ndarray], columns: int) -> tuple[np.ndarray, float]:
    """Return the mean of each column over all rows, and the root mean square of what is left; 0 and 1 without rows."""
    values = np.concatenate([np.zeros((0, columns)), *tables])
    if not len(values):
        return np.zeros(columns), 1.0
    mean = values.mean(axis=0)
    return mean, float(np.sqrt(np.square(values - mean).mean())) or 1.0


def by_atom(parts: np.ndarray, there: np.ndarray, ends: np.ndarray) -> list[np.ndarray]:
    """Distribute contributions of parts, ``(n, atoms + bonds)``, to atoms; a bond's is halved between its two."""
    atoms = there.shape[1]
    found = parts[:, :atoms].copy()
    molecule, bond = np.nonzero(ends[..., 0] >= 0)
    for end in range(2):
        np.add.at(found, (molecule, ends[molecule, bond, end]), parts[molecule, atoms + bond] / 2)
    return [values[known] for values, known in zip(found, there, strict=True)]
