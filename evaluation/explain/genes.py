"""Which genes a model relies on, over all and drug by drug, and whether its explanations add up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from evaluation.explain import sums
from evaluation.explain.deletion import Deletion, delete, masked_lines
from pipelines.samples.response import ResponseSamples
from training.estimator import Attribution, Estimator

TOP = 25


@dataclass(frozen=True)
class Explanation:
    """Attributions of a sample of test rows, summed up."""

    genes: pd.DataFrame
    by_drug: pd.DataFrame
    by_omics: pd.DataFrame
    by_gene: pd.DataFrame
    sums_by_drug: pd.DataFrame
    groups: dict[str, float]
    relative_error: float
    method: str
    rows: int
    names: list[str]
    values: np.ndarray


def explained_rows(samples: ResponseSamples, count: int, seed: int) -> np.ndarray:
    """Return about ``count`` rows, spread evenly over the drugs; at least one a drug where ``count`` allows it."""
    order = np.random.default_rng(seed).permutation(len(samples))
    position = pd.Series(samples.drug[order]).groupby(samples.drug[order]).cumcount().to_numpy()
    return np.sort(order[np.argsort(position, kind="stable")[:count]])


def explain(estimator: Estimator, samples: ResponseSamples, output: int | None = None) -> Explanation | None:
    """Attribute the predictions of ``samples`` to raw features and sum up."""
    attribution = estimator.attribute(samples, None if output is None else np.full(len(samples), output))
    if attribution is None:
        return None
    table = [name.split(":", 1) for name in attribution.names]
    omics = np.array([each[0] for each in table])
    gene = np.array([each[1] for each in table])
    of_line = sums.of_line(attribution.names, samples)
    genes = _ranked(attribution.values[:, of_line], gene[of_line], omics[of_line])
    measured = sums.measured(attribution.names, samples)
    groups = {
        name: float(np.abs(attribution.values[:, omics == name].sum(axis=1)).mean()) for name in dict.fromkeys(omics)
    }
    return Explanation(
        genes=genes,
        by_drug=_by_drug(attribution, samples, gene, omics, of_line),
        by_omics=sums.by_omics(attribution, samples),
        by_gene=sums.by_gene(attribution, samples),
        sums_by_drug=sums.by_drug(attribution, samples),
        groups=groups,
        relative_error=attribution.relative_error,
        method=attribution.method,
        rows=len(samples),
        names=[name for name, kept in zip(attribution.names, measured, strict=True) if kept],
        values=attribution.values[:, measured],
    )


def deletion(
    estimator: Estimator,
    samples: ResponseSamples,
    explanation: Explanation,
    train: ResponseSamples,
    groups: np.ndarray,
    **bootstrap: Any,
) -> Deletion | None:
    """Mask the measured features that move each row's prediction most, and as many at random."""
    if len(explanation.names) < 2:
        return None
    lines = np.unique(train.cell)
    means = {name: table.iloc[lines].mean() for name, table in train.omics.items()}

    def told(asked: ResponseSamples) -> np.ndarray:
        outputs = estimator.outputs(asked)
        return outputs if outputs.ndim == 1 else outputs[:, -1]

    before = told(samples)
    return delete(
        lambda columns: np.abs(told(masked_lines(samples, explanation.names, columns, means)) - before),
        np.abs(explanation.values),
        groups,
        **bootstrap,
    )


def _ranked(values: np.ndarray, gene: np.ndarray, omics: np.ndarray) -> pd.DataFrame:
    frame = pd.DataFrame(
        {"gene": gene, "omics": omics, "mean_abs": np.abs(values).mean(axis=0), "mean": values.mean(axis=0)}
    )
    return frame.sort_values("mean_abs", ascending=False, kind="stable").reset_index(drop=True)


def _by_drug(
    attribution: Attribution, samples: ResponseSamples, gene: np.ndarray, omics: np.ndarray, of_line: np.ndarray
) -> pd.DataFrame:
    names = samples.drugs["name"] if "name" in samples.drugs else pd.Series("", index=samples.drugs.index)
    parts = []
    for drug in np.unique(samples.drug):
        rows = np.flatnonzero(samples.drug == drug)
        values = attribution.values[np.ix_(rows, of_line)]
        top = _ranked(values, gene[of_line], omics[of_line]).head(TOP)
        top.insert(0, "rank", np.arange(1, len(top) + 1))
        top.insert(0, "drug", names.iloc[drug])
        top.insert(0, "drug_id", samples.drugs.index[drug])
        parts.append(top.assign(rows=len(rows)))
    return pd.concat(parts, ignore_index=True)
