"""Where a model is worst: every class, drug or gene with its interval, the lowest first.

A mean hides a class that is never recognized, and a drug whose differences between cell lines are not predicted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from evaluation.metrics.resample import Interval, group_counts, percentile_interval

Worst = dict[str, Any]

# Values closer than this share of their magnitude differ by rounding, as in `evaluation.metrics.regression`.
_TOLERANCE = 1e-6


def of_classes(metrics: Mapping[str, Interval], target: np.ndarray, classes: Sequence[str]) -> Worst:
    """Return the recall of every class; one without test rows has none and comes last."""
    counts = np.bincount(target, minlength=len(classes))
    rows = [
        {"name": label, "n": int(count), **metrics[f"recall_{label}"].as_dict()}
        for label, count in zip(classes, counts, strict=True)
    ]
    return {"unit": "class", "metric": "recall", "rows": _lowest_first(rows)}


def of_genes(by_gene: pd.DataFrame, measured: Mapping[str, int]) -> Worst:
    """Return the share of variance that is explained of every gene."""
    rows = [
        {"name": str(gene), "n": int(measured[gene]), "value": value, "low": low, "high": high}
        for gene, value, low, high in by_gene[["gene", "r2", "r2_low", "r2_high"]].itertuples(index=False)
    ]
    return {"unit": "gene", "metric": "r2", "rows": _lowest_first(rows)}


def of_drugs(
    predictions: pd.DataFrame, names: Mapping[str, str] | None = None, *, resamples: int, confidence: float, seed: int
) -> Worst:
    """Return the share of variance between cell lines that is explained of every drug."""
    rows = []
    for drug, part in predictions.groupby("drug_id"):
        unit = part["group"] if part["group"].nunique() > 1 else part["cell_line_id"]
        named = {"label": str((names or {})[str(drug)])} if (names or {}).get(str(drug)) else {}
        found = _explained(part, unit.to_numpy(str), resamples, confidence, seed)
        rows.append({"name": str(drug), **named, "n": len(part), **found.as_dict()})
    return {"unit": "drug", "metric": "r2", "rows": _lowest_first(rows)}


def _explained(part: pd.DataFrame, unit: np.ndarray, resamples: int, confidence: float, seed: int) -> Interval:
    """Return R2 of some rows with an interval over their units; NaN where the target does not vary."""
    target, prediction = (part[name].to_numpy(np.float64) for name in ("target", "prediction"))
    code = np.unique(unit, return_inverse=True)[1]
    centered = target - target.mean()  # the same R2, and sums that lose no digits
    parts = (np.ones(len(part)), centered, centered**2, (target - prediction) ** 2)
    sums = np.stack([np.bincount(code, each) for each in parts], axis=1)
    flat = (_TOLERANCE * max(1.0, float(np.abs(target).max()))) ** 2 * len(part)

    def r2(weighed: np.ndarray) -> np.ndarray:
        rows, first, second, error = weighed.T
        spread = second - first**2 / np.maximum(rows, 1)
        return np.where(spread > flat, 1 - error / np.where(spread > flat, spread, 1), np.nan)

    value = float(r2(sums.sum(axis=0, keepdims=True))[0])
    if len(sums) < 2 or np.isnan(value):
        return Interval(value, float("nan"), float("nan"))
    return percentile_interval(value, r2(group_counts(len(sums), resamples, seed) @ sums), confidence)


def _lowest_first(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: (np.isnan(row["value"]), row["value"], row["name"]))
