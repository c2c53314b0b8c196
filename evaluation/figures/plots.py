"""Figures, in one style."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure

from evaluation.problems.classification import reliability

P = ParamSpec("P")

BLUE, RED, GRAY = "#2b6ca3", "#b5403a", "#6b7280"

STYLE: dict[Any, Any] = {
    "figure.dpi": 120,
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "figure.constrained_layout.use": True,
}


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Draw in the style of all figures, and leave none open."""

    @functools.wraps(draw)
    def drawn(*arguments: P.args, **named: P.kwargs) -> Figure:
        with plt.rc_context(STYLE):
            figure = draw(*arguments, **named)
        plt.close(figure)
        return figure

    return drawn


@styled
def measured_against_predicted(measured: np.ndarray, predicted: np.ndarray, title: str, unit: str) -> Figure:
    """Return a density of predicted over measured values, with the line on which they agree."""
    figure, axes = plt.subplots(figsize=(4.6, 4.2))
    density = axes.hexbin(predicted, measured, gridsize=60, bins="log", cmap="Blues", mincnt=1)
    ends = [min(predicted.min(), measured.min()), max(predicted.max(), measured.max())]
    axes.plot(ends, ends, color=RED, linewidth=1)
    axes.set(xlabel=f"predicted {unit}", ylabel=f"measured {unit}", title=title)
    figure.colorbar(density, ax=axes, label="samples")
    return figure


@styled
def confusion_matrix(table: npt.NDArray[np.integer], classes: Sequence[str], title: str) -> Figure:
    """Return a table of counts, true classes down and predicted across, shaded by the share of the true class."""
    share = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    size = len(classes)
    figure, axes = plt.subplots(figsize=(0.62 * size + 2.6, 0.52 * size + 1.9))
    shades = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    if size <= 12:  # beyond that the numbers run into one another
        for true, predicted in np.ndindex(size, size):
            color = "white" if share[true, predicted] > 0.5 else "black"
            axes.text(predicted, true, f"{table[true, predicted]}", ha="center", va="center", color=color)
    axes.set_xticks(range(size), classes, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(size), classes)
    axes.set(xlabel="predicted", ylabel="true", title=title)
    figure.colorbar(shades, ax=axes, label="share of the true class")
    return figure


