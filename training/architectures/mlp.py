"""A multilayer perceptron on the features of cell line and drug."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from pipelines.samples import ResponseSamples
from training.architectures import architecture
from training.device import torch_device
from training.estimator import Attribution, Estimator, FitContext
from training.features.cell_line import CellLineFeatures
from training.features.drug import DrugFeatures
from training.features.pair import PairFeatures, PairMatrix
from training.networks.loop import LoopSettings, autocast, train_network

if TYPE_CHECKING:
    import optuna

_ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "silu": nn.SiLU}


def space(trial: optuna.Trial, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Draw hyperparameters."""
    return {
        "learning_rate": trial.suggest_float("learning_rate", 1e-4, 5e-3, log=True),
        "layers": trial.suggest_int("layers", 1, 3),
        "units": trial.suggest_categorical("units", [64, 128, 256]),
        "activation": trial.suggest_categorical("activation", ["relu", "tanh", "silu"]),
        "dropout": trial.suggest_float("dropout", 0.0, 0.5),
        "batch_size": trial.suggest_categorical("batch_size", [512, 1024, 2048, 4096]),
        "weight_decay": trial.suggest_float("weight_decay", 1e-4, 1.0, log=True),
        "components": trial.suggest_categorical("components", [32, 64, 128]),
        "omics": trial.suggest_categorical("omics", ["expression", "all"]),
        "identity": trial.suggest_categorical("identity", ["profile", "one_hot", "none"]),
    }


DEFAULTS = {
    "learning_rate": 1e-3,
    "layers": 2,
    "units": 256,
    "activation": "silu",
    "dropout": 0.2,
    "batch_size": 1024,
    "weight_decay": 0.05,
    "components": 64,
    "omics": "expression",
    "identity": "profile",
}


class PairNetwork(nn.Module):
    """Hidden layers over ``[cell features, drug features]``.

    The first layer is kept as two, one for each part: its product with a cell line is the same in all of the line's
    pairs, so it is computed once a line and once a drug in a batch and then gathered.

    Parameters
    ----------
    cell_width, drug_width
        Numbers of features.
    layers, units, activation, dropout
        Hidden layers.
    """

    def __init__(
        self, cell_width: int, drug_width: int, layers: int, units: int, activation: str, dropout: float
    ) -> None:
        super().__init__()
        self.cell = nn.Linear(cell_width, units)
        self.drug = nn.Linear(drug_width, units, bias=False)
        hidden: list[nn.Module] = [_ACTIVATIONS[activation](), nn.Dropout(dropout)]
        for _ in range(layers - 1):
            hidden += [nn.Linear(units, units), _ACTIVATIONS[activation](), nn.Dropout(dropout)]
        self.hidden = nn.Sequential(*hidden, nn.Linear(units, 1))

    def forward(self, cells: Tensor, drugs: Tensor) -> Tensor:
        """Return one number a row; ``cells`` ``(n, cell_width)``, ``drugs`` ``(n, drug_width)``."""
        return self.hidden(self.cell(cells) + self.drug(drugs)).squeeze(-1)

    def gathered(self, cells: Tensor, drugs: Tensor, cell: Tensor, drug: Tensor) -> Tensor:
        """Return what `forward` does on rows ``cell`` of ``cells`` and ``drug`` of ``drugs``."""
        return self.hidden(self.cell(cells)[cell] + self.drug(drugs)[drug]).squeeze(-1)


