"""Genes predicted from other genes."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pipelines.modalities.profiles import ProfilesData, ProfilesTask
from pipelines.params import Aimed
from pipelines.typed_yaml import Checks

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class GeneData(ProfilesData):
    """Settings of genes that are predicted from genes."""

    # `landmarks` (`is_l1000_landmark` in `genes.csv`), or `all` genes that are no targets
    predictors: Literal["landmarks", "all"]
    targets: str  # the name of a gene, or `most_variable`: chosen on training rows
    target_count: int  # how many genes are the most variable


@dataclass(frozen=True)
class ProfilesMultiTarget(ProfilesTask):
    """Genes predicted from other genes."""

    data: GeneData

    def check(self, checks: Checks) -> None:
        """Refuse a task without a target."""
        super().check(checks)
        checks.filled("data.targets")
        checks.at_least(1, "data.target_count")

    @property
    def needs_landmarks(self) -> bool:
        """Whether ``genes.csv`` must mark the landmarks, as the predictors."""
        return self.data.predictors == "landmarks"

    def aim(self, samples: Any, table: "pd.DataFrame") -> Aimed:
        """Choose target and predictor genes; the most variable ones on training rows alone."""
        from pipelines.samples.expression import aim

        aimed = aim(samples, self.data, (table["split"].to_numpy(str) == "train").nonzero()[0])
        return Aimed(aimed, counts={"targets": list(aimed.targets), "predictors": len(aimed.predictors)})


TASK = ProfilesMultiTarget
