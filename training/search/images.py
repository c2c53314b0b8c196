"""Images set no limits."""

from typing import Any

from pipelines.datasets import Prepared


def allowed(settings: dict[str, Any], prepared: Prepared) -> dict[str, Any]:
    """Return the settings as they are."""
    return settings
