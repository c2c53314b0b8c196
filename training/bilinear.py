"""A linear model of pairs with products of line and drug components: the elastic net, and a start of boosting."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from sklearn.linear_model import ElasticNet

from pipelines.samples.response import ResponseSamples
from training.estimator import Attribution, Featurizer
from training.features.cell_line import CellLineChoices
from training.features.pair import DrugFeatures, PairFeatures, PairMatrix

_CHOICES = CellLineChoices()


@dataclass
class Bilinear(Featurizer):
    """Weights on pair features and, with ``interactions``, on products of components."""

    parts: ClassVar[Mapping[str, Any]] = {"features": PairFeatures}

    features: PairFeatures
    interactions: bool
    weights: np.ndarray
    mean: np.ndarray  # of each feature
    intercept: float  # prediction beyond the drug's mean where every feature is at its mean

    def predict(self, samples: ResponseSamples) -> np.ndarray:
        """Return the predicted target, shape ``(n,)``."""
        matrix = self.features.transform(samples)
        centered = float(self.intercept - self.mean @ self.weights)
        parts = [_design(self.features, matrix, rows, self.interactions) @ self.weights for rows in matrix.batches()]
        return matrix.learnt((np.concatenate(parts) if parts else np.zeros(0)) + centered) + matrix.offset

    def graph(self) -> Any:
        """Return the model as a `training.graphs.Graph`."""
        from training.graphs import Graph
        from training.graphs.pairs import OnPairs, Products, named, pair_arrays

        constant = float(self.intercept - self.mean @ self.weights)
        profile = slice(2, 2 + self.features.drug.profile.shape[1]) if self.interactions else None
        module = OnPairs(Products(self.weights, constant, profile), may_lack=bool(self.features.cell_line.needed))

        def inputs(samples: ResponseSamples) -> dict[str, np.ndarray]:
            return pair_arrays(self.features, self.features.transform(samples))

        return Graph(module, inputs, named(self.features), shared=False)

    def attribute(self, samples: ResponseSamples) -> Attribution:
        """Return weight times distance from the average line and drug; a product counts for the line's feature."""
        matrix = self.features.transform(samples)
        lines, drugs = matrix.cells.shape[1], matrix.drugs.shape[1]
        of_line, of_drug, of_product = np.split(self.weights, [lines, lines + drugs])
        slope = np.broadcast_to(of_line, (len(matrix.drugs), lines))
        if self.interactions:
            slope = slope + _factors(self.features, matrix)[1] @ of_product.reshape(lines, -1).T
        spread = self.features.cell_line.spread_gradient
        line_shares = spread(slope[matrix.drug], samples.cell_lines, samples.omics, samples.cell)
        mean_drug = self.mean[lines : lines + drugs]
        drug_shares = ((matrix.drugs - mean_drug) * of_drug)[matrix.drug]
        start = float(self.intercept - self.mean @ self.weights + mean_drug @ of_drug)
        overall = self.features.drug.overall
        return Attribution(
            [*self.features.names, "drug:offset"],
            np.column_stack([matrix.learnt(np.hstack([line_shares, drug_shares])), matrix.offset - overall]),
            matrix.learnt(np.full(len(samples), start)) + overall,
            self.predict(samples),
            "linear",
        )

    def cost(self) -> dict[str, float]:
        """Return the number of weights, and of those that are not zero."""
        return {"parameters": len(self.weights) + 1, "nonzero_parameters": int(np.count_nonzero(self.weights))}


@dataclass(frozen=True)
class Moments:
    """Sufficient statistics of least squares on training rows."""

    features: PairFeatures
    interactions: bool
    mean: np.ndarray  # of each feature
    covariance: np.ndarray
    unseen_spread: np.ndarray  # how much wider each feature spreads over unseen lines, at least 1
    target_mean: float  # beyond the drug's mean
    products: np.ndarray  # covariance of the target with each feature


