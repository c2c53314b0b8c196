"""Predict: what an expression profile is of, and what other genes it has. Answers are drawn in `profile_answers`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from pipelines.modalities.profiles import ProfilesTask
from serving.board import collection
from serving.board.endpoints import Endpoint
from serving.board.loading import load
from serving.screens import asking, choosing, frame
from serving.screens.asking import Asked, Contract, Make

if TYPE_CHECKING:  # pandas and charts are loaded with the first question, not with the first page
    import pandas as pd

    from serving.board.questions import Question

KEY = "sample_id"
_ANSWERS = "serving.screens.profile_answers"


def draw(name: str, task: ProfilesTask, endpoint: Endpoint) -> None:
    """Draw what is asked on the left, and what came of it on the right."""
    left, right = st.columns([1, 2], gap="large")
    with left:
        make, why_not = _question(name)
        asking.button(endpoint, make, why_not)
    of_genes = task.family == "gene_targets"
    what = "which other genes are expressed how strongly" if of_genes else "what each sample is"
    with right:
        asking.results(
            endpoint,
            lambda asked: _results(asked, name, task),
            f"Choose a sample or bring expression profiles, and press Predict: the model says {what}, how sure it is, "
            "and which genes it goes by.",
        )


def _question(name: str) -> tuple[Make | None, str]:
    path = frame.DATA / name / collection.EXPRESSION_FILE
    st.markdown("#### 1 · Samples")
    if choosing.source(name, "Which samples") == choosing.OWN:
        known = {"expression": collection.features(path, KEY)}
        found = choosing.own_files(name, ["expression"], known, choosing.example_of(path, KEY), ["expression"])
        if not found:
            return None, "Bring a file with an expression profile first."
        values = found["expression"].values
        return (lambda contract: _of_values(values, contract)), ""
    chosen = _sample(name)
    if chosen is None:
        return None, "Choose a sample first."
    return (lambda contract: _of_sample(path, chosen, contract)), ""


def _of_sample(path: Path, sample: str, contract: Contract | None) -> Question:
    """Return the question about a sample of the data; runs on a thread."""
    return _of_values(load("serving.board.measured").profiles(path, KEY, [sample]), contract)


def _of_values(values: pd.DataFrame, contract: Contract | None) -> Question:
    """Return the question about profiles; runs on a thread."""
    made: Question = load("serving.board.questions").of_profiles(values, contract)
    load(_ANSWERS)  # here, on the thread, so that the page need not wait
    return made


def _sample(name: str) -> str | None:
    with frame.told():
        found = _samples(str(frame.DATA / name))
        chosen = st.selectbox(
            "Sample",
            list(found),
            index=None,
            format_func=found.__getitem__,
            placeholder=f"Type to search {len(found):,} samples",
            key=f"chosen {name}",
            persist_state="session",
            help="Samples of the task's own data; the model may have been trained on this one.",
        )
        return None if chosen is None else str(chosen)
    return None


@st.cache_data(show_spinner=False, ttl=60)
def _samples(folder: str) -> dict[str, str]:
    return collection.samples(Path(folder))


def _results(asked: Asked, name: str, task: ProfilesTask) -> None:
    load(_ANSWERS).draw(asked, name, task)
