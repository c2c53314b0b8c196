"""Gradient-boosted trees (Chen and Guestrin, 2016) on Cox's partial likelihood: XGBoost's ``survival:cox``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from pipelines.samples.expression import ExpressionSamples
from training.architectures import architecture
from training.estimator import Attribution, Estimator, FitContext
from training.features.expression_profile import ProfileFeatures
from training.trees import boosters
from training.trees.boosters import Rows
from training.trees.profiles import PROFILE_BINS, TREE_SELECTIONS, ProfileMatrix

if TYPE_CHECKING:
    import optuna

TITLE = "Cox XGBoost"


def space(trial: optuna.Trial, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Draw hyperparameters: small trees, since events are few."""
    return {
        "selection": trial.suggest_categorical("selection", TREE_SELECTIONS),
        "learning_rate": trial.suggest_float("learning_rate", 0.01, 0.2, log=True),
        "depth": trial.suggest_int("depth", 1, 4),
        "row_share": trial.suggest_float("row_share", 0.5, 1.0),
        "column_share": trial.suggest_float("column_share", 0.05, 0.7, log=True),
        "min_child_weight": trial.suggest_float("min_child_weight", 0.5, 10.0, log=True),
        "l2": trial.suggest_float("l2", 0.1, 30.0, log=True),
    }


@architecture("profiles", "survival", space=space, role="simple")
@dataclass(eq=False, repr=False, kw_only=True)
class CoxXGBoost(ProfileMatrix, Estimator):
    """Boosted trees that add up to a log hazard, stopped early on the validation rows.

    Parameters
    ----------
    selection
        See `ProfileFeatures`.
    learning_rate, depth, row_share, column_share, min_child_weight, l2
        XGBoost's ``eta``, ``max_depth``, ``subsample``, ``colsample_bytree``, ``min_child_weight``, ``reg_lambda``.
    rounds, patience
        Boosting rounds at most, and how many may pass without getting better on the validation rows.
    seed, device
        As in ``params.yaml``.
    """

    selection: str = "all"
    learning_rate: float = 0.05
    depth: int = 2
    row_share: float = 0.7
    column_share: float = 0.2
    min_child_weight: float = 2.0
    l2: float = 5.0
    rounds: int = 300
    patience: int = 30
    seed: int = 0
    device: str = "auto"

    def fit(
        self,
        train: ExpressionSamples,
        validation: ExpressionSamples | None = None,
        context: FitContext | None = None,
    ) -> Self:
        """Grow the trees; with ``validation`` boosting stops once its partial likelihood no longer rises."""
        context = context or FitContext()
        self._fit_features(train)
        watched = None
        if validation is not None and validation.target[:, 1].any():  # without an event there is nothing to watch
            watched = Rows(self._matrix(validation), signed_times(validation))
        matrix = self._matrix(train)
        self.booster_ = boosters.grow(
            {
                "objective": "survival:cox",
                "eval_metric": "cox-nloglik",
                "base_score": 1.0,
                "seed": self.seed,
                "eta": self.learning_rate,
                "max_depth": self.depth,
                "subsample": self.row_share,
                "colsample_bytree": self.column_share,
                "min_child_weight": self.min_child_weight,
                "reg_lambda": self.l2,
            },
            Rows(matrix, signed_times(train)),
            watched,
            rounds=self.rounds,
            patience=self.patience,
            device=self.device,
            max_bin=PROFILE_BINS,
            on_step=context.on_step,
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

    def cost(self) -> dict[str, float]:
        """Return the number of nodes and trees."""
        return boosters.size(self.booster_)

    def state(self) -> dict[str, Any]:
        """Return featurizer, mean and booster (XGBoost's UBJSON, as bytes)."""
        booster = boosters.to_array(self.booster_)
        return {"features": self.features_.state(), "mean": self.mean_, "booster": booster}

    def restore(self, state: dict[str, Any]) -> Self:
        """Take on featurizer, mean and booster."""
        self.features_ = ProfileFeatures.from_state(state["features"])
        self.mean_ = state["mean"]
        self.booster_ = boosters.from_array(state["booster"])
        return self


def signed_times(samples: ExpressionSamples) -> np.ndarray:
    """Return times as XGBoost wants them: negative where no event was seen."""
    time, event = samples.target.T
    return np.where(event > 0, time, -time)
