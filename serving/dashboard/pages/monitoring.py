"""Page "Monitoring": whether requests to a model and its answers have drifted away from its training data."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from pipelines.files import read_json
from serving.dashboard.data import charts
from serving.dashboard.data.words import listed, means, moment, named, plain, share_with_interval
from serving.dashboard.pages import frame

_STAMP = "%Y-%m-%dT%H-%M-%S-%fZ"


@dataclass(frozen=True)
class Report:
    """A report of `serving.monitor`: its time in UTC, the content of ``monitor.json``, and the report as a page."""

    time: datetime
    content: dict[str, Any]
    page: Path

    @property
    def share(self) -> str:
        """Return the share of unfamiliar rows with its interval."""
        return share_with_interval(self.content["out_of_distribution"])

    @property
    def drifted(self) -> str:
        """Return how many of the values that are watched have drifted."""
        columns = [*self.content["inputs"], *self.content["predictions"]]
        return f"{sum(bool(one['drifted']) for one in columns)} of {len(columns)}"


def reports_of(task: str, reports: Path) -> tuple[list[Report], list[str]]:
    """Return the monitor's reports of a task, the oldest first, and the names of those that cannot be read."""
    found, unreadable = [], []
    for path in sorted((reports / task / "monitor").glob("*/monitor.json")):
        try:
            time = datetime.strptime(path.parent.name, _STAMP)
            report = Report(time, read_json(path), path.with_name("monitor.html"))
            over_time([report])
            found.append(report)
        except (OSError, ValueError, KeyError, TypeError):
            unreadable.append(path.parent.name)
    return found, unreadable


def over_time(found: list[Report]) -> pd.DataFrame:
    """Return a row a report: ``time, version, share, low, high, limit, drifted, rows, decision``."""
    rows = []
    for report in found:
        content, unlike = report.content, report.content["out_of_distribution"]
        rows.append(
            {
                "time": report.time,
                "version": str(content["version"]),
                "share": float(unlike["value"]),
                **{end: float(unlike[end]) for end in ("low", "high", "limit")},
                "drifted": report.drifted,
                "rows": int(content["log"]["rows"]),
                "decision": str(content["decision"]),
            }
        )
    return pd.DataFrame(rows)


def page() -> None:
    """Draw the page."""
    name = frame.task_name()
    st.title("Monitoring")
    text = "The monitor compares the requests to a model, and its answers, with the data that it was trained on."
    st.markdown(text, help=means("drift"))
    found, unreadable = reports_of(name, frame.REPORTS)
    if unreadable:
        st.caption(plain(f"Reports that cannot be read: {listed(unreadable)}."))
    if found:
        _last(found[-1])
        _over_time(found)
    else:
        frame.advice(
            f"There is no report on {named(name)} yet. Serve it with a prediction log, and run the monitor:",
            f"ONCOLINEAGE_PREDICTION_LOG=predictions make serve TASK={name}",
            f"make monitor TASK={name} LOG=predictions",
        )


def _last(report: Report) -> None:
    content, rows = report.content, f"{report.content['log']['rows']:,}"
    frame.simulated(bool(content.get("simulated")))
    st.subheader("Last report")
    title = f"Version {content['version']}, {named(content['architecture'])}"
    st.markdown(plain(f"{title}: {rows} answers, looked at on {moment(report.time)}."))
    if content["decision"] == "fine":
        st.success("Nothing calls for training again.", icon=":material/check_circle:")
    else:
        st.error("Time to train again.", icon=":material/error:")
        st.code(f"make retrain TASK={content['task']}", language=None)
    left, middle, right = st.columns([2, 1, 1])
    left.metric("Unlike the training data", report.share, help=means("unlike_share"), border=True)
    middle.metric("Values that drifted", report.drifted, help=means("drifted"), border=True)
    right.metric("Answers looked at", rows, border=True)
    if content["findings"]:
        with st.expander(f"Findings, {len(content['findings'])} sentences", icon=":material/list:"):
            frame.sentences(content["findings"])
    for note in content["notes"]:
        st.caption(plain(note))
    if report.page.is_file():
        file = f"{content['task']}_monitor_{report.page.parent.name}.html"
        frame.offer("Download the full report", report.page.read_bytes(), file)


def _over_time(found: list[Report]) -> None:
    st.subheader("Over time", help=means("unlike_share"))
    table = over_time(found)
    limit = float(table["limit"].iloc[-1])
    text = f"Share of samples unlike the training data in {len(table)} reports, with intervals"
    drawn = charts.unlike(table, limit)
    frame.chart(drawn, alt=f"{text}; the last is {found[-1].share}, the limit {limit:.0%}.")
    shown = pd.DataFrame(
        {
            "Report": [moment(report.time) for report in found],
            "Version": table["version"],
            "Answers": table["rows"].map("{:,}".format),
            "Unlike the training data": [report.share for report in found],
            "Drifted": table["drifted"],
            "Decision": table["decision"].replace("retrain", "train again"),
        }
    )
    frame.table(shown[::-1], alt="Reports of the monitor, the newest first")
    frame.download(table, f"{found[-1].content['task']}_reports.csv", "Download the reports as CSV")
