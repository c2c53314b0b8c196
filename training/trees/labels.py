"""Tree ensembles that classify: all but their hyperparameters and features."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, Self

import numpy as np

from training.estimator import Classifier, FitContext
from training.trees import boosters
from training.trees.boosters import Rows, TreeEstimator


class LabelTrees(TreeEstimator, Classifier):
    """Trees on a row of numbers per sample; with ``balanced`` all classes weigh alike."""

    balanced: bool
    max_bin: ClassVar[int] = 256
    fitted = ("classes",)

    @abstractmethod
    def _fit_features(self, train: Any) -> None:
        """Learn from training rows what `_matrix` needs."""

    @abstractmethod
    def _matrix(self, samples: Any) -> np.ndarray:
        """Return the features, float32, shape ``(n, features)``."""

    def fit(self, train: Any, validation: Any | None = None, context: FitContext | None = None) -> Self:
        """Grow the trees; with ``validation`` boosting stops once its log loss no longer falls."""
        self._fit_features(train)
        self.classes_ = list(train.classes)
        codes, classes = train.target, len(self.classes_)
        counts = np.bincount(codes, minlength=classes).clip(1)
        weights = (len(codes) / (classes * counts))[codes] if self.balanced else None
        watched = None
        if validation is not None and len(validation):
            watched = Rows(self._matrix(validation), validation.target)
        params = {"objective": "multi:softprob", "num_class": classes, "eval_metric": "mlogloss", "seed": self.seed}
        rounds, patience = self._rounds()
        self.booster_ = boosters.grow(
            {**params, **self._booster_params()},
            Rows(self._matrix(train), codes, weights),
            watched,
            rounds=rounds,
            patience=patience,
            device=self.device,
            max_bin=self.max_bin,
            on_step=context.on_step if context else None,
            reported="validation_log_loss",
        )
        return self

    def predict_proba(self, samples: Any) -> np.ndarray:
        """Return the probability of each class, shape ``(n, classes)``."""
        if len(samples) == 0:
            return np.zeros((0, len(self.classes_)))
        probabilities = boosters.predicted(self.booster_, self._matrix(samples), self.device)
        return probabilities / probabilities.sum(axis=1, keepdims=True)
