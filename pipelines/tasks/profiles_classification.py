"""Expression profiles in classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pipelines.modalities.profiles import ProfilesData, ProfilesTask
from pipelines.params import Evaluate, PerBudget, TuneTransfer

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from pipelines.params_checks import Checks
    from pipelines.samples.expression import ProfileTargets


@dataclass(frozen=True)
class LabelData(ProfilesData):
    """What is taken where profiles have a label.

    Attributes
    ----------
    minimum_patients
        That a class needs, to stand on every side of a split.
    small_classes
        What happens to a class with fewer.
    """

    minimum_patients: int
    small_classes: Literal["drop", "refuse"]


@dataclass(frozen=True)
class TuneProfiles(TuneTransfer):
    """How classifiers of profiles are tuned, networks on gene images among them.

    Attributes
    ----------
    layouts
        Gene-to-pixel layouts that a study may try; ``chromosome`` is left out where ``genes.csv`` has no positions.
    image_size
        Side of the gene image in pixels, at least; raised to what a network takes and to what the genes need.
    """

    layouts: tuple[Literal["given", "chromosome", "similarity"], ...]
    image_size: int


@dataclass(frozen=True)
class EvaluateProfiles(Evaluate):
    """How a classifier of profiles becomes evidence.

    Attributes
    ----------
    stability_seeds
        From so many other seeds the model is fitted again, to see whether the same genes are named; 0 for none.
    """

    stability_seeds: PerBudget


@dataclass(frozen=True)
class ProfilesClassification(ProfilesTask):
    """Expression profiles in classes."""

    needs = ("label",)

    data: LabelData
    tune: TuneProfiles
    evaluate: EvaluateProfiles

    def check(self, checks: Checks) -> None:
        """Refuse classes that are too small to split, and gene images that no network takes."""
        super().check(checks)
        least = self.data.minimum_patients
        said = f"is {least}; train, validation and test need one each"
        checks.require(least >= 3, "data.minimum_patients", said)
        checks.at_least(0, self.evaluate.stability_seeds, "evaluate.stability_seeds")
        checks.require(bool(self.tune.layouts), "tune.layouts", "is empty; name at least one")
        size = self.tune.image_size
        checks.require(8 <= size <= 512, "tune.image_size", f"is {size}; it must be between 8 and 512 pixels")
        checks.transfer(self.tune)

    def targets(self, table: pd.DataFrame, left: np.ndarray, classes: Sequence[str] | None = None) -> ProfileTargets:
        """Return the class of each sample; those without a label or of too small a class are dropped."""
        from pipelines.samples.expression import label_targets

        return label_targets(table, left, self, classes)


TASK = ProfilesClassification
