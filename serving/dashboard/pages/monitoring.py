"""Page "Monitoring": whether requests to a model and its answers have drifted away from its training data."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import streamlit as st

from serving.dashboard.data import charts, drift_history
from serving.dashboard.data.drift_history import Report
from serving.dashboard.data.glossary import means
from serving.dashboard.data.words import listed, moment, named, number, plain
from serving.dashboard.pages import frame, progress

_LOG_SECONDS = 600.0  # a log of months may take minutes to read; it is read again after this time


def page() -> None:
    """Draw the page."""
    name = frame.task_name()
    st.title("Monitoring")
    text = "The monitor compares the requests to a model, and its answers, with the data that it was trained on."
    st.markdown(text, help=means("drift"))
    found, unreadable = drift_history.reports_of(name, frame.REPORTS)
    if unreadable:
        st.caption(plain(f"Reports that cannot be read: {listed(unreadable)}."))
    if found:
        _last(found[-1])
        _over_time(found)
        _columns(found)
    else:
        frame.advice(
            f"There is no report on {named(name)} yet. Serve it with a prediction log, and run the monitor:",
            f"ONCOLINEAGE_PREDICTION_LOG=predictions make serve TASK={name}",
            f"make monitor TASK={name} LOG=predictions",
        )
    if (folder := drift_history.log_folder()) is not None:
        _log(name, folder)


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
    drifted = f"{report.columns['drifted'].sum()} of {len(report.columns)}"
    middle.metric("Values that drifted", drifted, help=means("drifted"), border=True)
    right.metric("Answers looked at", rows, border=True)
    if text := drift_history.performance_text(report):
        st.markdown(plain(f"Performance: {text}"))
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
    table = drift_history.over_time(found)
    limit = float(table["limit"].iloc[-1])
    text = f"Share of samples unlike the training data in {len(table)} reports, with intervals"
    drawn = charts.unlike(table, "time", limit)
    frame.chart(drawn, alt=f"{text}; the last is {found[-1].share}, the limit {limit:.0%}.")
    shown = pd.DataFrame(
        {
            "Report": [moment(report.time) for report in found],
            "Version": table["version"],
            "Answers": table["rows"].map("{:,}".format),
            "Unlike the training data": [report.share for report in found],
            "Drifted": [f"{of} of {all_}" for of, all_ in zip(table["drifted"], table["columns"], strict=True)],
            "Decision": table["decision"].replace("retrain", "train again"),
        }
    )
    frame.table(shown[::-1], alt="Reports of the monitor, the newest first")
    frame.download(table, f"{found[-1].content['task']}_reports.csv", "Download the reports as CSV")


def _columns(found: list[Report]) -> None:
    st.subheader("Values that drifted", help=means("psi"))
    limit = float(found[-1].content["policy"]["population_stability"])
    table = drift_history.stability(found[-12:])
    if not table.empty:
        most = table.loc[table["time"] == table["time"].max()].nlargest(3, "stability")
        said = ", ".join(f"{one.column} {number(one.stability, 2)}" for one in most.itertuples())
        drawn = charts.stability(table, limit)
        frame.chart(drawn, alt=f"Stability index of the values that drifted most, by report; last: {said}.")
        st.caption(plain(f"{means('psi')} The limit is {limit:g}."))
        frame.download(table, f"{found[-1].content['task']}_stability.csv", "Download the indices as CSV")
    every = found[-1].columns.sort_values("stability", ascending=False, kind="stable")
    with st.expander(f"Every value of the last report, {len(every)}", icon=":material/table:"):
        st.dataframe(
            every,
            hide_index=True,
            column_config={
                "column": "Value",
                "side": "Of",
                "stability": st.column_config.NumberColumn("Stability index", format="%.3f", help=means("psi")),
                "adjusted": st.column_config.NumberColumn("Corrected p", format="%.2g", help=means("drifted")),
                "drifted": "Drifted",
            },
            alt="Stability index and corrected p of every value",
        )


def _log(name: str, folder: Path) -> None:
    st.subheader("Day by day, from the prediction log")
    policy, key = frame.params().policy.monitor, f"log {name}"

    def draw(table: pd.DataFrame) -> None:
        drawn = charts.unlike(table, "day", policy.out_of_distribution_share)
        frame.chart(drawn, alt=f"Share of samples unlike the training data on {len(table)} days, with intervals.")
        frame.numbers(table, f"{name}_days.csv", "Share of samples unlike the training data, day by day")
        st.caption(plain(f"{int(table['rows'].sum()):,} answers in {folder}."))

    work = progress.job(
        key,
        lambda job: drift_history.by_day(folder, name, policy.significance),
        believed=_LOG_SECONDS,
        seconds=_LOG_SECONDS,
    )
    progress.shown(work, draw, label="Reading the log", key=key)
