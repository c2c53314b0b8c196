"""The baseline of gene prediction: the mean of each target gene over the training samples, whatever the sample."""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from pipelines.samples.expression import ExpressionSamples
from training.architectures import architecture
from training.estimator import Estimator, FitContext
from training.gene_targets import target_means


@architecture("profiles", "multi_target", role="baseline")
class MeanExpression(Estimator):
    """Answers each target gene's mean."""

    def fit(
        self,
        train: ExpressionSamples,
        validation: ExpressionSamples | None = None,
        context: FitContext | None = None,
    ) -> Self:
        """Take the means of the training samples."""
        self.means_ = target_means(train)
        return self

    def predict(self, samples: ExpressionSamples) -> np.ndarray:
        """Return the same means for every sample, log2 units, shape ``(n, targets)``."""
        return np.tile(self.means_, (len(samples), 1))

    def cost(self) -> dict[str, float]:
        """Return the number of means."""
        return {"parameters": len(self.means_)}

    def state(self) -> dict[str, Any]:
        """Return the means."""
        return {"means": self.means_}

    def restore(self, state: dict[str, Any]) -> Self:
        """Take on the means."""
        self.means_ = state["means"]
        return self
