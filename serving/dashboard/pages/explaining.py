"""Why a model answers as it does: one row is asked about again, and what moved it is drawn."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import streamlit as st

from serving.dashboard.data.background_jobs import Job
from serving.dashboard.data.endpoint_client import Row, ask
from serving.dashboard.data.glossary import means
from serving.dashboard.data.loading import load
from serving.dashboard.data.words import counted, number, plain
from serving.dashboard.pages import frame, progress
from serving.dashboard.pages.request import Asked

if TYPE_CHECKING:  # loaded with the first question, not with the first page
    import pandas as pd

    from serving.problems import Wording

_GENES = 15  # in a chart


def explained(
    asked: Asked, row: int, draw: Callable[[Row], None], label: str, more: Callable[[Row], Row] = lambda answer: answer
) -> None:
    """Ask for the explanation of one row, and draw it.

    Parameters
    ----------
    more
        Makes of the answer what is drawn; runs on a thread, since it may take a while.
    """
    endpoint, seconds = asked.endpoint, frame.params().policy.dashboard.seconds
    question = asked.question.only(row)

    def work(job: Job[Row]) -> Row:
        found = ask(endpoint, question.rows, question.names, explain=True, seconds=seconds, tell=job.tell)
        return more(found[0])

    key = f"explain {endpoint.task} {asked.name} {row}"
    found = progress.job(key, work, seconds=seconds + progress.SPARE)
    progress.shown(found, draw, label=label, key=key)


def genes(answer: Row, wording: Wording, what: str, file: str) -> None:
    """Draw what moved a prediction: a chart, what it starts from, and the table to download.

    Parameters
    ----------
    answer, wording
        With contributions, and how they are put.
    what
        Whom the prediction is about.
    file
        How names of downloaded files begin.
    """
    charts, tables = load("serving.dashboard.data.charts"), load("serving.dashboard.data.tables")
    table = tables.contributions(answer, wording.target)
    if table.empty:
        st.info("This model looks at no gene that it could name.", icon=":material/info:")
        return
    top = table[~table["feature"].isin([tables.OTHERS, tables.THE_DRUG])].head(_GENES)
    _sum(table, top, tables.base_of(answer, wording.target), wording.summed)
    if (top["value"].abs() > 0).any():
        most = ", ".join(str(name) for name in top["feature"].head(3))
        drawn = charts.contributions(top, wording.raises, wording.lowers, wording.red)
        frame.chart(drawn, alt=f"Contributions to {wording.of} for {what}; the largest: {most}.")
    shown = table[["feature", "kind", "value"]].rename(columns={"value": "contribution"})
    with st.expander(f"All {counted(len(shown), 'contribution')} as a table", icon=":material/table:"):
        st.dataframe(shown, hide_index=True, alt=f"Contributions to {wording.of} for {what}, the largest first")
    target = "" if wording.target is None else f"_{wording.target}"
    frame.download(shown, f"{file}{target}_contributions.csv", "Download the contributions as CSV")


def _sum(table: pd.DataFrame, top: pd.DataFrame, base: float | None, summed: str) -> None:
    """Say what the parts of a prediction add up to."""
    if base is None:
        return
    drug = table.loc[table["feature"] == load("serving.dashboard.data.tables").THE_DRUG, "value"].sum()
    others = float(table["value"].sum() - drug - top["value"].sum())
    parts = [("the base", base, ""), ("the drug itself", drug, "+"), ("what is shown below", top["value"].sum(), "+")]
    parts += [("all else", others, "+")]
    said = [f"{word} {number(float(value), 2, sign)}" for word, value, sign in parts if word == "the base" or value]
    total = number(base + float(table["value"].sum()), 2)
    text = f"{summed} is the sum of {', '.join(said[:-1])} and {said[-1]}: {total}."
    st.markdown(plain(text), help=f"{means('base')} {means('contribution')}")
