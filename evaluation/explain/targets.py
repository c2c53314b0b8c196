"""Which genes a model predicts each target gene from."""

from __future__ import annotations

import math
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.cluster.hierarchy import leaves_list, linkage
from tqdm import tqdm

from evaluation.evidence.parts import Evaluation, Evidence, Explained
from evaluation.explain import checks
from evaluation.explain.genes import ranked
from evaluation.figures.plots import styled
from evaluation.problems.multi_target import target_spreads
from pipelines.samples.expression import ExpressionSamples
from pipelines.samples.gene_names import symbol_of
from training.estimator import Estimator

TOP = 25  # predictors of a target that are listed
RANDOM_TARGETS = 3  # whose explanations are compared with those of random weights
_FLAT = 1e-9
_PREDICTORS = 40  # in the heat map


def explain_every_target(run: Evaluation, explained: Explained, rows: np.ndarray) -> Evidence:
    """Explain all targets of ``rows`` of the test split, and check the explanation."""
    estimator, samples = run.model.estimator, run.test.take(rows)
    order = orders_of_genes(estimator)
    found = Evidence(tables={} if order is None else {"gene_order": order})
    scale = target_spreads(run.prepared.side("train").target)
    unit = np.where(scale > _FLAT, scale, 1.0)
    parts: dict[str, dict[str, pd.Series]] = {"mean": {}, "mean_abs": {}, "direction": {}}
    errors: dict[str, float] = {}
    gap = size = 0.0
    importance = pd.DataFrame()
    for position, target in enumerate(tqdm(samples.targets, desc="explained genes", leave=False)):
        attribution = estimator.attribute(samples, np.full(len(samples), position))
        if attribution is None:
            return found | checks.not_explained()
        genes, values = [name.removeprefix("expression:") for name in attribution.names], attribution.values
        importance = importance.add(pd.DataFrame(np.abs(values) / unit[position], columns=genes), fill_value=0.0)
        moved = np.sign((_centered(samples, genes) * values).sum(axis=0))
        for name, numbers in zip(parts, (values.mean(axis=0), np.abs(values).mean(axis=0), moved), strict=True):
            parts[name][target] = pd.Series(numbers, genes)
        errors[target] = attribution.relative_error
        gap += np.abs(attribution.base + values.sum(axis=1) - attribution.prediction).mean() / unit[position]
        size += np.abs(attribution.prediction - attribution.base).mean() / unit[position]
    importance = importance.fillna(0.0)
    deletion = checks.delete_genes(
        estimator,
        samples,
        importance.to_numpy(),
        importance.columns.tolist(),
        groups=run.groups[rows],
        change=lambda before, after: explained.change(before, after, explained.of_row[rows]),
        **run.bootstrap,
    )
    alike = _random_correlation(estimator, samples, run.seed)
    mean, mean_abs, direction = (pd.DataFrame(part).fillna(0.0) for part in parts.values())
    standardized = mean_abs / pd.Series(unit, index=list(samples.targets))
    by_target = predictors_by_target(mean, mean_abs)
    predictors = top_predictors(mean_abs, standardized, by_target)
    worst = max(errors, key=lambda target: (math.isnan(errors[target]), errors[target]))
    known: dict[str, Any] = {
        "section": {
            "worst_target": {"gene": worst, "additivity_relative_error": errors[worst]},
            "predictors": len(mean_abs),
            "top": predictors.head(10).to_dict("records"),
        },
        "relative_error": float(gap / max(size, _FLAT)),
        "at_worst": f", of {worst} by {errors[worst]:.1%}",
    }
    tables = {"predictors_by_target": by_target, "top_predictors": predictors}
    drawn = {"predictors_by_target": heat_map(standardized, direction, run.title)}
    found |= Evidence(tables=tables, figures=drawn)
    assert attribution is not None
    return found | checks.explanation_evidence(attribution, deletion, alike, **known)


def predictors_by_target(mean: pd.DataFrame, mean_abs: pd.DataFrame) -> pd.DataFrame:
    """Return ``target, rank, gene, mean, mean_abs``: the `TOP` predictors of each target, in log2 units."""
    tables = {
        target: pd.DataFrame({"gene": mean.index, "mean": mean[target].array, "mean_abs": mean_abs[target].array})
        for target in mean_abs
    }
    return pd.concat([ranked(table, TOP, target=target) for target, table in tables.items()], ignore_index=True)


