"""What the networks of drug response have in common: lines and drugs are encoded apart, a light head joins a pair."""

from __future__ import annotations

import torch
from torch import Tensor, nn

Tensors = tuple[Tensor, ...]

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "silu": nn.SiLU}


def waits_for(tensor: Tensor) -> bool:
    """Whether shapes that depend on values of ``tensor`` make the host wait; then all rows are computed and masked."""
    return tensor.device.type != "cpu"


class PairModule(nn.Module):
    """A network from a cell line and a drug to one number.

    Codes of lines and drugs are computed once and gathered for pairs, so that deep encoders are affordable. Rows must
    be independent (no batch normalization). ``hidden`` takes the sum of a line's and a drug's code.
    """

    cell: nn.Module
    drug: nn.Module
    hidden: nn.Module

    def cell_code(self, cells: Tensor, *known: Tensor) -> Tensor:
        """Return a code per line, ``(lines, units)``, of its features ``(lines, width)`` and further inputs."""
        return self.cell(cells)

    def drug_code(self, drugs: Tensor, *molecule: Tensor) -> Tensor:
        """Return a code per drug, ``(drugs, units)``, of its features ``(drugs, width)`` and, if used, its molecule."""
        return self.drug(drugs)

    def joint(self, cell_code: Tensor, drug_code: Tensor) -> Tensor:
        """Return one number per pair, ``(n,)``, of the codes of its line and its drug, a row per pair."""
        return self.hidden(cell_code + drug_code).squeeze(-1)

    def forward(self, cells: Tensors, drugs: Tensors) -> Tensor:
        """Return one number per row, ``(n,)``, of tensors with a row per pair."""
        return self.joint(self.cell_code(*cells), self.drug_code(*drugs))

    def gathered(self, cells: Tensors, drugs: Tensors, cell: Tensor, drug: Tensor) -> Tensor:
        """Return `forward` on rows ``cell`` of ``cells`` and ``drug`` of ``drugs``, each encoded once.

        On a GPU all rows are encoded: a batch has most of them, and counting them would stop the host.
        """
        if waits_for(cell):
            return self.joint(self.cell_code(*cells)[cell], self.drug_code(*drugs)[drug])
        lines, line = torch.unique(cell, return_inverse=True)
        molecules, molecule = torch.unique(drug, return_inverse=True)
        from_cells = self.cell_code(*(each[lines] for each in cells))
        from_drugs = self.drug_code(*(each[molecules] for each in drugs))
        return self.joint(from_cells[line], from_drugs[molecule])