@architecture("mlp", space=space, defaults=DEFAULTS)
class MLP(Estimator):
    """`PairNetwork` on standardized features; it learns what a line adds to the drug's mean."""

    def __init__(
        self,
        learning_rate: float = 1e-3,
        layers: int = 2,
        units: int = 256,
        activation: str = "silu",
        dropout: float = 0.2,
        batch_size: int = 1024,
        weight_decay: float = 0.05,
        components: int = 64,
        omics: str = "expression",
        identity: str = "profile",
        profile_components: int = 16,
        bits: int = 256,
        scaling: str = "standard",
        keep_share: float = 1.0,
        epochs: int = 40,
        patience: int = 5,
        seed: int = 0,
        device: str = "auto",
    ) -> None:
        self.learning_rate = learning_rate
        self.layers = layers
        self.units = units
        self.activation = activation
        self.dropout = dropout
        self.batch_size = batch_size
        self.weight_decay = weight_decay
        self.components = components
        self.omics = omics
        self.identity = identity
        self.profile_components = profile_components
        self.bits = bits
        self.scaling = scaling
        self.keep_share = keep_share
        self.epochs = epochs
        self.patience = patience
        self.seed = seed
        self.device = device

    def fit(
        self,
        train: ResponseSamples,
        validation: ResponseSamples | None = None,
        context: FitContext | None = None,
    ) -> Self:
        """Train; with ``validation`` the weights of the epoch of its lowest error are kept."""
        context = context or FitContext()
        key: tuple[object, ...] = (id(train), self.omics, self.components, self.scaling, self.keep_share)
        key += (self.identity, self.profile_components, self.bits)
        self.features_ = context.remember(key, lambda: self._features(train))
        matrix = self.features_.transform(train)
        residual = train.target - matrix.offset
        # The units of the network: residuals of unit variance; drug features scaled over the drugs seen.
        self.scale_ = float(residual.std()) or 1.0
        seen = matrix.drugs[np.unique(matrix.drug)].astype(np.float64)
        self.drug_center_, spread = seen.mean(axis=0), seen.std(axis=0)
        self.drug_scale_ = np.where(spread > 1e-6, spread, 1.0)
        # Components come ordered by size; the first would drown the others if each were not brought to one scale.
        lines = matrix.cells[np.unique(matrix.cell)].astype(np.float64)
        spread = lines.std(axis=0)
        self.cell_scale_ = np.where(spread > 1e-6, spread, 1.0)

        device = torch.device(torch_device(self.device))
        torch.manual_seed(self.seed)
        self.network_ = self._network(matrix.cells.shape[1], matrix.drugs.shape[1]).to(device)
        tensors = self._tensors(matrix, device)
        target = torch.as_tensor(residual / self.scale_, dtype=torch.float32, device=device)
        settings = LoopSettings(
            self.epochs, self.patience, self.batch_size, self.learning_rate, self.weight_decay, self.seed
        )

        def loss(rows: Tensor) -> Tensor:
            cells, drugs, cell, drug = tensors
            return nn.functional.mse_loss(self.network_.gathered(cells, drugs, cell[rows], drug[rows]), target[rows])

        monitor = None
        if validation is not None and len(validation):
            watched = self.features_.transform(validation)
            measured = validation.target

            def monitor() -> dict[str, float]:
                error = self._predict(watched) - measured
                return {"validation_rmse": float(np.sqrt(np.mean(error**2)))}

        self.trained_ = train_network(self.network_, loss, len(train), monitor, settings, context)
        return self

    def _features(self, train: ResponseSamples) -> PairFeatures:
        chosen = ("expression",) if self.omics == "expression" and "expression" in train.omics else tuple(train.omics)
        return PairFeatures(
            CellLineFeatures(chosen, self.scaling, self.keep_share, self.components),
            DrugFeatures(self.bits, self.identity, self.profile_components),
            center=True,
        ).fit(train)

    def _network(self, cell_width: int, drug_width: int) -> PairNetwork:
        return PairNetwork(cell_width, drug_width, self.layers, self.units, self.activation, self.dropout)

    def _tensors(self, matrix: PairMatrix, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return (
            torch.as_tensor(matrix.cells / self.cell_scale_, dtype=torch.float32, device=device),
            torch.as_tensor((matrix.drugs - self.drug_center_) / self.drug_scale_, dtype=torch.float32, device=device),
            torch.as_tensor(matrix.cell, dtype=torch.long, device=device),
            torch.as_tensor(matrix.drug, dtype=torch.long, device=device),
        )

    def _predict(self, matrix: PairMatrix) -> np.ndarray:
        device = next(self.network_.parameters()).device
        cells, drugs, cell, drug = self._tensors(matrix, device)
        self.network_.eval()
        with torch.no_grad(), autocast(device):
            from_cells, from_drugs = self.network_.cell(cells), self.network_.drug(drugs)
            parts = [
                self.network_.hidden(from_cells[cell[rows]] + from_drugs[drug[rows]]).squeeze(-1).float().cpu()
                for rows in matrix.batches()
            ]
        output = torch.cat(parts).numpy().astype(np.float64) if parts else np.zeros(0)
        return output * self.scale_ + matrix.offset

    def predict(self, samples: ResponseSamples) -> np.ndarray:
        """Return the predicted target, shape ``(n,)``."""
        return self._predict(self.features_.transform(samples))

    def attribute(self, samples: ResponseSamples, output: np.ndarray | None = None) -> Attribution:
        """Return Integrated Gradients (Sundararajan et al., 2017), 64 steps, per raw gene and drug feature.

        The baseline is the average training line and the average training drug.
        """
        from captum.attr import IntegratedGradients

        matrix = self.features_.transform(samples)
        device = next(self.network_.parameters()).device
        cells, drugs, cell, drug = self._tensors(matrix, device)
        self.network_.eval()
        inputs = (cells[cell], drugs[drug])
        zeros = (torch.zeros_like(inputs[0][:1]), torch.zeros_like(inputs[1][:1]))
        slopes = IntegratedGradients(self.network_, multiply_by_inputs=False).attribute(
            inputs, baselines=zeros, n_steps=64, internal_batch_size=8192
        )
        by_cell, by_drug = (slope.detach().cpu().numpy().astype(np.float64) * self.scale_ for slope in slopes)
        with torch.no_grad():
            start = float(self.network_(*zeros)) * self.scale_
        overall = self.features_.drug.overall
        values = np.hstack(
            [
                self.features_.cell_line.spread_gradient(
                    by_cell / self.cell_scale_, samples.cell_lines, samples.omics, samples.cell
                ),
                by_drug * inputs[1].cpu().numpy(),
                (matrix.offset - overall)[:, None],
            ]
        )
        return Attribution(
            [*self.features_.names, "drug:offset"],
            values,
            np.full(len(samples), start + overall),
            self._predict(matrix),
            "integrated_gradients",
        )

    def cost(self) -> dict[str, float]:
        """Return parameters and multiply-adds of one prediction."""
        layers = [layer for layer in self.network_.modules() if isinstance(layer, nn.Linear)]
        return {
            "parameters": sum(p.numel() for p in self.network_.parameters()),
            "multiply_adds": sum(layer.in_features * layer.out_features for layer in layers),
        }

    def state(self) -> dict[str, Any]:
        """Return featurizers, scales and weights."""
        return {
            "features": self.features_.state(),
            "scale": self.scale_,
            "cell_scale": self.cell_scale_,
            "drug_center": self.drug_center_,
            "drug_scale": self.drug_scale_,
            "weights": {key: value.cpu().numpy() for key, value in self.network_.state_dict().items()},
        }

    def restore(self, state: dict[str, Any]) -> Self:
        """Take on featurizers, scales and weights."""
        self.features_ = PairFeatures.from_state(state["features"])
        self.scale_, self.cell_scale_ = state["scale"], state["cell_scale"]
        self.drug_center_, self.drug_scale_ = state["drug_center"], state["drug_scale"]
        weights = {key: torch.as_tensor(value) for key, value in state["weights"].items()}
        self.network_ = self._network(weights["cell.weight"].shape[1], weights["drug.weight"].shape[1])
        self.network_.load_state_dict(weights)
        self.network_.to(torch_device(self.device)).eval()
        return self
