"""Cox's proportional hazards with dense layers in the place of the linear part (Faraggi and Simon, 1995)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Tensor

from pipelines.samples.expression import ExpressionSamples
from pipelines.samples.survival import partial_loss
from training.architectures import architecture
from training.device import network_device
from training.estimator import Attribution, Estimator, FitContext
from training.features.expression_profile import ProfileFeatures
from training.networks.gene_modules import DenseTrunk, GeneModule
from training.networks.loop import Trained, TrainingChoices, train_network

if TYPE_CHECKING:
    import optuna

_BATCH = 1024  # rows at a time where no gradient is kept
_STEPS = 20  # of Integrated Gradients, by Gauss-Legendre quadrature

TITLE = "Cox MLP"


def space(trial: optuna.Trial, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Draw hyperparameters."""
    return {
        "selection": trial.suggest_categorical("selection", ["all", "variance", "top_300", "top_1000"]),
        "width": trial.suggest_categorical("width", [16, 64, 128]),
        "depth": trial.suggest_int("depth", 1, 2),
        "dropout": trial.suggest_float("dropout", 0.0, 0.6),
        "noise": trial.suggest_float("noise", 0.0, 1.0),
        "learning_rate": trial.suggest_float("learning_rate", 1e-4, 3e-3, log=True),
        "weight_decay": trial.suggest_float("weight_decay", 0.1, 30.0, log=True),
    }


