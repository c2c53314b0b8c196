"""Cox's proportional hazards (1972), linear in the genes, with an elastic-net penalty (Simon et al., 2011)."""

import warnings
from typing import Any, Self

import numpy as np

from pipelines.samples.expression import ExpressionSamples
from training.architectures import Range, architecture, ranges
from training.estimator import Attribution, FitContext
from training.features.expression_profile import ProfileEstimator, ProfileFeatures, Scaling

_STEPS = 50  # of the quadratic approximation
_CONVERGED = 1e-6  # largest change of a log hazard from one step to the next
_SWEEPS = 2_000  # over the genes a step

TITLE = "Cox net"

SPACE = ranges(
    selection=["all", "variance", "top_300", "top_1000"],
    scaling=["none", "standard"],
    alpha=Range(0.05, 5.0, log=True),
    l1_share=Range(0.01, 1.0, log=True),
)


@architecture("profiles", "survival", space=SPACE, role="simple")
class CoxNet(ProfileEstimator):
    """A log hazard that is linear in the genes; without scaling the penalty spares the genes that vary most."""

    selection: str = "all"
    scaling: Scaling = "standard"
    alpha: float = 0.5  # strength of the penalty beside the mean log partial likelihood over the samples
    l1_share: float = 0.05  # of the penalty on absolute weights, which leaves genes out; the rest is on squared ones

    fitted = ("center", "weights")

    def fit(self, train: ExpressionSamples, validation: Any = None, context: FitContext | None = None) -> Self:
        """Maximize the penalized partial likelihood, ties after Breslow."""
        self.features_ = ProfileFeatures(self.selection, self.scaling).fit(train)
        features = self.features_.transform(train).astype(np.float64)
        self.center_ = features.mean(axis=0)
        time, event = train.target.T
        self.weights_ = penalized_cox(features - self.center_, time, event, self.alpha, self.l1_share)
        return self

    def _centered(self, samples: ExpressionSamples) -> np.ndarray:
        return self.features_.transform(samples) - self.center_

    def predict(self, samples: ExpressionSamples) -> np.ndarray:
        """Return the log hazard relative to that of the mean training profile, shape ``(n,)``."""
        return self._centered(samples) @ self.weights_

    def graph(self, contract: Any) -> Any:
        """See `Estimator.graph`."""
        from training.graphs.profiles import profile_formula

        def answer(values: Any, center: Any, weights: Any) -> Any:
            return (values - center) @ weights

        return profile_formula(self.features_, contract, answer, center=self.center_, weights=self.weights_)

    def attribute(self, samples: ExpressionSamples, output: np.ndarray | None = None) -> Attribution:
        """Return weight times distance from the training mean, which is exact."""
        values = self._centered(samples) * self.weights_
        base = np.zeros(len(values))
        return Attribution(list(self.features_.genes), values, base, values.sum(axis=1), "exact")

    def cost(self) -> dict[str, float]:
        """Return the number of weights, and of those that are not 0."""
        return {"parameters": self.weights_.size, "genes": int(np.count_nonzero(self.weights_))}


def penalized_cox(
    features: np.ndarray, time: np.ndarray, event: np.ndarray, alpha: float, l1_share: float
) -> np.ndarray:
    """Return weights of the largest penalized likelihood, by elastic nets on quadratic approximations of it."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import ElasticNet

    risk = np.zeros(len(features))
    solver = ElasticNet(l1_ratio=l1_share, tol=1e-6, max_iter=_SWEEPS, warm_start=True)
    for _ in range(_STEPS):
        gradient, curvature = partial_derivatives(time, event, risk)
        curvature = np.maximum(curvature, 1e-6)
        solver.set_params(alpha=alpha * len(features) / curvature.sum())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the next step goes on from there
            solver.fit(features, risk - gradient / curvature, sample_weight=curvature)
        moved, risk = risk, features @ solver.coef_
        if np.abs(risk - moved).max() < _CONVERGED:
            break
    return solver.coef_.astype(np.float64)


def partial_derivatives(time: np.ndarray, event: np.ndarray, risk: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return gradient and diagonal of the Hessian of the negative log partial likelihood by each row's log hazard."""
    code = np.unique(time, return_inverse=True)[1]
    hazard = np.exp(risk - risk.max())
    at_risk = np.cumsum(np.bincount(code, hazard)[::-1])[::-1]
    events = np.bincount(code, event)
    first, second = np.cumsum(events / at_risk)[code], np.cumsum(events / at_risk**2)[code]
    return hazard * first - event, hazard * first - hazard**2 * second
