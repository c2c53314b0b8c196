"""What is shown beside every answer: the version, whether the sample is like the training data, and the evidence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import streamlit as st

from serving.dashboard.data import trust
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
    """Draw how far the answers can be trusted.

    ``table`` has a row an answer with the columns of `serving.dashboard.data.tables.novelty`; ``what`` is the plural of
    what a row is.
    """
    tables, problem = load("serving.dashboard.data.tables"), get_problem(task.problem)
    text, level = trust.familiarity(table, what)
    show = {"fine": st.success, "warning": st.warning, "unknown": st.info}[level]
    show(plain(text), icon=_ICONS[level])
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
        st.markdown("The model that answered is not registered: there is no evidence of how good it is.")
    else:
        key = f"evidence {name} {version}"
        found = progress.job(
            key, lambda job: load("serving.dashboard.data.registry").evidence_of_number(name, str(version))
        )
        progress.shown(found, draw, label="Looking up its evidence", key=key, stoppable=False)
        if found.done() and not found.succeeded:  # the model's own declaration needs no registry
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
    """Draw what is common to all samples, and let people choose one; return its row, and the table of answers.

    ``what`` is what a sample is; ``more`` adds columns to the table.
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
