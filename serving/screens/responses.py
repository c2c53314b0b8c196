"""Predict: how a cell line responds to drugs. What is asked; answers are drawn in `response_answers`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from pipelines.modalities.pairs import PairsTask
from serving.board import collection
from serving.board.collection import Drug, Line
from serving.board.endpoints import Endpoint
from serving.board.glossary import means
from serving.board.loading import load
from serving.board.words import named
from serving.screens import asking, choosing, frame
from serving.screens.asking import Asked, Contract, Make

if TYPE_CHECKING:  # pandas and charts are loaded with the first question, not with the first page
    import pandas as pd

    from serving.board.questions import Question

KEY = "cell_line_id"
_ANSWERS = "serving.screens.response_answers"
_RANKED = {
    "response": "Drugs are then ranked by how strongly they are expected to inhibit the cells, each with the range in "
    "which the measurement should lie.",
    "response_labels": "Drugs are then ranked by how probable it is that the cells are sensitive to them, each with "
    "what is not ruled out.",
}


def draw(name: str, task: PairsTask, endpoint: Endpoint) -> None:
    """Draw what is asked on the left, and what came of it on the right."""
    left, right = st.columns([1, 2], gap="large")
    with left:
        make, why_not = _question(name, task, asking.required(endpoint, task.data.omics))
        asking.button(endpoint, make, why_not)
    with right:
        asking.results(
            endpoint,
            lambda asked: _results(asked, name, task),
            f"Choose a cell line or bring a profile, choose drugs, and press Predict. {_RANKED[task.family]}",
        )


def _question(name: str, task: PairsTask, required: Sequence[str] | None) -> tuple[Make | None, str]:
    """Let people say which cells and which drugs; return what makes the question, or what is missing.

    ``required`` are the tables that the model needs, None while that is not known.
    """
    folder = frame.DATA / name
    omics: list[str] = list(task.data.omics)
    st.markdown("#### 1 · Cells")
    own = choosing.source(name, "Which cells") == choosing.OWN
    tables: dict[str, pd.DataFrame] = {}
    line: tuple[str, Line] | None = None
    tissue: dict[str, str | None] = {}
    if own:
        known = {each: collection.features(folder / f"{each}.parquet", KEY) for each in omics}
        example = choosing.example_of(folder / f"{omics[0]}.parquet", KEY)
        found = choosing.own_files(name, omics, known, example, required)
        tables = {each: found[each].values for each in omics if each in found}
        tissue = choosing.tissues(found)
        if found and not tissue:
            samples = dict.fromkeys(str(sample) for table in tables.values() for sample in table.index)
            tissue = _asked_tissue(name, folder, tuple(omics), list(samples))
    else:
        # Most models need the expression: until the registry has told, lines without it are not offered.
        line = _line(name, folder, tuple(omics), tuple(omics[:1] if required is None else required))
    st.markdown("#### 2 · Drugs")
    drugs = _drugs(name, folder)
    if own and not tables:
        return None, "Bring a file with a profile first."
    if not own and line is None:
        return None, "Choose a cell line first."
    if not drugs:
        return None, "Choose drugs first, or write the SMILES of one."
    if line is None:
        return (lambda contract: _of_tables(tables, tissue, drugs, contract)), ""
    line_id, of = line
    return (lambda contract: _of_line(folder, omics, line_id, of, drugs, contract)), ""


def _of_tables(
    tables: dict[str, pd.DataFrame], tissue: dict[str, str | None], drugs: Sequence[Drug], contract: Contract | None
) -> Question:
    """Return the question about samples that somebody brought; runs on a thread."""
    made: Question = load("serving.board.questions").of_responses(tables, tissue, drugs, contract)
    load(_ANSWERS)  # here, on the thread, so that the page need not wait
    return made


def _of_line(
    folder: Path, omics: Sequence[str], line: str, of: Line, drugs: Sequence[Drug], contract: Contract | None
) -> Question:
    """Return the question about a cell line of the data; runs on a thread."""
    profiles = load("serving.board.measured").profiles
    tables = {
        each: profiles(folder / f"{each}.parquet", KEY, [line])
        for each in omics
        if (folder / f"{each}.parquet").is_file()
    }
    tables = {each: table.set_axis([of.name] * len(table)) for each, table in tables.items() if len(table)}
    return _of_tables(tables, {of.name: of.tissue}, drugs, contract)


def _line(name: str, folder: Path, omics: tuple[str, ...], required: tuple[str, ...]) -> tuple[str, Line] | None:
    with frame.told():
        lines = _lines(str(folder), omics, required)
        chosen = st.selectbox(
            "Cell line",
            list(lines),
            index=None,
            format_func=lambda one: lines[one].label,
            placeholder=f"Type to search {len(lines):,} cell lines",
            key=f"line {name}",
            persist_state="session",
        )
        return None if chosen is None else (str(chosen), lines[str(chosen)])
    return None


def _asked_tissue(name: str, folder: Path, omics: tuple[str, ...], samples: list[str]) -> dict[str, str | None]:
    """Let people say where the cells come from, where their file does not."""
    known: list[str] = []
    with frame.told():
        known = sorted({line.tissue for line in _lines(str(folder), omics, ()).values() if line.tissue})
    chosen = st.selectbox(
        "Tissue (if known)",
        known,
        index=None,
        format_func=named,
        placeholder="Not known",
        key=f"tissue {name}",
        help=means("tissue"),
    )
    return dict.fromkeys(samples, chosen)


def _drugs(name: str, folder: Path) -> list[Drug]:
    offered: list[Drug] = []
    with frame.told():
        offered = _offered(str(folder))
    chosen = st.multiselect(
        "Drugs",
        range(len(offered)),
        format_func=lambda place: offered[place].label,
        placeholder=f"All {len(offered):,} drugs – or choose some",
        key=f"drugs {name}",
        persist_state="session",
        disabled=not offered,
    )
    typed = st.text_input(
        "Another molecule (SMILES)", key=f"smiles {name}", help=means("smiles"), placeholder="Optional"
    )
    other = load("serving.board.questions").molecule(typed) if typed else ""
    more = [Drug(None, "your molecule", other)] if other else []
    return [*([offered[place] for place in chosen] or ([] if more else offered)), *more]


@st.cache_data(show_spinner=False, ttl=60)
def _lines(folder: str, omics: tuple[str, ...], required: tuple[str, ...]) -> dict[str, Line]:
    return collection.cell_lines(Path(folder), omics, required)


@st.cache_data(show_spinner=False, ttl=60)
def _offered(folder: str) -> list[Drug]:
    return collection.drugs(Path(folder))


def _results(asked: Asked, name: str, task: PairsTask) -> None:
    load(_ANSWERS).draw(asked, name, task)
