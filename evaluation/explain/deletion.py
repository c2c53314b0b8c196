"""The deletion test: masking what an explanation names changes a model more than masking what it does not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from evaluation.metrics.means import mean_of_rows
from evaluation.metrics.resample import Interval
from pipelines.samples.expression import ExpressionSamples
from pipelines.samples.response import ResponseSamples
from training.estimator import Estimator

DELETED = 50  # features that are masked, at most a quarter of all
RANDOM_DRAWS = 3


@dataclass(frozen=True)
class Deletion:
    """What masking features takes from what a model says."""

    genes: int
    drop_top: float
    drop_random: float
    difference: Interval

    @property
    def passed(self) -> bool:
        """Return whether the named features matter more than random ones, beyond the interval."""
        return bool(self.difference.low > 0)

    def as_dict(self) -> dict[str, Any]:
        """Return the numbers, and whether they pass."""
        told = {"genes": self.genes, "drop_top": self.drop_top, "drop_random": self.drop_random}
        return {**told, "difference": self.difference.as_dict(), "passed": self.passed}


def delete(
    change: Callable[[np.ndarray], np.ndarray],
    importance: np.ndarray,
    groups: np.ndarray,
    *,
    seed: int,
    resamples: int = 1000,
    confidence: float = 0.95,
) -> Deletion:
    """Mask the most important features of each row, and as many at random.

    References
    ----------
    Samek W. et al. (2017). Evaluating the visualization of what a deep neural network has learned. IEEE TNNLS.
    """
    rows, features = importance.shape
    count = max(1, min(DELETED, features // 4))
    rng = np.random.default_rng(seed)
    top = change(np.argsort(-importance, axis=1, kind="stable")[:, :count])
    at_random = np.zeros(rows)
    for _ in range(RANDOM_DRAWS):
        drawn = np.stack([rng.choice(features, count, replace=False) for _ in range(rows)])
        at_random += change(drawn) / RANDOM_DRAWS
    found = mean_of_rows(top - at_random, groups, resamples=resamples, confidence=confidence, seed=seed)
    return Deletion(count, float(top.mean()), float(at_random.mean()), found)


def delete_genes(
    estimator: Estimator,
    samples: ExpressionSamples,
    importance: np.ndarray,
    names: Sequence[str],
    *,
    groups: np.ndarray,
    change: Callable[[np.ndarray, np.ndarray], np.ndarray],
    **bootstrap: Any,
) -> Deletion | None:
    """Mask the most important genes of each profile, and as many at random."""
    genes = set(samples.genes)
    known = [column for column, name in enumerate(names) if name in genes]
    if len(known) < 2:
        return None
    masked, before = [names[column] for column in known], estimator.outputs(samples)
    return delete(
        lambda columns: change(before, estimator.outputs(masked_profiles(samples, masked, columns))),
        importance[:, known],
        groups,
        **bootstrap,
    )


def masked_profiles(samples: ExpressionSamples, names: Sequence[str], columns: np.ndarray) -> ExpressionSamples:
    """Return ``samples`` with genes set unknown, which models impute by the training rows' mean."""
    place = pd.Index(samples.genes).get_indexer(pd.Index(list(names)))
    values = samples.values[samples.index]  # a copy: the index is an array
    np.put_along_axis(values, place[columns], np.nan, axis=1)
    return replace(samples, values=values, index=np.arange(len(samples)))


def masked_lines(
    samples: ResponseSamples, names: Sequence[str], columns: np.ndarray, means: dict[str, pd.Series]
) -> ResponseSamples:
    """Return ``samples``, each with a cell line of its own, some of whose features are the training lines' mean."""
    every = np.arange(len(samples), dtype=np.int32)
    tables = {}
    for omics, table in samples.omics.items():
        values = table.to_numpy(np.float32)[samples.cell]
        chosen = [name.split(":", 1) for name in names]
        place = table.columns.get_indexer(pd.Index([gene if of == omics else "" for of, gene in chosen]))
        mean = means[omics].reindex(table.columns).to_numpy(np.float32)
        row, nth = np.nonzero(place[columns] >= 0)
        column = place[columns[row, nth]]
        values[row, column] = mean[column]
        tables[omics] = pd.DataFrame(values, columns=table.columns)
    lines = samples.cell_lines.iloc[samples.cell].reset_index(drop=True)
    return replace(samples, cell_lines=lines, omics=tables, cell=every)
