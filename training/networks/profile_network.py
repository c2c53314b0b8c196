"""Networks on standardized expression profiles: several members, trained side by side and averaged."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from training.device import network_device
from training.features.expression_profile import ProfileEstimator
from training.networks.gene_modules import DenseTrunk, GeneModule
from training.networks.loop import TrainingChoices, cost_of, integrated_gradients, restore_weights, weights_of

_BATCH = 1024  # rows at a time where no gradient is kept
_STEPS = 20  # of Integrated Gradients, by Gauss-Legendre quadrature


@dataclass(eq=False, repr=False, kw_only=True)
class ProfileNetwork(TrainingChoices, ProfileEstimator):
    """A network on genes."""

    width: int  # units of a layer
    depth: int  # number of layers
    dropout: float
    noise: float  # standard deviation, added to the standardized genes in training
    members: int  # networks of different initial weights

    def _trunk(self, genes: int) -> nn.Module:
        return DenseTrunk(genes=genes, width=self.width, depth=self.depth, dropout=self.dropout)

    def _make(self, genes: int, outputs: int, *, linear: bool) -> None:
        self._device = network_device(self.device)
        trunks = [self._trunk(genes) for _ in range(self.members)]
        network = GeneModule(trunks, genes=genes, targets=outputs, dropout=self.dropout, linear=linear)
        self.network_: GeneModule = network.to(self._device)

    def _noisy(self, genes: Tensor) -> Tensor:
        return genes + self.noise * torch.randn_like(genes) if self.noise > 0 else genes

    def _mean_of_members(self, loss: Callable[[int], Tensor]) -> Tensor:
        return torch.stack([loss(number) for number in range(self.members)]).mean()

    def _run(self, inputs: np.ndarray) -> np.ndarray:
        """Return ``(n, outputs)``; in float32 on every device, so that attributions add up to them."""
        self.network_.eval()
        with torch.no_grad():
            given = torch.as_tensor(inputs, device=self._device).split(_BATCH) if len(inputs) else ()
            parts = [self.network_(part) for part in given]
        outputs = len(self.network_.get_parameter("heads.0.bias"))
        return np.concatenate([np.zeros((0, outputs)), *(part.double().cpu().numpy() for part in parts)])

    def _integrated(self, inputs: np.ndarray, output: np.ndarray) -> np.ndarray:
        """Return Integrated Gradients (Sundararajan et al., 2017) of one output per row, from the mean profile."""
        self.network_.eval()
        seen, zero = torch.as_tensor(inputs, device=self._device), torch.zeros(1, inputs.shape[1], device=self._device)
        how = {"steps": _STEPS, "rows": _BATCH // 4, "batch": _BATCH}
        with torch.backends.cudnn.flags(enabled=False):  # whose recurrent layers have no backward pass in evaluation
            return integrated_gradients(self.network_, seen, zero, output, **how)

    def cost(self) -> dict[str, float]:
        """Return parameters and multiply-adds of one prediction."""
        linear = self.network_.linear
        network = copy.deepcopy(self.network_).to("meta")  # where no recurrent layer is fused, which would not count
        cost = cost_of(network, torch.zeros(1, len(self.features_.genes), device="meta"))
        return cost | ({} if linear is None else {"parameters": cost["parameters"] + linear.numel()})

    def state(self) -> dict[str, Any]:
        """Return what was learned, and weights."""
        return {**super().state(), "weights": weights_of(self.network_)}

    def restore(self, state: dict[str, Any]) -> Self:
        """Restore what `state` returned."""
        super().restore(state)
        last = state["weights"]["heads.0.weight"]
        self._make(len(self.features_.genes), len(last), linear="linear" in state["weights"])
        restore_weights(self.network_, state["weights"])
        return self
