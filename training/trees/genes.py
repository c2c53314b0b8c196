"""Tree ensembles that predict genes from genes: what XGBoost and Random Forest share."""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from pipelines.samples.expression import ExpressionSamples
from training.estimator import Attribution, FitContext
from training.features.expression_profile import ProfileFeatures
from training.gene_targets import centered, chosen_targets, target_means
from training.trees import boosters
from training.trees.boosters import Rows, TreeEstimator
from training.trees.profiles import PROFILE_BINS, ProfileMatrix


class GeneTargetTrees(ProfileMatrix, TreeEstimator):
    """Trees of its own for each target gene, added to the gene's training mean.

    Parameters
    ----------
    selection
        See `ProfileFeatures`.
    """

    _explained: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None  # the last rows, and what was found of them

    def fit(
        self,
        train: ExpressionSamples,
        validation: ExpressionSamples | None = None,
        context: FitContext | None = None,
    ) -> Self:
        """Grow the trees; with ``validation`` boosting stops once the error over all targets no longer falls."""
        context = context or FitContext()
        self._fit_features(train)
        self.means_ = target_means(train)
        self._explained = None
        watched = None
        if validation is not None and len(validation):
            watched = Rows(self._matrix(validation), centered(validation, self.means_))
        rounds, patience = self._rounds()
        self.booster_ = boosters.grow(
            {
                "objective": "reg:squarederror",
                "multi_strategy": "one_output_per_tree",  # TreeSHAP reads no trees of vectors
                "base_score": 0.0,
                "eval_metric": "rmse",
                "seed": self.seed,
                **self._booster_params(),
            },
            Rows(self._matrix(train), centered(train, self.means_)),
            watched,
            rounds=rounds,
            patience=patience,
            device=self.device,
            max_bin=PROFILE_BINS,
            on_step=context.on_step,
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
        # TreeSHAP makes the contributions to all targets at once, and evidence asks for one target after the other.
        if self._explained is None or not np.array_equal(self._explained[0], matrix, equal_nan=True):
            self._explained = (matrix, *boosters.all_contributions(self.booster_, matrix))
        _, every, margins = self._explained
        values, base, margin = boosters.of_output(every, margins, chosen)
        mean = self.means_[chosen]
        return Attribution(list(self.features_.genes), values, base + mean, margin + mean, "tree_shap")

    def cost(self) -> dict[str, float]:
        """Return the number of nodes and trees."""
        return boosters.size(self.booster_)

    def state(self) -> dict[str, Any]:
        """Return featurizer, means and booster (XGBoost's UBJSON, as bytes)."""
        return {
            "features": self.features_.state(),
            "means": self.means_,
            "booster": boosters.to_array(self.booster_),
        }

    def restore(self, state: dict[str, Any]) -> Self:
        """Take on featurizer, means and booster."""
        self.features_ = ProfileFeatures.from_state(state["features"])
        self.means_ = state["means"]
        self.booster_ = boosters.from_array(state["booster"])
        self._explained = None
        return self
