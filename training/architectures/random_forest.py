"""Random Forest (Breiman, 2001), grown in XGBoost: see `training.trees.responses` for why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from training.architectures import architecture
from training.estimator import Estimator
from training.features.cell_line_choices import cell_line_space
from training.trees.genes import GeneTargetTrees
from training.trees.images import ImageTrees, features_of
from training.trees.profiles import TREE_SELECTIONS, ProfileLabelTrees
from training.trees.responses import PairTrees, Start

if TYPE_CHECKING:
    import optuna


@dataclass(eq=False, repr=False, kw_only=True)
class _Forest(Estimator):
    """What every family tunes; a dataclass, so that a family's constructor adds its own fields and repeats none.

    Trees are grown side by side on random rows, a random share of the columns at every split, and averaged.
    """

    depth: int = 12
    row_share: float = 0.7
    column_share: float = 0.1
    min_child_weight: float = 0.3
    trees: int = 200
    seed: int = 0
    device: str = "auto"
    l2: ClassVar[float] = 0.1

    def _booster_params(self) -> dict[str, Any]:
        return {
            "eta": 1.0,
            "max_depth": self.depth,
            "subsample": self.row_share,
            "colsample_bynode": self.column_share,
            "min_child_weight": self.min_child_weight,
            "reg_lambda": self.l2,
            "num_parallel_tree": self.trees,
        }

    def _rounds(self) -> tuple[int, int | None]:
        return 1, None


def space(trial: optuna.Trial, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Draw hyperparameters."""
    return {
        "depth": trial.suggest_int("depth", 8, 14),
        "row_share": trial.suggest_float("row_share", 0.3, 0.9),
        "column_share": trial.suggest_float("column_share", 0.1, 0.7),
        "min_child_weight": trial.suggest_float("min_child_weight", 1.0, 50.0, log=True),
        "components": trial.suggest_categorical("components", [32, 64]),
        **cell_line_space(trial, settings),
        "identity": trial.suggest_categorical("identity", ["profile", "none"]),
        "center": trial.suggest_categorical("center", [True, False]),
    }


@architecture("pairs", "regression", space=space, role="simple")
@dataclass(eq=False, repr=False, kw_only=True)
class RandomForest(_Forest, PairTrees):
    """A forest on pair features."""

    row_share: float = 0.6
    column_share: float = 0.3
    min_child_weight: float = 10.0
    components: int = 64
    identity: str = "profile"
    profile_components: int = 16
    bits: int = 256
    center: bool = True
    trees: int = 100
    l2 = 0.0

    @property
    def _start(self) -> Start:
        return "drug_mean" if self.center else "none"


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


@architecture("images", "classification", space=image_space, role="simple")
@dataclass(eq=False, repr=False, kw_only=True)
class ImageRandomForest(_Forest, ImageTrees):
    """The same forest on features of images."""

    features: str = "descriptors"
    balanced: bool = True


def profile_space(trial: optuna.Trial, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Draw hyperparameters of a forest on profiles."""
    return {
        "selection": trial.suggest_categorical("selection", TREE_SELECTIONS),
        "depth": trial.suggest_int("depth", 6, 14),
        "row_share": trial.suggest_float("row_share", 0.4, 0.9),
        "column_share": trial.suggest_float("column_share", 0.03, 0.25, log=True),
        "min_child_weight": trial.suggest_float("min_child_weight", 0.02, 2.0, log=True),
        "balanced": trial.suggest_categorical("balanced", [True, False]),
    }


@architecture("profiles", "classification", space=profile_space, role="simple")
@dataclass(eq=False, repr=False, kw_only=True)
class ProfileRandomForest(_Forest, ProfileLabelTrees):
    """The same forest on expression profiles."""

    min_child_weight: float = 0.05
    selection: str = "all"
    balanced: bool = False
    trees: int = 100


def gene_space(trial: optuna.Trial, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Draw hyperparameters of a forest that predicts genes."""
    return {
        "selection": trial.suggest_categorical("selection", TREE_SELECTIONS),
        "depth": trial.suggest_int("depth", 5, 10),
        "row_share": trial.suggest_float("row_share", 0.4, 0.9),
        "column_share": trial.suggest_float("column_share", 0.05, 0.4, log=True),
        "min_child_weight": trial.suggest_float("min_child_weight", 2.0, 15.0, log=True),
    }


@architecture("profiles", "multi_target", space=gene_space, role="simple")
@dataclass(eq=False, repr=False, kw_only=True)
class GeneRandomForest(_Forest, GeneTargetTrees):
    """The same forest for each target gene."""

    depth: int = 8
    column_share: float = 0.2
    min_child_weight: float = 5.0
    selection: str = "all"
    trees: int = 100
