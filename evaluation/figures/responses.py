"""Figures of what moves predicted responses, in the style of the others."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from evaluation.explain.sums import gene_of
from evaluation.figures.plots import BLUE, RED, styled


@styled
def omics_contributions(by_omics: pd.DataFrame, title: str, unit: str) -> Figure:
    """Return bars of the mean absolute contribution of each table, see `evaluation.explain.sums.by_omics`."""
    shown = by_omics[::-1]
    figure, axes = plt.subplots(figsize=(5.4, 0.3 * len(shown) + 1))
    bars = axes.barh(shown["omics"].str.replace("_", " "), shown["mean_abs"], color=BLUE)
    axes.bar_label(bars, [f" {share:.0%}" for share in shown["share"]], fontsize=8)
    axes.set(xlabel=f"mean |sum of contributions| to {unit}", title=title)
    axes.margins(x=0.12)
    return figure


@styled
def sensitizing_genes(table: pd.DataFrame, title: str, unit: str, drugs: int = 12, genes: int = 8) -> Figure:
    """Return a panel a drug: what a high value of its first genes does to the predicted response."""
    title_of = table["drug"].where(table["drug"] != "", table["drug_id"])
    chosen = list(table["drug_id"][~title_of.duplicated()])[:drugs]
    across = min(3, max(1, len(chosen)))
    down = -(-len(chosen) // across) or 1
    figure, grid = plt.subplots(
        down, across, figsize=(3.6 * across, 0.22 * genes * down + 0.7 * down + 0.6), squeeze=False
    )
    for axes in grid.flat[len(chosen) :]:
        axes.axis("off")
    for axes, drug in zip(grid.flat, chosen, strict=False):
        part = table[table["drug_id"] == drug].head(genes)[::-1]
        effect = part["effect"].to_numpy(np.float64)
        names = [
            f"{gene_of(f'{omics}:{gene}')} ({omics.replace('_', ' ')})"
            for omics, gene in zip(part["omics"], part["gene"], strict=True)
        ]
        axes.barh(range(len(part)), effect, color=np.where(effect < 0, BLUE, RED))
        axes.set_yticks(range(len(part)), names, fontsize=7)
        axes.axvline(0, color="black", linewidth=0.6)
        axes.xaxis.set_major_locator(MaxNLocator(3))
        axes.set_title(str(part["drug"].iloc[0]) or drug, fontsize=8)
    figure.suptitle(title, fontsize=9, fontweight="bold", x=0.01, ha="left")
    figure.supxlabel(f"effect of a high value or a mutation on {unit} (blue: sensitive, red: resistant)", fontsize=8)
    return figure
