"""Random Forest (Breiman, 2001), grown in XGBoost: see `training.trees` for why."""

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
        "depth": trial.suggest_int("depth", 8, 14),
        "row_share": trial.suggest_float("row_share", 0.3, 0.9),
        "column_share": trial.suggest_float("column_share", 0.1, 0.7),
        "min_child_weight": trial.suggest_float("min_child_weight", 1.0, 50.0, log=True),
        "omics": trial.suggest_categorical("omics", ["expression", "all"]),
        "components": trial.suggest_categorical("components", [32, 64]),
        "identity": trial.suggest_categorical("identity", ["profile", "none"]),
        "center": trial.suggest_categorical("center", [True, False]),
    }


DEFAULTS = {
    "depth": 12,
    "row_share": 0.6,
    "column_share": 0.3,
    "min_child_weight": 10.0,
    "omics": "expression",
    "components": 64,
    "identity": "profile",
    "center": True,
}


@architecture("random_forest", space=space, defaults=DEFAULTS)
class RandomForest(PairTrees):
    """Trees grown side by side on random rows, a random share of the columns at every split, and averaged."""

    def __init__(
        self,
        depth: int = 12,
        row_share: float = 0.6,
        column_share: float = 0.3,
        min_child_weight: float = 10.0,
        omics: str = "expression",
        components: int = 64,
        keep_share: float = 1.0,
        identity: str = "profile",
        profile_components: int = 16,
        bits: int = 256,
        center: bool = True,
        trees: int = 100,
        seed: int = 0,
        device: str = "auto",
    ) -> None:
        self.depth = depth
        self.row_share = row_share
        self.column_share = column_share
        self.min_child_weight = min_child_weight
        self.omics = omics
        self.components = components
        self.keep_share = keep_share
        self.identity = identity
        self.profile_components = profile_components
        self.bits = bits
        self.center = center
        self.trees = trees
        self.seed = seed
        self.device = device

    @property
    def _start(self) -> Start:
        return "drug_mean" if self.center else "none"

    def _booster_params(self) -> dict[str, Any]:
        return {
            "eta": 1.0,
            "max_depth": self.depth,
            "subsample": self.row_share,
            "colsample_bynode": self.column_share,
            "min_child_weight": self.min_child_weight,
            "reg_lambda": 0.0,
            "num_parallel_tree": self.trees,
        }

    def _rounds(self) -> tuple[int, int | None]:
        return 1, None


def image_space(trial: optuna.Trial, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Draw hyperparameters of a forest on images."""
    return {
        "features": features_of(trial, settings),
        "depth": trial.suggest_int("depth", 6, 16),
        "row_share": trial.suggest_float("row_share", 0.4, 0.9),
        "column_share": trial.suggest_float("column_share", 0.02, 0.4, log=True),
        "min_child_weight": trial.suggest_float("min_child_weight", 0.05, 10.0, log=True),
        "balanced": trial.suggest_categorical("balanced", [True, False]),
    }


IMAGE_DEFAULTS = {
    "features": "descriptors",
    "depth": 12,
    "row_share": 0.7,
    "column_share": 0.1,
    "min_child_weight": 0.3,
    "balanced": True,
}


@architecture("random_forest", kind="images", space=image_space, defaults=IMAGE_DEFAULTS)
class ImageRandomForest(ImageTrees):
    """The same forest on features of images."""

    def __init__(
        self,
        features: str = "descriptors",
        depth: int = 12,
        row_share: float = 0.7,
        column_share: float = 0.1,
        min_child_weight: float = 0.3,
        balanced: bool = True,
        trees: int = 200,
        seed: int = 0,
        device: str = "auto",
    ) -> None:
        self.features = features
        self.depth = depth
        self.row_share = row_share
        self.column_share = column_share
        self.min_child_weight = min_child_weight
        self.balanced = balanced
        self.trees = trees
        self.seed = seed
        self.device = device

    def _booster_params(self) -> dict[str, Any]:
        return {
            "eta": 1.0,
            "max_depth": self.depth,
            "subsample": self.row_share,
            "colsample_bynode": self.column_share,
            "min_child_weight": self.min_child_weight,
            "reg_lambda": 0.1,
            "num_parallel_tree": self.trees,
        }

    def _rounds(self) -> tuple[int, int | None]:
        return 1, None
