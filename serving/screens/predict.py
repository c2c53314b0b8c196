"""Page "Predict": a question to a model, and how far its answer goes."""

from __future__ import annotations

import streamlit as st

from serving.board.glossary import what_it_does
from serving.board.loading import load
from serving.board.words import plain
from serving.screens import asking, frame

_OF = {  # of each family its module, loaded when it is looked at
    "response": "responses",
    "response_labels": "responses",
    "images": "images",
    "profile_labels": "profiles",
    "gene_targets": "profiles",
}


def page() -> None:
    """Draw the page."""
    name, task = frame.task_name(), frame.task()
    st.title("Predict")
    st.markdown(plain(what_it_does(task.family)))
    model, said = st.columns([1, 2], gap="large", vertical_alignment="bottom")
    with model:
        endpoint = asking.choose_endpoint(name)
    if endpoint is None:
        return
    load(f"serving.screens.{_OF[task.family]}").draw(name, task, endpoint)
    with said:
        asking.about(endpoint)
