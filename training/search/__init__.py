"""What a study may try with the data that there is: a module a modality, found by its name.

Apart from what models take and answer (`training.modalities`), since another calibration asks for no other study.
"""

from __future__ import annotations

import importlib
from typing import Any

from pipelines.datasets import Prepared


def allowed(settings: dict[str, Any], modality: str, prepared: Prepared) -> dict[str, Any]:
    """Return the settings of a fit with what the data allows a study to try."""
    found: dict[str, Any] = importlib.import_module(f"{__name__}.{modality}").allowed(settings, prepared)
    return found
