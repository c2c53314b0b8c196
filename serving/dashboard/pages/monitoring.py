"""Page "Monitoring": has what a model is asked drifted away from what it was made of?"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import streamlit as st

from serving.dashboard.data import charts, drift_history
from serving.dashboard.data.background_jobs import Job
from serving.dashboard.data.glossary import means
from serving.dashboard.data.words import listed, moment, named, number, plain
from serving.dashboard.pages import frame, progress

_LOG_BELIEVED = 600.0  # seconds for which the log is not read again
_LOG_SECONDS = 600.0  # a log of months may take minutes to read


def page() -> None:
    """Draw the page."""
    name = frame.task_name()
    st.title("Monitoring")
    st.markdown(
        "The monitor holds what a model was asked, and what it answered, against the data that it was made of.",
        help=means("drift"),
    )
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
    _log(name)


def _last(report: drift_history.Report) -> None:
    content = report.content
    frame.simulated(bool(content.get("simulated")))
    when = moment(report.time.isoformat()).removesuffix(" UTC")
    title = f"Version {report.version}, {named(content['architecture'])}"
    rows = content["log"]["rows"]
    st.subheader("Last report")
    st.markdown(plain(f"{title}: {rows:,} answers, looked at on {when} UTC."))
    if content["decision"] == "fine":
        st.success("Nothing calls for training again.", icon=":material/check_circle:")
    else:
        st.error("Time to train again.", icon=":material/error:")
        st.code(f"make retrain TASK={content['task']}", language=None)
    left, middle, right = st.columns([2, 1, 1])
    left.metric("Unlike the training data", drift_history.share_text(report), help=means("unlike_share"), border=True)
    middle.metric(
        "Values that drifted", f"{len(report.drifted)} of {len(report.columns)}", help=means("drifted"), border=True
    )
    right.metric("Answers looked at", f"{rows:,}", border=True)
    if told := drift_history.performance_text(report):
        st.markdown(plain(f"How good it turned out to be: {told}"))
    if content["findings"]:
        with st.expander(f"What was found, {len(content['findings'])} sentences", icon=":material/list:"):
            frame.sentences(content["findings"])
    for note in content["notes"]:
        st.caption(plain(note))
    if report.page.is_file():
        file = f"{content['task']}_monitor_{report.page.parent.name}.html"
        frame.offer("Download the full report", report.page.read_bytes(), file)


def _over_time(found: list[drift_history.Report]) -> None:
    st.subheader("Over time", help=means("unlike_share"))
    table = drift_history.over_time(found)
    limit = float(table["limit"].iloc[-1])
    frame.chart(
        charts.unlike(table, "time", limit),
        alt=f"Share of samples unlike the training data in {len(table)} reports, with intervals; the last is "
        f"{drift_history.share_text(found[-1])}, the limit {limit:.0%}.",
    )
    shown = pd.DataFrame(
        {
            "Report": [moment(time.isoformat()).removesuffix(" UTC") for time in table["time"]],
            "Version": table["version"],
            "Answers": [f"{rows:,}" for rows in table["rows"]],
            "Unlike the training data": [drift_history.share_text(report) for report in found],
            "Drifted": [f"{of} of {all_}" for of, all_ in zip(table["drifted"], table["columns"], strict=True)],
            "Decision": ["train again" if one == "retrain" else one for one in table["decision"]],
        }
    )
    frame.table(shown[::-1], alt="Reports of the monitor, the newest first")
    frame.download(table, f"{found[-1].content['task']}_reports.csv", "Download the reports as CSV")


def _columns(found: list[drift_history.Report]) -> None:
    st.subheader("What drifted", help=means("psi"))
    limit = float(found[-1].content["policy"]["population_stability"])
    table = drift_history.stability(found[-12:])
    if not table.empty:
        most = table.loc[table["time"] == table["time"].max()].nlargest(3, "stability")
        said = ", ".join(f"{one.column} {number(one.stability, 2)}" for one in most.itertuples())
        frame.chart(charts.stability(table, limit), alt=f"Stability index of what moved most, by report; last: {said}.")
        st.caption(plain(f"{means('psi')} The limit is {limit:g}."))
        frame.download(table, f"{found[-1].content['task']}_stability.csv", "Download the indices as CSV")
    every = drift_history.columns_table(found[-1])
    with st.expander(f"Every value of the last report, {len(every)}", icon=":material/table:"):
        st.dataframe(
            every,
            hide_index=True,
            column_config={
                "Stability index": st.column_config.NumberColumn(format="%.3f", help=means("psi")),
                "Corrected p": st.column_config.NumberColumn(format="%.2g", help=means("drifted")),
            },
            alt="Stability index and corrected p of every value",
        )
        frame.download(every, f"{found[-1].content['task']}_values.csv")


def _log(name: str) -> None:
    folder = drift_history.log_folder()
    if folder is None:
        return
    st.subheader("Day by day, from the prediction log")
    significance = frame.params().policy.monitor.significance

    def read(_: Job[pd.DataFrame]) -> pd.DataFrame:
        return drift_history.by_day(folder, name, significance)

    work = progress.job(f"log {name}", read, believed=_LOG_BELIEVED, seconds=_LOG_SECONDS)
    progress.shown(work, lambda table: _days(table, name, folder), label="Reading the log", key=f"log {name}")


def _days(table: pd.DataFrame, name: str, folder: Path) -> None:
    limit = frame.params().policy.monitor.out_of_distribution_share
    frame.chart(
        charts.unlike(table, "day", limit),
        alt=f"Share of samples unlike the training data on {len(table)} days, with intervals.",
    )
    frame.numbers(table, f"{name}_days.csv", "Share of samples unlike the training data, day by day")
    st.caption(plain(f"{int(table['rows'].sum()):,} answers in {folder}."))
