"""Page "Predict": a request to a model, and its answer."""

from __future__ import annotations

import streamlit as st

from serving.dashboard.data.glossary import what_it_does
from serving.dashboard.data.words import plain
from serving.dashboard.pages import frame, request
from serving.modalities import get_modality


def page() -> None:
    """Draw the page: what is asked on the left, and the answers on the right."""
    name, task = frame.task_name(), frame.task()
    modality = get_modality(task.modality)
    st.title("Predict")
    st.markdown(plain(what_it_does(task)))
    model, standing = st.columns([1, 2], gap="large", vertical_alignment="bottom")
    with model:
        endpoint = request.choose_endpoint(name)
    if endpoint is None:
        return
    left, right = st.columns([1, 2], gap="large")
    with left:
        make, missing = modality.question(name, task, endpoint)
        request.button(endpoint, make, missing, rows_at_once=modality.rows_at_once)
    with right:
        request.results(endpoint, lambda asked: modality.answers(asked, name, task), modality.invitation(task))
    with standing:
        request.about(endpoint)
