"""Figures of times to an event, in the style of the others."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from evaluation.figures.plots import BLUE, GRAY, RED, styled
from pipelines.samples.survival import kaplan_meier

_COLORS = {"low": BLUE, "medium": GRAY, "high": RED, "all": BLUE}


@styled
def curves_by_group(predictions: pd.DataFrame, groups: np.ndarray, p: float, title: str, unit: str) -> Figure:
    """Return the Kaplan-Meier curve of each risk group, with marks where a follow-up ended, and the test's p."""
    figure, axes = plt.subplots(figsize=(5.4, 3.8))
    for name in [each for each in _COLORS if each in groups]:
        part = predictions[groups == name]
        time, event = part["time"].to_numpy(np.float64), part["event"].to_numpy()
        at = np.r_[0.0, np.unique(time)]
        label = f"{name}: {len(part)} rows, {int(event.sum())} events"
        axes.step(at, kaplan_meier(time, event, at), where="post", color=_COLORS[name], label=label)
        ended = np.unique(time[event == 0])
        axes.plot(ended, kaplan_meier(time, event, ended), "|", color=_COLORS[name], markersize=5)
    said = "" if np.isnan(p) else f", log-rank p {'< 0.001' if p < 0.001 else f'= {p:.3f}'}"
    axes.set(xlabel=unit, ylabel="share without the event", ylim=(0, 1.02), title=f"{title}{said}")
    axes.legend(title="predicted risk", frameon=False, loc="lower left")
    return figure


@styled
def calibration_at_horizon(bins: pd.DataFrame, horizon: float, title: str, unit: str) -> Figure:
    """Return the observed risk until the horizon over the predicted one, of bins of like predictions."""
    figure, axes = plt.subplots(figsize=(4.2, 4.0))
    axes.plot([0, 1], [0, 1], color=GRAY, linewidth=1)
    axes.vlines(bins["predicted"], bins["low"], bins["high"], color=BLUE, linewidth=2)
    axes.scatter(bins["predicted"], bins["observed"], color=BLUE, zorder=3)
    axes.set(
        xlabel=f"predicted risk until {horizon:g} {unit}",
        ylabel="observed risk (Kaplan-Meier)",
        xlim=(0, 1),
        ylim=(0, 1),
        title=title,
    )
    return figure
