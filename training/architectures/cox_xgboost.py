"""Gradient-boosted trees (Chen and Guestrin, 2016) on Cox's partial likelihood: XGBoost's ``survival:cox``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from pipelines.samples.expression import ExpressionSamples
from training.architectures import Range, architecture, ranges
from training.estimator import Attribution, FitContext
from training.trees import boosters
from training.trees.boosters import BoostingChoices, Rows, TreeEstimator
from training.trees.profiles import PROFILE_BINS, TREE_SELECTIONS, ProfileMatrix

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
@dataclass(eq=False, repr=False, kw_only=True)
class CoxXGBoost(BoostingChoices, ProfileMatrix, TreeEstimator):
    """Boosted trees that add up to a log hazard, stopped early on the validation rows.

    Parameters
    ----------
    selection
        See `ProfileFeatures`; the others are those of `BoostingChoices`.
    """

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

    def fit(
        self, train: ExpressionSamples, validation: ExpressionSamples | None = None, context: FitContext | None = None
    ) -> Self:
        """Grow the trees; with ``validation`` boosting stops once its partial likelihood no longer rises."""
        self._fit_features(train)
        watched = None
        if validation is not None and validation.target[:, 1].any():  # without an event there is nothing to watch
            watched = Rows(self._matrix(validation), signed_times(validation))
        matrix = self._matrix(train)
        params = {"objective": "survival:cox", "eval_metric": "cox-nloglik", "base_score": 1.0, "seed": self.seed}
        self.booster_ = boosters.grow(
            {**params, **self._booster_params()},
            Rows(matrix, signed_times(train)),
            watched,
            rounds=self.rounds,
            patience=self.patience,
            device=self.device,
            max_bin=PROFILE_BINS,
            on_step=context.on_step if context else None,
        )
        self.mean_ = 0.0
        self.mean_ = float(self._log_hazard(matrix).mean())
        return self

    def _log_hazard(self, matrix: np.ndarray) -> np.ndarray:
        """Return the margin of the trees less its mean over the training rows; XGBoost answers its exponential."""
        return np.log(boosters.predicted(self.booster_, matrix, self.device)) - self.mean_

    def predict(self, samples: ExpressionSamples) -> np.ndarray:
        """Return the log hazard relative to the training rows' mean, shape ``(n,)``."""
        return self._log_hazard(self._matrix(samples)) if len(samples) else np.zeros(0)

    def attribute(self, samples: ExpressionSamples, output: np.ndarray | None = None) -> Attribution:
        """Return TreeSHAP values of the log hazard."""
        found = boosters.contributions(self.booster_, self._matrix(samples), np.zeros(len(samples), dtype=np.int64))
        values, base, margin = found
        genes = list(self.features_.genes)
        return Attribution(genes, values, base - self.mean_, margin - self.mean_, "tree_shap")


def signed_times(samples: ExpressionSamples) -> np.ndarray:
    """Return times as XGBoost expects them: negative for censored samples."""
    time, event = samples.target.T
    return np.where(event > 0, time, -time)
