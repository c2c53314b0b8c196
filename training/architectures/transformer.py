"""Attention over panels of a cell line's genes, and over the tokens of a drug's SMILES."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from pipelines.samples.molecules import canonical
from training.architectures import Range, architecture, joined, ranges
from training.estimator import Featurizer
from training.networks import response_network
from training.networks.gene_modules import AdditiveAttention, WindowEmbedding
from training.networks.ordered_response import OrderedModule, OrderedResponseNetwork
from training.networks.response_network import ACTIVATIONS

# Of OpenSMILES: atoms in brackets, the organic subset, bonds, branches, ring closures, dots; then whatever is left.
_TOKEN = re.compile(r"\[[^][]*\]|Br|Cl|[BCNOPSFI]|[bcnops]|\*|[-=#$:/\\]|[().]|%\d\d|\d|.")
_KNOWN_FROM = 2  # training molecules with a token; rarer ones count as unknown, whose weights are thereby trained


def tokens_of(smiles: str | None) -> list[str]:
    """Return the tokens of the canonical SMILES; none where there is no SMILES or it cannot be parsed."""
    spelled = canonical(smiles) if isinstance(smiles, str) else None
    return [] if spelled is None else _TOKEN.findall(spelled)


@dataclass
class SmilesTokens(Featurizer):
    """The vocabulary of the training drugs' SMILES, padded to the longest of them; token 0 is any other."""

    arrays: ClassVar[tuple[str, ...]] = ("tokens", "token_mask")  # names of what `transform` returns

    longest: int = 100  # tokens of a molecule that are read, at most
    vocabulary: list[str] = field(default_factory=list)
    length: int = 1

    def fit(self, smiles: Sequence[str | None]) -> Self:
        """Learn the vocabulary of the training drugs."""
        found = [tokens_of(each) for each in smiles]
        count = Counter(token for tokens in found for token in set(tokens))
        self.vocabulary = sorted(token for token, times in count.items() if times >= _KNOWN_FROM)
        self.length = min(self.longest, max([1, *map(len, found)]))
        return self

    def transform(self, smiles: Sequence[str | None]) -> tuple[np.ndarray, np.ndarray]:
        """Return one-hot tokens, float32 ``(n, length, 1 + len(vocabulary))``, and their mask, ``(n, length)``."""
        number = {token: 1 + index for index, token in enumerate(self.vocabulary)}
        kinds = np.zeros((len(smiles), self.length, 1 + len(number)), np.float32)
        for row, each in enumerate(smiles):
            for place, token in enumerate(tokens_of(each)[: self.length]):
                kinds[row, place, number.get(token, 0)] = 1
        return kinds, np.asarray(kinds.any(axis=2))

    @property
    def names(self) -> list[str]:
        """Return the names of the last axis of `transform`."""
        return [f"token:{token}" for token in ("unknown", *self.vocabulary)]


SPACE = joined(
    ranges(panels=[16, 32, 64], width=[32, 64], heads=[2, 4], depth=Range(1, 3), drug_depth=Range(0, 2)),
    partial(response_network.response_space, learning_rate=(2e-4, 4e-3), dropout=0.5, omics=("expression",)),
)

_TOGETHER = 64  # molecules


class TransformerModule(OrderedModule):
    """A transformer encoder (Vaswani et al., 2017) over panels of ordered genes and a tissue, another over a SMILES."""

    def __init__(self, of: Transformer, drug_width: int) -> None:
        super().__init__(of)
        width, heads, tokens = of.width, of.heads, of.molecules

        def layer() -> nn.TransformerEncoderLayer:
            shape = (width, heads, 2 * width, of.dropout, ACTIVATIONS[of.activation]())
            made = nn.TransformerEncoderLayer(*shape, batch_first=True, norm_first=True)
            made.self_attn.dropout = 0.0  # of the attention weights: it would cost more than all else together
            return made

        self.panels = WindowEmbedding(len(self.order), math.ceil(len(self.order) / of.panels), width)
        self.tissue = nn.Linear(len(self.others), width)
        self.over_panels = nn.ModuleList(layer() for _ in range(of.depth))
        self.cell_pool = AdditiveAttention(width, heads)
        self.cell = nn.Sequential(nn.LayerNorm(heads * width), nn.Linear(heads * width, of.units))

        self.tokens = nn.Linear(len(tokens.names), width, bias=False)
        self.places = nn.Parameter(0.02 * torch.randn(tokens.length, width))
        self.features = nn.Linear(drug_width, width)
        self.over_tokens = nn.ModuleList(layer() for _ in range(of.drug_depth))
        self.drug_pool = AdditiveAttention(width, heads)
        self.drug = nn.Sequential(nn.LayerNorm(heads * width), nn.Linear(heads * width, of.units))
        self.hidden = of.head()

    def cell_code(self, cells: Tensor, *known: Tensor) -> Tensor:
        """Return a code per line, ``(lines, units)``."""
        states = torch.cat([self.tissue(cells[:, self.others])[:, None], self.panels(cells[:, self.order])], dim=1)
        for layer in self.over_panels:
            states = layer(states)
        return self.cell(self.cell_pool(states)[0])

    def drug_code(self, drugs: Tensor, *molecule: Tensor) -> Tensor:
        """Return a code per drug, ``(drugs, units)``; ``molecule`` are one-hot tokens and their mask."""
        kinds, there = molecule
        if response_network.waits_for(there):
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


@architecture("pairs", "regression", space=SPACE)
class Transformer(OrderedResponseNetwork):
    """`TransformerModule` on standardized genes and canonical SMILES; activation and dropout are those of the head."""

    learning_rate: float = 2e-3
    batch_size: int = 2048
    dropout: float = 0.3
    panels: int = 32  # tokens of a line, at most
    width: int = 32
    heads: int = 2
    depth: int = 1  # layers over a line's tokens
    drug_depth: int = 1  # layers over a drug's tokens

    steps: ClassVar[int] = 32
    rows_at_once: ClassVar[int] = 1024
    reader = ("tokens", SmilesTokens)

    def _module(self, cell_width: int, drug_width: int) -> TransformerModule:
        return TransformerModule(self, drug_width)
