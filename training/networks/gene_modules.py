"""Parts of networks on genes: dense layers, windows of genes, attention, and members that are averaged."""

import math
from typing import Any

import torch
from torch import Tensor, nn


class _Residual(nn.Module):
    """``h + dropout(silu(linear(normalized h)))`` (He et al., 2016, in the order of pre-activation)."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.step = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU(), nn.Dropout(dropout))

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden + self.step(hidden)


class DenseTrunk(nn.Module):
    """A dense layer and ``depth - 1`` residual blocks."""

    def __init__(self, *, genes: int, width: int, depth: int, dropout: float) -> None:
        super().__init__()
        self.features = width
        first = [nn.Linear(genes, width), nn.SiLU(), nn.Dropout(dropout)]
        self.layers = nn.Sequential(*first, *(_Residual(width, dropout) for _ in range(depth - 1)))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return ``(n, width)`` of ``(n, genes)``."""
        return self.layers(inputs)


class WindowEmbedding(nn.Module):
    """Maps each window of genes, padded with zeros, to a vector of ``width`` by its own linear map."""

    def __init__(self, genes: int, window: int, width: int) -> None:
        super().__init__()
        self.window = window
        self.steps = math.ceil(genes / window)
        self.weight = nn.Parameter(torch.randn(self.steps, window, width) / math.sqrt(window))
        self.bias = nn.Parameter(torch.zeros(self.steps, width))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return ``(n, steps, width)`` of ``(n, genes)``."""
        padded = nn.functional.pad(inputs, (0, self.steps * self.window - inputs.shape[1]))
        windows = padded.unflatten(1, (self.steps, self.window)).transpose(0, 1)
        return (torch.bmm(windows, self.weight) + self.bias[:, None]).transpose(0, 1)


class AdditiveAttention(nn.Module):
    """Additive attention (Bahdanau et al., 2015) of ``heads`` learned queries over the steps of a sequence."""

    def __init__(self, features: int, heads: int) -> None:
        super().__init__()
        self.energy = nn.Sequential(nn.Linear(features, features), nn.Tanh(), nn.Linear(features, heads, bias=False))

    def forward(self, states: Tensor, there: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the attended ``states`` ``(n, heads * features)``, and weights; ``there`` masks ``(n, steps)``."""
        energy = self.energy(states).float()
        if there is not None:
            energy = energy.masked_fill(~there[..., None], -torch.inf)
        weights = energy.softmax(dim=1)
        return torch.einsum("nsh,nsf->nhf", weights.to(states.dtype), states).flatten(1), weights


class GeneModule(nn.Module):
    """Members that each predict all targets, beside an untrained linear path if ``linear``, see `start_from`."""

    linear: Tensor | None

    def __init__(self, trunks: list[Any], *, genes: int, targets: int, dropout: float, linear: bool) -> None:
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
        others = (self.member(number, inputs) for number in range(1, len(self.trunks)))
        mean = sum(others, self.member(0, inputs)) / len(self.trunks)
        return mean if self.linear is None else mean + inputs @ self.linear
