"""Cell lines that are sensitive or resistant to a drug, by a threshold on their response."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pipelines.modalities.pairs import PairsData, PairsTask
from pipelines.params import DRUG_PILOT, Aimed
from pipelines.typed_yaml import Checks

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Threshold:
    """Response below which a line counts as sensitive to a drug: see `pipelines.samples.sensitivity`."""

    # `waterfall` (inflection of a drug's sorted responses; Barretina et al., 2012) or `quantile` (the lowest `share` of
    # a drug's training rows is sensitive)
    method: Literal["waterfall", "quantile"]
    prior_rows: float  # weight of the threshold over all drugs in that of each drug, in rows
    share: float = 0.25  # of the training rows of a drug; only `quantile` uses it


@dataclass(frozen=True)
class SensitivityData(PairsData):
    """Settings of pairs that are sensitive or resistant."""

    threshold: Threshold


@dataclass(frozen=True)
class PairsClassification(PairsTask):
    """Cell lines that are sensitive or resistant to a drug."""

    modes: ClassVar[tuple[str, ...]] = tuple(mode for mode in PairsTask.modes if mode != DRUG_PILOT)  # of numbers alone
    target_columns = ("target", "response", "threshold")

    data: SensitivityData

    def check(self, checks: Checks) -> None:
        """Refuse a share or a weight of the threshold out of range."""
        super().check(checks)
        checks.share("data.threshold.share")
        checks.at_least(0, "data.threshold.prior_rows")

    def aim(self, samples: Any, table: "pd.DataFrame") -> Aimed:
        """Learn the thresholds on the training rows, and classify all rows by them."""
        from pipelines.samples.sensitivity import call_by_training_rows

        side = table["split"].to_numpy(str)
        called = call_by_training_rows(samples, self.data.threshold, (side == "train").nonzero()[0])
        columns = {column: called.table[column].to_numpy() for column in self.target_columns}
        sensitive = called.table["target"].groupby(side).sum().to_dict()
        return Aimed(called, columns, {"sensitive": sensitive})


TASK = PairsClassification
