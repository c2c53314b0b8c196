"""Figures of models that predict genes from genes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.cluster.hierarchy import leaves_list, linkage

from evaluation.figures.plots import BLUE, GRAY, styled
from pipelines.samples.gene_names import symbol_of

_BINS = 12
_EACH = 15  # of the worst and of the best genes
_PREDICTORS = 40


@styled
def residuals_by_level(measured: np.ndarray, predicted: np.ndarray, title: str) -> Figure:
    """Return quantiles of the residuals of all targets over the predicted and over the measured level.

    Residuals of a model that is right on average lie around 0 at every predicted level; over the measured level they
    rise, since what is not explained is predicted nearer to the mean.
    """
    residual = measured - predicted
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.4, 3.2), sharey=True)
    for axes, level, name in ((left, predicted, "predicted"), (right, measured, "measured")):
        edges = np.unique(np.quantile(level, np.linspace(0, 1, _BINS + 1)))
        place = np.clip(np.searchsorted(edges, level, side="right") - 1, 0, max(len(edges) - 2, 0))
        filled = np.unique(place)
        middle = np.array([np.median(level[place == one]) for one in filled])
        bands = np.array([np.quantile(residual[place == one], [0.05, 0.25, 0.5, 0.75, 0.95]) for one in filled]).T
        axes.axhline(0, color=GRAY, linewidth=0.8, linestyle=":")
        axes.fill_between(middle, bands[0], bands[4], color=BLUE, alpha=0.15, linewidth=0, label="90 % of values")
        axes.fill_between(middle, bands[1], bands[3], color=BLUE, alpha=0.35, linewidth=0, label="half of them")
        axes.plot(middle, bands[2], color=BLUE, marker="o", markersize=3, label="median")
        axes.set(xlabel=f"{name} expression (log2)")
    left.set(ylabel="measured - predicted (log2)", title=title)
    left.legend(frameon=False, fontsize=7)
    return figure


@styled
def worst_and_best_genes(by_gene: pd.DataFrame, title: str) -> Figure:
    """Return R2 with its interval of the genes that are predicted worst and best; genes without R2 are left out."""
    known = by_gene[np.isfinite(by_gene["r2"])].sort_values("r2", kind="stable").reset_index(drop=True)
    chosen = known.index < _EACH, known.index >= len(known) - _EACH
    shown = known[chosen[0] | chosen[1]]
    figure, axes = plt.subplots(figsize=(5.4, 0.19 * max(len(shown), 1) + 1.1))
    _intervals(axes, shown["r2"], shown["r2_low"], shown["r2_high"], color=BLUE)
    axes.axvline(0, color=GRAY, linewidth=0.8, linestyle=":")
    if len(known) > 2 * _EACH:
        axes.axhline(_EACH - 0.5, color=GRAY, linewidth=0.8)
    axes.set_yticks(range(len(shown)), [symbol_of(gene) for gene in shown["gene"]], fontsize=7)
    left_out = len(known) - len(shown)
    between = f"; {left_out} genes between are not shown" if left_out else ""
    axes.set(xlabel=f"test R2 with its interval{between}", title=title)
    axes.margins(y=0.03)
    return figure


@styled
def error_by_cohort(by_cohort: pd.DataFrame, title: str) -> Figure:
    """Return the error of each cohort with its interval, and that of the baseline."""
    shown = by_cohort.sort_values("rmse_sd", ascending=False, kind="stable")
    rows = range(len(shown))
    figure, axes = plt.subplots(figsize=(5.8, 0.3 * len(shown) + 1.3))
    axes.scatter(shown["baseline_rmse_sd"], rows, color=GRAY, marker="|", s=60, label="baseline")
    _intervals(axes, shown["rmse_sd"], shown["rmse_sd_low"], shown["rmse_sd_high"], color=BLUE, label="model")
    named = [f"{cohort} ({groups})" for cohort, groups in zip(shown["cohort"], shown["groups"], strict=True)]
    axes.set_yticks(rows, named, fontsize=7)
    axes.set(
        xlabel="RMSE (SD of the gene over training samples), mean of the genes",
        ylabel="cohort (groups)",
        title=title,
    )
    axes.legend(frameon=False, fontsize=7)
    axes.margins(y=0.08)
    return figure


@styled
def predictors_by_target(importance: pd.DataFrame, direction: pd.DataFrame, title: str) -> Figure:
    """Return a heat map of the most important predictors over all targets, each axis ordered by likeness."""
    top = importance.mean(axis=1).sort_values(ascending=False, kind="stable").head(_PREDICTORS).index
    signed = (importance * direction).loc[top].to_numpy()
    rows, columns = _order(signed), _order(signed.T)
    size = float(np.quantile(np.abs(signed), 0.99)) or 1e-12
    figure, axes = plt.subplots(figsize=(2.4 + 0.14 * len(columns), 1.6 + 0.15 * len(rows)))
    image = axes.imshow(signed[np.ix_(rows, columns)], cmap="RdBu_r", vmin=-size, vmax=size, aspect="auto")
    targets = [symbol_of(importance.columns[column]) for column in columns]
    axes.set_xticks(range(len(columns)), targets, rotation=90, fontsize=6)
    axes.set_yticks(range(len(rows)), [symbol_of(top[row]) for row in rows], fontsize=6)
    axes.set(xlabel="predicted gene", ylabel="predictor", title=title)
    figure.colorbar(image, ax=axes, label="mean |contribution| (SD), red: rises with the predictor", extend="both")
    return figure


def _intervals(axes: Axes, value: Any, low: Any, high: Any, *, color: str, label: str | None = None) -> None:
    """Draw points with their intervals, one above the other; an undefined interval is left out."""
    rows = np.arange(len(value))
    ends = np.isfinite(low) & np.isfinite(high)
    axes.hlines(rows[ends], np.asarray(low)[ends], np.asarray(high)[ends], color=color, linewidth=2)
    axes.scatter(value, rows, color=color, zorder=3, s=14, label=label)


def _order(rows: np.ndarray) -> Sequence[int]:
    """Return an order in which similar rows are adjacent."""
    if len(rows) < 3:
        return list(range(len(rows)))
    return [int(row) for row in leaves_list(linkage(rows, "average", optimal_ordering=True))]
