"""Message passing over the atoms and bonds of molecules."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn
from torch_geometric.nn import GATv2Conv, GINEConv, global_add_pool

from training.features.molecule_graph import ATOM_NAMES, BOND_NAMES
from training.networks.host import waits_for
from training.networks.pair_module import ACTIVATIONS, Head, PairModule

_HEADS = 4


class MoleculeEncoder(nn.Module):
    """A code of each molecule: its atoms' states after some rounds of message passing, summed.

    The sum is divided by the square root of the number of atoms, so that codes of small and of large molecules spread
    alike.

    No layer has a constant, and every activation takes zero to zero: centered atoms and bonds that are all average
    (zero) have the code zero, whatever the shape of the molecule. The order of atoms does not matter.

    Parameters
    ----------
    width
        Of an atom's state, and of the code.
    depth
        Rounds of message passing: how many bonds far an atom looks.
    convolution
        ``gine`` (Hu et al., 2020, Strategies for pre-training graph neural networks) sums what neighbors send,
        ``gatv2`` (Brody et al., 2022, How attentive are graph attention networks?) weighs it. Both see the bond.
    activation, dropout
        After each round.
    """

    def __init__(self, *, width: int, depth: int, convolution: str, activation: str, dropout: float) -> None:
        super().__init__()
        self.atoms = nn.Linear(len(ATOM_NAMES), width, bias=False)
        self.bonds = nn.Linear(len(BOND_NAMES), width, bias=False)
        self.none = nn.Linear(1, width, bias=False)
        self.rounds = nn.ModuleList(_convolution(convolution, width, activation) for _ in range(depth))
        self.after = nn.Sequential(ACTIVATIONS[activation](), nn.Dropout(dropout))

    def forward(self, parts: Tensor, there: Tensor, ends: Tensor) -> Tensor:
        """Return a code a molecule, ``(molecules, width)``.

        Parameters
        ----------
        parts, there, ends
            See `training.features.molecule_graph.MoleculeGraphs.transform`.
        """
        places = there.shape[1]
        bonded = ends[..., 0] >= 0
        atoms = there.sum(dim=1, keepdim=True).clamp(min=1)
        none = self.none(parts[:, 0, -1:])
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
        """Return the sum of the atoms' states, ``(molecules, width)``, with the padding carried along.

        A bond that is none ties an atom that is none, behind all others, to itself.
        """
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
    """A molecule's encoder beside a branch for the cell line, and a head that joins the two.

    Parameters
    ----------
    cell_width, drug_width
        Numbers of features of a line, and of a drug besides its molecule.
    encoder
        Of the molecule.
    width
        Of its code.
    head
        What joins the codes.
    """

    def __init__(self, *, cell_width: int, drug_width: int, encoder: MoleculeEncoder, width: int, head: Head) -> None:
        super().__init__()
        self.cell = nn.Linear(cell_width, head.units)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # no weights: a drug may be told by its molecule alone
            self.drug = nn.Linear(drug_width, head.units, bias=False)
        self.encoder = encoder
        self.molecule = nn.Linear(width, head.units, bias=False)
        self.hidden = head.build()

    def cell_code(self, cells: Tensor, *known: Tensor) -> Tensor:
        """Return a code a line, ``(lines, units)``."""
        return self.cell(cells)

    def drug_code(self, drugs: Tensor, *molecule: Tensor) -> Tensor:
        """Return a code a drug, ``(drugs, units)``, of its features and its ``molecule``."""
        return self.drug(drugs) + self.molecule(self.encoder(*molecule))
