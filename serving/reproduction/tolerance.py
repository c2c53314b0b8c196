"""How far what two fits say may be apart."""

from __future__ import annotations

import math

from pipelines.errors import UserError

ELSEWHERE = 1e-3  # on another machine or with other packages: of outputs, and of metrics


def tolerance_of(text: str) -> float | None:
    """Return a tolerance from the command line; None for an empty one."""
    try:
        tolerance = float(text) if text else None
    except ValueError:
        tolerance = math.nan
    if tolerance is not None and not 0 <= tolerance < math.inf:
        raise UserError(f"--tolerance is {text!r}; it must be a number of at least 0")
    return tolerance
