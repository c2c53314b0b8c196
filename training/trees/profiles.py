"""Tree ensembles on expression profiles, that classify or predict genes: all but their hyperparameters."""

from typing import Any, Self

import numpy as np

from pipelines.samples.expression import ExpressionSamples
from training.estimator import Attribution, FitContext
from training.features import expression_profile
from training.features.expression_profile import ProfileEstimator, ProfileFeatures
from training.trees import boosters
from training.trees.boosters import LabelTrees, TreeEstimator

TREE_SELECTIONS = ("all", "variance", "top_300", "top_1000")


class ProfileMatrix(ProfileEstimator):
    """Profiles of the selected genes in log2 units: no scaling changes which splits a tree can make."""

    selection: str
    combat: str = "none"  # a field of those that classify

    def _fit_features(self, train: ExpressionSamples) -> None:
        self.features_ = ProfileFeatures(self.selection, "none", self.combat).fit(train)

    def _learned(self, train: ExpressionSamples) -> np.ndarray:
        return self.features_.learned(train)

    def _matrix(self, samples: ExpressionSamples) -> np.ndarray:
        return self.features_.transform(samples)

    def graph(self, contract: Any) -> Any:
        """See `Estimator.graph`."""
        from training.graphs.profiles import profile_graph

        return profile_graph(self.features_, contract, self._answer())


class ProfileLabelTrees(ProfileMatrix, LabelTrees):
    """Trees that classify by the expression of genes."""

    def attribute(self, samples: ExpressionSamples, output: np.ndarray | None = None) -> Attribution:
        """Return TreeSHAP values of the margin of each sample's class ``output``, or of the predicted one."""
        chosen = self.predict(samples) if output is None else output
        values, base, margin = boosters.contributions(self.booster_, self._matrix(samples), chosen)
        return Attribution(list(self.features_.genes), values, base, margin, "tree_shap")


class GeneTargetTrees(ProfileMatrix, TreeEstimator):
    """Separate trees for each target gene, added to the gene's training mean."""

    fitted = ("means",)
    reported = "validation_rmse"
    _explained: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None  # the last rows and their contributions

    def fit(self, train: ExpressionSamples, validation: Any = None, context: FitContext | None = None) -> Self:
        """Grow the trees; with ``validation`` boosting stops once the error over all targets no longer falls."""
        self._fit_features(train)
        self.means_ = expression_profile.target_means(train)
        self._explained = None
        # TreeSHAP reads no trees of vectors.
        params: dict[str, Any] = {"objective": "reg:squarederror", "multi_strategy": "one_output_per_tree"}
        self._grow(params | {"base_score": 0.0, "eval_metric": "rmse"}, train, validation, context)
        return self

    def _answer(self) -> Any:
        return self._walked(lambda margins, means: margins + means, means=self.means_)

    def _label(self, samples: ExpressionSamples) -> np.ndarray:
        return expression_profile.centered(samples, self.means_)

    def predict(self, samples: ExpressionSamples) -> np.ndarray:
        """Return the predicted expression, log2 units, shape ``(n, targets)``."""
        if len(samples) == 0:
            return np.zeros((0, len(self.means_)))
        return self._predicted(self._matrix(samples)).reshape(len(samples), -1) + self.means_

    def attribute(self, samples: ExpressionSamples, output: np.ndarray | None = None) -> Attribution:
        """Return TreeSHAP values of each sample's target gene ``output``, log2 units."""
        chosen = expression_profile.chosen_targets(samples, output)
        matrix = self._matrix(samples)
        # TreeSHAP computes contributions to all targets at once, and evidence asks for one target after the other.
        found = self._explained  # other threads may put theirs in its place
        if found is None or not np.array_equal(found[0], matrix, equal_nan=True):
            self._explained = found = (matrix, *boosters.all_contributions(self.booster_, matrix))
        values, base, margin = boosters.of_output(*found[1:], chosen)
        mean = self.means_[chosen]
        return Attribution(list(self.features_.genes), values, base + mean, margin + mean, "tree_shap")
