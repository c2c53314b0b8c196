"""Page "Predict": a question to a model, and how far its answer goes."""

from __future__ import annotations

from typing import Any

import streamlit as st

from serving.board import trust
from serving.board.words import plain
from serving.screens import asking, frame, images, profiles, responses

_OF: dict[str, Any] = {
    "response": responses.draw,
    "response_labels": responses.draw,
    "images": images.draw,
    "profile_labels": profiles.draw,
    "gene_targets": profiles.draw,
}


def page() -> None:
    """Draw the page."""
    name, task = frame.task_name(), frame.task()
    st.title("Predict")
    st.markdown(plain(trust.what_it_does(task.family)))
    model, said = st.columns([1, 2], gap="large", vertical_alignment="bottom")
    with model:
        endpoint = asking.choose_endpoint(name)
    if endpoint is None:
        return
    _OF[task.family](name, task, endpoint)
    with said:
        asking.about(endpoint)
