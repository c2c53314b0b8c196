"""Tree ensembles on expression profiles: their features, and classifiers."""

from __future__ import annotations

import numpy as np

from pipelines.samples.expression import ExpressionSamples
from training.estimator import Attribution
from training.features.expression_profile import ProfileEstimator, ProfileFeatures
from training.trees import boosters
from training.trees.labels import LabelTrees

TREE_SELECTIONS = ("all", "variance", "top_300", "top_1000")
PROFILE_BINS = 64  # expression is noisy: finer histograms cost time and change nothing


class ProfileMatrix(ProfileEstimator):
    """Profiles of the selected genes in log2 units: no scaling changes which splits a tree can make."""

    selection: str

    def _fit_features(self, train: ExpressionSamples) -> None:
        self.features_ = ProfileFeatures(self.selection, "none").fit(train)

    def _matrix(self, samples: ExpressionSamples) -> np.ndarray:
        return self.features_.transform(samples)


class ProfileLabelTrees(ProfileMatrix, LabelTrees):
    """Trees that classify by the expression of genes."""

    max_bin = PROFILE_BINS

    def attribute(self, samples: ExpressionSamples, output: np.ndarray | None = None) -> Attribution:
        """Return TreeSHAP values of the margin of each sample's class ``output``, or of the predicted one."""
        chosen = self.predict(samples) if output is None else output
        values, base, margin = boosters.contributions(self.booster_, self._matrix(samples), chosen)
        return Attribution(list(self.features_.genes), values, base, margin, "tree_shap")
