"""Beside every answer: who gave it, whether the sample is like the training data, and what the evidence promises."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import streamlit as st

from serving.dashboard.data import trust
from serving.dashboard.data.background_jobs import Job
from serving.dashboard.data.glossary import limits, means, metric_means
from serving.dashboard.data.loading import load
from serving.dashboard.data.words import counted, plain
from serving.dashboard.pages import frame, progress
from serving.modalities import get_modality
from serving.problems import get_problem

if TYPE_CHECKING:
    import pandas as pd

    from pipelines.params import Task
    from serving.dashboard.data.endpoint_client import Row
    from serving.dashboard.pages.request import Asked

_ICONS = {"fine": ":material/check_circle:", "warning": ":material/warning:", "unknown": ":material/help:"}


def panel(name: str, task: Task, answers: Sequence[Row], table: pd.DataFrame, what: str) -> None:
    """Draw the panel, and what the model itself says of its answers.

    Parameters
    ----------
    name, task, answers
        Of the task, and what its model answered.
    table
        A row an answer, with the columns of `serving.dashboard.data.tables.novelty`.
    what
        A row is called, in the plural.
    """
    tables, problem = load("serving.dashboard.data.tables"), get_problem(task.problem)
    said, level = trust.familiarity(table, what)
    show = {"fine": st.success, "warning": st.warning, "unknown": st.info}[level]
    show(plain(said), icon=_ICONS[level])
    version = tables.version_of(answers)

    def coverage(found: dict[str, Any] | None) -> None:
        promised = trust.coverage(tables.coverage_of(answers), found, problem.promise)
        st.markdown(plain(promised), help=means("coverage"))

    def draw(found: dict[str, Any]) -> None:
        frame.simulated(bool(found["simulated"]))
        coverage(found)
        with st.expander(f"How good is version {version}, and what to keep in mind", icon=":material/fact_check:"):
            st.markdown(plain(trust.tested_on(found)), help=means("confidence_interval"))
            own = (task.within and problem.scores_within) or problem.scores
            for metric, word, shown in trust.scores(found, [*get_modality(task.modality).leading, *own]):
                baseline = str(found.get("baseline", "the baseline"))
                st.markdown(f"**{plain(word)}** {plain(shown)}", help=metric_means(metric, baseline))
            frame.sentences(limits(task))

    if version is None:
        coverage(None)
        st.markdown("The model that answered is of no registry: nothing is known of how good it is.")
    else:
        found = evidence(name, version)
        progress.shown(found, draw, label="Looking up its evidence", key=f"evidence {name}", stoppable=False)
        if found.done() and not found.succeeded:  # what the model itself declares holds without a registry
            coverage(None)
    for note in tables.notes_of(table):
        st.warning(plain(note), icon=":material/info:")


def one_of(
    asked: Asked,
    name: str,
    task: Task,
    what: str,
    more: Callable[[pd.DataFrame], pd.DataFrame] = lambda table: table,
) -> tuple[int, pd.DataFrame]:
    """Draw what there is to say of all samples that were asked about; let people choose one.

    Parameters
    ----------
    what
        A sample is called.
    more
        Adds columns to the table of answers.

    Returns
    -------
    tuple
        The row that was chosen, and the table.
    """
    problem, names = get_problem(task.problem), asked.question.names
    table = more(problem.table(asked.answers, asked.question.about))
    samples = table.drop_duplicates("sample")
    panel(name, task, asked.answers, samples, f"{what}s")
    if len(samples) > 1:
        problem.overview(table, what.capitalize())
    frame.download(table, f"{name}_predictions.csv", f"Download {counted(len(table), 'prediction')} as CSV")
    chosen = names[0] if len(names) == 1 else st.selectbox(what.capitalize(), names, key=f"shown {name}")
    return names.index(str(chosen)), table


def evidence(task: str, version: str) -> Job[dict[str, Any]]:
    """Return the job that reads the evidence of a version."""

    def read(_: Job[dict[str, Any]]) -> dict[str, Any]:
        registered = load("serving.dashboard.data.registry")  # MLflow takes seconds to import

        found: dict[str, Any] = registered.evidence(registered.version(task, int(version)))
        return found

    return progress.job(f"evidence {task} {version}", read)
