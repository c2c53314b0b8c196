"""The baseline of survival: the curve of Kaplan and Meier (1958), the same for every sample.

The curve itself is the model's contract's (`training.problems.survival`), which fits one to every model's risks: where
all risks are alike it is this one.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from training.architectures import architecture
from training.estimator import Estimator, FitContext

TITLE = "Kaplan-Meier"


@architecture("profiles", "survival", role="baseline")
class KaplanMeier(Estimator):
    """Answers the same risk for every sample."""

    def fit(self, train: Any, validation: Any | None = None, context: FitContext | None = None) -> Self:
        """Learn nothing."""
        return self

    def predict(self, samples: Any) -> np.ndarray:
        """Return a log hazard of 0, shape ``(n,)``."""
        return np.zeros(len(samples))

    def cost(self) -> dict[str, float]:
        """Return one number: the risk of all."""
        return {"parameters": 1}

    def state(self) -> dict[str, Any]:
        """Return nothing."""
        return {}

    def restore(self, state: dict[str, Any]) -> Self:
        """Take on nothing."""
        return self
