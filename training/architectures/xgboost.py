"""Gradient-boosted trees (Chen and Guestrin, 2016)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from training.architectures import architecture
from training.estimator import Estimator
from training.features.cell_line_choices import cell_line_space
from training.trees.genes import GeneTargetTrees
from training.trees.images import ImageTrees, features_of
from training.trees.profiles import TREE_SELECTIONS, ProfileLabelTrees
from training.trees.responses import PairTrees, Start

if TYPE_CHECKING:
    import optuna

TITLE = "XGBoost"


@dataclass(eq=False, repr=False, kw_only=True)
class _Boosted(Estimator):
    """What every family tunes; a dataclass, so that a family's constructor adds its own fields and repeats none."""

    learning_rate: float = 0.1
    depth: int = 4
    row_share: float = 0.8
    column_share: float = 0.3
    min_child_weight: float = 1.0
    l2: float = 1.0
    rounds: int = 600
    patience: int = 40
    seed: int = 0
    device: str = "auto"

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


def space(trial: optuna.Trial, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Draw hyperparameters."""
    return {
        "learning_rate": trial.suggest_float("learning_rate", 0.01, 0.2, log=True),
        "depth": trial.suggest_int("depth", 3, 9),
        "row_share": trial.suggest_float("row_share", 0.5, 1.0),
        "column_share": trial.suggest_float("column_share", 0.05, 0.7),
        "min_child_weight": trial.suggest_float("min_child_weight", 1.0, 1000.0, log=True),
        "l2": trial.suggest_float("l2", 0.1, 200.0, log=True),
        "components": trial.suggest_categorical("components", [0, 64]),
        **cell_line_space(trial, settings),
        "identity": trial.suggest_categorical("identity", ["profile", "none"]),
        "start": trial.suggest_categorical("start", ["bilinear", "drug_mean", "none"]),
    }


@architecture("pairs", "regression", space=space, role="simple")
@dataclass(eq=False, repr=False, kw_only=True)
class XGBoost(_Boosted, PairTrees):
    """Boosted trees on pair features, stopped early on the validation rows."""

    learning_rate: float = 0.03
    depth: int = 6
    row_share: float = 0.7
    min_child_weight: float = 50.0
    l2: float = 20.0
    components: int = 64
    identity: str = "profile"
    profile_components: int = 16
    bits: int = 256
    start: Start = "bilinear"
    rounds: int = 1500

    @property
    def _start(self) -> Start:
        return self.start


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


@architecture("images", "classification", space=image_space, role="simple")
@dataclass(eq=False, repr=False, kw_only=True)
class ImageXGBoost(_Boosted, ImageTrees):
    """Boosted trees on features of images, stopped early on the validation rows."""

    features: str = "descriptors"
    balanced: bool = True


def profile_space(trial: optuna.Trial, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Draw hyperparameters of boosted trees on profiles; deep trees and many columns cost minutes and win nothing."""
    return {
        "selection": trial.suggest_categorical("selection", TREE_SELECTIONS),
        "learning_rate": trial.suggest_float("learning_rate", 0.08, 0.3, log=True),
        "depth": trial.suggest_int("depth", 2, 4),
        "row_share": trial.suggest_float("row_share", 0.5, 1.0),
        "column_share": trial.suggest_float("column_share", 0.05, 0.3, log=True),
        "min_child_weight": trial.suggest_float("min_child_weight", 0.1, 5.0, log=True),
        "l2": trial.suggest_float("l2", 0.1, 10.0, log=True),
        "balanced": trial.suggest_categorical("balanced", [True, False]),
    }


@architecture("profiles", "classification", space=profile_space, role="simple")
@dataclass(eq=False, repr=False, kw_only=True)
class ProfileXGBoost(_Boosted, ProfileLabelTrees):
    """Boosted trees on expression profiles, stopped early on the validation rows."""

    selection: str = "all"
    learning_rate: float = 0.15
    depth: int = 3
    column_share: float = 0.1
    balanced: bool = True
    rounds: int = 400
    patience: int = 15


def gene_space(trial: optuna.Trial, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Draw hyperparameters of boosted trees that predict genes."""
    return {
        "selection": trial.suggest_categorical("selection", TREE_SELECTIONS),
        "learning_rate": trial.suggest_float("learning_rate", 0.05, 0.2, log=True),
        "depth": trial.suggest_int("depth", 2, 4),
        "row_share": trial.suggest_float("row_share", 0.5, 1.0),
        "column_share": trial.suggest_float("column_share", 0.03, 0.3, log=True),
        "min_child_weight": trial.suggest_float("min_child_weight", 1.0, 20.0, log=True),
        "l2": trial.suggest_float("l2", 0.1, 10.0, log=True),
    }


@architecture("profiles", "multi_target", space=gene_space, role="simple")
@dataclass(eq=False, repr=False, kw_only=True)
class GeneXGBoost(_Boosted, GeneTargetTrees):
    """Boosted trees for each target gene, stopped early on the validation rows."""

    selection: str = "all"
    learning_rate: float = 0.08
    depth: int = 3
    row_share: float = 0.7
    column_share: float = 0.1
    min_child_weight: float = 3.0
    rounds: int = 300
    patience: int = 15
