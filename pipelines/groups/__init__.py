"""Groups that never cross a split, and content that must not be on two sides; a module a modality."""

from __future__ import annotations

import importlib
from typing import Any

import pandas as pd

from pipelines.params import Split


def group_samples(samples: Any, split: Split) -> tuple[pd.Series, pd.Series]:
    """Return for each sample its group, and the stratum that groups are balanced by; text, shape ``(n,)``."""
    groups: tuple[pd.Series, pd.Series] = _of(samples).group_samples(samples, split)
    return groups


def sample_identities(samples: Any, mode: str) -> dict[str, pd.Series]:
    """Return what must not be on two sides besides the group: name to one text a sample, None where unknown."""
    identities: dict[str, pd.Series] = _of(samples).sample_identities(samples, mode)
    return identities


def _of(samples: Any) -> Any:
    return importlib.import_module(f"{__name__}.{samples.modality}")
