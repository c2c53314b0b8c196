"""Tasks on expression profiles: settings in ``params.yaml`` and the reader of their raw folder."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pipelines.params import Task
from pipelines.samples import Kept
from pipelines.typed_yaml import Checks

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


@dataclass(frozen=True)
class ProfilesData:
    """Scale and exclusions of a raw folder of profiles."""

    # of the values: `linear` (counts, TPM, RSEM, per million), of which log2(x + 1) is taken; `log2`, already logged;
    # `as_is`, such as standardized values, which may be negative
    scale: Literal["linear", "log2", "as_is"]
    # samples to leave out: column of `samples.csv` to the values that exclude a sample
    exclude: dict[str, tuple[str, ...]]
    missing_genes: float  # share of a model's genes that a profile may lack; they are imputed, and the answer says so


@dataclass(frozen=True)
class ValidateProfiles:
    """Bounds of the validation of raw profiles."""

    minimum_samples: int
    minimum_genes: int
    missing_share: float  # of a gene's or a sample's values, at most
    constant_gene_share: float  # of the genes, at most: models drop genes that never vary
    library_size_factor: float  # by which a sample's total may differ from the median one


@dataclass(frozen=True)
class ProfileTargets:
    """The target of all rows of a table of samples."""

    rules: dict[str, np.ndarray] = field(default_factory=dict)  # for each rule the samples that it drops, bool, (n,)
    columns: dict[str, np.ndarray] = field(default_factory=dict)  # the target, arbitrary for samples that are dropped
    classes: tuple[str, ...] = ()  # where they are predicted
    counts: dict[str, Any] = field(default_factory=dict)  # of the target, for reports
    stratum: str = "label"  # column by which splits are balanced


@dataclass(frozen=True)
class ProfilesTask(Task):
    """A task on expression profiles."""

    modes = ("random", "patient_blind", "site_blind", "plate_blind")
    needs: ClassVar[tuple[str, ...]] = ()  # columns of `samples.csv` for the target, besides the ids

    data: ProfilesData
    validate: ValidateProfiles

    def check(self, checks: Checks) -> None:
        """Refuse shares and counts out of range."""
        super().check(checks)
        checks.share("data.missing_genes", "validate.missing_share", "validate.constant_gene_share", ends=True)
        checks.at_least(2, "validate.minimum_samples", "validate.minimum_genes")
        checks.above(1, "validate.library_size_factor")

    @property
    def needs_landmarks(self) -> bool:
        """Whether ``genes.csv`` must say which genes are landmarks."""
        return False

    def read(
        self,
        folder: Path | str,
        *,
        labelled: bool = True,
        optional: Collection[str] = (),
        classes: Sequence[str] = (),
    ) -> Kept:
        """Read profiles, see `pipelines.samples.expression.keep_profiles`; no table is optional."""
        from pipelines.samples.expression import keep_profiles, read_expression_tables

        tables = read_expression_tables(folder, self, labelled=labelled)
        return keep_profiles(tables, self, labelled=labelled, classes=classes or None)

    def targets(self, table: pd.DataFrame, left: np.ndarray, classes: Sequence[str] | None = None) -> ProfileTargets:
        """Return the target of all samples, and which have none; ``left`` are those that no other rule has dropped.

        ``classes`` are those of a model that is scored, None where they are found in the table.
        """
        return ProfileTargets()
