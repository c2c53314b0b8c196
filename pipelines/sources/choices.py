"""Choices that the files of a drug-response collection cannot make; ``--help`` lists them without loading a reader."""

from __future__ import annotations

from typing import Literal

Variants = Literal["hotspot", "damaging", "any"]
"""What counts as a mutation of a gene: a known hotspot; a likely loss of function; every variant that is not silent."""
Replicates = Literal["refuse", "best"]
"""What several measurements of a cell line and a drug in a study are: an error; or the best fitted curve is kept."""
