"""Page "Predict": a question to a model, and how far its answer goes."""

from __future__ import annotations

import streamlit as st

from serving.board.glossary import what_it_does
from serving.board.words import plain
from serving.modalities import get_modality
from serving.screens import asking, frame


def page() -> None:
    """Draw the page: what is asked on the left, and what came of it on the right."""
    name, task = frame.task_name(), frame.task()
    modality = get_modality(task.modality)
    st.title("Predict")
    st.markdown(plain(what_it_does(task)))
    model, said = st.columns([1, 2], gap="large", vertical_alignment="bottom")
    with model:
        endpoint = asking.choose_endpoint(name)
    if endpoint is None:
        return
    left, right = st.columns([1, 2], gap="large")
    with left:
        make, why_not = modality.question(name, task, endpoint)
        asking.button(endpoint, make, why_not, rows_at_once=modality.rows_at_once)
    with right:
        asking.results(endpoint, lambda asked: modality.answers(asked, name, task), modality.invitation(task))
    with said:
        asking.about(endpoint)
