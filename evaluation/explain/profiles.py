"""Which genes carry each class, and whether that can be believed: completeness, deletion, stability."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pipelines.samples.expression import ExpressionSamples
from training.estimator import Estimator

TOP = 50  # genes of a class that are listed, and compared between seeds and models


@dataclass(frozen=True)
class ProfileExplanation:
    """Attributions of a sample of test rows to one answer each, such as the logit of their true class, summed up."""

    genes: pd.DataFrame
    by_class: np.ndarray
    names: list[str]
    relative_error: float
    method: str


def explain_profiles(
    estimator: Estimator, samples: ExpressionSamples, names: Sequence[str], of_row: np.ndarray
) -> tuple[ProfileExplanation, np.ndarray] | None:
    """Attribute one answer to each sample, such as its true class, to genes."""
    attribution = estimator.attribute(samples, of_row if len(names) > 1 else None)
    if attribution is None:
        return None
    by_class = np.full((len(names), len(attribution.names)), np.nan)
    parts = []
    for code, label in enumerate(names):
        of_class = attribution.values[of_row == code]
        if len(of_class):
            by_class[code] = of_class.mean(axis=0)
            parts.append(_ranked(of_class, attribution.names, label))
    explanation = ProfileExplanation(
        pd.concat(parts, ignore_index=True),
        by_class,
        list(attribution.names),
        attribution.relative_error,
        attribution.method,
    )
    return explanation, attribution.values


def overlap(one: pd.DataFrame, other: pd.DataFrame) -> float:
    """Return the mean share of the top genes of a class that two gene tables have in common."""
    shares = []
    sets = [table.groupby("class")["gene"].agg(set) for table in (one, other)]
    for label in sets[0].index.intersection(sets[1].index):
        a, b = sets[0][label], sets[1][label]
        shares.append(len(a & b) / max(1, min(len(a), len(b))))
    return float(np.mean(shares)) if shares else float("nan")


def _ranked(values: np.ndarray, names: list[str], label: str) -> pd.DataFrame:
    frame = pd.DataFrame({"gene": names, "mean": values.mean(axis=0), "mean_abs": np.abs(values).mean(axis=0)})
    top = frame.sort_values("mean_abs", ascending=False, kind="stable").head(TOP).reset_index(drop=True)
    top.insert(0, "rank", np.arange(1, len(top) + 1))
    top.insert(0, "class", label)
    return top.assign(rows=len(values))