def top_predictors(mean_abs: pd.DataFrame, standardized: pd.DataFrame, by_target: pd.DataFrame) -> pd.DataFrame:
    """Return ``gene, mean_abs_sd, mean_abs, targets`` (that list it among their `TOP`), the largest first."""
    listed = by_target["gene"].value_counts().reindex(mean_abs.index).fillna(0).astype(int)
    found = pd.DataFrame(
        {"mean_abs_sd": standardized.mean(axis=1), "mean_abs": mean_abs.mean(axis=1), "targets": listed}
    )
    return found.sort_values("mean_abs_sd", ascending=False, kind="stable").rename_axis("gene").reset_index()


def orders_of_genes(estimator: Estimator) -> pd.DataFrame | None:
    """Return ``member, position, window, gene`` (counted from 1) of networks that read genes in an order, else None.

    Members that read in the same order are listed once, as ``all``: others order their genes by their training rows.
    """
    orders: dict[str, tuple[list[str], list[int]]] = {}
    for number, member in enumerate(getattr(estimator, "members_", [estimator])):
        if (genes := getattr(member, "gene_order", None)) is not None:
            steps = getattr(member, "steps", [genes])
            orders[str(number)] = (genes, [at for at, step in enumerate(steps, start=1) for _ in step])
    if not orders:
        return None
    first = next(iter(orders.values()))
    if all(order == first for order in orders.values()):
        orders = {"all": first}
    parts = [
        pd.DataFrame({"member": member, "position": np.arange(1, len(genes) + 1), "window": windows, "gene": genes})
        for member, (genes, windows) in orders.items()
    ]
    return pd.concat(parts, ignore_index=True)


def _random_correlation(estimator: Estimator, samples: ExpressionSamples, seed: int) -> float | None:
    """Return the mean of `checks.random_correlation` over the first few targets, None where there is no network."""
    found = []
    for position in range(min(RANDOM_TARGETS, len(samples.targets))):
        alike = checks.random_correlation(estimator, samples, np.full(len(samples), position), seed + position)
        if alike is None:
            return None
        found.append(alike)
    return float(np.mean(found))


def _centered(samples: ExpressionSamples, genes: list[str]) -> np.ndarray:
    """Return the expression of ``genes`` less its mean; 0 where it is unknown, or where it is no gene's."""
    known = set(samples.genes)
    values = np.zeros((len(samples), len(genes)))
    columns = [column for column, gene in enumerate(genes) if gene in known]
    measured = samples.logged([genes[column] for column in columns]).astype(np.float64)
    there = ~np.isnan(measured)
    mean = np.where(there, measured, 0).sum(axis=0) / np.maximum(there.sum(axis=0), 1)
    values[:, columns] = np.where(there, measured - mean, 0)
    return values


@styled
def heat_map(importance: pd.DataFrame, direction: pd.DataFrame, title: str) -> Figure:
    """Return a heat map of the most important predictors over all targets, similar ones beside each other."""
    top = importance.mean(axis=1).sort_values(ascending=False, kind="stable").head(_PREDICTORS).index
    signed = (importance * direction).loc[top].to_numpy()
    rows, columns = (
        leaves_list(linkage(table, "average", optimal_ordering=True)).tolist()
        if len(table) > 2
        else [*range(len(table))]
        for table in (signed, signed.T)
    )
    size = float(np.quantile(np.abs(signed), 0.99)) or 1e-12
    figure, axes = plt.subplots(figsize=(2.4 + 0.14 * len(columns), 1.6 + 0.15 * len(rows)))
    image = axes.imshow(signed[np.ix_(rows, columns)], cmap="RdBu_r", vmin=-size, vmax=size, aspect="auto")
    targets = [symbol_of(importance.columns[column]) for column in columns]
    axes.set_xticks(range(len(columns)), targets, rotation=90, fontsize=6)
    axes.set_yticks(range(len(rows)), [symbol_of(top[row]) for row in rows], fontsize=6)
    axes.set(xlabel="predicted gene", ylabel="predictor", title=title)
    figure.colorbar(image, ax=axes, label="mean |contribution| (SD), red: rises with the predictor", extend="both")
    return figure
