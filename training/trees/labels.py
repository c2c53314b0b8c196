"""Tree ensembles that tell classes apart: what XGBoost and Random Forest share, which is all but their parameters."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, Self

import numpy as np

from training.estimator import Classifier, FitContext
from training.trees import boosters
from training.trees.boosters import Rows, TreeEstimator


class LabelTrees(TreeEstimator, Classifier):
    """Trees on a row of numbers a sample.

    Parameters
    ----------
    balanced
        Whether classes weigh alike, however many samples each has.
    """

    balanced: bool
    max_bin: ClassVar[int] = 256

    @abstractmethod
    def _fit_features(self, train: Any) -> None:
        """Learn from training rows what `_matrix` needs."""

    @abstractmethod
    def _matrix(self, samples: Any) -> np.ndarray:
        """Return the features, float32, shape ``(n, features)``."""

    def fit(self, train: Any, validation: Any | None = None, context: FitContext | None = None) -> Self:
        """Grow the trees; with ``validation`` boosting stops once its log loss no longer falls."""
        context = context or FitContext()
        self._fit_features(train)
        self.classes_ = list(train.classes)
        codes = train.target
        counts = np.bincount(codes, minlength=len(self.classes_)).clip(1)
        weights = (len(codes) / (len(self.classes_) * counts))[codes] if self.balanced else None
        watched = None
        if validation is not None and len(validation):
            watched = Rows(self._matrix(validation), validation.target)
        rounds, patience = self._rounds()
        self.booster_ = boosters.grow(
            {
                "objective": "multi:softprob",
                "num_class": len(self.classes_),
                "eval_metric": "mlogloss",
                "seed": self.seed,
                **self._booster_params(),
            },
            Rows(self._matrix(train), codes, weights),
            watched,
            rounds=rounds,
            patience=patience,
            device=self.device,
            max_bin=self.max_bin,
            on_step=context.on_step,
            reported="validation_log_loss",
        )
        return self

    def predict_proba(self, samples: Any) -> np.ndarray:
        """Return the probability of each class, shape ``(n, classes)``."""
        if len(samples) == 0:
            return np.zeros((0, len(self.classes_)))
        probabilities = boosters.predicted(self.booster_, self._matrix(samples), self.device)
        return probabilities / probabilities.sum(axis=1, keepdims=True)

    def cost(self) -> dict[str, float]:
        """Return the number of nodes and trees."""
        return boosters.size(self.booster_)

    def state(self) -> dict[str, Any]:
        """Return classes and booster (XGBoost's UBJSON, as bytes)."""
        return {"classes": self.classes_, "booster": boosters.to_array(self.booster_)}

    def restore(self, state: dict[str, Any]) -> Self:
        """Take on classes and booster."""
        self.classes_ = list(state["classes"])
        self.booster_ = boosters.from_array(state["booster"])
        return self
