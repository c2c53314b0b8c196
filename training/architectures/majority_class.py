"""The baseline of classification: the share of each class among the training samples, whatever the sample."""

from typing import Any, Self

import numpy as np

from training.architectures import architecture
from training.estimator import Classifier, FitContext


@architecture("images", "classification", role="baseline")
@architecture("profiles", "classification", role="baseline")
class MajorityClass(Classifier):
    """Answers the shares of the classes, so that its label is always the most frequent one."""

    fitted = ("classes", "shares")
    counted = ("shares",)

    def fit(self, train: Any, validation: Any | None = None, context: FitContext | None = None) -> Self:
        """Count the classes of the training samples."""
        self.classes_ = list(train.classes)
        self.shares_ = np.bincount(train.target, minlength=len(self.classes_)) / len(train)
        return self

    def predict_proba(self, samples: Any) -> np.ndarray:
        """Return the same shares for every sample, shape ``(n, classes)``."""
        return np.tile(self.shares_, (len(samples), 1))
