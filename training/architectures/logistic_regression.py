"""Multinomial logistic regression with an L2 penalty: the linear baseline on expression profiles."""

import warnings
from typing import Any, Self

import numpy as np

from pipelines.samples.expression import ExpressionSamples
from training.architectures import Range, architecture, joined, ranges
from training.estimator import Attribution, Classifier, FitContext
from training.features.expression_profile import ProfileEstimator, ProfileFeatures, Scaling, combat_space

_UNSEEN = 0.5  # samples that a class without any counts as
_TOLERANCE = 1e-4  # of the solver; a tenth of it takes twice as long and predicts no better
_ITERATIONS = 300


SPACE = joined(
    ranges(
        selection=["all", "variance", "top_300", "top_1000"],
        scaling=["none", "standard", "min_max"],
        c=Range(1e-3, 10.0, log=True),
        balanced=[True, False],
    ),
    combat_space,
)


@architecture("profiles", "classification", space=SPACE, role="simple")
class LogisticRegression(ProfileEstimator, Classifier):
    """A linear logit for each class; without scaling the penalty spares the genes that vary most."""

    selection: str = "all"
    scaling: Scaling = "none"
    combat: str = "none"
    c: float = 0.1  # inverse of the penalty's strength
    balanced: bool = False  # whether classes weigh alike, however many samples each has

    fitted = ("classes", "center", "coefficients", "intercepts")
    counted = ("coefficients", "intercepts")

    def fit(self, train: ExpressionSamples, validation: Any = None, context: FitContext | None = None) -> Self:
        """Fit with scikit-learn's L-BFGS; only the weights are kept."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression as Solver

        self.classes_ = list(train.classes)
        self.features_ = ProfileFeatures(self.selection, self.scaling, self.combat).fit(train)
        features = self.features_.learned(train)
        self.center_ = features.mean(axis=0, dtype=np.float64)
        weight = "balanced" if self.balanced else None
        solver = Solver(C=self.c, class_weight=weight, tol=_TOLERANCE, max_iter=_ITERATIONS)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a nearly unpenalized fit predicts no better later
            solver.fit(features - self.center_.astype(np.float32), train.target)
        coefficients, intercepts = solver.coef_.astype(np.float64), solver.intercept_.astype(np.float64)
        if len(solver.classes_) == 2:  # scikit-learn gives one logit, that of the second class over the first
            coefficients, intercepts = (np.concatenate([-each, each]) / 2 for each in (coefficients, intercepts))
        self.coefficients_ = np.zeros((len(self.classes_), features.shape[1]))
        self.intercepts_ = np.full(len(self.classes_), intercepts.min() + np.log(_UNSEEN / len(train)))
        # Logits are known up to a number that all classes share: its share of every gene is no evidence for a class.
        self.coefficients_[solver.classes_] = coefficients - coefficients.mean(axis=0)
        self.intercepts_[solver.classes_] = intercepts
        return self

    def _centered(self, samples: ExpressionSamples) -> np.ndarray:
        return self.features_.transform(samples) - self.center_

    def predict_proba(self, samples: ExpressionSamples) -> np.ndarray:
        """Return the probability of each class, shape ``(n, classes)``."""
        logits = self._centered(samples) @ self.coefficients_.T + self.intercepts_
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        return odds / odds.sum(axis=1, keepdims=True)

    def graph(self, contract: Any) -> Any:
        """See `Estimator.graph`."""
        from training.graphs.profiles import profile_formula

        return profile_formula(
            self.features_,
            contract,
            lambda values, center, weights, bias: ((values - center) @ weights.T + bias).softmax(dim=1),
            center=self.center_,
            weights=self.coefficients_,
            bias=self.intercepts_,
        )

    def attribute(self, samples: ExpressionSamples, output: np.ndarray | None = None) -> Attribution:
        """Return weight times distance from the training mean; logits are relative to the mean over all classes."""
        chosen = self.predict(samples) if output is None else np.asarray(output)
        values = self._centered(samples) * self.coefficients_[chosen]
        base = self.intercepts_[chosen]
        return Attribution(list(self.features_.genes), values, base, base + values.sum(axis=1), "exact")
