"""Tasks on pairs of a cell line and a drug: settings in ``params.yaml`` and the reader of their raw folder."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pipelines.params import DRUG_PILOT, PILOT, Aimed, Split, Task
from pipelines.samples import Kept
from pipelines.typed_yaml import Checks

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class MissingPolicy:
    """Treatment of cell lines without an omics table or a tissue, and of drugs without SMILES."""

    expression: Literal["drop", "impute"]
    mutation: Literal["drop", "impute"]
    copy_number: Literal["drop", "impute"]
    methylation: Literal["drop", "impute"]
    tissue: Literal["drop", "one_hot"]
    smiles: Literal["drop", "one_hot"]


@dataclass(frozen=True)
class PairsData:
    """Target, omics and missing values of a raw folder of pairs."""

    target: str
    omics: tuple[Literal["expression", "mutation", "copy_number", "methylation"], ...]
    missing: MissingPolicy


@dataclass(frozen=True)
class ValidatePairs:
    """Bounds of the validation of raw pairs."""

    expression_scale: Literal["log2_tpm_plus_1", "any"]
    target_range: tuple[float, float]
    minimum_rows: int
    unknown_cell_line_share: float
    unknown_drug_share: float
    constant_column_share: float


@dataclass(frozen=True)
class PairsSplit(Split):
    """How pairs of a cell line and a drug are assigned."""

    train_study: str = ""  # study whose rows are trained on in the mode `cross_study`; ignored by other modes
    test_study: str = ""  # study whose rows are tested in the mode `cross_study`; ignored by other modes
    pilot: int = 10  # lines on which each drug is measured in the mode `drug_pilot`; ignored by other modes


@dataclass(frozen=True)
class PairsTask(Task):
    """A task on pairs of a cell line and a drug."""

    modes: ClassVar[tuple[str, ...]] = ("random", "cell_blind", "drug_blind", DRUG_PILOT, "tissue_blind", "cross_study")
    within = True

    data: PairsData
    validate: ValidatePairs
    split: PairsSplit

    def check(self, checks: Checks) -> None:
        """Refuse doubled tables, an empty range, shares out of range, and studies that are missing or the same."""
        super().check(checks)
        checks.filled("data.omics")
        checks.require(len(set(self.data.omics)) == len(self.data.omics), "data.omics", "names a table twice")
        low, high = self.validate.target_range
        checks.require(low < high, "validate.target_range", f"from {low:g} to {high:g} is empty")
        if self.data.target == "auc":  # a share of the doses' range; fits overshoot 1 a little
            said = f"from {low:g} to {high:g} is none of areas under a curve; write [0.0, 1.2], and 2 at most"
            checks.require(low >= 0 and high <= 2, "validate.target_range", said)
        checks.at_least(1, "validate.minimum_rows")
        for key in ("unknown_cell_line_share", "unknown_drug_share", "constant_column_share"):
            checks.share(f"validate.{key}", ends=True)
        checks.at_least(1, "split.pilot")
        split = self.split
        for key in ("train_study", "test_study") if split.mode == "cross_study" else ():
            checks.require(bool(getattr(split, key)), "split", f"has the mode cross_study and no {key}; name a study")
        one = bool(split.test_study) and split.train_study == split.test_study
        said = f"is {split.test_study!r}, as train_study is; name another study"
        checks.require(not one, "split.test_study", said)

    def read(
        self,
        folder: Path | str,
        *,
        labelled: bool = True,
        optional: Collection[str] = (),
        classes: Sequence[str] = (),
    ) -> Kept:
        """Read pairs, see `pipelines.samples.response.keep_samples`."""
        from pipelines.samples.formats import read_response_tables
        from pipelines.samples.response import keep_samples

        tables = read_response_tables(folder, self, labelled=labelled, optional=optional)
        return keep_samples(tables, self, labelled=labelled)

    def aim(self, samples: Any, table: "pd.DataFrame") -> Aimed:
        """Give the samples the pilot measurements of the mode `drug_pilot`."""
        if PILOT not in table:
            return Aimed(samples)
        return Aimed(replace(samples, pilot=samples.take(table[PILOT].to_numpy(bool))))