@architecture("profiles", "survival", space=space)
@dataclass(eq=False, repr=False, kw_only=True)
class CoxMLP(TrainingChoices, Estimator):
    """Dense layers to a log hazard, trained on the partial likelihood of batches.

    Parameters
    ----------
    selection
        See `ProfileFeatures`.
    width, depth, dropout
        Of `training.networks.gene_modules.DenseTrunk`.
    noise
        Standard deviation of Gaussian noise that is added to the standardized genes in training.
    learning_rate, weight_decay, batch_size
        See `LoopSettings`. A row is compared with those of its batch that are at risk.
    members
        Networks of different initial weights that are trained side by side and averaged.
    epochs, patience, seed, device
        As in ``params.yaml``.
    """

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

    def fit(
        self,
        train: ExpressionSamples,
        validation: ExpressionSamples | None = None,
        context: FitContext | None = None,
    ) -> Self:
        """Train; with ``validation`` the weights of the epoch of its lowest partial loss are kept."""
        self.features_ = ProfileFeatures(self.selection).fit(train)
        torch.manual_seed(self.seed)
        self._make(len(self.features_.genes))
        inputs = self.features_.transform(train)
        watched = validation is not None and validation.target[:, 1].any()
        self.mean_ = 0.0
        self.trained_: Trained = train_network(
            self.network_,
            self._loss(inputs, train.target),
            len(train),
            self._monitor(validation) if watched else None,  # type: ignore[arg-type]
            self.loop_settings,
            context or FitContext(),
        )
        self.mean_ = float(self._run(inputs).mean())
        return self

    def _make(self, genes: int) -> None:
        self._device = network_device(self.device)
        trunks = [
            DenseTrunk(genes=genes, width=self.width, depth=self.depth, dropout=self.dropout)
            for _ in range(self.members)
        ]
        self.network_ = GeneModule(trunks, genes=genes, targets=1, dropout=self.dropout, linear=False).to(self._device)

    def _loss(self, inputs: np.ndarray, target: np.ndarray) -> Callable[[Tensor], Tensor]:
        genes = torch.as_tensor(inputs, device=self._device)
        time, event = torch.as_tensor(target, dtype=torch.float32, device=self._device).T

        def loss(rows: Tensor) -> Tensor:
            seen, later = genes[rows], time[rows][None, :] >= time[rows][:, None]
            if self.noise > 0:
                seen = seen + self.noise * torch.randn_like(seen)
            each = [
                batch_loss(self.network_.member(number, seen).float()[:, 0], later, event[rows])
                for number in range(self.members)
            ]
            return torch.stack(each).mean()

        return loss

    def _monitor(self, validation: ExpressionSamples) -> Callable[[], dict[str, float]]:
        inputs, (time, event) = self.features_.transform(validation), validation.target.T
        return lambda: {"validation_loss": float(partial_loss(time, event, self._run(inputs)))}

    def _run(self, inputs: np.ndarray) -> np.ndarray:
        """Return log hazards ``(n,)``, in float32 on every device, so that attributions add up to them."""
        self.network_.eval()
        with torch.no_grad():
            parts = [
                self.network_(torch.as_tensor(inputs[start : start + _BATCH], device=self._device))[:, 0]
                for start in range(0, len(inputs), _BATCH)
            ]
        return np.concatenate([np.zeros(0), *(part.double().cpu().numpy() for part in parts)]) - self.mean_

    def predict(self, samples: ExpressionSamples) -> np.ndarray:
        """Return the log hazard relative to the training rows' mean, shape ``(n,)``."""
        return self._run(self.features_.transform(samples))

    def attribute(self, samples: ExpressionSamples, output: np.ndarray | None = None) -> Attribution:
        """Return Integrated Gradients (Sundararajan et al., 2017) of the log hazard, from the mean training profile."""
        from captum.attr import IntegratedGradients

        inputs = self.features_.transform(samples)
        values = np.zeros(inputs.shape)
        zero = torch.zeros(1, inputs.shape[1], device=self._device)
        self.network_.eval()
        explainer = IntegratedGradients(self.network_)
        for start in range(0, len(inputs), _BATCH // 4):
            rows = slice(start, start + _BATCH // 4)
            seen = torch.as_tensor(inputs[rows], device=self._device)
            found = explainer.attribute(seen, zero, target=0, n_steps=_STEPS, internal_batch_size=_BATCH)
            values[rows] = found.detach().double().cpu().numpy()
        base = self._run(np.zeros((1, inputs.shape[1]), np.float32))[0]
        genes = list(self.features_.genes)
        return Attribution(genes, values, np.full(len(inputs), base), self._run(inputs), "integrated_gradients")

    def cost(self) -> dict[str, float]:
        """Return parameters and multiply-adds of one prediction."""
        from torch.utils.flop_counter import FlopCounterMode

        network = copy.deepcopy(self.network_).to("meta")
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(torch.zeros(1, len(self.features_.genes), device="meta"))
        parameters = sum(each.numel() for each in self.network_.parameters())
        return {"parameters": parameters, "multiply_adds": counter.get_total_flops() / 2}

    def state(self) -> dict[str, Any]:
        """Return featurizer, mean and weights."""
        weights = {key: value.cpu().numpy() for key, value in self.network_.state_dict().items()}
        return {"features": self.features_.state(), "mean": self.mean_, "weights": weights}

    def restore(self, state: dict[str, Any]) -> Self:
        """Take on featurizer, mean and weights."""
        self.features_ = ProfileFeatures.from_state(state["features"])
        self.mean_ = state["mean"]
        self._make(len(self.features_.genes))
        self.network_.load_state_dict({key: torch.as_tensor(value) for key, value in state["weights"].items()})
        self.network_.eval()
        return self


def batch_loss(risk: Tensor, later: Tensor, event: Tensor) -> Tensor:
    """Return the negative log partial likelihood per event of the rows of a batch, ties after Breslow.

    Parameters
    ----------
    risk, event
        Shape ``(batch,)``; a batch without an event has a loss of 0.
    later
        Whether the row of a column is at risk when that of a row has its event, bool, ``(batch, batch)``.
    """
    at_risk = torch.logsumexp(risk[None, :].masked_fill(~later, -torch.inf), dim=1)
    return ((at_risk - risk) * event).sum() / event.sum().clamp(min=1)
