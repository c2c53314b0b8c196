"""Cox's proportional hazards with dense layers in the place of the linear part (Faraggi and Simon, 1995)."""

from collections.abc import Callable
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from pipelines.samples.expression import ExpressionSamples
from pipelines.samples.survival import partial_loss
from training.architectures import Range, architecture, ranges
from training.estimator import Attribution, FitContext
from training.features.expression_profile import ProfileFeatures
from training.graphs import Formula, Graph
from training.graphs.profiles import profile_graph
from training.networks.loop import train_network
from training.networks.profile_network import ProfileNetwork

TITLE = "Cox MLP"

SPACE = ranges(
    selection=["all", "variance", "top_300", "top_1000"],
    width=[16, 64, 128],
    depth=Range(1, 2),
    dropout=Range(0.0, 0.6),
    noise=Range(0.0, 1.0),
    learning_rate=Range(1e-4, 3e-3, log=True),
    weight_decay=Range(0.1, 30.0, log=True),
)


@architecture("profiles", "survival", space=SPACE)
class CoxMLP(ProfileNetwork):
    """Dense layers to a log hazard; a row is compared with those of its batch that are at risk."""

    selection: str = "all"
    width: int = 64
    depth: int = 1
    dropout: float = 0.3
    noise: float = 0.5
    learning_rate: float = 5e-4
    weight_decay: float = 3.0
    batch_size: int = 64
    members: int = 3
    epochs: int = 60
    patience: int = 15

    starts = True
    fitted = ("mean",)

    def fit(self, train: ExpressionSamples, validation: Any = None, context: FitContext | None = None) -> Self:
        """Train; with ``validation`` the weights of the epoch of its lowest partial loss are kept."""
        context = context or FitContext()
        if context.start is None:
            self.begin(ProfileFeatures(self.selection).fit(train))
        else:
            self.restore(context.start)
        inputs = self.features_.transform(train)
        monitor = None
        if validation is not None and validation.target[:, 1].any():
            watched, (time, event) = self.features_.transform(validation), validation.target.T

            def monitor() -> dict[str, float]:
                return {"validation_loss": float(partial_loss(time, event, self._risk(watched)))}

        loss = self._loss(inputs, train.target)
        self.trained_ = train_network(self.network_, loss, len(train), monitor, settings=self, context=context)
        self.mean_ = float(self._risk(inputs).mean())
        return self

    def begin(self, features: ProfileFeatures) -> Self:
        """Set all that is learned before training, and make the network, with random weights."""
        self.features_, self.mean_ = features, 0.0
        torch.manual_seed(self.seed)
        self._make(len(features.genes), 1, linear=False)
        return self

    def _loss(self, inputs: np.ndarray, target: np.ndarray) -> Callable[[Tensor], Tensor]:
        genes = torch.as_tensor(inputs, device=self._device)
        time, event = torch.as_tensor(target, dtype=torch.float32, device=self._device).T

        def loss(rows: Tensor) -> Tensor:
            seen, later = self._noisy(genes[rows]), time[rows][None, :] >= time[rows][:, None]
            return self._mean_of_members(
                lambda number: batch_loss(self.network_.member(number, seen).float()[:, 0], later, event[rows])
            )

        return loss

    def _risk(self, inputs: np.ndarray) -> np.ndarray:
        return self._run(inputs)[:, 0] - self.mean_

    def predict(self, samples: ExpressionSamples) -> np.ndarray:
        """Return the log hazard relative to the training rows' mean, shape ``(n,)``."""
        return self._risk(self.features_.transform(samples))

    def graph(self, contract: Any) -> Graph:
        """See `Estimator.graph`."""
        return profile_graph(self.features_, contract, Formula(lambda risk: risk[:, 0] - self.mean_, self.network_))

    def attribute(self, samples: ExpressionSamples, output: np.ndarray | None = None) -> Attribution:
        """Return Integrated Gradients (Sundararajan et al., 2017) of the log hazard, from the mean training profile."""
        inputs = self.features_.transform(samples)
        values = self._integrated(inputs, np.zeros(len(inputs), dtype=np.int64))
        base = self._risk(np.zeros((1, inputs.shape[1]), np.float32)).repeat(len(inputs))
        return Attribution(list(self.features_.genes), values, base, self._risk(inputs), "integrated_gradients")


def batch_loss(risk: Tensor, later: Tensor, event: Tensor) -> Tensor:
    """Return the negative log partial likelihood per event; ``later[i, j]``: is row j at risk at the event of i?"""
    at_risk = torch.logsumexp(risk[None, :].masked_fill(~later, -torch.inf), dim=1)
    return ((at_risk - risk) * event).sum() / event.sum().clamp(min=1)
