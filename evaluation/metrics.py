"""What the metrics of all problems are made with: checked columns, weightings of groups, and bootstrap intervals.

Groups are resampled, never rows. The rows of one cell line share its biology and its batch. They are not independent,
and an interval that resamples them as if they were is too narrow.
"""

import functools
import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipelines.formatting import finite
from pipelines.problems import higher_is_better

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.intp]

# Float32 has 7 digits: values that differ by less than this share of their magnitude differ by rounding.
TOLERANCE = 1e-6
# Weights in memory at once, rows x weightings: 8 MiB an array, of which some ten are alive together.
BLOCK = 2**20
_COUNTS = 2**24  # counts in memory at once: 128 MiB
MOST_DROPPED = 0.5  # of the resamples: where more leave a metric undefined, the others are no sample of what may be


def encode(name: str, labels: npt.ArrayLike, n_rows: int) -> tuple[npt.NDArray[np.generic], Integers]:
    """Return the distinct labels in ascending order, and each row's position among them; refuse missing ones."""
    # A list goes through objects: among strings NumPy would read a missing label as the word "nan".
    column = np.asarray(labels) if hasattr(labels, "dtype") else np.asarray(labels, dtype=object)
    if column.shape != (n_rows,) or not n_rows:
        raise ValueError(f"{name} has shape {column.shape}, not ({n_rows},)")
    missing = np.flatnonzero(pd.isna(column))
    if missing.size:
        raise ValueError(f"{name} has a missing label at row {missing[0]}")
    try:
        distinct, codes = np.unique(column, return_inverse=True)
    except TypeError as error:
        raise ValueError(f"{name} mixes labels that do not compare: {error}") from error
    return distinct, codes.astype(np.intp, copy=False)


def numbers(name: str, values: npt.ArrayLike, shape: tuple[int, ...], *, unknown: bool = False) -> Floats:
    """Return finite numbers of a shape, with ``unknown`` also NaN; refuse others by column and row (from 0)."""
    try:
        table = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} holds what is no number: {error}") from error
    if table.shape != shape or not table.size:
        raise ValueError(f"{name} has shape {table.shape}, not {shape}")
    bad = np.argwhere(np.isinf(table) if unknown else ~np.isfinite(table))
    if bad.size:
        place = tuple(bad[0])
        raise ValueError(f"{name} is {table[place]} at row {place[0]}" + f", column {place[-1]}" * (table.ndim - 1))
    return table


def weights_of(counts: npt.ArrayLike, n_groups: int) -> Floats:
    """Return ``counts`` as weights of groups ``(n_weightings, n_groups)``, none negative, none all zero."""
    weights = np.asarray(counts, dtype=np.float64)
    if weights.ndim != 2 or not len(weights) or weights.shape[1] != n_groups:
        raise ValueError(f"counts has shape {weights.shape}, not (n_weightings, {n_groups})")
    if not ((weights >= 0).all() and np.isfinite(weights).all() and weights.any(axis=1).all()):
        raise ValueError("counts holds a negative or non-finite weight, or a weighting without any weight")
    return weights


def in_blocks(weights: Floats, n_rows: int, measure: Callable[[Floats], dict[str, Floats]]) -> dict[str, Floats]:
    """Return what ``measure`` finds under all weightings, asked for as many at a time as fit in memory."""
    step = max(1, BLOCK // n_rows)
    blocks = [measure(weights[start : start + step]) for start in range(0, len(weights), step)]
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def gain(metric: str, model: Floats, baseline: Floats) -> Floats:
    """Return by how much a model is better than another, positive also of a metric that is better the lower it is."""
    return (1.0 if higher_is_better(metric) else -1.0) * (model - baseline)


def centered(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return each column less its mean over the ``known`` rows, 0 in the others."""
    filled = np.where(known, values, 0.0)
    return np.where(known, filled - filled.sum(axis=0) / np.maximum(known.sum(axis=0), 1), 0.0)


def best_first(rows: Iterable[dict[str, Any]], metric: str, *keys: str) -> list[dict[str, Any]]:
    """Return rows by the value of a metric that each has under ``keys``, the best first, undefined ones last."""

    def rank(row: Any) -> float:
        value = functools.reduce(operator.getitem, keys, row)
        return math.inf if value is None else float(-value if higher_is_better(metric) else value)

    return sorted(rows, key=rank)


@dataclass(frozen=True)
class Interval:
    """A metric's value and the ends of its confidence interval, in the metric's unit; NaN where undefined."""

    value: float
    low: float
    high: float
    dropped: float = 0.0  # share of the resamples in which the metric is undefined, which the interval leaves out

    def as_dict(self) -> dict[str, float]:
        """Return the three numbers by name, and ``dropped`` if it is not 0."""
        return {name: number for name, number in asdict(self).items() if name != "dropped" or number}


def as_metrics(name: str, found: Mapping[str, Any], key: str = "value") -> dict[str, float]:
    """Return a number and the ends of its interval as metrics of a run, those that are finite.

    MLflow groups metrics by what stands before the slash; the ends of ``test/`` are in ``interval/``.
    """
    ends = name.replace("test/", "interval/")
    numbers = {name: found[key], f"{ends}_low": found["low"], f"{ends}_high": found["high"]}
    return {each: float(number) for each, number in numbers.items() if finite(number)}


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
    """Return the central `confidence` share of a metric's resampled values, without the undefined ones.

    The ends are NaN where more than `MOST_DROPPED` of them are undefined.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}, not between 0 and 1")
    values = np.asarray(resampled, dtype=np.float64)
    known, dropped = defined(values)
    if known.size == 0:
        return Interval(value, np.nan, np.nan, 0.0 if np.isnan(value) else dropped)
    tail = (1 - confidence) / 2
    low, high = np.quantile(known, [tail, 1 - tail])
    return Interval(value, float(low), float(high), dropped)


def defined(resampled: Floats) -> tuple[Floats, float]:
    """Return the values that are not NaN, none where more than `MOST_DROPPED` of all are, and the share of NaN."""
    known = resampled[~np.isnan(resampled)]
    dropped = 1 - known.size / resampled.size if resampled.size else 0.0
    return known[:0] if dropped > MOST_DROPPED else known, dropped


def over_groups(
    value: float, n_groups: int, measure: Callable[[Any], Floats], *, resamples: int, confidence: float, seed: int
) -> Interval:
    """Return a value with the interval of ``measure`` of resampled group counts; NaN ends of one group or no value."""
    if n_groups < 2 or np.isnan(value):
        return Interval(value, np.nan, np.nan)
    return percentile_interval(value, measure(group_counts(n_groups, resamples, seed)), confidence)


def mean_of_rows(values: npt.ArrayLike, groups: npt.ArrayLike, **bootstrap: Any) -> Interval:
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

    return over_groups(float(mean(np.ones((1, len(labels))))[0]), len(labels), mean, **bootstrap)
