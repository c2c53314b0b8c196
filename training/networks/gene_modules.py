"""Networks from genes to genes: dense layers, and recurrent layers over windows of genes, with attention or without."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

Cell = Literal["lstm", "gru"]
_CELLS: dict[Cell, type[nn.LSTM] | type[nn.GRU]] = {"lstm": nn.LSTM, "gru": nn.GRU}


class _Residual(nn.Module):
    """``h + dropout(silu(linear(normalized h)))`` (He et al., 2016, in the order of pre-activation)."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.step = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU(), nn.Dropout(dropout))

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden + self.step(hidden)


class DenseTrunk(nn.Module):
    """A dense layer and residual blocks.

    Parameters
    ----------
    genes
        Number of inputs.
    width, depth
        Units of a layer, and number of layers.
    dropout
        After every layer.
    """

    def __init__(self, *, genes: int, width: int, depth: int, dropout: float) -> None:
        super().__init__()
        self.features = width
        first = [nn.Linear(genes, width), nn.SiLU(), nn.Dropout(dropout)]
        self.layers = nn.Sequential(*first, *(_Residual(width, dropout) for _ in range(depth - 1)))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return ``(n, width)`` of ``(n, genes)``."""
        return self.layers(inputs)


class WindowEmbedding(nn.Module):
    """Cuts genes into windows and brings each, by a linear map of its own, to a vector.

    A window's map is its own because its genes are: the third gene of one has nothing to do with the third of another.

    Parameters
    ----------
    genes, window
        Number of inputs, and of those in a window; the last window is filled up with zeros.
    width
        Length of a window's vector.
    """

    def __init__(self, genes: int, window: int, width: int) -> None:
        super().__init__()
        self.window = window
        self.steps = math.ceil(genes / window)
        self.weight = nn.Parameter(torch.randn(self.steps, window, width) / math.sqrt(window))
        self.bias = nn.Parameter(torch.zeros(self.steps, width))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return ``(n, steps, width)`` of ``(n, genes)``."""
        padded = nn.functional.pad(inputs, (0, self.steps * self.window - inputs.shape[1]))
        windows = padded.view(len(inputs), self.steps, self.window).transpose(0, 1)
        return (torch.bmm(windows, self.weight) + self.bias[:, None]).transpose(0, 1)


class AdditiveAttention(nn.Module):
    """Additive attention (Bahdanau et al., 2015) of several learnt queries over the steps of a sequence.

    Parameters
    ----------
    features
        Of a step.
    heads
        Number of queries, each with weights of its own over the steps.
    """

    def __init__(self, features: int, heads: int) -> None:
        super().__init__()
        self.energy = nn.Sequential(nn.Linear(features, features), nn.Tanh(), nn.Linear(features, heads, bias=False))

    def forward(self, states: Tensor, there: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return what is attended to, ``(n, heads * features)``, and the weights, ``(n, steps, heads)``.

        ``states`` has the shape ``(n, steps, features)``; a head's weights sum to 1 over the steps. ``there``, bool,
        ``(n, steps)``, says which steps are read, in each row at least one; without it all are.
        """
        energy = self.energy(states).float()
        if there is not None:
            energy = energy.masked_fill(~there[..., None], -torch.inf)
        weights = energy.softmax(dim=1)
        return torch.einsum("nsh,nsf->nhf", weights.to(states.dtype), states).flatten(1), weights


class RecurrentTrunk(nn.Module):
    """A bidirectional LSTM (Hochreiter and Schmidhuber, 1997) or GRU (Cho et al., 2014) over windows of genes.

    Parameters
    ----------
    genes, window, embedding
        See `WindowEmbedding`.
    cell, width, depth
        Kind of cell, units of each direction, and number of layers.
    dropout
        Of embedded windows and between layers.
    heads
        Of `AdditiveAttention` over the steps; 0 takes the last states of both directions and the mean state.
    """

    def __init__(
        self,
        *,
        genes: int,
        window: int,
        embedding: int,
        cell: Cell,
        width: int,
        depth: int,
        dropout: float,
        heads: int,
    ) -> None:
        super().__init__()
        self.embedding = WindowEmbedding(genes, window, embedding)
        self.dropout = nn.Dropout(dropout)
        between = dropout if depth > 1 else 0.0
        self.recurrent = _CELLS[cell](embedding, width, depth, batch_first=True, bidirectional=True, dropout=between)
        self.pool = AdditiveAttention(2 * width, heads) if heads else None
        self.width = width
        self.features = 2 * width * (heads or 2)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return ``(n, features)`` of ``(n, genes)``."""
        states = self._states(inputs)
        if self.pool is not None:
            return self.pool(states)[0]
        ahead, back = states[:, -1, : self.width], states[:, 0, self.width :]
        return torch.cat([ahead, back, states.mean(dim=1)], dim=1)

    def attention(self, inputs: Tensor) -> Tensor:
        """Return the mean weight of each step over the heads, ``(n, steps)``."""
        if self.pool is None:
            raise TypeError("this network has no attention")
        return self.pool(self._states(inputs))[1].mean(dim=2)

    def _states(self, inputs: Tensor) -> Tensor:
        return self.recurrent(self.dropout(self.embedding(inputs)))[0]


Trunk = DenseTrunk | RecurrentTrunk


class GeneModule(nn.Module):
    """Members that each predict all targets, and a linear path beside them that is not trained.

    Parameters
    ----------
    trunks
        One a member; each has ``features``.
    genes, targets
        Numbers of inputs and outputs.
    dropout
        Before a member's last layer.
    linear
        Whether there is a linear path; its weights are given to `start_from`.
    """

    linear: Tensor | None

    def __init__(self, trunks: Sequence[Trunk], *, genes: int, targets: int, dropout: float, linear: bool) -> None:
        super().__init__()
        self.trunks = nn.ModuleList(trunks)
        self.heads = nn.ModuleList(nn.Linear(trunk.features, targets) for trunk in trunks)
        self.norms = nn.ModuleList(nn.Sequential(nn.LayerNorm(trunk.features), nn.Dropout(dropout)) for trunk in trunks)
        self.register_buffer("linear", torch.zeros(genes, targets) if linear else None)

    def start_from(self, weights: Tensor) -> None:
        """Take ``weights`` ``(genes, targets)`` for the linear path; the members then begin by adding nothing to it."""
        assert self.linear is not None
        self.linear.copy_(weights)
        for last in self.heads:
            nn.init.zeros_(last.get_parameter("weight"))
            nn.init.zeros_(last.get_parameter("bias"))

    def member(self, number: int, inputs: Tensor) -> Tensor:
        """Return what one member adds to the linear path, ``(n, targets)``."""
        return self.heads[number](self.norms[number](self.trunks[number](inputs)))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the mean prediction ``(n, targets)`` of ``(n, genes)``, both in standardized units."""
        total = self.member(0, inputs)
        for number in range(1, len(self.trunks)):
            total = total + self.member(number, inputs)
        mean = total / len(self.trunks)
        return mean if self.linear is None else mean + inputs @ self.linear

    def attention(self, inputs: Tensor) -> Tensor:
        """Return the mean weight of each step over heads and members, ``(n, steps)``."""
        parts = [trunk.attention(inputs) for trunk in self.trunks if isinstance(trunk, RecurrentTrunk)]
        return torch.stack(parts).mean(dim=0)
