"""The monitor's report as a page of its own: figures are in it, and nothing is fetched."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from evaluation.figures.plots import BLUE, GRAY, styled
from pipelines import report as reports
from pipelines.formatting import number, p_value
from pipelines.report import Block, as_html, figure, section, table, text
from serving.drift.logged import Logged
from serving.drift.watch import Reference, Watched, predictions_of

_DRAWN = 8  # columns drawn one by one
_CATEGORIES = 12
_BINS = 24


def page(report: dict[str, Any], figures: Mapping[str, Figure]) -> str:
    """Return ``report``, the content of ``monitor.json``, as HTML with ``figures`` by their titles."""
    log, policy = report["log"], report["policy"]
    columns = [{"side": side, **one} for side in ("input", "prediction") for one in report[f"{side}s"]]
    columns.sort(key=lambda one: -one["population_stability"])
    head = ["column", "compared as", "stability index", "distance", "p", "corrected p", "rows, reference", "rows, log"]
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
        f"index above {policy['population_stability']}. Rows are effective numbers of independent rows."
    )
    skipped: list[Block] = [table(["file", "why"], list(log["skipped_files"].items()))] if log["skipped_files"] else []
    sections = [
        section(
            f"Decision: {report['decision']}",
            *(map(text, report["findings"] or ["Nothing calls for retraining."])),
            *map(text, report["notes"]),
            *([text(f"Left out: {others}.")] if others else []),
            mark="good" if report["decision"] == "fine" else "bad",
        ),
        section("Files that could not be read", *skipped),
        *(section(title, figure(f"{title}.png", title)) for title in figures),
        section("Every column", text(rule), table(head, rows, ["bad" if one["drifted"] else "" for one in columns])),
    ]
    lead = f"{report['architecture']}; {log['rows']} rows logged from {log['first']} to {log['last']}, "
    lead += f"{log['files']} files read.{' The model was trained on simulated data.' if report['simulated'] else ''}"
    made = reports.report(f"{report['task']} version {report['version']}: monitor", sections, lead=lead)
    return as_html(made, {f"{title}.png": _png(drawing) for title, drawing in figures.items()})


def figures_of(reference: Reference, logged: Logged, watched: Watched) -> dict[str, Figure]:
    """Return the columns of inputs and predictions that moved most, by title."""
    columns = reference.inputs.columns
    sides = (
        ("Inputs", watched.inputs, reference.inputs, logged.inputs(columns)),
        ("Predictions", watched.predictions, reference.predictions, predictions_of(reference.contract, logged.rows)),
    )
    made = {}
    for title, drifts, old, new in sides:
        most = sorted(drifts, key=lambda each: -each.population_stability)
        names = list(dict.fromkeys(each.column for each in most))[:_DRAWN]
        if names:
            made[f"{title} that moved most"] = side_by_side(old[names], new[names])
    return made


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


def _shares(axes: Axes, old: pd.Series, new: pd.Series) -> None:
    if pd.api.types.is_numeric_dtype(old) and len(old) and len(new):
        edges = np.histogram_bin_edges(np.concatenate([old.to_numpy(np.float64), new.to_numpy(np.float64)]), _BINS)
        for values, color in ((old, GRAY), (new, BLUE)):
            axes.hist(values, bins=list(edges), weights=np.full(len(values), 1 / len(values)), color=color, alpha=0.6)
        return
    counts = {"old": old.astype(str).value_counts(normalize=True), "new": new.astype(str).value_counts(normalize=True)}
    shares = pd.DataFrame(counts).fillna(0)
    shares = shares.loc[shares.sum(axis=1).nlargest(_CATEGORIES).index]
    places = np.arange(len(shares))
    axes.bar(places - 0.2, shares["old"], 0.4, color=GRAY)
    axes.bar(places + 0.2, shares["new"], 0.4, color=BLUE)
    axes.set_xticks(places, [str(name)[:14] for name in shares.index], rotation=60, ha="right", fontsize=6)


def _png(drawing: Figure) -> bytes:
    buffer = io.BytesIO()
    drawing.savefig(buffer, format="png")
    return buffer.getvalue()
