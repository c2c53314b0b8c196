"""Readers of raw folders, which return samples: tables and arrays with an id, a group and a label each."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Kept:
    """Samples of any modality that the rules of a task keep, and counts of what they drop."""

    samples: Any
    counts: dict[str, Any]


def count_dropped(rules: Mapping[str, Any], dropped: Any) -> dict[str, int]:
    """Mark the rows at fault by ``rules`` in ``dropped``, bool, and count them; a row counts for its first rule."""
    counts = {}
    for name, at_fault in rules.items():
        counts[name] = int((at_fault & ~dropped).sum())
        dropped |= at_fault
    return counts
