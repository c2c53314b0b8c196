"""Which genes a model predicts each target gene from, whether that adds up."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from tqdm import tqdm

from pipelines.samples.expression import ExpressionSamples
from training.estimator import Estimator

TOP = 25  # predictors of a target that are listed
_FLAT = 1e-9


@dataclass(frozen=True)
class TargetExplanation:
    """Attributions of a sample of test rows, summed up target by target."""

    mean: pd.DataFrame
    mean_abs: pd.DataFrame
    direction: pd.DataFrame
    scale: pd.Series
    relative_error: float
    error_by_target: pd.Series
    method: str
    rows: int
    importance: pd.DataFrame

    @property
    def standardized(self) -> pd.DataFrame:
        """Return the mean absolute contributions in units of each target's standard deviation."""
        return self.mean_abs / self.scale

    def predictors_by_target(self) -> pd.DataFrame:
        """Return ``target, rank, gene, mean, mean_abs``: the `TOP` predictors of each target, in log2 units."""
        parts = []
        for target in self.mean_abs:
            top = self.mean_abs[target].sort_values(ascending=False, kind="stable").head(TOP)
            columns = {"rank": np.arange(1, len(top) + 1), "gene": top.index, "mean": self.mean[target][top.index]}
            parts.append(pd.DataFrame({"target": target, **columns, "mean_abs": top}))
        return pd.concat(parts, ignore_index=True)

    def top_predictors(self) -> pd.DataFrame:
        """Return ``gene, mean_abs_sd, mean_abs, targets``, a row a predictor, the most important one first.

        ``mean_abs_sd`` is the mean over targets of the mean absolute contribution, in standard deviations of the
        target; ``targets`` counts those that have the predictor among their `TOP`.
        """
        listed = self.predictors_by_target()["gene"].value_counts()
        found = pd.DataFrame(
            {
                "mean_abs_sd": self.standardized.mean(axis=1),
                "mean_abs": self.mean_abs.mean(axis=1),
                "targets": listed.reindex(self.mean_abs.index).fillna(0).astype(int),
            }
        )
        return found.sort_values("mean_abs_sd", ascending=False, kind="stable").rename_axis("gene").reset_index()


def explain_targets(
    estimator: Estimator, samples: ExpressionSamples, scale: np.ndarray, *, progress: bool = False
) -> TargetExplanation | None:
    """Attribute the predictions of ``samples`` to predictor genes, one target after another."""
    mean, mean_abs, direction, errors = {}, {}, {}, {}
    unit = np.where(scale > _FLAT, scale, 1.0)
    gap = size = 0.0
    method = ""
    centered: dict[tuple[str, ...], np.ndarray] = {}
    importance: dict[tuple[str, ...], np.ndarray] = {}
    for position, target in enumerate(tqdm(samples.targets, desc="explained genes", disable=not progress, leave=False)):
        found = estimator.attribute(samples, np.full(len(samples), position))
        if found is None:
            return None
        genes = tuple(name.removeprefix("expression:") for name in found.names)
        if genes not in centered:
            centered[genes] = _centered(samples, genes)
            importance[genes] = np.zeros((len(samples), len(genes)))
        importance[genes] += np.abs(found.values) / unit[position]
        names = pd.Index(genes)
        mean[target] = pd.Series(found.values.mean(axis=0), names)
        mean_abs[target] = pd.Series(np.abs(found.values).mean(axis=0), names)
        direction[target] = pd.Series(np.sign((centered[genes] * found.values).sum(axis=0)), names)
        errors[target], method = found.relative_error, found.method
        gap += np.abs(found.base + found.values.sum(axis=1) - found.prediction).mean() / unit[position]
        size += np.abs(found.prediction - found.base).mean() / unit[position]
    return TargetExplanation(
        mean=pd.DataFrame(mean).fillna(0.0),
        mean_abs=pd.DataFrame(mean_abs).fillna(0.0),
        direction=pd.DataFrame(direction).fillna(0.0),
        scale=pd.Series(unit, index=list(samples.targets)),
        relative_error=float(gap / max(size, _FLAT)),
        error_by_target=pd.Series(errors),
        method=method,
        rows=len(samples),
        importance=_summed(importance),
    )


def _summed(parts: dict[tuple[str, ...], np.ndarray]) -> pd.DataFrame:
    """Return one table of statistics of several lists of genes, a column a gene."""
    total = pd.DataFrame()
    for genes, values in parts.items():
        total = total.add(pd.DataFrame(values, columns=list(genes)), fill_value=0.0)
    return total.fillna(0.0)


def orders_of_genes(estimator: Estimator) -> pd.DataFrame | None:
    """Return in which order a network reads its genes: ``member, position, window, gene``, both counted from 1.

    A network that reads all genes at once has one window. Members that read in the same order are listed once, as
    ``all``: others order their genes by training rows of their own. None where there is no order.
    """
    orders: dict[str, tuple[list[str], list[int]]] = {}
    for number, member in enumerate(getattr(estimator, "members_", [estimator])):
        genes = getattr(member, "gene_order", None)
        if genes is not None:
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


def _centered(samples: ExpressionSamples, genes: tuple[str, ...]) -> np.ndarray:
    """Return the expression of ``genes`` less its mean; 0 where it is unknown, or where it is no gene's."""
    known = set(samples.genes)
    values = np.zeros((len(samples), len(genes)))
    columns = [column for column, gene in enumerate(genes) if gene in known]
    measured = samples.logged([genes[column] for column in columns]).astype(np.float64)
    there = ~np.isnan(measured)
    mean = np.where(there, measured, 0).sum(axis=0) / np.maximum(there.sum(axis=0), 1)
    values[:, columns] = np.where(there, measured - mean, 0)
    return values
