"""Expression profiles in classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pipelines.modalities.profiles import ProfilesData, ProfilesTask, ProfileTargets
from pipelines.params import Evaluate, PerBudget, TuneTransfer
from pipelines.typed_yaml import Checks

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


@dataclass(frozen=True)
class LabelData(ProfilesData):
    """Settings of profiles with a label."""

    minimum_patients: int  # of a class, so that it is on every side of a split
    small_classes: Literal["drop", "refuse"]  # treatment of a class with fewer


@dataclass(frozen=True)
class TuneProfiles(TuneTransfer):
    """How classifiers of profiles are tuned, networks on gene images among them."""

    # gene-to-pixel layouts that a study may try; `chromosome` is left out where `genes.csv` has no positions
    layouts: tuple[Literal["given", "chromosome", "similarity"], ...]
    # side of the gene image in pixels, at least; raised to what a network takes and to what the genes need
    image_size: int


@dataclass(frozen=True)
class EvaluateProfiles(Evaluate):
    """How a classifier of profiles is evaluated."""

    # number of other seeds the model is fitted with, to see whether the same genes are named; 0 for none
    stability_seeds: PerBudget


@dataclass(frozen=True)
class ProfilesClassification(ProfilesTask):
    """Expression profiles in classes."""

    needs = ("label",)

    data: LabelData
    tune: TuneProfiles
    evaluate: EvaluateProfiles

    def check(self, checks: Checks) -> None:
        """Refuse counts, layouts and image sizes out of range."""
        super().check(checks)
        checks.at_least(3, "data.minimum_patients")  # train, validation and test need one each
        checks.at_least(0, "evaluate.stability_seeds")
        checks.filled("tune.layouts", "tune.modes", "tune.weights")
        size = self.tune.image_size
        checks.require(8 <= size <= 512, "tune.image_size", f"is {size}; it must be between 8 and 512 pixels")

    def targets(self, table: pd.DataFrame, left: np.ndarray, classes: Sequence[str] | None = None) -> ProfileTargets:
        """Return the class of each sample; samples without a label or of too small a class are dropped."""
        from pipelines.samples.expression import label_targets

        return label_targets(table, left, self, classes)


TASK = ProfilesClassification
