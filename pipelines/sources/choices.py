"""What cannot be told from the files of a drug-response collection, and is chosen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pipelines.units import CopyNumberScale

Variants = Literal["hotspot", "damaging", "any"]
"""What counts as a mutation of a gene: a known hotspot; a likely loss of function; whatever is not silent."""
Replicates = Literal["refuse", "best"]
"""What several measurements of a cell line and a drug in a study are: an error; or the best fitted curve is kept."""


@dataclass(frozen=True)
class Choices:
    """What cannot be told from the files.

    Attributes
    ----------
    variants
        Which variants of a table of calls count as a mutation.
    scale
        Of the copy numbers; told by the layout of the matrix if None.
    replicates
        What happens to several measurements of one pair.
    """

    variants: Variants = "hotspot"
    scale: CopyNumberScale | None = None
    replicates: Replicates = "refuse"
