"""Gradient-boosted trees (Chen and Guestrin, 2016) on Cox's partial likelihood: XGBoost's ``survival:cox``."""

from typing import Any, Self

import numpy as np

from pipelines.samples.expression import ExpressionSamples
from training.architectures import Range, architecture, ranges
from training.estimator import Attribution, FitContext
from training.trees import boosters
from training.trees.boosters import BoostingChoices, TreeEstimator
from training.trees.profiles import TREE_SELECTIONS, ProfileMatrix

TITLE = "Cox XGBoost"

SPACE = ranges(
    selection=TREE_SELECTIONS,
    learning_rate=Range(0.01, 0.2, log=True),
    depth=Range(1, 4),
    row_share=Range(0.5, 1.0),
    column_share=Range(0.05, 0.7, log=True),
    min_child_weight=Range(0.5, 10.0, log=True),
    l2=Range(0.1, 30.0, log=True),
)


@architecture("profiles", "survival", space=SPACE, role="simple")
class CoxXGBoost(BoostingChoices, ProfileMatrix, TreeEstimator):
    """Boosted trees that add up to a log hazard, stopped early on the validation rows."""

    fitted = ("mean",)

    selection: str = "all"
    learning_rate: float = 0.05
    depth: int = 2
    row_share: float = 0.7
    column_share: float = 0.2
    min_child_weight: float = 2.0
    l2: float = 5.0
    rounds: int = 300
    patience: int = 30

    def fit(self, train: ExpressionSamples, validation: Any = None, context: FitContext | None = None) -> Self:
        """Grow the trees; with ``validation`` boosting stops once its partial likelihood no longer rises."""
        self._fit_features(train)
        if validation is not None and not validation.target[:, 1].any():
            validation = None  # without an event there is nothing to watch
        params = {"objective": "survival:cox", "eval_metric": "cox-nloglik", "base_score": 1.0}
        self._grow(params, train, validation, context)
        self.mean_ = 0.0
        self.mean_ = float(self._log_hazard(self._matrix(train)).mean())
        return self

    def _label(self, samples: ExpressionSamples) -> np.ndarray:
        """Return times as XGBoost expects them: negative for censored samples."""
        time, event = samples.target.T
        return np.where(event > 0, time, -time)

    def _log_hazard(self, matrix: np.ndarray) -> np.ndarray:
        """Return the margin of the trees less its mean over the training rows; XGBoost answers its exponential."""
        return np.log(self._predicted(matrix)) - self.mean_

    def _answer(self) -> Any:
        return self._walked(lambda margins: margins[:, 0] - self.mean_)

    def predict(self, samples: ExpressionSamples) -> np.ndarray:
        """Return the log hazard relative to the training rows' mean, shape ``(n,)``."""
        return self._log_hazard(self._matrix(samples)) if len(samples) else np.zeros(0)

    def attribute(self, samples: ExpressionSamples, output: np.ndarray | None = None) -> Attribution:
        """Return TreeSHAP values of the log hazard."""
        rows = np.zeros(len(samples), dtype=np.int64)
        values, base, margin = boosters.contributions(self.booster_, self._matrix(samples), rows)
        return Attribution(list(self.features_.genes), values, base - self.mean_, margin - self.mean_, "tree_shap")
