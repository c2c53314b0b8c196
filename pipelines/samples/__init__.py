"""Readers of raw folders, which return samples: tables and arrays with an id, a group and a label each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Kept:
    """Samples of any modality that the rules of a task keep, and counts of what they drop."""

    samples: Any
    counts: dict[str, Any]
