"""Columns of predictions: checked, their groups numbered, and weighted block by block."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipelines.problems import higher_is_better

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.intp]

# Float32 has 7 digits: values that differ by less than this share of their magnitude differ by rounding.
TOLERANCE = 1e-6

# Weights in memory at once, rows x weightings: 8 MiB an array, of which some ten are alive together.
BLOCK = 2**20


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
