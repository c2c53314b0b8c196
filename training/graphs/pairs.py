"""Graphs of models on features of pairs of a cell line and a drug, which featurizers outside the graph compute."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from training.features.pair import PairFeatures, PairMatrix

ABOUT = {
    "cell_features": "features of the line, as `training.features.cell_line.CellLineFeatures.transform` returns them",
    "drug_features": "features of the drug, as `training.features.pair.DrugFeatures.transform` returns them",
    "offset": "what the model adds to, see `training.features.pair.PairMatrix`: mostly the drug's mean response",
    "complete": "whether the line has every table that the model needs; if not, the answer is the offset",
}


class OnPairs(nn.Module):
    """``value`` of all inputs but the offset and, if it ``may_lack`` tables, whether the line is complete."""

    def __init__(self, value: nn.Module, *, may_lack: bool) -> None:
        super().__init__()
        self.value, self.may_lack = value, may_lack

    def forward(self, *given: Tensor) -> Tensor:
        """Return the predicted target, float64 ``(n,)``."""
        if not self.may_lack:
            return self.value(*given[:-1]).double() + given[-1]
        value = self.value(*given[:-2]).double()
        return torch.where(given[-1], value, torch.zeros_like(value)) + given[-2]


class Started(nn.Module):
    """`OnPairs`, whose offset is what another model answers to the inputs after its own."""

    def __init__(self, pairs: OnPairs, start: nn.Module) -> None:
        super().__init__()
        self.pairs, self.start = pairs, start

    def forward(self, cell: Tensor, drug: Tensor, *given: Tensor) -> Tensor:
        """Return the predicted target, float64 ``(n,)``."""
        complete, others = (given[:1], given[1:]) if self.pairs.may_lack else ((), given)
        return self.pairs(cell, drug, self.start(*others).float().double(), *complete)


class Joined(nn.Module):
    """A module on the features of a line and of a drug, side by side."""

    def __init__(self, then: nn.Module) -> None:
        super().__init__()
        self.then = then

    def forward(self, cell: Tensor, drug: Tensor) -> Tensor:
        """Return its first output, ``(n,)``."""
        return self.then(torch.cat([cell, drug], dim=1))[:, 0]


class Products(nn.Module):
    """`training.bilinear.Bilinear` without its offset; ``profile`` are the columns of the drug that are multiplied."""

    def __init__(self, weights: np.ndarray, constant: float, profile: slice | None) -> None:
        super().__init__()
        self.register_buffer("weights", torch.as_tensor(weights, dtype=torch.float64))
        self.constant, self.profile = constant, profile

    def forward(self, cell: Tensor, drug: Tensor) -> Tensor:
        """Return one number a row, float64 ``(n,)``."""
        cell, drug = cell.double(), drug.double()
        parts = [cell, drug]
        if self.profile is not None:
            parts.append((cell[:, :, None] * drug[:, None, self.profile]).flatten(1))
        return torch.cat(parts, dim=1) @ self.get_buffer("weights") + self.constant


def pair_arrays(
    features: PairFeatures, matrix: PairMatrix, *, own: dict[str, np.ndarray] | None = None
) -> dict[str, Any]:
    """Return the inputs of `OnPairs`: ``own``, by default the features, and the offset; a row per sample."""
    found: dict[str, Any] = own or {
        "cell_features": matrix.cells[matrix.cell],
        "drug_features": matrix.drugs[matrix.drug],
    }
    found["offset"] = matrix.offset.astype(np.float64)
    if features.cell_line.needed:
        complete = np.ones(len(matrix.cells), bool) if matrix.complete is None else matrix.complete
        found["complete"] = complete[matrix.cell]
    return found


def named(features: PairFeatures, *own: str) -> dict[str, str]:
    """Return what `pair_arrays` are."""
    names = [
        *(own or ("cell_features", "drug_features")),
        "offset",
        *(["complete"] if features.cell_line.needed else []),
    ]
    return {name: ABOUT.get(name, "a further input of the network") for name in names}


class Linked(nn.Module):
    """The link of `training.adapters.pairs_classification.Sensitivity` on a regressor."""

    def __init__(self, regressor: nn.Module, slope: float, constant: float) -> None:
        super().__init__()
        self.regressor, self.slope, self.constant = regressor, slope, constant

    def forward(self, odds: Tensor, mean: Tensor, deviation: Tensor, *given: Tensor) -> Tensor:
        """Return the probabilities of resistant and sensitive, ``(n, 2)``."""
        odds = odds + self.slope * (mean - self.regressor(*given)) / deviation + self.constant
        return torch.stack([(-odds).sigmoid(), odds.sigmoid()], dim=1)
