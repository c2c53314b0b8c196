"""Figures of a comparison: intervals, pairwise differences, quality against cost."""

import math
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from evaluation.figures.plots import BLUE, GRAY, styled
from pipelines.formatting import interval, p_value

COLORS = {"best": BLUE, "indistinguishable": BLUE, "worse": GRAY, "undefined": GRAY}

COSTS = {  # of the evidence: axis
    "cost_latency_ms_batch_1": "ms to answer one row",
    "cost_fit_seconds": "seconds to fit",
    "cost_model_megabytes": "megabytes of the model",
}


def title_of(comparison: dict[str, Any]) -> str:
    """Return the title of every figure; simulated data is called simulated."""
    title = f"{comparison['task']}, {comparison['mode']}"
    return title + ("\nsimulated data: no result about patients or drugs" if comparison["simulated"] else "")


@styled
def intervals(comparison: dict[str, Any]) -> Figure:
    """Return each row's metric with its interval; a leaderboard has rows without ``standing``, and no ``pairs``."""
    rows = [row for row in comparison["rows"] if row["value"] is not None][::-1]
    percent = f"{comparison['confidence']:.0%}".replace("%", " %")
    figure, axes = plt.subplots(figsize=(7.2, 0.36 * len(rows) + 1.5))
    for place, row in enumerate(rows):
        color = _color(row)
        if row["low"] is not None and row["high"] is not None:
            axes.hlines(place, row["low"], row["high"], color=color, linewidth=2)
        fill = color if row.get("standing") != "worse" else "white"
        axes.scatter(row["value"], place, s=40, color=fill, edgecolors=color, linewidths=1.5, zorder=3)
        axes.annotate(
            interval(row, alone="{}"), (1.02, place), xycoords=("axes fraction", "data"), va="center", fontsize=8
        )
    if rows:
        axes.axvline(rows[-1]["value"], color=BLUE, linewidth=0.8, linestyle=":", zorder=0)
    axes.set_yticks(range(len(rows)), [row["architecture"] + " (baseline)" * row["baseline"] for row in rows])
    axes.set_xlabel(
        f"test {comparison['metric']} with its {percent} interval"
        + "\n(filled: the best, and what is not significantly worse; open: worse)" * ("pairs" in comparison)
    )
    axes.set_title(title_of(comparison))
    axes.margins(y=0.5 / max(len(rows), 1))
    return figure


@styled
def differences(comparison: dict[str, Any]) -> Figure:
    """Return by how much the architecture of a line is better than that of a column, colored where significant."""
    names = [row["architecture"] for row in comparison["rows"]]
    size, shown = len(names), np.full((len(names), len(names)), np.nan)
    small, ink = 5 if size > 12 else 6 if size > 7 else 8, {True: "black", False: GRAY}
    figure, axes = plt.subplots(figsize=(0.72 * size + 3.2, 0.5 * size + 2.2))
    for pair in (each for each in comparison["pairs"] if each["difference"] is not None):
        first, second = names.index(pair["first"]), names.index(pair["second"])
        for line, column, difference in ((first, second, pair["difference"]), (second, first, -pair["difference"])):
            if pair["significant"]:
                shown[line, column] = difference
            words, color = f"{difference:+.3f}\np {p_value(pair['p_corrected'])}", ink[pair["significant"]]
            axes.text(column, line, words, ha="center", va="center", color=color, fontsize=small, linespacing=1.3)
    limit = 2 * float(np.nanmax(np.abs(shown), initial=0.0)) or 1.0  # pale, for black text on it
    shades = axes.imshow(shown, cmap="RdBu", vmin=-limit, vmax=limit, aspect="auto")
    axes.set_xticks(range(size), names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(size), names)
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(length=0)
    axes.set_title(title_of(comparison))
    axes.set_xlabel("difference and p, corrected for all pairs (gray: not significant)")
    figure.colorbar(shades, ax=axes, label=f"{comparison['metric']}: line better (blue) or worse (red)")
    return figure


@styled
def quality_against_cost(comparison: dict[str, Any]) -> Figure:
    """Return the metric over each cost, but the naive baseline's; a line joins what nothing beats in both."""
    ranked = [(rank, row) for rank, row in enumerate(comparison["rows"], 1) if row["value"] is not None]
    framed = [(rank, row) for rank, row in ranked if not row["baseline"]] or ranked
    panels = {key: label for key, label in COSTS.items() if any(_cost(row, key) for _, row in framed)}
    figure, grid = plt.subplots(
        1, max(len(panels), 1), figsize=(3.0 * max(len(panels), 1) + 2.0, 3.4), sharey=True, squeeze=False
    )
    for axes, (key, label) in zip(grid[0], panels.items(), strict=False):
        _cost_panel(axes, [(rank, row) for rank, row in framed if _cost(row, key)], key, comparison)
        axes.set(xlabel=label)
    grid[0][0].set(ylabel=f"test {comparison['metric']}", title=title_of(comparison))
    for rank, row in ranked:
        unseen = "" if (rank, row) in framed else " (out of view)"
        grid[0][0].plot([], [], " ", label=f"{rank}  {row['architecture']} {row['value']:.3f}{unseen}")
    figure.legend(loc="outside right center", frameon=False, fontsize=7, handlelength=0, title="rank", alignment="left")
    return figure


def _cost_panel(axes: Axes, shown: list[tuple[int, dict[str, Any]]], key: str, comparison: dict[str, Any]) -> None:
    sign = 1 if comparison["higher_is_better"] else -1
    front: list[tuple[float, float]] = []
    for cost, value in sorted(
        ((_cost(row, key), row["value"]) for _, row in shown), key=lambda point: (point[0], -sign * point[1])
    ):
        if not front or sign * value > sign * front[-1][1]:
            front.append((cost, value))
    axes.plot(*zip(*front, strict=True), color=GRAY, linewidth=0.8, linestyle=":", zorder=1)
    for rank, row in shown:
        color, at = _color(row), (_cost(row, key), row["value"])
        above: dict[str, Any] = {"zorder": 3 + 1 / rank}
        if row["low"] is not None and row["high"] is not None:
            axes.vlines(at[0], row["low"], row["high"], color=color, linewidth=1, alpha=0.5, zorder=2)
        fill, ink = (color, "white") if row.get("standing") != "worse" else ("white", color)
        axes.scatter(*at, s=110, color=fill, edgecolors=color, **above)
        axes.text(*at, f"{rank}", color=ink, fontsize=7, ha="center", va="center_baseline", **above)
    axes.set_xscale("log")
    axes.margins(x=0.18, y=0.1)
    low, high = axes.get_xlim()
    decades = math.log10(high / low)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 2 else (1,)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())


def _cost(row: dict[str, Any], key: str) -> float:
    """Return a cost, 0 where it is not known or none."""
    return float(row["cost"].get(key) or 0.0)


def _color(row: dict[str, Any]) -> str:
    """Return the color of a row; where nothing was compared, the baseline's is gray."""
    return COLORS[row.get("standing", "undefined" if row["baseline"] else "best")]
