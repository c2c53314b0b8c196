"""Raw folders, read kind by kind, become samples: tables and arrays with an id, a group and a label each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Kept:
    """Samples of any kind that are left after the task's rules, and what the rules did."""

    samples: Any
    counts: dict[str, Any]
