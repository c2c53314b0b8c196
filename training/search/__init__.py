"""Limits that the data sets to a search space: one module a modality.

They are apart from `training.modalities`, since a change of the calibration must not discard studies.
"""

import importlib
from typing import Any

from pipelines.datasets import Prepared


def allowed(settings: dict[str, Any], modality: str, prepared: Prepared) -> dict[str, Any]:
    """Return the settings of a fit, limited to what the data allows."""
    found: dict[str, Any] = importlib.import_module(f"{__name__}.{modality}").allowed(settings, prepared)
    return found
