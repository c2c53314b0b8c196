"""Loaders of official layouts: from a folder as it was downloaded and unpacked to a raw folder."""

from typing import Literal

Variants = Literal["hotspot", "damaging", "any"]
"""What counts as a mutation of a gene: a known hotspot; a likely loss of function; every variant that is not silent."""
