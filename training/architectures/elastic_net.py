"""Elastic net (Zou and Hastie, 2005) on pair features: the linear baseline of drug response.

A sum of what the line and what the drug add cannot say that a line answers to this drug and not to that one; with
``interactions`` the products of line and drug components are features too, which makes the model bilinear.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.linear_model import ElasticNet as _ElasticNet

from pipelines.samples import ResponseSamples
from training.architectures import architecture
from training.estimator import Attribution, Estimator, FitContext
from training.features.cell_line import CellLineFeatures
from training.features.drug import DrugFeatures
from training.features.pair import PairFeatures, PairMatrix

if TYPE_CHECKING:
    import optuna


def space(trial: optuna.Trial, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Draw hyperparameters."""
    return {
        "alpha": trial.suggest_float("alpha", 1e-4, 1.0, log=True),
        "l1_share": trial.suggest_float("l1_share", 0.0, 1.0),
        "interactions": trial.suggest_categorical("interactions", [True, False]),
        "components": trial.suggest_categorical("components", [32, 64]),
        "omics": trial.suggest_categorical("omics", ["expression", "all"]),
    }


DEFAULTS = {"alpha": 0.01, "l1_share": 0.2, "interactions": True, "components": 64, "omics": "expression"}


@architecture("elastic_net", space=space, defaults=DEFAULTS)
class ElasticNet(Estimator):
    """Linear in line features, drug features and, where asked for, their products."""

    def __init__(
        self,
        alpha: float = 0.01,
        l1_share: float = 0.2,
        interactions: bool = True,
        components: int = 64,
        omics: str = "expression",
        profile_components: int = 12,
        bits: int = 128,
        seed: int = 0,
    ) -> None:
        self.alpha = alpha
        self.l1_share = l1_share
        self.interactions = interactions
        self.components = components
        self.omics = omics
        self.profile_components = profile_components
        self.bits = bits
        self.seed = seed

    def fit(
        self,
        train: ResponseSamples,
        validation: ResponseSamples | None = None,
        context: FitContext | None = None,
    ) -> Self:
        """Fit on the second moments of the training rows, gathered a batch at a time."""
        context = context or FitContext()
        key = (id(train), self.omics, self.components, self.interactions, self.profile_components, self.bits)
        self.features_, mean, covariance, target_mean, products = context.remember(key, lambda: self._moments(train))
        self.scale_ = np.sqrt(np.diag(covariance))
        self.scale_ = np.where(self.scale_ > 1e-6, self.scale_, np.inf)
        # Least squares sees rows only through X'X and X'y. A square matrix R with R'R = X'X has the same solution, so
        # scikit-learn gets hundreds of rows instead of hundreds of thousands.
        gram = covariance / np.outer(self.scale_, self.scale_)
        size, axes = np.linalg.eigh(gram)
        size = np.clip(size, size[-1] * 1e-10, None)
        root = np.sqrt(size)[:, None] * axes.T
        inner_target = (axes.T @ (products / self.scale_)) / np.sqrt(size)
        rows = np.sqrt(len(root))
        model = _ElasticNet(
            alpha=self.alpha,
            l1_ratio=self.l1_share,
            fit_intercept=False,
            max_iter=2000,
            tol=1e-3,
            selection="cyclic",
        )
        model.fit(np.asfortranarray(root * rows), inner_target * rows)
        self.weights_ = model.coef_ / self.scale_
        self.mean_ = mean
        self.intercept_ = float(target_mean)
        return self

    def _moments(self, train: ResponseSamples) -> tuple[PairFeatures, np.ndarray, np.ndarray, float, np.ndarray]:
        chosen = ("expression",) if self.omics == "expression" and "expression" in train.omics else tuple(train.omics)
        features = PairFeatures(
            CellLineFeatures(chosen, "standard", 1.0, self.components),
            DrugFeatures(self.bits, "profile", self.profile_components),
            center=True,
        ).fit(train)
        self.features_ = features
        matrix = features.transform(train)
        residual = train.target - matrix.offset
        width = self._design(matrix, slice(0, 1)).shape[1]
        total, outer, cross = np.zeros(width), np.zeros((width, width)), np.zeros(width)
        for rows in matrix.batches():
            design = self._design(matrix, rows).astype(np.float64)
            total += design.sum(axis=0)
            outer += design.T @ design
            cross += design.T @ residual[rows]
        mean = total / len(train)
        covariance = outer / len(train) - np.outer(mean, mean)
        return features, mean, covariance, float(residual.mean()), cross / len(train) - mean * residual.mean()

    def _design(self, matrix: PairMatrix, rows: slice) -> np.ndarray:
        """Return the features of ``rows`` and, with interactions, the products of components."""
        gathered = matrix.gather(rows)
        if not self.interactions:
            return gathered
        line, drug = self._factors(matrix)
        products = line[matrix.cell[rows]][:, :, None] * drug[matrix.drug[rows]][:, None, :]
        return np.hstack([gathered, products.reshape(len(gathered), -1)])

    def _factors(self, matrix: PairMatrix) -> tuple[np.ndarray, np.ndarray]:
        """Return what is multiplied: the line's continuous features, and the drug's response profile."""
        start = 2  # after the mean response and the flag of a known drug
        return matrix.cells, matrix.drugs[:, start : start + self.features_.drug.profile.shape[1]]

    def predict(self, samples: ResponseSamples) -> np.ndarray:
        """Return the predicted target, shape ``(n,)``."""
        matrix = self.features_.transform(samples)
        centered = float(self.intercept_ - self.mean_ @ self.weights_)
        parts = [self._design(matrix, rows) @ self.weights_ for rows in matrix.batches()]
        return (np.concatenate(parts) if parts else np.zeros(0)) + centered + matrix.offset

    def attribute(self, samples: ResponseSamples) -> Attribution:
        """Return weight times distance from the training mean; a product's share goes to the line's feature."""
        matrix = self.features_.transform(samples)
        width = matrix.cells.shape[1] + matrix.drugs.shape[1]
        parts = []
        for rows in matrix.batches(2048):
            shares = (self._design(matrix, rows) - self.mean_) * self.weights_
            part = shares[:, :width].copy()
            if self.interactions:
                lines = matrix.cells.shape[1]
                part[:, :lines] += shares[:, width:].reshape(len(shares), lines, -1).sum(axis=2)
            parts.append(part)
        overall = self.features_.drug.overall
        spread = self.features_.spread(np.vstack(parts))
        return Attribution(
            [*self.features_.names, "drug:offset"],
            np.column_stack([spread, matrix.offset - overall]),
            np.full(len(samples), self.intercept_ + overall),
            self.predict(samples),
            "linear",
        )

    def cost(self) -> dict[str, float]:
        """Return the number of weights, and of those that are not zero."""
        return {
            "parameters": len(self.weights_) + 1,
            "nonzero_parameters": int(np.count_nonzero(self.weights_)),
        }

    def state(self) -> dict[str, Any]:
        """Return featurizers and weights."""
        return {
            "features": self.features_.state(),
            "weights": self.weights_,
            "mean": self.mean_,
            "intercept": self.intercept_,
        }

    def restore(self, state: dict[str, Any]) -> Self:
        """Take on featurizers and weights."""
        self.features_ = PairFeatures.from_state(state["features"])
        self.weights_, self.mean_, self.intercept_ = state["weights"], state["mean"], state["intercept"]
        return self
