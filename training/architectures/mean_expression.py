"""The baseline of gene prediction: the mean of each target gene over the training samples, whatever the sample."""

from typing import Any, Self

import numpy as np

from training.architectures import architecture
from training.estimator import Estimator, FitContext
from training.features.expression_profile import target_means


@architecture("profiles", "multi_target", role="baseline")
class MeanExpression(Estimator):
    """Answers each target gene's mean."""

    fitted = ("means",)
    counted = ("means",)

    def fit(self, train: Any, validation: Any | None = None, context: FitContext | None = None) -> Self:
        """Take the means of the training samples."""
        self.means_ = target_means(train)
        return self

    def predict(self, samples: Any) -> np.ndarray:
        """Return the same means for every sample, log2 units, shape ``(n, targets)``."""
        return np.tile(self.means_, (len(samples), 1))
