"""Beside every answer: who gave it, whether the sample is like the training data, and what the evidence promises."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from serving.board import trust
from serving.board.glossary import means, metric_means
from serving.board.jobs import Job
from serving.board.loading import load
from serving.board.words import plain
from serving.screens import frame, waiting

_ICONS = {"fine": ":material/check_circle:", "warning": ":material/warning:", "unknown": ":material/help:"}


def panel(
    task: str, family: str, table: pd.DataFrame, *, what: str, version: str | None, declared: float | None
) -> None:
    """Draw the panel.

    Parameters
    ----------
    table
        Answers, with the column ``familiar``.
    what
        What a row is called, in the plural.
    version
        That answered; None where it is of no registry.
    declared
        Share of true values that intervals or sets were made to hold.
    """
    said, level = trust.familiarity(table, what)
    show = {"fine": st.success, "warning": st.warning, "unknown": st.info}[level]
    show(plain(said), icon=_ICONS[level])
    of_classes = family in ("images", "profile_labels", "response_labels")
    if version is None:
        st.markdown(plain(trust.coverage(declared, None, of_classes)), help=means("coverage"))
        st.markdown("The model that answered is of no registry: nothing is known of how good it is.")
        return

    def draw(found: dict[str, Any]) -> None:
        frame.simulated(bool(found["simulated"]))
        st.markdown(plain(trust.coverage(declared, found, of_classes)), help=means("coverage"))
        with st.expander(f"How good is version {version}, and what to keep in mind", icon=":material/fact_check:"):
            st.markdown(plain(trust.tested_on(found)), help=means("confidence_interval"))
            scores = trust.scores(found, family)
            for metric, word, shown in scores.itertuples(index=False):
                baseline = str(found.get("baseline", "the baseline"))
                st.markdown(f"**{plain(word)}** {plain(shown)}", help=metric_means(metric, baseline))
            frame.sentences(trust.limits(family))

    found = evidence(task, version)
    waiting.shown(found, draw, label="Looking up its evidence", key=f"evidence {task}", stoppable=False)
    if found.done and not found.succeeded:  # what the model itself declares holds without a registry
        st.markdown(plain(trust.coverage(declared, None, of_classes)), help=means("coverage"))


def evidence(task: str, version: str) -> Job[dict[str, Any]]:
    """Return the job that reads the evidence of a version."""

    def read(_: Job[dict[str, Any]]) -> dict[str, Any]:
        registered = load("serving.board.registered")  # MLflow takes seconds to import

        found: dict[str, Any] = registered.evidence(registered.version(task, int(version)))
        return found

    return waiting.job(f"evidence {task} {version}", read)
