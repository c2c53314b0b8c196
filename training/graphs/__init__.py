"""Fitted models as modules of PyTorch on named arrays, as they are exported."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Graph:
    """A fitted model in evaluation mode on the CPU.

    ``module`` takes tensors of ``inputs``, by position, a row per sample, and returns `Estimator.outputs`: the
    predicted target ``(n,)`` or ``(n, targets)``, or probabilities ``(n, classes)``, float64.
    """

    module: nn.Module
    inputs: Callable[[Any], dict[str, np.ndarray]]  # arrays of samples by name, a row per sample
    about: Mapping[str, str]  # what each input holds
    shared: bool = True  # whether models that were fitted on other rows take the same inputs
    ragged: tuple[str, ...] = ()  # inputs of which other axes than the first may be longer or shorter, too


class Formula(nn.Module):
    """A function of what ``inner`` returns, in float64, and of constants, by name."""

    def __init__(self, function: Callable[..., Tensor], inner: nn.Module | None = None, **constants: Any) -> None:
        super().__init__()
        self.function, self.inner, self.names = function, inner or nn.Identity(), list(constants)
        for name, value in constants.items():
            self.register_buffer(name, torch.as_tensor(value, dtype=torch.float64))

    def forward(self, *given: Tensor) -> Tensor:
        """Return the function's value."""
        return self.function(self.inner(*given).double(), **{name: getattr(self, name) for name in self.names})


class Mean(nn.Module):
    """The mean of models, each of which takes ``counts`` of the inputs in turn; all inputs, where that is None."""

    def __init__(self, members: Sequence[nn.Module], counts: Sequence[int] | None) -> None:
        super().__init__()
        self.members, self.counts = nn.ModuleList(members), counts

    def forward(self, *given: Tensor) -> Tensor:
        """Return the mean of the members' outputs."""
        ends = np.cumsum(self.counts or [0] * len(self.members)).tolist()
        starts = [0, *ends[:-1]]
        parts = [given[start:end] if self.counts else given for start, end in zip(starts, ends, strict=True)]
        outputs = [member(*part) for member, part in zip(self.members, parts, strict=True)]
        return torch.stack(outputs).mean(dim=0)


def mean(graphs: Sequence[Graph]) -> Graph:
    """Return the graph of the mean of models; inputs that differ between them are numbered."""
    modules = [graph.module for graph in graphs]
    if graphs[0].shared:
        return Graph(Mean(modules, None), graphs[0].inputs, graphs[0].about)
    about = {f"{name}_{number}": text for number, each in enumerate(graphs) for name, text in each.about.items()}

    def inputs(samples: Any) -> dict[str, np.ndarray]:
        parts = [graph.inputs(samples) for graph in graphs]
        return {f"{name}_{number}": part[name] for number, part in enumerate(parts) for name in part}

    ragged = tuple(f"{name}_{number}" for number, graph in enumerate(graphs) for name in graph.ragged)
    return Graph(Mean(modules, [len(graph.about) for graph in graphs]), inputs, about, shared=False, ragged=ragged)
