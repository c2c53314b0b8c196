"""The reports of the monitor on a task, and its prediction log day by day."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd

from pipelines.environment import PREDICTION_LOG
from pipelines.files import read_json
from serving.dashboard.data.loading import load
from serving.dashboard.data.words import share_with_interval, with_interval

_STAMP = "%Y-%m-%dT%H-%M-%S-%fZ"


@dataclass(frozen=True)
class Report:
    """A report of `serving.monitor`.

    ``time`` is UTC; ``content`` is that of ``monitor.json``; ``page`` is the report as a page of its own. ``columns``
    has a row for each value that is watched, inputs first: ``column, side, stability, adjusted, drifted``.
    """

    time: datetime
    content: dict[str, Any]
    page: Path
    columns: pd.DataFrame

    @property
    def share(self) -> str:
        """Return the share of unfamiliar rows with its interval."""
        return share_with_interval(self.content["out_of_distribution"])


def reports_of(task: str, reports: Path) -> tuple[list[Report], list[str]]:
    """Return the monitor's reports of a task, the oldest first, and the names of those that cannot be read."""
    found, unreadable = [], []
    for path in sorted((reports / task / "monitor").glob("*/monitor.json")):
        try:
            content = read_json(path)
            time = datetime.strptime(path.parent.name, _STAMP)
            report = Report(time, content, path.with_name("monitor.html"), _columns(content))
            over_time([report])
            found.append(report)
        except (OSError, ValueError, KeyError, TypeError):
            unreadable.append(path.parent.name)
    return found, unreadable


def _columns(content: Mapping[str, Any]) -> pd.DataFrame:
    rows = []
    for side in ("input", "prediction"):
        for one in content[f"{side}s"]:
            name = str(one["column"]).replace("_", " ") + (" (missing)" if one["kind"] == "missing" else "")
            name = name if side == "input" else f"answer: {name}"
            rows.append((name, side, one["population_stability"], one["adjusted"], bool(one["drifted"])))
    return pd.DataFrame(rows, columns=["column", "side", "stability", "adjusted", "drifted"])


def over_time(found: list[Report]) -> pd.DataFrame:
    """Return a row a report: ``time, version, share, low, high, limit, drifted, columns, rows, decision``."""
    rows = []
    for report in found:
        unlike = report.content["out_of_distribution"]
        rows.append(
            {
                "time": report.time,
                "version": str(report.content["version"]),
                "share": float(unlike["value"]),
                **{end: float(unlike[end]) for end in ("low", "high", "limit")},
                "drifted": int(report.columns["drifted"].sum()),
                "columns": len(report.columns),
                "rows": int(report.content["log"]["rows"]),
                "decision": str(report.content["decision"]),
            }
        )
    return pd.DataFrame(rows)


def stability(found: list[Report], most: int = 12) -> pd.DataFrame:
    """Return ``time, column, stability, drifted`` of the columns that drifted most in any report."""
    table = pd.concat([report.columns.assign(time=report.time) for report in found], ignore_index=True)
    order = table.groupby("column")["stability"].max().sort_values(ascending=False).index[:most]
    kept = table.set_index("column").loc[order].reset_index().sort_values("time", kind="stable")
    return kept[["time", "column", "stability", "drifted"]]


def performance_text(report: Report) -> str | None:
    """Return the performance on labeled rows, beside that of the evidence; None if no labels have arrived."""
    found = report.content.get("performance")
    if not found:
        return None
    if not found.get("now"):
        return f"{found['rows']} labels have an answer: too few to say how good they are."
    now, then = with_interval(found["now"]), with_interval(found["then"])
    return f"{found['metric'].replace('_', ' ')} of {found['rows']:,} labeled rows: {now}; the evidence has {then}."


def log_folder(environment: Mapping[str, str] = os.environ) -> Path | None:
    """Return the folder of the prediction log that the environment names."""
    text = environment.get(PREDICTION_LOG, "").strip()
    return Path(text) if text else None


def by_day(folder: Path, task: str, significance: float) -> pd.DataFrame:
    """Return ``day, version, rows, share, low, high``: the share of logged rows that are unlike the training data.

    The interval is that of `serving.drift.distribution.share_beyond`. A task without a log is a UserError.
    """
    # SciPy and the readers of PyArrow take long to import, and few look at this.
    share_beyond, read_rows = load("serving.drift.distribution").share_beyond, load("serving.drift.logged").read_rows
    rows, _, _ = read_rows(folder, task)
    found = []
    for (day, version), part in rows.groupby([rows["time"].dt.floor("D"), rows["model_version"].astype(str)]):
        ends = share_beyond(part["out_of_distribution"], part["out_of_distribution_threshold"], significance)
        found.append((day, version, len(part), *ends))
    return pd.DataFrame(found, columns=["day", "version", "rows", "share", "low", "high"])
