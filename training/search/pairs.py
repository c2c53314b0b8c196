"""Pairs allow imputation where values are missing."""

from typing import Any

from pipelines.datasets import Prepared
from training.features.cell_line import imputations


def allowed(settings: dict[str, Any], prepared: Prepared) -> dict[str, Any]:
    """Return the settings with ways to impute."""
    return {**settings, "imputations": imputations(prepared.side("train"))}
