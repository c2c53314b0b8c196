"""From a question to its answers: who is asked, the button, the wait, and what is explained row by row."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import streamlit as st

from serving.board.asking import ROWS_AT_ONCE, Row, ask
from serving.board.endpoints import Endpoint, endpoints, how_to_configure
from serving.board.glossary import means
from serving.board.jobs import Job
from serving.board.questions import Question, only
from serving.board.tables import OTHERS, THE_DRUG, base_of, contributions
from serving.board.words import moment, named, number, plain
from serving.screens import frame, waiting
from serving.screens.trust import title_of

Contract = Mapping[str, Any]
Make = Callable[[Contract | None], Question]
_GENES = 15  # in a chart
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
    """Say which version the registry has under the endpoint's alias; drawn last, since it imports MLflow."""
    found = _about(endpoint)
    if found.done and not found.succeeded:
        st.caption(plain(f"The registry cannot be read: {found.error or 'stopped'}"))
        return

    def draw(known: tuple[Any, Contract | None]) -> None:
        standing, _ = known
        if standing is None:
            st.caption(plain(f"The registry has no version of {endpoint.task} in {endpoint.alias}."))
            return
        entry = standing.entry
        since = f", since {moment(entry.time)} on the word of {entry.by}" if entry is not None else ""
        title = title_of(standing.version.architecture, standing.version.number)
        st.caption(plain(f"{named(endpoint.alias)} is {title}{since}."))

    waiting.shown(found, draw, label="Asking the registry", key=f"about {endpoint.task}", stoppable=False)


def _about(endpoint: Endpoint) -> Job[tuple[Any, Contract | None]]:
    def read(_: Job[Any]) -> tuple[Any, Contract | None]:
        from serving.board import registered  # MLflow takes seconds to import

        standing = registered.registered(endpoint.task).standing(endpoint.alias)
        return standing, None if standing is None else registered.contract(standing.version)

    return waiting.job(f"about {endpoint.task} {endpoint.alias}", read)


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
        question = making(known.value[1] if known.succeeded else None)
        answers = ask(
            endpoint, question.rows, question.names, seconds=seconds, rows_at_once=rows_at_once, tell=job.tell
        )
        return Asked(question, answers, endpoint)

    waiting.forget(f"explain {endpoint.task} ")
    waiting.job(f"ask {endpoint.task}", work, fresh=True)


def results(endpoint: Endpoint, draw: Callable[[Asked], None], empty: str) -> None:
    """Draw what came of the last question, or what would come of one."""
    found = waiting.known(f"ask {endpoint.task}")
    if found is None:
        st.info(plain(empty), icon=":material/arrow_back:")
        return

    def drawn(asked: Asked) -> None:
        for note in asked.question.notes:
            st.caption(plain(note))
        draw(asked)

    waiting.shown(found, drawn, label=f"Asking the model at {endpoint.place}", key=f"ask {endpoint.task}")


def explained(asked: Asked, row: int, draw: Callable[[Row], None], label: str) -> None:
    """Ask for the explanation of one row, and draw it."""
    endpoint, seconds = asked.endpoint, frame.params().policy.dashboard.seconds
    question = only(asked.question, row)

    def work(job: Job[Row]) -> Row:
        found = ask(endpoint, question.rows, question.names, explain=True, seconds=seconds, tell=job.tell)
        return found[0]

    key = f"explain {endpoint.task} {asked.name} {row}"
    waiting.shown(waiting.job(key, work), draw, label=label, key=key)


def genes(answer: Row, *, raises: str, lowers: str, file: str, what: str, target: str | None = None) -> None:
    """Draw what moved a prediction: a chart, what it starts from, and the table to download.

    Parameters
    ----------
    raises, lowers
        What positive and negative contributions mean.
    what
        Is explained, for the chart's text.
    """
    from serving.board import charts  # Altair is not needed until there is something to draw

    table = contributions(answer, target)
    if table.empty:
        st.info("This model looks at no gene that it could name.", icon=":material/info:")
        return
    rest = table["feature"].isin([OTHERS, THE_DRUG])
    top = table[~rest].head(_GENES)
    _sum(table, top, base_of(answer, target))
    if (top["value"].abs() > 0).any():
        most = ", ".join(str(name) for name in top["feature"].head(3))
        frame.chart(charts.contributions(top, raises, lowers), alt=f"Contributions to {what}; the largest: {most}.")
    shown = pd.DataFrame({"feature": table["feature"], "kind": table["kind"], "contribution": table["value"]})
    frame.download(shown, file, "Download the contributions as CSV")


def _sum(table: pd.DataFrame, top: pd.DataFrame, base: float | None) -> None:
    """Say what the parts of a prediction add up to."""
    if base is None:
        return
    drug = table.loc[table["feature"] == THE_DRUG, "value"].sum()
    others = float(table["value"].sum() - drug - top["value"].sum())
    parts = [("the base", base, ""), ("the drug itself", drug, "+"), ("what is shown below", top["value"].sum(), "+")]
    parts += [("all else", others, "+")]
    said = [f"{word} {number(float(value), 2, sign)}" for word, value, sign in parts if word == "the base" or value]
    total = number(base + float(table["value"].sum()), 2)
    text = f"The prediction is the sum of {', '.join(said[:-1])} and {said[-1]}: {total}."
    st.markdown(plain(text), help=f"{means('base')} {means('contribution')}")
