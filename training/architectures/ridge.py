"""Ridge regression (Hoerl and Kennard, 1970) of all target genes at once, linear or with a Gaussian kernel."""

from typing import Any, Literal, Self

import numpy as np

from pipelines.samples.expression import ExpressionSamples
from training.architectures import Range, architecture, ranges
from training.estimator import Attribution, FitContext
from training.features import expression_profile
from training.features.expression_profile import ProfileEstimator, ProfileFeatures, Scaling

_NODES = 16  # of the Gauss-Legendre rule; the integrand is smooth, and contributions add up to a millionth


SPACE = ranges(
    kernel=["rbf", "linear"],
    gamma=Range(0.03, 1.0, log=True),
    alpha=Range(1e-4, 10.0, log=True),
    selection=["all", "variance", "top_300", "top_1000"],
    scaling=["none", "standard"],
)


@architecture("profiles", "multi_target", space=SPACE, role="simple")
class Ridge(ProfileEstimator):
    """Least squares with an L2 penalty, in closed form; lengths are in units of the training samples' spread."""

    kernel: Literal["linear", "rbf"] = "rbf"
    gamma: float = 0.3  # of the Gaussian kernel ``exp(-gamma * distance**2)``; ``linear`` ignores it
    alpha: float = 0.1  # strength of the penalty
    selection: str = "all"
    scaling: Scaling = "none"

    fitted = ("center", "unit", "means", "rows", "weights")
    counted = ("weights", "rows", "means")

    def fit(self, train: ExpressionSamples, validation: Any = None, context: FitContext | None = None) -> Self:
        """Solve for all targets."""
        self.features_ = ProfileFeatures(self.selection, self.scaling).fit(train)
        features = self.features_.transform(train).astype(np.float64)
        self.center_ = features.mean(axis=0)
        self.unit_ = float(np.sqrt(features.var(axis=0).sum()))
        self.means_ = expression_profile.target_means(train)
        rows, target = self._placed(train), expression_profile.centered(train, self.means_)
        if self.kernel == "linear":
            self.rows_ = np.zeros((0, rows.shape[1]))
            left, size, right = np.linalg.svd(rows, full_matrices=False)
            weights = right.T @ ((size / (size**2 + self.alpha))[:, None] * (left.T @ target))
        else:
            self.rows_ = np.ascontiguousarray(rows)
            weights = np.linalg.solve(self._gaussian(rows) + self.alpha * np.eye(len(rows)), target)
        self.weights_ = np.ascontiguousarray(weights)  # as it will be loaded: another order rounds otherwise
        return self

    def _placed(self, samples: ExpressionSamples) -> np.ndarray:
        return (self.features_.transform(samples) - self.center_) / self.unit_

    def _gaussian(self, points: np.ndarray) -> np.ndarray:
        squares = (points**2).sum(axis=1)[:, None] + (self.rows_**2).sum(axis=1) - 2 * points @ self.rows_.T
        return np.exp(-self.gamma * squares)

    def _answer(self, points: np.ndarray) -> np.ndarray:
        basis = points if self.kernel == "linear" else self._gaussian(points)
        return basis @ self.weights_ + self.means_

    def predict(self, samples: ExpressionSamples) -> np.ndarray:
        """Return the predicted expression, log2 units, shape ``(n, targets)``."""
        return self._answer(self._placed(samples))

    def graph(self, contract: Any) -> Any:
        """See `Estimator.graph`."""
        from training.graphs.profiles import profile_formula

        def answer(values: Any, center: Any, rows: Any, weights: Any, means: Any) -> Any:
            points = (values - center) / self.unit_
            if self.kernel == "rbf":
                squares = (points**2).sum(dim=1)[:, None] + (rows**2).sum(dim=1) - 2 * points @ rows.T
                points = (-self.gamma * squares).exp()
            return points @ weights + means

        constants = {"center": self.center_, "rows": self.rows_, "weights": self.weights_, "means": self.means_}
        return profile_formula(self.features_, contract, answer, **constants)

    def attribute(self, samples: ExpressionSamples, output: np.ndarray | None = None) -> Attribution:
        """Return contributions from the training mean: exact, or Integrated Gradients (Sundararajan et al., 2017)."""
        chosen = expression_profile.chosen_targets(samples, output)
        points = self._placed(samples)
        weights = self.weights_[:, chosen].T
        if self.kernel == "linear":
            values, method = points * weights, "exact"
        else:
            values, method = points * self._mean_slope(points, weights), "integrated_gradients"
        base = self._answer(np.zeros((1, points.shape[1])))[0, chosen]
        prediction = self._answer(points)[np.arange(len(points)), chosen]
        return Attribution(list(self.features_.genes), values, base, prediction, method)

    def _mean_slope(self, points: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Return the mean gradient on the way from the training mean to each point, shape ``(n, genes)``."""
        slope = np.zeros_like(points)
        for node, share in zip(*np.polynomial.legendre.leggauss(_NODES), strict=True):
            on_way = points * (node + 1) / 2
            pull = self._gaussian(on_way) * weights
            slope += share * self.gamma * (pull @ self.rows_ - on_way * pull.sum(axis=1, keepdims=True))
        return slope
