"""The explanation of an answer: one row is asked about again, and what moved it is drawn."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import streamlit as st

from serving.dashboard.data.endpoint_client import Row, ask
from serving.dashboard.data.glossary import means
from serving.dashboard.data.loading import load
from serving.dashboard.data.words import counted, number, plain
from serving.dashboard.pages import frame, progress
from serving.dashboard.pages.request import Asked

if TYPE_CHECKING:
    from serving.problems import Wording

_IN_CHART = 15


def explained(
    asked: Asked, row: int, draw: Callable[[Row], None], label: str, more: Callable[[Row], Row] = lambda answer: answer
) -> None:
    """Ask for the explanation of one row, and draw it; ``more`` adds to the answer on the thread that asks."""
    endpoint, seconds = asked.endpoint, frame.params().policy.dashboard.seconds
    question = asked.question.only(row)

    def work(job: progress.Job) -> Row:
        found = ask(endpoint, question.rows, question.names, explain=True, seconds=seconds, progress=job.report)
        return more(found[0])

    key = f"explain {endpoint.task} {asked.name} {row}"
    progress.shown(progress.job(key, work, seconds=seconds + progress.SPARE), draw, label=label, key=key)


def genes(answer: Row, wording: Wording, what: str, file: str) -> None:
    """Draw the contributions to a prediction as a chart, their sum, and a table to download.

    ``what`` is the prediction's sample, and ``file`` begins the name of the downloaded file.
    """
    tables = load("serving.dashboard.data.tables")
    table = tables.contributions(answer, wording.target)
    if table.empty:
        st.info("This model names no gene.", icon=":material/info:")
        return
    top = table[~table["feature"].isin([tables.OTHERS, tables.THE_DRUG])].head(_IN_CHART)
    if (base := tables.base_of(answer, wording.target)) is not None:
        drug = float(table.loc[table["feature"] == tables.THE_DRUG, "value"].sum())
        shown, total = float(top["value"].sum()), float(table["value"].sum())
        parts = {"the drug itself": drug, "the contributions below": shown, "all others": total - drug - shown}
        said = ", ".join(f"{word} {number(value, 2, '+')}" for word, value in parts.items() if value)
        text = f"{wording.summed} is the sum of the base {number(base, 2)}, {said}: {number(base + total, 2)}."
        st.markdown(plain(text), help=means("base", "contribution"))
    if (top["value"].abs() > 0).any():
        most = ", ".join(str(name) for name in top["feature"].head(3))
        drawn = load("serving.dashboard.data.charts").contributions(top, wording.raises, wording.lowers, wording.red)
        frame.chart(drawn, alt=f"Contributions to {wording.of} for {what}; the largest: {most}.")
    table = table.rename(columns={"value": "contribution"})
    with st.expander(f"All {counted(len(table), 'contribution')} as a table", icon=":material/table:"):
        st.dataframe(table, hide_index=True, alt=f"Contributions to {wording.of} for {what}, the largest first")
    target = "" if wording.target is None else f"_{wording.target}"
    frame.download(table, f"{file}{target}_contributions.csv", "Download the contributions as CSV")