def moments_of(
    train: ResponseSamples,
    *,
    choices: CellLineChoices = _CHOICES,
    components: int = 64,
    interactions: bool = True,
    profile_components: int = 12,
    bits: int = 128,
    mechanism: bool = False,
) -> Moments:
    """Fit featurizers on the training rows and return the rows' moments, gathered in batches."""
    of_drug = DrugFeatures(bits, "profile", profile_components, mechanism)
    features = PairFeatures(choices.cell_line_features(train, components), of_drug, center=True).fit(train)
    train = train.take(features.complete(train))
    matrix = features.transform(train)
    residual = train.target - matrix.offset
    width = _design(features, matrix, slice(0, 1), interactions).shape[1]
    total, outer, cross = np.zeros(width), np.zeros((width, width)), np.zeros(width)
    for rows in matrix.batches():
        design = _design(features, matrix, rows, interactions).astype(np.float64)
        total += design.sum(axis=0)
        outer += design.T @ design
        cross += design.T @ residual[rows]
    mean = total / len(train)
    covariance = outer / len(train) - np.outer(mean, mean)
    products = cross / len(train) - mean * residual.mean()
    # The unseen spread of a product is its line's.
    lines = np.unique(train.cell)
    of_lines = features.cell_line.unseen_spread({name: table.iloc[lines] for name, table in train.omics.items()})
    single = len(of_lines) + len(features.drug.names)
    of_products = np.repeat(of_lines, (width - single) // max(len(of_lines), 1))
    unseen = np.concatenate([of_lines, np.ones(single - len(of_lines)), of_products])
    return Moments(features, interactions, mean, covariance, unseen, float(residual.mean()), products)


def solve(moments: Moments, *, alpha: float = 0.01, l1_share: float = 0.2) -> Bilinear:
    """Return the elastic net (Zou and Hastie, 2005) on features of unit variance over unseen lines."""
    scale = np.sqrt(np.diag(moments.covariance))
    scale = np.where(scale > 1e-6, scale, np.inf) * moments.unseen_spread
    # Least squares sees rows only through X'X and X'y. A square matrix R with R'R = X'X has the same solution, so
    # scikit-learn gets hundreds of rows instead of hundreds of thousands.
    gram = moments.covariance / np.outer(scale, scale)
    size, axes = np.linalg.eigh(gram)
    size = np.clip(size, size[-1] * 1e-10, None)
    root = np.sqrt(size)[:, None] * axes.T
    inner_target = (axes.T @ (moments.products / scale)) / np.sqrt(size)
    rows = np.sqrt(len(root))
    model = ElasticNet(alpha=alpha, l1_ratio=l1_share, fit_intercept=False, max_iter=2000, tol=1e-3, selection="cyclic")
    model.fit(np.asfortranarray(root * rows), inner_target * rows)
    weights = model.coef_ / scale
    return Bilinear(moments.features, moments.interactions, weights, moments.mean, float(moments.target_mean))


def out_of_fold(train: ResponseSamples, *, folds: int, seed: int, alpha: float = 0.01, **features: Any) -> np.ndarray:
    """Return predictions of the training rows, ``(n,)``, by models that have not seen their cell lines."""
    lines, line = np.unique(train.cell, return_inverse=True)
    if len(lines) < 2:  # no line can be predicted from another
        return DrugFeatures(bits=0, identity="none").fit(train).offset(train.drugs)[train.drug]
    fold = (np.random.default_rng(seed).permutation(len(lines)) % folds)[line]
    predicted = np.empty(len(train))
    for left_out in np.unique(fold):
        model = solve(moments_of(train.take(fold != left_out), **features), alpha=alpha)
        predicted[fold == left_out] = model.predict(train.take(fold == left_out))
    return predicted


def _design(features: PairFeatures, matrix: PairMatrix, rows: slice, interactions: bool) -> np.ndarray:
    gathered = matrix.gather(rows)
    if not interactions:
        return gathered
    line, drug = _factors(features, matrix)
    products = line[matrix.cell[rows]][:, :, None] * drug[matrix.drug[rows]][:, None, :]
    return np.hstack([gathered, products.reshape(len(gathered), -1)])


def _factors(features: PairFeatures, matrix: PairMatrix) -> tuple[np.ndarray, np.ndarray]:
    """Return what is multiplied: the line's continuous features, and the drug's response profile."""
    # The profile comes after the mean response and the flag of a known drug.
    return matrix.cells, matrix.drugs[:, 2 : 2 + features.drug.profile.shape[1]]
