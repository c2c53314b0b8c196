"""Convolutions along a cell line's genes, which stand in an order in which neighbors rise and fall together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from training.architectures import architecture
from training.networks.ordered_response import OrderedResponseNetwork
from training.networks.pair_module import Head, PairModule
from training.networks.response_space import response_space

if TYPE_CHECKING:
    import optuna

TITLE = "1D CNN"


def space(trial: optuna.Trial, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Draw hyperparameters."""
    return {
        "channels": trial.suggest_categorical("channels", [16, 32, 64]),
        "kernel": trial.suggest_categorical("kernel", [5, 9, 17]),
        "blocks": trial.suggest_int("blocks", 1, 3),
        **response_space(trial, settings, learning_rate=(3e-4, 6e-3), dropout=0.6, omics=("expression",)),
    }


_STRIDE = 4


class ConvolutionModule(PairModule):
    """Strided convolutions over ordered genes; what they give at each place is told apart, since a place is its genes.

    Parameters
    ----------
    order, others
        Columns of a line's features: the genes in their order, and what stands beside them.
    drug_width
        Number of a drug's features.
    channels, kernel, blocks
        Of the convolutions, each of which leaves a quarter of the places (Springenberg et al., 2015).
    head
        What joins the codes; activation and dropout are those of the convolutions too.
    """

    order: Tensor
    others: Tensor

    def __init__(
        self,
        *,
        order: np.ndarray,
        others: np.ndarray,
        drug_width: int,
        channels: int,
        kernel: int,
        blocks: int,
        head: Head,
    ) -> None:
        super().__init__()
        self.register_buffer("order", torch.as_tensor(order), persistent=False)
        self.register_buffer("others", torch.as_tensor(others), persistent=False)
        stack: list[nn.Module] = []
        places, width = len(order), 1
        for _ in range(blocks):
            stack += [
                nn.Conv1d(width, channels, kernel, stride=_STRIDE, padding=kernel // 2),
                nn.GroupNorm(1, channels),
                *head.activated(),
            ]
            places, width = (places + 2 * (kernel // 2) - kernel) // _STRIDE + 1, channels
        self.convolutions = nn.Sequential(*stack, nn.Flatten())
        self.cell = nn.Linear(width * places + len(others), head.units)
        self.drug = nn.Linear(drug_width, head.units, bias=False)
        self.hidden = head.build()

    def cell_code(self, cells: Tensor, *known: Tensor) -> Tensor:
        """Return a code a line, ``(lines, units)``."""
        along = self.convolutions(cells[:, None, self.order])
        return self.cell(torch.cat([along, cells[:, self.others]], dim=1))

    def drug_code(self, drugs: Tensor, *molecule: Tensor) -> Tensor:
        """Return a code a drug, ``(drugs, units)``."""
        return self.drug(drugs)


@architecture("pairs", "regression", space=space)
@dataclass(eq=False, repr=False, kw_only=True)
class Convolutional(OrderedResponseNetwork):
    """`ConvolutionModule` on standardized genes.

    Parameters
    ----------
    channels, kernel, blocks
        See `ConvolutionModule`.

    The others are those of `training.networks.response_network.ResponseNetwork`.
    """

    learning_rate: float = 2e-3
    batch_size: int = 2048
    dropout: float = 0.5
    channels: int = 32
    kernel: int = 9
    blocks: int = 2

    rows_at_once: ClassVar[int] = 1024

    def _module(self, cell_width: int, drug_width: int) -> ConvolutionModule:
        return ConvolutionModule(
            order=self.learnt_["order"],
            others=self.learnt_["others"],
            drug_width=drug_width,
            channels=self.channels,
            kernel=self.kernel,
            blocks=self.blocks,
            head=self.head,
        )
