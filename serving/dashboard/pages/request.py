"""From a question to its answers: who is asked, the button and the wait."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import streamlit as st

from serving.dashboard.data.background_jobs import Job
from serving.dashboard.data.endpoint_client import ROWS_AT_ONCE, Row, ask
from serving.dashboard.data.endpoints import Endpoint, endpoints, how_to_configure
from serving.dashboard.data.glossary import means
from serving.dashboard.data.loading import load
from serving.dashboard.data.words import moment, named, plain, version_title
from serving.dashboard.pages import frame, progress

if TYPE_CHECKING:
    from serving.dashboard.data.questions import Question

Contract = Mapping[str, Any]
Make = Callable[[Contract | None], "Question"]
_REGISTRY = "serving.dashboard.data.registry"  # imports MLflow
_BELIEVED = 60.0  # seconds for which the registry is not asked again: somebody may promote, or serve, another version
_PATIENCE = 5.0  # seconds that a question waits for what the registry says of the model


@dataclass(frozen=True)
class Asked:
    """A question with its answers.

    Attributes
    ----------
    question, answers
        A row each.
    endpoint
        That answered.
    name
        Of its own, so that explanations of another question are not taken for its.
    """

    question: Question
    answers: list[Row]
    endpoint: Endpoint
    name: str = field(default_factory=lambda: uuid.uuid4().hex)


def choose_endpoint(task: str) -> Endpoint | None:
    """Let people choose who is asked; None where the task has no endpoint, with advice."""
    found = endpoints(frame.params().policy.dashboard).get(task, [])
    if not found:
        frame.advice(
            f"{named(task)} has no endpoint yet. Name its address in params.yaml and serve the model there:",
            how_to_configure(task),
            f"make serve TASK={task} PORT=5001",
        )
        return None
    by_alias = {one.alias: one for one in found}
    chosen = st.selectbox(
        "Model",
        list(by_alias),
        format_func=lambda alias: f"{named(alias)} – {by_alias[alias].place}",
        key=f"endpoint {task}",
        help=f"{means('model')} {means('endpoint')}",
        persist_state="session",
    )
    return by_alias[str(chosen)]


def about(endpoint: Endpoint) -> None:
    """Say which version the registry has under the endpoint's alias; MLflow is loaded for it when the page is drawn."""
    if _REGISTRY not in sys.modules and progress.known(_key(endpoint)) is None:
        progress.afterwards(lambda: _about(endpoint), "Asking the registry")
        return
    found = _about(endpoint)
    if found.done() and not found.succeeded:
        st.caption(plain(f"The registry cannot be read: {found.error or 'stopped'}"))
        return

    def draw(known: tuple[Any, Contract | None]) -> None:
        standing, _ = known
        if standing is None:
            st.caption(plain(f"The registry has no version of {endpoint.task} in {endpoint.alias}."))
            return
        entry = standing.entry
        since = f", since {moment(entry.time)} on the word of {entry.by}" if entry is not None else ""
        title = version_title(standing.version.architecture, standing.version.number)
        st.caption(plain(f"{named(endpoint.alias)} is {title}{since}."))

    progress.shown(found, draw, label="Asking the registry", key=f"about {endpoint.task}", stoppable=False)


def required(endpoint: Endpoint, tables: Sequence[str]) -> list[str] | None:
    """Return which of the tables the model needs, by its contract; None while the registry has not told it."""
    contract = _contract(endpoint)
    return None if contract is None else [table for table in tables if table in contract.get("required", tables[:1])]


def _contract(endpoint: Endpoint) -> Contract | None:
    found = progress.known(_key(endpoint))
    return found.result()[1] if found is not None and found.succeeded else None


def _about(endpoint: Endpoint) -> Job[tuple[Any, Contract | None]]:
    def read(_: Job[Any]) -> tuple[Any, Contract | None]:
        registered = load(_REGISTRY)

        standing = registered.registered(endpoint.task).standing(endpoint.alias)
        return standing, None if standing is None else registered.contract(standing.version)

    return progress.job(_key(endpoint), read, believed=_BELIEVED)


def _key(endpoint: Endpoint) -> str:
    return f"about {endpoint.task} {endpoint.alias}"


def button(endpoint: Endpoint, make: Make | None, why_not: str, *, rows_at_once: int = ROWS_AT_ONCE) -> None:
    """Draw the button that asks; pressed without a question it says what is missing.

    Parameters
    ----------
    make
        Makes the question from the model's contract, if that is known; runs on a thread. None while it is not complete.
    why_not
        What is missing then.
    """
    pressed = st.button("Predict", type="primary", key=f"predict {endpoint.task}", icon=":material/play_arrow:")
    if not pressed:
        return
    if make is None:
        st.warning(plain(why_not), icon=":material/touch_app:")
        return
    seconds = frame.params().policy.dashboard.seconds
    known = _about(endpoint)
    making: Make = make

    def work(job: Job[Asked]) -> Asked:
        known.wait(_PATIENCE)
        question = making(known.result()[1] if known.succeeded else None)
        load("serving.dashboard.data.charts")  # here, on the thread, so that the page need not wait for what it draws
        answers = ask(
            endpoint, question.rows, question.names, seconds=seconds, rows_at_once=rows_at_once, tell=job.tell
        )
        return Asked(question, answers, endpoint)

    progress.forget(f"explain {endpoint.task} ")
    progress.job(f"ask {endpoint.task}", work, fresh=True, seconds=seconds + progress.SPARE)


def results(endpoint: Endpoint, draw: Callable[[Asked], None], empty: str) -> None:
    """Draw what came of the last question, or what would come of one."""
    found = progress.known(f"ask {endpoint.task}")
    if found is None:
        st.info(plain(empty), icon=":material/arrow_back:")
        return

    def drawn(asked: Asked) -> None:
        for note in asked.question.notes:
            st.caption(plain(note))
        draw(asked)

    progress.shown(found, drawn, label=f"Asking the model at {endpoint.place}", key=f"ask {endpoint.task}")
