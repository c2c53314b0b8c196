"""Gradient-boosted trees (Chen and Guestrin, 2016)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from training.architectures import architecture
from training.image_trees import ImageTrees, features_of
from training.trees import PairTrees, Start

if TYPE_CHECKING:
    import optuna


def space(trial: optuna.Trial, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Draw hyperparameters."""
    return {
        "learning_rate": trial.suggest_float("learning_rate", 0.01, 0.2, log=True),
        "depth": trial.suggest_int("depth", 3, 9),
        "row_share": trial.suggest_float("row_share", 0.5, 1.0),
        "column_share": trial.suggest_float("column_share", 0.05, 0.7),
        "min_child_weight": trial.suggest_float("min_child_weight", 1.0, 1000.0, log=True),
        "l2": trial.suggest_float("l2", 0.1, 200.0, log=True),
        "omics": trial.suggest_categorical("omics", ["expression", "all"]),
        "components": trial.suggest_categorical("components", [0, 64]),
        "identity": trial.suggest_categorical("identity", ["profile", "none"]),
        "start": trial.suggest_categorical("start", ["bilinear", "drug_mean", "none"]),
    }


DEFAULTS = {
    "learning_rate": 0.03,
    "depth": 6,
    "row_share": 0.7,
    "column_share": 0.3,
    "min_child_weight": 50.0,
    "l2": 20.0,
    "omics": "expression",
    "components": 64,
    "identity": "profile",
    "start": "bilinear",
}


@architecture("xgboost", space=space, defaults=DEFAULTS)
class XGBoost(PairTrees):
    """Boosted trees on pair features, stopped early on the validation rows."""

    def __init__(
        self,
        learning_rate: float = 0.03,
        depth: int = 6,
        row_share: float = 0.7,
        column_share: float = 0.3,
        min_child_weight: float = 50.0,
        l2: float = 20.0,
        omics: str = "expression",
        components: int = 64,
        keep_share: float = 1.0,
        identity: str = "profile",
        profile_components: int = 16,
        bits: int = 256,
        start: Start = "bilinear",
        rounds: int = 1500,
        patience: int = 40,
        seed: int = 0,
        device: str = "auto",
    ) -> None:
        self.learning_rate = learning_rate
        self.depth = depth
        self.row_share = row_share
        self.column_share = column_share
        self.min_child_weight = min_child_weight
        self.l2 = l2
        self.omics = omics
        self.components = components
        self.keep_share = keep_share
        self.identity = identity
        self.profile_components = profile_components
        self.bits = bits
        self.start = start
        self.rounds = rounds
        self.patience = patience
        self.seed = seed
        self.device = device

    @property
    def _start(self) -> Start:
        return self.start

    def _booster_params(self) -> dict[str, Any]:
        return {
            "eta": self.learning_rate,
            "max_depth": self.depth,
            "subsample": self.row_share,
            "colsample_bytree": self.column_share,
            "min_child_weight": self.min_child_weight,
            "reg_lambda": self.l2,
        }

    def _rounds(self) -> tuple[int, int | None]:
        return self.rounds, self.patience


def image_space(trial: optuna.Trial, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Draw hyperparameters of boosted trees on images."""
    return {
        "features": features_of(trial, settings),
        "learning_rate": trial.suggest_float("learning_rate", 0.03, 0.3, log=True),
        "depth": trial.suggest_int("depth", 2, 7),
        "row_share": trial.suggest_float("row_share", 0.5, 1.0),
        "column_share": trial.suggest_float("column_share", 0.05, 0.7, log=True),
        "min_child_weight": trial.suggest_float("min_child_weight", 0.1, 20.0, log=True),
        "l2": trial.suggest_float("l2", 0.1, 30.0, log=True),
        "balanced": trial.suggest_categorical("balanced", [True, False]),
    }


IMAGE_DEFAULTS = {
    "features": "descriptors",
    "learning_rate": 0.1,
    "depth": 4,
    "row_share": 0.8,
    "column_share": 0.3,
    "min_child_weight": 1.0,
    "l2": 1.0,
    "balanced": True,
}


@architecture("xgboost", kind="images", space=image_space, defaults=IMAGE_DEFAULTS)
class ImageXGBoost(ImageTrees):
    """Boosted trees on features of images, stopped early on the validation rows."""

    def __init__(
        self,
        features: str = "descriptors",
        learning_rate: float = 0.1,
        depth: int = 4,
        row_share: float = 0.8,
        column_share: float = 0.3,
        min_child_weight: float = 1.0,
        l2: float = 1.0,
        balanced: bool = True,
        rounds: int = 600,
        patience: int = 40,
        seed: int = 0,
        device: str = "auto",
    ) -> None:
        self.features = features
        self.learning_rate = learning_rate
        self.depth = depth
        self.row_share = row_share
        self.column_share = column_share
        self.min_child_weight = min_child_weight
        self.l2 = l2
        self.balanced = balanced
        self.rounds = rounds
        self.patience = patience
        self.seed = seed
        self.device = device

    def _booster_params(self) -> dict[str, Any]:
        return {
            "eta": self.learning_rate,
            "max_depth": self.depth,
            "subsample": self.row_share,
            "colsample_bytree": self.column_share,
            "min_child_weight": self.min_child_weight,
            "reg_lambda": self.l2,
        }

    def _rounds(self) -> tuple[int, int | None]:
        return self.rounds, self.patience
