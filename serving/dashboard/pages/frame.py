"""The parts of every page: parameters, the chosen task, errors, tables, charts and downloads."""

from __future__ import annotations

import mimetypes
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import streamlit as st

from pipelines.errors import UserError
from pipelines.params import PARAMS_FILE, Params, Task, read_params
from pipelines.paths import DATA as DATA
from pipelines.paths import REPORTS as REPORTS
from serving.dashboard.data.loading import load, tables
from serving.dashboard.data.words import RESEARCH, SIMULATED, means, named, plain, yes_no

if TYPE_CHECKING:
    import pandas as pd

Columns = Mapping[str, tuple[Any, str, str]]  # heading to values, term of the glossary, format of numbers; or empty
_TASK = "task"
_DRUGS_IN_CHART = 30
_FAMILIAR = {True: "like the training data", False: "unlike the training data"}


@contextmanager
def errors_shown() -> Iterator[None]:
    """Show an error of the user where the result would have been; the rest of the page goes on."""
    try:
        yield
    except UserError as error:
        fault(str(error))


def fault(text: str) -> None:
    """Show an error, a line each."""
    st.error("  \n".join(plain(line) for line in text.splitlines()), icon=":material/error:")


def advice(text: str, *commands: str) -> None:
    """Show what to do where there is nothing to show yet, with commands for a terminal."""
    st.info(plain(text), icon=":material/lightbulb:")
    for command in commands:
        st.code(command, language=None)


def params() -> Params:
    """Return the parameters, read again when the file has changed; a file that cannot be read is a UserError."""
    return _params(PARAMS_FILE.stat().st_mtime if PARAMS_FILE.is_file() else 0.0)


@st.cache_resource(show_spinner=False, max_entries=2)
def _params(changed: float) -> Params:
    return read_params(PARAMS_FILE)


def choose_task() -> None:
    """Let people choose the task of all pages."""
    found = list(params().tasks)
    st.sidebar.selectbox("Task", found, format_func=named, key=_TASK, help=means("task"), persist_state="session")
    st.sidebar.caption(RESEARCH)


def task_name() -> str:
    """Return the name of the chosen task."""
    return str(st.session_state.get(_TASK) or next(iter(params().tasks)))


def task() -> Task:
    """Return the chosen task."""
    return params().task(task_name())


def simulated(is_simulated: bool) -> None:
    """Say that the figures below are of simulated data."""
    if is_simulated:
        st.warning(SIMULATED, icon=":material/science:")


def table(content: pd.DataFrame, alt: str) -> None:
    """Show a short table as text, which screen readers can read."""
    shown = content.map(plain).rename(columns=plain)
    st.table(shown, border="horizontal", hide_index=True, alt=alt)


def rows(columns: Columns, alt: str) -> None:
    """Show a long table."""
    shown, config = {}, st.column_config
    for name, (_, term, form) in columns.items():
        help_ = means(term) if term else None
        shown[name] = config.NumberColumn(format=form, help=help_) if form else config.Column(help=help_)
    content = load("pandas").DataFrame({name: list(values) for name, (values, _, _) in columns.items()})
    st.dataframe(content, hide_index=True, column_config=shown, placeholder="–", alt=alt)


def first_drugs(own: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """Return the first drugs for a chart: these columns, and in words whether each pair is like the training data."""
    top = own.head(_DRUGS_IN_CHART)
    return top[["drug", *columns]].assign(known=[_FAMILIAR.get(value, "not known") for value in top["familiar"]])


def drugs(own: pd.DataFrame, columns: Columns, alt: str) -> None:
    """Show a row a drug: rank, name, these columns, and whether it is familiar unless all are, as the panel says."""
    made = {"Rank": (own["rank"], "", ""), "Drug": (own["drug"], "", ""), **columns}
    if not own["familiar"].eq(True).all():
        made["Familiar"] = (yes_no(own["familiar"]), "familiar", "")
    rows(made, alt)


def chart(made: Any, alt: str) -> None:
    """Show a chart with a text alternative."""
    st.altair_chart(made, theme="streamlit", alt=alt)


def download(content: pd.DataFrame, file: str, label: str = "Download as CSV") -> None:
    """Offer a table as a CSV file."""
    offer(label, tables.csv_of(content), file, key=file)


def offer(label: str, data: bytes | str, file: str, *, key: str | None = None, **look: Any) -> None:
    """Offer a file of this name."""
    mime, icon = mimetypes.guess_type(file)[0], ":material/download:"
    st.download_button(label, data, file_name=file, mime=mime, on_click="ignore", icon=icon, key=key, **look)


def numbers(content: pd.DataFrame, file: str, alt: str) -> None:
    """Offer the numbers of a chart as a table and as a CSV file."""
    with st.expander("The numbers of this chart", icon=":material/table:", key=f"numbers {file}"):
        st.dataframe(content, hide_index=True, alt=alt)
        download(content, file)


def sentences(items: Sequence[str]) -> None:
    """Show sentences as a list."""
    st.markdown("\n".join(f"- {plain(item)}" for item in items))
