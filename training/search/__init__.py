"""Limits that data sets to a search space; apart from `training.modalities`, whose changes discard no studies."""

import importlib
import importlib.util
from typing import Any

from pipelines.datasets import Prepared


def allowed(settings: dict[str, Any], modality: str, prepared: Prepared) -> dict[str, Any]:
    """Return the settings of a fit, limited to what the data allows."""
    if importlib.util.find_spec(f"{__name__}.{modality}") is None:
        return settings
    return importlib.import_module(f"{__name__}.{modality}").allowed(settings, prepared)
