"""What cannot be told from the files of a drug-response collection, and is chosen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Scale = Literal["relative", "log2_plus_1", "log2_ratio"]
"""Of copy numbers: 1 is the genome's mean; log2(relative + 1); log2(relative)."""
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
        Of the copy numbers of a matrix with a model a row; told by its layout if None.
    replicates
        What happens to several measurements of one pair.
    """

    variants: Variants = "hotspot"
    scale: Scale | None = None
    replicates: Replicates = "refuse"
