"""The mean of what every row has, with an interval over groups: what a prediction set covers, what masking takes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from evaluation.metrics.resample import Interval, group_counts, percentile_interval


def mean_of_rows(
    values: npt.ArrayLike, groups: npt.ArrayLike, *, resamples: int = 1000, confidence: float = 0.95, seed: int = 0
) -> Interval:
    """Return the mean over rows, of several columns the mean of their means."""
    table = np.asarray(values, dtype=np.float64)
    table = table[:, None] if table.ndim == 1 else table
    known = ~np.isnan(table)
    code = np.unique(np.asarray(groups).astype(str), return_inverse=True)[1]
    n_groups = int(code.max()) + 1 if len(code) else 0
    total, rows = np.zeros((n_groups, table.shape[1])), np.zeros((n_groups, table.shape[1]))
    np.add.at(total, code, np.where(known, table, 0))
    np.add.at(rows, code, known)
    every = np.ones((1, n_groups))
    mean = float(_mean(every, total, rows)[0]) if n_groups else float("nan")
    if n_groups < 2 or np.isnan(mean):
        return Interval(mean, float("nan"), float("nan"))
    counts = group_counts(n_groups, resamples, seed)
    return percentile_interval(mean, _mean(counts, total, rows), confidence)


def coverage(
    declared: float, held: npt.ArrayLike, groups: npt.ArrayLike, *, unlike: np.ndarray | None = None, **bootstrap: Any
) -> dict[str, Any]:
    """Return how many test rows prediction sets or intervals cover, beside what they are declared to."""

    def share(rows: np.ndarray) -> dict[str, Any]:
        found = mean_of_rows(np.asarray(held)[rows], np.asarray(groups)[rows], **bootstrap)
        return {"observed": found.value, "low": found.low, "high": found.high}

    every = {"declared": declared, **share(np.ones(len(np.asarray(groups)), dtype=bool))}
    if unlike is None:
        return every
    sides = {"like": ~unlike, "unlike": unlike}
    return {**every, "by_novelty": {name: {"rows": int(rows.sum()), **share(rows)} for name, rows in sides.items()}}


def _mean(counts: np.ndarray, total: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return the mean of each weighting's means over the columns that it has rows of, ``(weightings,)``."""
    weighed = counts @ rows
    shares = np.where(weighed > 0, (counts @ total) / np.maximum(weighed, 1), np.nan)
    there = ~np.isnan(shares)
    none = ~there.any(axis=1)
    mean: np.ndarray = np.where(there, shares, 0).sum(axis=1) / np.maximum(there.sum(axis=1), 1)
    mean[none] = np.nan
    return mean
