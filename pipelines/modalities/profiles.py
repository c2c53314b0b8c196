"""Expression profiles: what ``params.yaml`` decides of them, and how their raw folder is read."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pipelines.params import Task

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from pipelines.params_checks import Checks
    from pipelines.samples import Kept
    from pipelines.samples.expression import ProfileTargets


@dataclass(frozen=True)
class ProfilesData:
    """What is taken from a raw folder of profiles.

    Attributes
    ----------
    scale
        Of the values: ``linear`` (counts, TPM, RSEM, per million), of which log2(x + 1) is taken; ``log2``, which that
        was done to; ``as_is``, such as standardized values, which may be negative.
    exclude
        Samples that are not of the question: column of ``samples.csv`` to the values that rule a sample out.
    missing_genes
        Share of a model's genes that a profile may lack; they are imputed, and the answer says so.
    """

    scale: Literal["linear", "log2", "as_is"]
    exclude: dict[str, tuple[str, ...]]
    missing_genes: float


@dataclass(frozen=True)
class ValidateProfiles:
    """What raw data of profiles must satisfy.

    Attributes
    ----------
    minimum_samples, minimum_genes
        Of the table.
    missing_share
        Of a gene's or a sample's values, at most.
    constant_gene_share
        Of the genes, at most: a gene that never varies is dropped by models.
    library_size_factor
        By which a sample's total may differ from the median one.
    """

    minimum_samples: int
    minimum_genes: int
    missing_share: float
    constant_gene_share: float
    library_size_factor: float


@dataclass(frozen=True)
class ProfilesTask(Task):
    """A task on expression profiles, whatever is asked of them.

    Attributes
    ----------
    needs
        Columns that ``samples.csv`` must have for the target, besides the ids.
    """

    modes = ("random", "patient_blind")
    needs: ClassVar[tuple[str, ...]] = ()

    data: ProfilesData
    validate: ValidateProfiles

    def check(self, checks: Checks) -> None:
        """Refuse shares and counts that make no sense."""
        super().check(checks)
        checks.share(self.data.missing_genes, "data.missing_genes", ends=True)
        for key in ("missing_share", "constant_gene_share"):
            checks.share(getattr(self.validate, key), f"validate.{key}", ends=True)
        for key in ("minimum_samples", "minimum_genes"):
            value = getattr(self.validate, key)
            checks.require(value >= 2, f"validate.{key}", f"is {value}; it must be at least 2")
        factor = self.validate.library_size_factor
        checks.require(factor > 1, "validate.library_size_factor", f"is {factor:g}; it must be above 1")

    @property
    def needs_landmarks(self) -> bool:
        """Whether ``genes.csv`` must say which genes are landmarks."""
        return False

    def read(self, folder: Path | str, *, labelled: bool = True, optional: Collection[str] = ()) -> Kept:
        """See `pipelines.samples.expression.keep_profiles`; no table of profiles is optional."""
        from pipelines.samples.expression import keep_profiles, read_expression_tables

        return keep_profiles(read_expression_tables(folder, self, labelled=labelled), self, labelled=labelled)

    def targets(self, table: pd.DataFrame, left: np.ndarray, classes: Sequence[str] | None = None) -> ProfileTargets:
        """Return which samples are dropped for want of a target, and the columns that hold it.

        Parameters
        ----------
        table
            Of all samples, as `pipelines.samples.expression.keep_profiles` has it.
        left
            Which of them no other rule has dropped, bool, shape ``(n,)``.
        classes
            Those of a model that is scored; None where they are found in the table.
        """
        from pipelines.samples.expression import ProfileTargets

        return ProfileTargets()
