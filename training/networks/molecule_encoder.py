"""Message passing over the atoms and bonds of molecules."""

import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.nn import GATv2Conv, GINEConv, global_add_pool

from training.features.molecule_graph import ATOM_NAMES, BOND_NAMES
from training.networks.response_network import ACTIVATIONS, PairModule, waits_for

_HEADS = 4


class MoleculeEncoder(nn.Module):
    """The code of each molecule: the sum of its atoms' states over the square root of their number.

    ``gine`` (Hu et al., 2020) sums messages of neighbors, ``gatv2`` (Brody et al., 2022) weighs them. There are no
    biases, so that centered atoms and bonds of zero have the code zero.
    """

    def __init__(self, *, width: int, depth: int, convolution: str, activation: str, dropout: float) -> None:
        super().__init__()
        self.atoms = nn.Linear(len(ATOM_NAMES), width, bias=False)
        self.bonds = nn.Linear(len(BOND_NAMES), width, bias=False)
        self.none = nn.Linear(1, width, bias=False)
        self.rounds = nn.ModuleList(_convolution(convolution, width, activation) for _ in range(depth))
        self.after = nn.Sequential(ACTIVATIONS[activation](), nn.Dropout(dropout))

    def forward(self, parts: Tensor, there: Tensor, ends: Tensor) -> Tensor:
        """Return a code per molecule, ``(molecules, width)``, of what `MoleculeGraphs.transform` returns."""
        places = there.shape[1]
        bonded = ends[..., 0] >= 0
        atoms, none = there.sum(dim=1, keepdim=True).clamp(min=1), self.none(parts[:, 0, -1:])
        if waits_for(parts):
            return self._padded(parts, there, ends, bonded) / atoms.sqrt() + none
        # One graph of all molecules, without the padding: atoms are numbered through.
        number = there.flatten().cumsum(0) - 1
        first = torch.arange(len(there), device=there.device) * places
        forth = number[(ends + first[:, None, None])[bonded]].T
        edges = torch.cat([forth, forth.flip(0)], dim=1)
        bonds = self.bonds(parts[:, places:, len(ATOM_NAMES) : -1][bonded]).repeat(2, 1)
        states = self.atoms(parts[:, :places, : len(ATOM_NAMES)][there])
        for passed in self.rounds:
            states = states + self.after(passed(states, edges, bonds))
        pooled = global_add_pool(states, there.nonzero()[:, 0], len(there))
        return pooled / atoms.sqrt() + none

    def _padded(self, parts: Tensor, there: Tensor, ends: Tensor, bonded: Tensor) -> Tensor:
        """Return the sum of the atoms' states, ``(molecules, width)``; absent bonds join an absent atom to itself."""
        molecules, places = there.shape
        first = torch.arange(molecules, device=there.device) * places
        numbered = torch.where(bonded[..., None], ends + first[:, None, None], molecules * places)
        forth = numbered.flatten(0, 1).T
        edges = torch.cat([forth, forth.flip(0)], dim=1)
        bonds = self.bonds(parts[:, places:, len(ATOM_NAMES) : -1]).flatten(0, 1).repeat(2, 1)
        states = self.atoms(parts[:, :places, : len(ATOM_NAMES)]).flatten(0, 1)
        states = torch.cat([states, torch.zeros_like(states[:1])])
        for passed in self.rounds:
            states = states + self.after(passed(states, edges, bonds))
        return (states[:-1].unflatten(0, (molecules, places)) * there[..., None]).sum(dim=1)


def _convolution(name: str, width: int, activation: str) -> nn.Module:
    if name == "gatv2":
        return GATv2Conv(width, width // _HEADS, _HEADS, edge_dim=width, add_self_loops=False, bias=False)
    first, second = (nn.Linear(width, width, bias=False) for _ in range(2))
    return GINEConv(nn.Sequential(first, ACTIVATIONS[activation](), second))


class MoleculeModule(PairModule):
    """A molecule's encoder beside a layer for the cell line, as `training.architectures.gnn.GNN` declares them."""

    def __init__(self, of: Any, cell_width: int, drug_width: int) -> None:
        super().__init__()
        shape: dict[str, Any] = {"width": of.width, "depth": of.depth, "convolution": of.convolution}
        encoder = MoleculeEncoder(**shape, activation=of.activation, dropout=of.dropout)
        self.cell = nn.Linear(cell_width, of.units)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # no weights: a drug may have no features besides its molecule
            self.drug = nn.Linear(drug_width, of.units, bias=False)
        self.encoder = encoder
        self.molecule = nn.Linear(of.width, of.units, bias=False)
        self.hidden = of.head()

    def drug_code(self, drugs: Tensor, *molecule: Tensor) -> Tensor:
        """Return a code per drug, ``(drugs, units)``, of its features and its ``molecule``."""
        return self.drug(drugs) + self.molecule(self.encoder(*molecule))
