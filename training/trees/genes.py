"""Tree ensembles that predict genes from genes: all but their hyperparameters."""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from pipelines.samples.expression import ExpressionSamples
from training.estimator import Attribution, FitContext
from training.gene_targets import centered, chosen_targets, target_means
from training.trees import boosters
from training.trees.boosters import Rows, TreeEstimator
from training.trees.profiles import PROFILE_BINS, ProfileMatrix


class GeneTargetTrees(ProfileMatrix, TreeEstimator):
    """Separate trees for each target gene, added to the gene's training mean."""

    fitted = ("means",)
    _explained: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None  # the last rows and their contributions

    def fit(
        self, train: ExpressionSamples, validation: ExpressionSamples | None = None, context: FitContext | None = None
    ) -> Self:
        """Grow the trees; with ``validation`` boosting stops once the error over all targets no longer falls."""
        self._fit_features(train)
        self.means_ = target_means(train)
        self._explained = None
        watched = None
        if validation is not None and len(validation):
            watched = Rows(self._matrix(validation), centered(validation, self.means_))
        params: dict[str, Any] = {
            "objective": "reg:squarederror",
            "multi_strategy": "one_output_per_tree",  # TreeSHAP reads no trees of vectors
            "base_score": 0.0,
            "eval_metric": "rmse",
            "seed": self.seed,
        }
        rounds, patience = self._rounds()
        self.booster_ = boosters.grow(
            {**params, **self._booster_params()},
            Rows(self._matrix(train), centered(train, self.means_)),
            watched,
            rounds=rounds,
            patience=patience,
            device=self.device,
            max_bin=PROFILE_BINS,
            on_step=context.on_step if context else None,
            reported="validation_rmse",
        )
        return self

    def predict(self, samples: ExpressionSamples) -> np.ndarray:
        """Return the predicted expression, log2 units, shape ``(n, targets)``."""
        if len(samples) == 0:
            return np.zeros((0, len(self.means_)))
        margin = boosters.predicted(self.booster_, self._matrix(samples), self.device)
        return margin.reshape(len(samples), -1) + self.means_

    def attribute(self, samples: ExpressionSamples, output: np.ndarray | None = None) -> Attribution:
        """Return TreeSHAP values of each sample's target gene ``output``, log2 units."""
        chosen = chosen_targets(samples, output)
        matrix = self._matrix(samples)
        # TreeSHAP computes contributions to all targets at once, and evidence asks for one target after the other.
        if self._explained is None or not np.array_equal(self._explained[0], matrix, equal_nan=True):
            self._explained = (matrix, *boosters.all_contributions(self.booster_, matrix))
        values, base, margin = boosters.of_output(*self._explained[1:], chosen)
        mean = self.means_[chosen]
        return Attribution(list(self.features_.genes), values, base + mean, margin + mean, "tree_shap")
