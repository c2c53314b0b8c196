"""A multilayer perceptron on the features of cell line and drug."""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from training.architectures import architecture, joined, ranges
from training.networks.response_network import PairModule, ResponseNetwork, Tensors, response_space

TITLE = "MLP"

SPACE = joined(
    ranges(components=[32, 64, 128]),
    partial(response_space, learning_rate=(1e-4, 5e-3), dropout=0.5, batch_sizes=(512, 1024, 2048, 4096)),
)


class PairNetwork(PairModule):
    """Hidden layers over ``[cell features, drug features]``; the first is split into one for each part."""

    def __init__(self, of: MLP, cell_width: int, drug_width: int) -> None:
        super().__init__()
        self.cell = nn.Linear(cell_width, of.units)
        self.drug = nn.Linear(drug_width, of.units, bias=False)
        self.hidden = of.head()

    def gathered(self, cells: Tensors, drugs: Tensors, cell: Tensor, drug: Tensor) -> Tensor:
        """Return `forward` on rows of ``cells`` and ``drugs``; encoding all is cheaper than finding the needed ones."""
        return self.joint(self.cell_code(*cells)[cell], self.drug_code(*drugs)[drug])


@architecture("pairs", "regression", space=SPACE)
class MLP(ResponseNetwork):
    """`PairNetwork` on standardized features."""

    components: int = 64  # of each omics table; 0 for none

    def _module(self, cell_width: int, drug_width: int) -> PairNetwork:
        return PairNetwork(self, cell_width, drug_width)
