"""The baseline of survival: the curve of Kaplan and Meier (1958), the same for every sample."""

from typing import Any, Self

import numpy as np

from training.architectures import architecture
from training.estimator import Estimator, FitContext

TITLE = "Kaplan-Meier"


@architecture("profiles", "survival", role="baseline")
class KaplanMeier(Estimator):
    """Answers the same risk for every sample; `training.problems.survival` fits the curve, as for every model."""

    def fit(self, train: Any, validation: Any | None = None, context: FitContext | None = None) -> Self:
        """Learn nothing."""
        return self

    def predict(self, samples: Any) -> np.ndarray:
        """Return a log hazard of 0, shape ``(n,)``."""
        return np.zeros(len(samples))

    def cost(self) -> dict[str, float]:
        """Return one parameter: the risk of all."""
        return {"parameters": 1}
