"""Tree ensembles on expression profiles: what they look at, and those that tell classes apart."""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from pipelines.samples.expression import ExpressionSamples
from training.estimator import Attribution
from training.features.expression_profile import ProfileFeatures
from training.trees import boosters
from training.trees.labels import LabelTrees

TREE_SELECTIONS = ("all", "variance", "top_300", "top_1000")
PROFILE_BINS = 64  # expression is noisy: finer histograms cost time and change nothing


class ProfileMatrix:
    """Profiles as trees see them: in log2 units, for no scaling changes what a tree can split.

    Parameters
    ----------
    selection
        See `ProfileFeatures`.
    """

    selection: str

    def _fit_features(self, train: ExpressionSamples) -> None:
        self.features_ = ProfileFeatures(self.selection, "none").fit(train)

    def _matrix(self, samples: ExpressionSamples) -> np.ndarray:
        return self.features_.transform(samples)


class ProfileLabelTrees(ProfileMatrix, LabelTrees):
    """Trees that tell classes apart by the expression of genes."""

    max_bin = PROFILE_BINS

    def attribute(self, samples: ExpressionSamples, output: np.ndarray | None = None) -> Attribution:
        """Return TreeSHAP values of the margin of each sample's class ``output``, or of the predicted one."""
        chosen = self.predict(samples) if output is None else output
        values, base, margin = boosters.contributions(self.booster_, self._matrix(samples), chosen)
        return Attribution(list(self.features_.genes), values, base, margin, "tree_shap")

    def state(self) -> dict[str, Any]:
        """Return featurizer, classes and booster."""
        return {"features": self.features_.state(), **super().state()}

    def restore(self, state: dict[str, Any]) -> Self:
        """Take on featurizer, classes and booster."""
        self.features_ = ProfileFeatures.from_state(state["features"])
        return super().restore(state)
