"""Graphs of models on expression profiles, from expression to outputs."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pipelines.samples.expression import ExpressionSamples
from training.features.expression_profile import ProfileFeatures
from training.graphs import Formula, Graph


class FromProfiles(nn.Module):
    """`ProfileFeatures`, and what a model makes of them, ``then``."""

    def __init__(self, features: ProfileFeatures, genes: list[str], scale: str, then: nn.Module) -> None:
        super().__init__()
        place = {gene: number for number, gene in enumerate(genes)}
        self.register_buffer("index", torch.tensor([place[gene] for gene in features.genes]))
        for name in ("impute", "shift", "scale"):
            self.register_buffer(name, torch.as_tensor(getattr(features, name)))
        self.linear, self.clipped, self.then = scale == "linear", features.scaling == "min_max", then

    def forward(self, expression: Tensor) -> Tensor:
        """Return outputs of expression ``(n, genes)``, NaN where it is unknown."""
        values = expression[:, self.get_buffer("index")]
        values = torch.log2(values + 1) if self.linear else values
        impute, shift, scale = map(self.get_buffer, ("impute", "shift", "scale"))
        values = (torch.where(values.isnan(), impute, values) - shift) / scale
        return self.then(values.clamp(0, 1) if self.clipped else values)


def profile_graph(features: ProfileFeatures, contract: Any, then: nn.Module) -> Graph:
    """Return the graph of a model whose outputs ``then`` makes of `ProfileFeatures`."""
    genes, scale = list(contract.genes), contract.scale
    about = (
        f"expression of the {len(genes)} genes in inputs.json, in this order, on the scale {scale}; NaN where unknown"
    )

    def inputs(samples: ExpressionSamples) -> dict[str, np.ndarray]:
        return {"expression": samples.raw(genes).astype(np.float32, copy=False)}

    return Graph(FromProfiles(features, genes, scale, then), inputs, {"expression": about})


def profile_formula(features: ProfileFeatures, contract: Any, answer: Callable[..., Tensor], **constants: Any) -> Graph:
    """Return the graph of a model whose outputs are ``answer`` of float64 features and constants."""
    return profile_graph(features, contract, Formula(answer, **constants))
