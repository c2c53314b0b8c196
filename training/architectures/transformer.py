"""Attention over panels of a cell line's genes, and over the tokens of a drug's SMILES."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from pipelines.samples.response import ResponseSamples
from training.architectures import architecture
from training.features.smiles_tokens import SmilesTokens
from training.networks.gene_modules import AdditiveAttention, WindowEmbedding
from training.networks.host import waits_for
from training.networks.ordered_response import OrderedResponseNetwork
from training.networks.pair_module import ACTIVATIONS, Head, PairModule
from training.networks.response_space import response_space

if TYPE_CHECKING:
    import optuna


def space(trial: optuna.Trial, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Draw hyperparameters."""
    return {
        "panels": trial.suggest_categorical("panels", [16, 32, 64]),
        "width": trial.suggest_categorical("width", [32, 64]),
        "heads": trial.suggest_categorical("heads", [2, 4]),
        "depth": trial.suggest_int("depth", 1, 3),
        "drug_depth": trial.suggest_int("drug_depth", 0, 2),
        **response_space(trial, settings, learning_rate=(2e-4, 4e-3), dropout=0.5, omics=("expression",)),
    }


_TOGETHER = 64  # molecules


class TransformerModule(PairModule):
    """A transformer encoder (Vaswani et al., 2017) over tokens of a line, another over tokens of a drug.

    A line's tokens are panels of genes that stand together in their order: the embedding of the panel plus a
    projection of its genes' values; one more tells its tissue. A drug's are those of its SMILES, each with its place;
    one more tells its features, and is all there is of a drug without SMILES. Attention pools either side.

    Parameters
    ----------
    order, others
        Columns of a line's features: the genes in their order, and what stands beside them.
    drug_width
        Number of a drug's features.
    length, kinds
        Tokens of a molecule, and how many kinds of them there are.
    panels
        Tokens of a line, at most.
    width, heads
        Of the attention.
    depth, drug_depth
        Layers over a line's and over a drug's tokens.
    head
        What joins the codes; activation and dropout are those of the encoders too.
    """

    order: Tensor
    others: Tensor

    def __init__(
        self,
        *,
        order: np.ndarray,
        others: np.ndarray,
        drug_width: int,
        length: int,
        kinds: int,
        panels: int,
        width: int,
        heads: int,
        depth: int,
        drug_depth: int,
        head: Head,
    ) -> None:
        super().__init__()
        self.register_buffer("order", torch.as_tensor(order), persistent=False)
        self.register_buffer("others", torch.as_tensor(others), persistent=False)

        def layer() -> nn.TransformerEncoderLayer:
            made = nn.TransformerEncoderLayer(
                width,
                heads,
                2 * width,
                head.dropout,
                ACTIVATIONS[head.activation](),
                batch_first=True,
                norm_first=True,
            )
            made.self_attn.dropout = 0.0  # of the attention weights: it would cost more than all else together
            return made

        self.panels = WindowEmbedding(len(order), math.ceil(len(order) / panels), width)
        self.tissue = nn.Linear(len(others), width)
        self.over_panels = nn.ModuleList(layer() for _ in range(depth))
        self.cell_pool = AdditiveAttention(width, heads)
        self.cell = nn.Sequential(nn.LayerNorm(heads * width), nn.Linear(heads * width, head.units))

        self.tokens = nn.Linear(kinds, width, bias=False)
        self.places = nn.Parameter(0.02 * torch.randn(length, width))
        self.features = nn.Linear(drug_width, width)
        self.over_tokens = nn.ModuleList(layer() for _ in range(drug_depth))
        self.drug_pool = AdditiveAttention(width, heads)
        self.drug = nn.Sequential(nn.LayerNorm(heads * width), nn.Linear(heads * width, head.units))
        self.hidden = head.build()

    def cell_code(self, cells: Tensor, *known: Tensor) -> Tensor:
        """Return a code a line, ``(lines, units)``."""
        states = torch.cat([self.tissue(cells[:, self.others])[:, None], self.panels(cells[:, self.order])], dim=1)
        for layer in self.over_panels:
            states = layer(states)
        return self.cell(self.cell_pool(states)[0])

    def drug_code(self, drugs: Tensor, *molecule: Tensor) -> Tensor:
        """Return a code a drug, ``(drugs, units)``; of its ``molecule`` the tokens' kinds and where any stands."""
        kinds, there = molecule
        if waits_for(there):
            return self._of_tokens(drugs, kinds, there)
        length = there.sum(dim=1)
        order = length.argsort(stable=True)
        # Molecules of like length go together: filled up to the longest of all they would cost twice as much.
        codes = [
            self._of_tokens(drugs[rows], kinds[rows, : length[rows[-1]]], there[rows, : length[rows[-1]]])
            for rows in order.split(_TOGETHER)
        ]
        return torch.cat(codes)[order.argsort()]

    def _of_tokens(self, drugs: Tensor, kinds: Tensor, there: Tensor) -> Tensor:
        places = self.places[: kinds.shape[1]]
        states = torch.cat([self.features(drugs)[:, None], self.tokens(kinds) + places], dim=1)
        there = nn.functional.pad(there, (1, 0), value=True)
        for layer in self.over_tokens:
            states = layer(states, src_key_padding_mask=~there)
        return self.drug(self.drug_pool(states, there)[0])


@architecture("pairs", "regression", space=space)
@dataclass(eq=False, repr=False, kw_only=True)
class Transformer(OrderedResponseNetwork):
    """`TransformerModule` on standardized genes and canonical SMILES; its vocabulary is that of the training drugs.

    Parameters
    ----------
    panels, width, heads, depth, drug_depth
        See `TransformerModule`.

    The others are those of `training.networks.response_network.ResponseNetwork`.
    """

    learning_rate: float = 2e-3
    batch_size: int = 2048
    dropout: float = 0.3
    panels: int = 32
    width: int = 32
    heads: int = 2
    depth: int = 1
    drug_depth: int = 1

    steps: ClassVar[int] = 32
    rows_at_once: ClassVar[int] = 1024

    def _learn(self, train: ResponseSamples) -> dict[str, Any]:
        smiles = train.drugs["smiles"].iloc[np.unique(train.drug)].tolist()
        return {**super()._learn(train), "tokens": SmilesTokens().fit(smiles).state()}

    @property
    def tokens(self) -> SmilesTokens:
        """Return the tokens that molecules are read as."""
        return SmilesTokens.from_state(self.learnt_["tokens"])

    @property
    def gene_panels(self) -> list[list[str]]:
        """Return the genes, ``<table>:<gene>``, of each panel."""
        genes = self.gene_order
        size = math.ceil(len(genes) / self.panels)
        return [genes[start : start + size] for start in range(0, len(genes), size)]

    def _molecules(self, drugs: pd.DataFrame) -> tuple[np.ndarray, ...]:
        return self.tokens.transform(drugs["smiles"].tolist())

    @property
    def _kinds(self) -> list[str]:
        return self.tokens.names

    def _module(self, cell_width: int, drug_width: int) -> TransformerModule:
        tokens = self.tokens
        return TransformerModule(
            order=self.learnt_["order"],
            others=self.learnt_["others"],
            drug_width=drug_width,
            length=tokens.length,
            kinds=len(tokens.names),
            panels=self.panels,
            width=self.width,
            heads=self.heads,
            depth=self.depth,
            drug_depth=self.drug_depth,
            head=self.head,
        )
