"""Convolutions along a cell line's genes, in an order in which neighbors correlate."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from training.architectures import Range, architecture, joined, ranges
from training.networks.ordered_response import OrderedModule, OrderedResponseNetwork
from training.networks.response_network import response_space

TITLE = "1D CNN"

SPACE = joined(
    ranges(channels=[16, 32, 64], kernel=[5, 9, 17], blocks=Range(1, 3)),
    partial(response_space, learning_rate=(3e-4, 6e-3), dropout=0.6, omics=("expression",)),
)

_STRIDE = 4  # each convolution keeps a quarter of the positions (Springenberg et al., 2015)


class ConvolutionModule(OrderedModule):
    """Strided convolutions over ordered genes, flattened, since a position is a gene."""

    def __init__(self, of: Convolutional, drug_width: int) -> None:
        super().__init__(of)
        stack: list[nn.Module] = []
        places, width = len(self.order), 1
        for _ in range(of.blocks):
            stack += [
                nn.Conv1d(width, of.channels, of.kernel, stride=_STRIDE, padding=of.kernel // 2),
                nn.GroupNorm(1, of.channels),
                *of.activated(),
            ]
            places, width = (places + 2 * (of.kernel // 2) - of.kernel) // _STRIDE + 1, of.channels
        self.convolutions = nn.Sequential(*stack, nn.Flatten())
        self.cell = nn.Linear(width * places + len(self.others), of.units)
        self.drug = nn.Linear(drug_width, of.units, bias=False)
        self.hidden = of.head()

    def cell_code(self, cells: Tensor, *known: Tensor) -> Tensor:
        """Return a code per line, ``(lines, units)``."""
        return self.cell(torch.cat([self.convolutions(cells[:, None, self.order]), cells[:, self.others]], dim=1))


@architecture("pairs", "regression", space=SPACE)
class Convolutional(OrderedResponseNetwork):
    """`ConvolutionModule` on standardized genes; activation and dropout are those of the head."""

    learning_rate: float = 2e-3
    batch_size: int = 2048
    dropout: float = 0.5
    channels: int = 32
    kernel: int = 9
    blocks: int = 2

    rows_at_once: ClassVar[int] = 1024

    def _module(self, cell_width: int, drug_width: int) -> ConvolutionModule:
        return ConvolutionModule(self, drug_width)
