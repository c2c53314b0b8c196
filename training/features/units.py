"""The unit of a model's tables, recognized by the range and level of training values, and values outside of it."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from pipelines.samples.expression import to_log2

LIMITS = {
    "mutation": (0.0, 1.0, "a mutation is 0 or 1"),
    "copy_number": (0.0, 1000.0, "copies are relative to the genome's mean, 1, and never below 0"),
    "methylation": (0.0, 1.0, "methylation is a share from 0 to 1"),
    "log2_tpm_plus_1": (0.0, 25.0, "expression is log2(TPM + 1), from 0 to 20"),
}
"""Bounds of the values of a scale, whatever the training rows had; and a description of the scale."""
_SAID = {
    "log2_tpm_plus_1": "log2(TPM + 1)",
    "copy_number": "copies relative to the genome's mean",
    "methylation": "shares from 0 to 1",
    "log2": "log2(x + 1)",
    "linear": "linear values",
}
# Of the training rows' range. No test profile of GDSC, TCGA miRNA and TCGA mRNA lies so far out, and every one does
# that is in natural for binary logarithms, or linear for either.
_BEYOND = 0.25
_FEW = 20  # minimal number of profiles for levels


def unit_of(values: np.ndarray, scale: str) -> dict[str, Any] | None:
    """Return the scale, and bounds of values and levels, of raw profiles ``(n, features)``; None if all are unknown."""
    if not np.isfinite(values).any():
        return None
    levels = _levels(values, scale)
    levels = levels[np.isfinite(levels)]
    return {
        "scale": scale,
        "values": [float(np.nanmin(values)), float(np.nanmax(values))],
        "levels": [float(levels.min()), float(levels.max())] if len(levels) >= _FEW else None,
    }


def outside(values: np.ndarray, features: list[str], unit: Mapping[str, Any], table: str) -> list[str | None]:
    """Return for each profile ``(n, features)`` of ``table`` the evidence of another unit than ``unit``, or None."""
    scale = str(unit["scale"])
    (lowest, highest), (low, high) = unit["values"], unit["levels"] or (-math.inf, math.inf)
    beyond = _BEYOND * (highest - lowest)
    with np.errstate(invalid="ignore"):
        strange = (values > highest + beyond) | (values < lowest - beyond)
    levels, span = _levels(values, scale), _BEYOND * (high - low) if unit["levels"] else 0.0
    found: list[str | None] = [None] * len(values)
    for row, cells in enumerate(strange):
        note = None
        if cells.any():
            place = int(np.flatnonzero(cells)[0])
            more = f" and {cells.sum() - 1} more" if cells.sum() > 1 else ""
            note = f"{table}.{features[place]} is {values[row, place]:.4g}{more}, the training values lie within "
            note += f"{lowest:.3g} and {highest:.3g}"
        elif levels[row] > high + span or levels[row] < low - span:
            note = f"{'log2 of the total' if scale in _LOGGED else 'the mean'} of {table} is {levels[row]:.3g}, "
            note += f"of the training profiles it lies within {low:.3g} and {high:.3g}"
        found[row] = note and f"{note} ({_SAID.get(scale, scale)}): it may be in another unit"
    return found


_LOGGED = ("log2_tpm_plus_1", "log2", "linear")


def _levels(values: np.ndarray, scale: str) -> np.ndarray:
    """Return the level of each profile, float64, shape ``(n,)``; NaN where nothing is known."""
    known = np.isfinite(values)
    count = known.sum(axis=1)
    filled = np.where(known, values, 0).astype(np.float64)
    level = filled.sum(axis=1) / np.maximum(count, 1)
    if scale in _LOGGED:
        linear = np.exp2(np.clip(filled, None, 1000)) - 1 if scale != "linear" else np.maximum(filled, 0)
        share = np.maximum(count, 1) / max(1, values.shape[1])  # as if nothing were missing
        level = to_log2(np.where(known, linear, 0).sum(axis=1) / share, "linear")
    return np.where(count > 0, level, np.nan)
