"""The monitor's report as a page of its own: figures are in it, and nothing is fetched."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from evaluation.figures.plots import BLUE, GRAY, RED, styled
from evaluation.metrics.resample import Interval
from pipelines import report as reports
from pipelines.formatting import number, p_value
from pipelines.policy import Monitor
from pipelines.report import Block, as_html, figure, section, table, text
from serving.drift.distribution import Drift
from serving.drift.logged import Logged
from serving.drift.watch import NOVELTY, Reference, Watched, predictions_of

_SHOWN = 30  # columns in the overview
_DRAWN = 8  # columns drawn one by one
_CATEGORIES = 12
_BINS = 24


def page(report: dict[str, Any], figures: Sequence[tuple[str, Figure]]) -> str:
    """Return the report as HTML.

    Parameters
    ----------
    report
        As `serving.monitor` writes it to ``monitor.json``.
    figures
        Title and figure, embedded as data URIs.
    """
    log, policy = report["log"], report["policy"]
    columns = [{"side": side, **one} for side in ("input", "prediction") for one in report[f"{side}s"]]
    columns.sort(key=lambda one: -one["population_stability"])
    head = [
        "column",
        "compared as",
        "stability index",
        "distance",
        "p",
        "corrected p",
        "worth, reference",
        "worth, log",
    ]
    rows = [
        [
            *(f"{one['side']} {one['column']}", one["kind"], number(one["population_stability"])),
            *(number(one["statistic"]), p_value(one["p"]), p_value(one["adjusted"])),
            *(number(one[f"{side}_rows"], ".0f") for side in ("reference", "logged")),
        ]
        for one in columns
    ]
    others = ", ".join(f"{rows} rows of version {name}" for name, rows in log["rows_of_other_versions"].items())
    rule = (
        f"A column has drifted where its corrected p lies below {policy['significance']} and its population stability "
        f"index above {policy['population_stability']}: neither chance nor a trifle."
    )
    drawn = {f"{title}.png": drawing for title, drawing in figures}
    fine = report["decision"] == "fine"
    sections = [
        section(
            f"Decision: {report['decision']}",
            *(map(text, report["findings"] or ["Nothing calls for retraining."])),
            *map(text, report["notes"]),
            *([text(f"Left out: {others}.")] if others else []),
            mark="good" if fine else "bad",
        ),
        section("Files that could not be read", *_files(log["skipped_files"])),
        *(section(title, figure(f"{title}.png", title)) for title, _ in figures),
        section("Every column", text(rule), table(head, rows, ["bad" if one["drifted"] else "" for one in columns])),
    ]
    lead = f"{report['architecture']}; {log['rows']} rows logged from {log['first']} to {log['last']}, "
    lead += f"{log['files']} files read.{' The model was trained on simulated data.' if report['simulated'] else ''}"
    made = reports.report(f"{report['task']} version {report['version']}: monitor", sections, lead=lead)
    return as_html(made, {name: _png(drawing) for name, drawing in drawn.items()})


def _files(skipped: dict[str, str]) -> list[Block]:
    return [table(["file", "why"], list(skipped.items()))] if skipped else []


def figures(reference: Reference, logged: Logged, watched: Watched, policy: Monitor) -> list[tuple[str, Figure]]:
    """Return what the page shows: an overview, the columns that moved most, scores and performance."""
    made = [("Drift of every column", overview([*watched.inputs, *watched.predictions], policy))]
    columns = reference.inputs.columns
    sides = (
        ("Inputs", watched.inputs, reference.inputs, logged.inputs(columns)),
        ("Predictions", watched.predictions, reference.predictions, predictions_of(reference.contract, logged.rows)),
    )
    for title, drifts, old, new in sides:
        most = sorted(drifts, key=lambda each: -each.population_stability)
        names = list(dict.fromkeys(each.column for each in most))[:_DRAWN]
        if names:
            made.append((f"{title} that moved most", side_by_side(old[names], new[names])))
    made.append(("Out of distribution", novelty(logged.rows[NOVELTY], reference.threshold)))
    if watched.performance is not None and watched.performance.now is not None:
        found = watched.performance
        made.append(("Performance", performance(found.metric, found.then, watched.performance.now)))
    return made


@styled
def overview(drifts: Sequence[Drift], policy: Monitor) -> Figure:
    """Return the stability index of the columns that moved most, with the limit; drifted ones in red."""
    shown = sorted(drifts, key=lambda each: -each.population_stability)[:_SHOWN][::-1]
    figure, axes = plt.subplots(figsize=(6.4, 0.22 * len(shown) + 1))
    red = [each.drifted(policy.significance, policy.population_stability) for each in shown]
    places = range(len(shown))
    axes.barh(places, [each.population_stability for each in shown], color=[RED if one else BLUE for one in red])
    axes.set_yticks(places, [each.column + (" (missing)" if each.kind == "missing" else "") for each in shown])
    axes.axvline(policy.population_stability, color=GRAY, linewidth=0.8, linestyle=":")
    axes.set(xlabel="population stability index")
    return figure


@styled
def side_by_side(reference: pd.DataFrame, logged: pd.DataFrame) -> Figure:
    """Return each column's shares in the reference (gray) and in the log (blue)."""
    across = min(4, reference.shape[1])
    down = -(-reference.shape[1] // across)
    figure, grid = plt.subplots(down, across, figsize=(2.6 * across, 2.1 * down), squeeze=False)
    for axes in grid.flat[reference.shape[1] :]:
        axes.set_visible(False)
    for axes, column in zip(grid.flat, reference.columns, strict=False):
        _shares(axes, reference[column].dropna(), logged[column].dropna())
        axes.set_title(str(column)[:34], fontsize=7)
    grid.flat[0].legend(["reference", "log"], frameon=False, fontsize=6)
    return figure


@styled
def novelty(scores: pd.Series, threshold: float) -> Figure:
    """Return the out-of-distribution scores with the version's threshold."""
    finite = scores[np.isfinite(scores.to_numpy(np.float64))]
    figure, axes = plt.subplots(figsize=(6.4, 2.2))
    axes.hist(finite, bins=40, color=BLUE)
    axes.axvline(threshold, color=RED, linewidth=1)
    axes.set(xlabel="out-of-distribution score (line: the version's threshold)", ylabel="rows")
    return figure


@styled
def performance(metric: str, then: Interval, now: Interval) -> Figure:
    """Return the metric of the labels that arrived (blue) under that of the evidence (gray)."""
    figure, axes = plt.subplots(figsize=(6.4, 1.8))
    for place, (interval, color) in enumerate(((now, BLUE), (then, GRAY))):
        axes.hlines(place, interval.low, interval.high, color=color, linewidth=2)
        axes.scatter(interval.value, place, color=color, zorder=3)
    axes.set_yticks([0, 1], ["labels that arrived", "evidence"])
    axes.set(xlabel=f"{metric} with its interval")
    axes.margins(y=0.4)
    return figure


def _shares(axes: Axes, old: pd.Series, new: pd.Series) -> None:
    if pd.api.types.is_numeric_dtype(old) and len(old) and len(new):
        edges = np.histogram_bin_edges(np.concatenate([old.to_numpy(np.float64), new.to_numpy(np.float64)]), _BINS)
        for values, color in ((old, GRAY), (new, BLUE)):
            axes.hist(values, bins=list(edges), weights=np.full(len(values), 1 / len(values)), color=color, alpha=0.6)
        return
    shares = pd.DataFrame({"old": old.astype(str).value_counts(), "new": new.astype(str).value_counts()}).fillna(0)
    shares = shares.loc[shares.sum(axis=1).nlargest(_CATEGORIES).index]
    places = np.arange(len(shares))
    axes.bar(places - 0.2, shares["old"] / max(len(old), 1), 0.4, color=GRAY)
    axes.bar(places + 0.2, shares["new"] / max(len(new), 1), 0.4, color=BLUE)
    axes.set_xticks(places, [str(name)[:14] for name in shares.index], rotation=60, ha="right", fontsize=6)


def _png(drawing: Figure) -> bytes:
    buffer = io.BytesIO()
    drawing.savefig(buffer, format="png")
    return buffer.getvalue()
