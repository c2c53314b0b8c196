"""Page "Predict": which model is asked, the button, the wait, and the answers."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import streamlit as st

from serving.dashboard.data.endpoints import ROWS_AT_ONCE, Endpoint, Row, ask, endpoints
from serving.dashboard.data.loading import load, registry
from serving.dashboard.data.words import means, moment, named, plain, what_it_does
from serving.dashboard.pages import frame, progress
from serving.modalities import get_modality

if TYPE_CHECKING:
    from serving.dashboard.data.tables import Question

Contract = Mapping[str, Any]
Make = Callable[[Contract | None], "Question"]
_REGISTRY = "serving.dashboard.data.registry"  # imports MLflow
_BELIEVED = 60.0  # seconds after which the registry is asked again: somebody may have promoted another version
_PATIENCE = 5.0  # seconds that a request waits for the model's contract


@dataclass(frozen=True)
class Asked:
    """A question with an answer a row; its name keeps explanations of another question apart."""

    question: Question
    answers: list[Row]
    endpoint: Endpoint
    name: str = field(default_factory=lambda: uuid.uuid4().hex)


def choose_endpoint(task: str) -> Endpoint | None:
    """Let people choose the model; None for a task without an endpoint, with advice."""
    found = {one.alias: one for one in endpoints(frame.params().policy.dashboard).get(task, [])}
    if not found:
        frame.advice(
            f"{named(task)} has no endpoint yet. Name its address in params.yaml and serve the model there:",
            f"policy:\n  dashboard:\n    endpoints:\n      {task}: http://127.0.0.1:5001",
            f"make serve TASK={task} PORT=5001",
        )
        return None
    chosen = st.selectbox(
        "Model",
        list(found),
        format_func=lambda alias: f"{named(alias)} – {found[alias].place}",
        key=f"endpoint {task}",
        help=means("model", "endpoint"),
        persist_state="session",
    )
    return found[str(chosen)]


def about(endpoint: Endpoint) -> None:
    """Draw which version the registry has under the endpoint's alias; MLflow is imported once the page is drawn."""
    if _REGISTRY not in sys.modules and progress.known(_key(endpoint)) is None:
        progress.afterwards(lambda: _about(endpoint), "Asking the registry")
        return
    found = _about(endpoint)
    if found.done() and not found.succeeded:
        st.caption(plain(f"The registry cannot be read: {found.error or 'stopped'}"))
        return

    def draw(known: tuple[Any, Contract | None]) -> None:
        standing, _ = known
        text = f"The registry has no version of {endpoint.task} in {endpoint.alias}."
        if standing is not None:
            text = f"{named(endpoint.alias)} is version {standing.version.version}, {named(standing.architecture)}"
            entry = standing.entry
            text += "." if entry is None else f", since {moment(entry.time)}, moved by {entry.by}."
        st.caption(plain(text))

    progress.shown(found, draw, label="Asking the registry", key=f"about {endpoint.task}")


def required(endpoint: Endpoint, tables: Sequence[str]) -> list[str] | None:
    """Return the tables that the model needs, by its contract; None while the contract is not known."""
    contract = _contract(endpoint)
    return None if contract is None else [table for table in tables if table in contract.get("required", tables[:1])]


def _contract(endpoint: Endpoint) -> Contract | None:
    found = progress.known(_key(endpoint))
    return found.result()[1] if found is not None and found.succeeded else None


def _about(endpoint: Endpoint) -> progress.Job:
    """Return the job that reads the standing of the endpoint's alias, and the contract of its version."""

    def read(_: progress.Job) -> tuple[Any, Contract | None]:
        standing = registry.registered(endpoint.task).standings.get(endpoint.alias)
        return standing, None if standing is None else registry.contract(standing.version)

    return progress.job(_key(endpoint), read, believed=_BELIEVED)


def _key(endpoint: Endpoint) -> str:
    return f"about {endpoint.task} {endpoint.alias}"


def button(endpoint: Endpoint, make: Make | None, missing: str, *, rows_at_once: int = ROWS_AT_ONCE) -> None:
    """Draw the button that asks what ``make`` makes on a thread, or says what is ``missing`` where that is None."""
    pressed = st.button("Predict", type="primary", key=f"predict {endpoint.task}", icon=":material/play_arrow:")
    if not pressed:
        return
    if make is None:
        st.warning(plain(missing), icon=":material/touch_app:")
        return
    seconds, known, making = frame.params().policy.dashboard.seconds, _about(endpoint), make

    def work(job: progress.Job) -> Asked:
        known.wait(_PATIENCE)
        question = making(known.result()[1] if known.succeeded else None)
        load("serving.dashboard.data.charts")  # on this thread, so that the page need not wait for it
        how: dict[str, Any] = {"seconds": seconds, "rows_at_once": rows_at_once, "progress": job.report}
        return Asked(question, ask(endpoint, question.rows, question.names, **how), endpoint)

    progress.forget(f"explain {endpoint.task} ")
    progress.job(f"ask {endpoint.task}", work, fresh=True)


def results(endpoint: Endpoint, draw: Callable[[Asked], None], empty: str) -> None:
    """Draw the answers to the last question, or ``empty``."""
    key = f"ask {endpoint.task}"
    found = progress.known(key)
    if found is None:
        st.info(plain(empty), icon=":material/arrow_back:")
        return

    def drawn(asked: Asked) -> None:
        for note in asked.question.notes:
            st.caption(plain(note))
        draw(asked)

    progress.shown(found, drawn, label=f"Asking the model at {endpoint.place}", key=key)


def page() -> None:
    """Draw the page: what is asked on the left, and the answers on the right."""
    name, task = frame.task_name(), frame.task()
    modality = get_modality(task.modality)
    st.title("Predict")
    st.markdown(plain(what_it_does(task)))
    model, standing = st.columns([1, 2], gap="large", vertical_alignment="bottom")
    with model:
        endpoint = choose_endpoint(name)
    if endpoint is None:
        return
    left, right = st.columns([1, 2], gap="large")
    with left:
        make, missing = modality.question(name, task, endpoint)
        button(endpoint, make, missing, rows_at_once=modality.rows_at_once)
    with right:
        results(endpoint, lambda asked: modality.answers(asked, name, task), modality.invitation(task))
    with standing:
        about(endpoint)
