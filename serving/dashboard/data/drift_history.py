"""What the monitor found of a task, report by report, and what the prediction log says day by day."""

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
SHOWN_COLUMNS = 12


@dataclass(frozen=True)
class Report:
    """A report of `serving.monitor`.

    Attributes
    ----------
    time
        UTC, when it was written.
    content
        As in ``monitor.json``.
    page
        The report as a page of its own.
    """

    time: datetime
    content: dict[str, Any]
    page: Path

    @property
    def version(self) -> str:
        """Return the version that was watched."""
        return str(self.content["version"])

    @property
    def drifted(self) -> list[dict[str, Any]]:
        """Return the columns that drifted, the most first."""
        found = [one for one in self.columns if one["drifted"]]
        return sorted(found, key=lambda one: -(one["population_stability"] or 0.0))

    @property
    def columns(self) -> list[dict[str, Any]]:
        """Return all columns, inputs first, with ``side`` and a name for people."""
        return [
            {**one, "side": side, "name": _named(side, one)}
            for side in ("input", "prediction")
            for one in self.content[f"{side}s"]
        ]


def reports_of(task: str, reports: Path) -> tuple[list[Report], list[str]]:
    """Return the monitor's reports of a task, the oldest first, and the names of those that cannot be read."""
    found, unreadable = [], []
    for folder in sorted((reports / task / "monitor").glob("*")):
        path = folder / "monitor.json"
        if not path.is_file():
            continue
        try:
            report = Report(datetime.strptime(folder.name, _STAMP), read_json(path), folder / "monitor.html")
            _summary(report)
            found.append(report)
        except (OSError, ValueError, KeyError, TypeError):
            unreadable.append(folder.name)
    return found, unreadable


def over_time(found: list[Report]) -> pd.DataFrame:
    """Return a row a report: ``time, version, share, low, high, limit, drifted, rows, decision``."""
    return pd.DataFrame([_summary(report) for report in found])


def stability(found: list[Report], most: int = SHOWN_COLUMNS) -> pd.DataFrame:
    """Return ``time, column, stability, drifted`` of the columns that drifted most in any report."""
    rows = [
        {
            "time": report.time,
            "column": one["name"],
            "stability": one["population_stability"],
            "drifted": bool(one["drifted"]),
        }
        for report in found
        for one in report.columns
    ]
    table = pd.DataFrame(rows, columns=["time", "column", "stability", "drifted"])
    if table.empty:
        return table
    most_moved = table.groupby("column")["stability"].max().sort_values(ascending=False).head(most).index
    order = {column: place for place, column in enumerate(most_moved)}
    kept = table[table["column"].isin(order)]
    return kept.sort_values(["time", "column"], key=lambda c: c.map(order) if c.name == "column" else c)


def columns_table(report: Report) -> pd.DataFrame:
    """Return every column of a report for people, the most moved first."""
    rows = [
        {
            "Value": one["name"],
            "Of": "questions" if one["side"] == "input" else "answers",
            "Stability index": one["population_stability"],
            "Corrected p": one["adjusted"],
            "Drifted": "yes" if one["drifted"] else "no",
        }
        for one in report.columns
    ]
    return pd.DataFrame(rows).sort_values("Stability index", ascending=False, kind="stable").reset_index(drop=True)


def performance_text(report: Report) -> str | None:
    """Return how good predictions turned out to be, beside the evidence; None where no labels have arrived."""
    found = report.content.get("performance")
    if not found:
        return None
    if not found.get("now"):
        return f"{found['rows']} labels have an answer: too few to say how good they are."
    now, then = with_interval(found["now"]), with_interval(found["then"])
    return f"{found['metric'].replace('_', ' ')} of {found['rows']:,} labelled rows: {now}; the evidence has {then}."


def share_text(report: Report) -> str:
    """Return the share of unfamiliar rows with its interval."""
    return share_with_interval(report.content["out_of_distribution"])


def log_folder(environment: Mapping[str, str] = os.environ) -> Path | None:
    """Return the folder of the prediction log that the environment names."""
    text = environment.get(PREDICTION_LOG, "").strip()
    return Path(text) if text else None


def by_day(folder: Path, task: str, significance: float) -> pd.DataFrame:
    """Return a row a day and version of the prediction log: how many rows, and which share is unlike the training data.

    Returns
    -------
    pandas.DataFrame
        ``day, version, rows, share, low, high``; the interval is that of `serving.drift.distribution.share_beyond`.

    Raises
    ------
    UserError
        There is no log of the task.
    """
    # Loaded here: SciPy and PyArrow's readers take their time, and few look at this.
    share_beyond, read_rows = load("serving.drift.distribution").share_beyond, load("serving.drift.logged").read_rows
    rows, _, _ = read_rows(folder, task)
    rows = rows.assign(day=rows["time"].dt.floor("D"), version=rows["model_version"].astype(str))
    found = []
    for (day, version), part in rows.groupby(["day", "version"]):
        share, low, high = share_beyond(
            part["out_of_distribution"], part["out_of_distribution_threshold"], significance
        )
        told = {"day": day, "version": version, "rows": len(part)}
        found.append({**told, "share": share, "low": low, "high": high})
    return pd.DataFrame(found)


def _summary(report: Report) -> dict[str, Any]:
    content, unlike = report.content, report.content["out_of_distribution"]
    return {
        "time": report.time,
        "version": report.version,
        "share": float(unlike["value"]),
        "low": float(unlike["low"]),
        "high": float(unlike["high"]),
        "limit": float(unlike["limit"]),
        "drifted": len(report.drifted),
        "columns": len(report.columns),
        "rows": int(content["log"]["rows"]),
        "decision": str(content["decision"]),
    }


def _named(side: str, one: Mapping[str, Any]) -> str:
    text = str(one["column"]).replace("_", " ")
    text += " (missing)" if one["kind"] == "missing" else ""
    return text if side == "input" else f"answer: {text}"
