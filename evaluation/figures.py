"""Figures, in one style."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

BLUE, RED, GRAY = "#2b6ca3", "#b5403a", "#6b7280"

_STYLE: dict[Any, Any] = {
    "figure.dpi": 120,
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "figure.constrained_layout.use": True,
}


def measured_against_predicted(measured: np.ndarray, predicted: np.ndarray, title: str, unit: str) -> Figure:
    """Return a density of predicted over measured values, with the line on which they agree."""
    with plt.rc_context(_STYLE):
        figure, axes = plt.subplots(figsize=(4.6, 4.2))
        density = axes.hexbin(predicted, measured, gridsize=60, bins="log", cmap="Blues", mincnt=1)
        ends = [min(predicted.min(), measured.min()), max(predicted.max(), measured.max())]
        axes.plot(ends, ends, color=RED, linewidth=1)
        axes.set(xlabel=f"predicted {unit}", ylabel=f"measured {unit}", title=title)
        figure.colorbar(density, ax=axes, label="samples")
        plt.close(figure)
    return figure


def largest_contributions(genes: pd.DataFrame, title: str, unit: str, count: int = 20) -> Figure:
    """Return bars of the mean absolute contribution of the first ``count`` rows of ``genes``."""
    top = genes.head(count)[::-1]
    with plt.rc_context(_STYLE):
        figure, axes = plt.subplots(figsize=(5.4, 0.24 * len(top) + 1))
        axes.barh(top["omics"] + ": " + top["gene"], top["mean_abs"], color=BLUE)
        axes.set(xlabel=f"mean |contribution| to {unit}", title=title)
        plt.close(figure)
    return figure


def contributions_by_drug(by_drug: pd.DataFrame, title: str, drugs: int = 24, genes: int = 24) -> Figure:
    """Return a heat map of mean contributions: the genes that recur most, over the drugs that they matter most to."""
    named = by_drug.assign(gene=by_drug["omics"] + ": " + by_drug["gene"], drug=by_drug["drug_id"])
    columns = named.groupby("gene")["mean_abs"].sum().nlargest(genes).index
    wide = named.pivot_table(index="drug", columns="gene", values="mean", fill_value=0.0)[columns]
    wide = wide.loc[wide.abs().sum(axis=1).nlargest(drugs).index]
    limit = float(np.abs(wide.to_numpy()).max()) or 1.0
    with plt.rc_context(_STYLE):
        figure, axes = plt.subplots(figsize=(8.2, 0.2 * len(wide) + 2.4))
        shades = axes.imshow(wide, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto")
        axes.set_xticks(range(wide.shape[1]), wide.columns, rotation=90)
        axes.set_yticks(range(wide.shape[0]), wide.index)
        axes.set_title(title)
        figure.colorbar(shades, ax=axes, label="mean contribution (red: resistance)")
        plt.close(figure)
    return figure


def leaderboard(rows: Sequence[dict[str, Any]], metric: str, title: str) -> Figure:
    """Return each row's metric with its interval."""
    shown = [row for row in rows if row["value"] is not None][::-1]
    with plt.rc_context(_STYLE):
        figure, axes = plt.subplots(figsize=(6.4, 0.42 * len(shown) + 1.1))
        value = np.array([row["value"] for row in shown])
        low, high = (np.array([row[end] for row in shown]) for end in ("low", "high"))
        colors = [GRAY if row["baseline"] else BLUE for row in shown]
        axes.hlines(range(len(shown)), low, high, color=colors, linewidth=2)
        axes.scatter(value, range(len(shown)), color=colors, zorder=3)
        axes.set_yticks(range(len(shown)), [row["architecture"] for row in shown])
        axes.set(xlabel=f"test {metric} with its interval", title=title)
        axes.margins(y=0.15)
        plt.close(figure)
    return figure