@styled
def heat_map(
    values: np.ndarray, rows: Sequence[str], columns: Sequence[str], *, label: str, limit: float = 0, **titles: str
) -> Figure:
    """Return values around 0, red above and blue below, pale at 0; beyond ``limit`` all have one color."""
    limit = limit or float(np.abs(values).max(initial=0)) or 1.0
    figure, axes = plt.subplots(figsize=(2 + 0.16 * len(columns), 1.8 + 0.18 * len(rows)))
    shades = axes.imshow(values, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto")
    axes.set_xticks(range(len(columns)), columns, rotation=90, fontsize=6)
    axes.set_yticks(range(len(rows)), rows, fontsize=6)
    axes.set(**titles)
    figure.colorbar(shades, ax=axes, label=label, extend="both")
    return figure


@styled
def roc_curves(target: npt.ArrayLike, probabilities: npt.ArrayLike, classes: Sequence[str], title: str) -> Figure:
    """Return the ROC curve of each class against the rest; of two classes the second's alone, the other mirrors it."""
    from sklearn import metrics  # here: a leaderboard draws neither curve, and scikit-learn takes seconds to load

    code, scores = np.asarray(target), np.asarray(probabilities)
    shown = range(len(classes)) if len(classes) > 2 else [1]
    figure, axes = plt.subplots(figsize=(4.8, 4.4))
    axes.plot([0, 1], [0, 1], color=GRAY, linewidth=0.8, linestyle=":")
    for color, k in zip(_colors(len(shown)), shown, strict=True):
        positive = code == k
        if positive.all() or not positive.any():
            axes.plot([], [], color=color, label=f"{classes[k]}: undefined, {positive.sum()} of {len(code)} rows")
            continue
        false, true, _ = metrics.roc_curve(positive, scores[:, k])
        axes.plot(false, true, color=color, label=f"{classes[k]}: {np.trapezoid(true, false):.3f}")
    axes.set(xlabel="false positive rate", ylabel="true positive rate", title=title, aspect="equal")
    axes.legend(title="area", loc="lower right", frameon=False, fontsize=7 if len(shown) < 12 else 4)
    return figure


@styled
def precision_recall_curves(positive: npt.ArrayLike, scores: Mapping[str, npt.ArrayLike], title: str) -> Figure:
    """Return the precision over the recall of each model's scores, above the share of positives, which is chance."""
    from sklearn import metrics

    true = np.asarray(positive, dtype=bool)
    figure, axes = plt.subplots(figsize=(4.8, 4.4))
    chance = true.mean()
    axes.axhline(chance, color=GRAY, linewidth=0.8, linestyle=":", label=f"chance: {chance:.3f}")
    for color, (name, score) in zip(_colors(len(scores)), scores.items(), strict=True):
        if not true.any():
            axes.plot([], [], color=color, label=f"{name}: undefined, no row is positive")
            continue
        precision, recall, _ = metrics.precision_recall_curve(true, np.asarray(score))
        area = metrics.average_precision_score(true, np.asarray(score))
        axes.step(recall, precision, where="post", color=color, label=f"{name}: {area:.3f}")
    axes.set(xlabel="recall", ylabel="precision", title=title, xlim=(0, 1.02), ylim=(0, 1.02))
    axes.legend(title="average precision", loc="upper right", frameon=False, fontsize=7)
    return figure


@styled
def calibration_curve(target: npt.ArrayLike, before: npt.ArrayLike, after: npt.ArrayLike, title: str) -> Figure:
    """Return accuracy over confidence, before and after temperature scaling, above the share of rows in each bin."""
    figure, (axes, below) = plt.subplots(2, 1, figsize=(4.6, 4.9), sharex=True, gridspec_kw={"height_ratios": [3, 1]})
    axes.plot([0, 1], [0, 1], color=GRAY, linewidth=0.8, linestyle=":")
    for probabilities, color, name in ((before, GRAY, "as predicted"), (after, BLUE, "temperature-scaled")):
        share, confidence, accuracy = reliability(target, probabilities)
        error = np.nansum(share * np.abs(accuracy - confidence))
        filled = share > 0
        label = f"{name}: ECE {error:.3f}"
        axes.plot(confidence[filled], accuracy[filled], color=color, marker="o", markersize=3, label=label)
        below.stairs(share, np.linspace(0, 1, len(share) + 1), color=color, fill=color == BLUE, alpha=0.7)
    axes.set(ylabel="accuracy", title=title, xlim=(0, 1.02), ylim=(-0.02, 1.02))
    axes.legend(loc="upper left", frameon=False, fontsize=8)
    below.set(xlabel="probability of the predicted class", ylabel="share of rows", ylim=(0, 1))
    return figure


@styled
def learning_curves(history: Sequence[dict[str, float]], title: str) -> Figure:
    """Return metrics over epochs: losses in one panel, other metrics in another, the learning rate in a third."""
    table = pd.DataFrame(history)
    table = (table.set_index("step") if "step" in table else table).dropna(axis=1, how="all")
    panels: dict[str, list[str]] = {"loss": [], "metric": [], "learning rate": []}
    for name in map(str, table.columns):
        panels["loss" if "loss" in name else "learning rate" if "learning_rate" in name else "metric"].append(name)
    kinds = [kind for kind, names in panels.items() if names] or ["metric"]
    figure, grid = plt.subplots(1, len(kinds), figsize=(3.6 * len(kinds) + 0.6, 3.0), squeeze=False)
    for axes, kind in zip(grid[0], kinds, strict=True):
        for color, name in zip(_colors(len(panels[kind])), panels[kind], strict=True):
            values = table[name].dropna()
            axes.plot(values.index, values, color=color, marker="o" if len(values) == 1 else None, label=name)
        axes.set(xlabel="epoch", ylabel=kind)
        axes.xaxis.get_major_locator().set_params(integer=True)
        if panels[kind]:
            axes.legend(frameon=False, fontsize=7)
    grid[0][0].set_title(title)
    return figure


def _colors(count: int) -> list[Any]:
    """Return as many colors that tell lines apart, ours first."""
    first = [BLUE, RED, GRAY, "#3f8f5b", "#c98a2b", "#7a5299"]
    return first[:count] if count <= len(first) else [plt.get_cmap("turbo")(x) for x in np.linspace(0.05, 0.95, count)]
