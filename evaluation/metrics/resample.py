"""Bootstrap intervals that resample groups, never rows.

The rows of one cell line share its biology and its batch. They are not independent, and an interval that
resamples them as if they were is too narrow.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

# Counts in memory at once: 128 MiB.
_COUNTS = 2**24


@dataclass(frozen=True)
class Interval:
    """A metric's value and the ends of its confidence interval, in the metric's unit; NaN where undefined."""

    value: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float]:
        """Return the three numbers by name."""
        return asdict(self)


def group_counts(n_groups: int, resamples: int, seed: int | np.random.Generator) -> npt.NDArray[np.int64]:
    """Return how often each group is drawn when `n_groups` groups are drawn with replacement, `resamples` times."""
    if n_groups < 2:
        raise ValueError(
            f"an interval needs at least two groups and there is {n_groups}: every resample would be the "
            "sample itself. Evaluate on more groups, or pass the unit that varies (line, patient or drug) as groups"
        )
    if resamples < 1:
        raise ValueError(f"resamples is {resamples}: at least 1 is needed")
    return np.random.default_rng(seed).multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=resamples)


def group_count_blocks(n_groups: int, resamples: int, seed: int) -> Iterator[npt.NDArray[np.int64]]:
    """Yield the rows of `group_counts` block by block, where all of them at once would not fit in memory."""
    generator = np.random.default_rng(seed)
    step = max(1, _COUNTS // n_groups)
    for start in range(0, max(resamples, 1), step):
        yield group_counts(n_groups, min(step, resamples - start), generator)


def percentile_interval(value: float, resampled: npt.ArrayLike, confidence: float = 0.95) -> Interval:
    """Return the central `confidence` share of a metric's resampled values, without the undefined ones."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}, not between 0 and 1")
    values = np.asarray(resampled, dtype=np.float64)
    values = values[~np.isnan(values)]
    if values.size == 0:
        return Interval(value, np.nan, np.nan)
    tail = (1 - confidence) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return Interval(value, float(low), float(high))


def mean_of_rows(
    values: npt.ArrayLike, groups: npt.ArrayLike, *, resamples: int = 1000, confidence: float = 0.95, seed: int = 0
) -> Interval:
    """Return the mean over rows with its interval, of several columns the mean of their means; NaN is left out."""
    table = np.asarray(values, dtype=np.float64)
    table = table[:, None] if table.ndim == 1 else table
    known = ~np.isnan(table)
    labels, code = np.unique(np.asarray(groups).astype(str), return_inverse=True)
    total, rows = np.zeros((len(labels), table.shape[1])), np.zeros((len(labels), table.shape[1]))
    np.add.at(total, code, np.where(known, table, 0))
    np.add.at(rows, code, known)

    def mean(counts: np.ndarray) -> np.ndarray:
        """Return the mean over the columns that have rows under each weighting, ``(weightings,)``."""
        weight = counts @ rows
        means = np.where(weight > 0, (counts @ total) / np.maximum(weight, 1), np.nan)
        defined = ~np.isnan(means)
        found = np.where(defined, means, 0).sum(axis=1) / np.maximum(defined.sum(axis=1), 1)
        return np.where(defined.any(axis=1), found, np.nan)

    value = float(mean(np.ones((1, len(labels))))[0])
    if len(labels) < 2 or np.isnan(value):
        return Interval(value, np.nan, np.nan)
    return percentile_interval(value, mean(group_counts(len(labels), resamples, seed)), confidence)
