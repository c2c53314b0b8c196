"""Predict: how a cell line responds to drugs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from pipelines.params import ResponseTask
from serving.board import collection
from serving.board.collection import Drug
from serving.board.endpoints import Endpoint
from serving.board.glossary import means
from serving.board.questions import Question, of_responses
from serving.board.tables import Row, coverage_of, csv_of, notes_of, ranked, ranked_labels, version_of
from serving.board.words import counted, micromolar, named, number, plain
from serving.screens import asking, choosing, frame, trust
from serving.screens.asking import Asked, Contract, Make

KEY = "cell_line_id"
LN_IC50 = "ln_ic50"
_COUNTS = (15, 30, 60)
_BY_VALUE, _BY_DIFFERENCE = "Predicted response", "Difference from the drug's usual response"


def draw(name: str, task: ResponseTask, endpoint: Endpoint) -> None:
    """Draw what is asked on the left, and what came of it on the right."""
    left, right = st.columns([1, 2], gap="large")
    with left:
        make, why_not = _question(name, task)
        asking.button(endpoint, make, why_not)
    with right:
        asking.results(
            endpoint,
            lambda asked: _results(asked, name, task),
            "Choose a cell line or bring a profile, choose drugs, and press Predict. Drugs are then ranked by how "
            "strongly they are expected to inhibit the cells, each with the range in which the measurement should lie.",
        )


def _question(name: str, task: ResponseTask) -> tuple[Make | None, str]:
    """Let people say which cells and which drugs; return what makes the question, or what is missing."""
    folder = frame.DATA / name
    omics: list[str] = list(task.data.omics)
    st.markdown("#### 1 · Cells")
    own = choosing.source(name, "Which cells") == choosing.OWN
    tables: dict[str, pd.DataFrame] = {}
    line: str | None = None
    tissue: dict[str, str | None] = {}
    if own:
        known = {each: collection.features(folder / f"{each}.parquet", KEY) for each in omics}
        found = choosing.own_files(name, omics, known, choosing.example_of(folder / f"{omics[0]}.parquet", KEY))
        tables = {each: found[each].values for each in omics if each in found}
        tissue = choosing.tissues(found)
        if found and not tissue:
            tissue = _asked_tissue(name, folder, list(tables[omics[0]].index.astype(str)))
    else:
        line = _line(name, folder)
    st.markdown("#### 2 · Drugs")
    drugs = _drugs(name, folder)
    if own and not tables:
        return None, "Bring a file with an expression profile first."
    if not own and line is None:
        return None, "Choose a cell line first."
    if not drugs:
        return None, "Choose drugs first, or write the SMILES of one."
    if own:
        return (lambda contract: of_responses(tables, tissue, drugs, contract)), ""
    return (lambda contract: _of_line(folder, omics, str(line), drugs, contract)), ""


def _of_line(
    folder: Path, omics: Sequence[str], line: str, drugs: Sequence[Drug], contract: Contract | None
) -> Question:
    """Return the question about a cell line of the data; runs on a thread."""
    lines = collection.cell_lines(folder)
    tables = {
        each: collection.profiles(folder / f"{each}.parquet", KEY, [line])
        for each in omics
        if (folder / f"{each}.parquet").is_file()
    }
    called, tissue = str(lines.at[line, "name"]), lines.at[line, "tissue"]
    tables = {each: table.set_axis([called] * len(table)) for each, table in tables.items() if len(table)}
    return of_responses(tables, {called: None if tissue is None else str(tissue)}, drugs, contract)


def _line(name: str, folder: Path) -> str | None:
    with frame.told():
        lines = _lines(str(folder))
        chosen = st.selectbox(
            "Cell line",
            list(lines.index),
            index=None,
            format_func=lambda one: str(lines.loc[one, "label"]),
            placeholder=f"Type to search {len(lines):,} cell lines",
            key=f"line {name}",
            persist_state="session",
        )
        return None if chosen is None else str(chosen)
    return None


def _asked_tissue(name: str, folder: Path, samples: list[str]) -> dict[str, str | None]:
    """Let people say where the cells come from, where their file does not."""
    known: list[str] = []
    with frame.told():
        known = sorted({str(tissue) for tissue in _lines(str(folder))["tissue"] if tissue})
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
    other = st.text_input(
        "Another molecule (SMILES)", key=f"smiles {name}", help=means("smiles"), placeholder="Optional"
    ).strip()
    more = [Drug(None, "your molecule", other)] if other else []
    return [*([offered[place] for place in chosen] or ([] if more else offered)), *more]


@st.cache_data(show_spinner=False, ttl=60)
def _lines(folder: str) -> pd.DataFrame:
    return collection.cell_lines(Path(folder))


@st.cache_data(show_spinner=False, ttl=60)
def _offered(folder: str) -> list[Drug]:
    return collection.drugs(Path(folder))


@st.cache_data(show_spinner=False, ttl=600)
def _usual(folder: str, target: str) -> dict[str, float]:
    return {str(drug): float(value) for drug, value in collection.usual_responses(Path(folder), target).items()}


def _results(asked: Asked, name: str, task: ResponseTask) -> None:
    of_classes = task.family == "response_labels"
    about = asked.question.about
    usual = {} if of_classes else _usual(str(frame.DATA / name), task.data.target)
    table = ranked_labels(asked.answers, about) if of_classes else ranked(asked.answers, about, usual)
    trust.panel(
        name,
        task.family,
        table,
        what="predictions",
        version=version_of(asked.answers),
        declared=coverage_of(asked.answers),
    )
    for note in notes_of(table):
        st.warning(plain(note), icon=":material/info:")
    samples = list(dict.fromkeys(about["sample"]))
    chosen = samples[0] if len(samples) == 1 else st.selectbox("Sample", samples, key=f"sample {name}")
    own = table[table["sample"] == chosen]
    if of_classes:
        _labels(own, str(chosen))
    else:
        own = _numbers(own, str(chosen), task.data.target)
    file = csv_of(table.drop(columns=["note"] if (table["note"] == "").all() else []))
    st.download_button(
        f"Download all {counted(len(table), 'prediction')} as CSV",
        file,
        file_name=f"{name}_predictions.csv",
        mime="text/csv",
        on_click="ignore",
        icon=":material/download:",
    )
    _genes(asked, own, str(chosen), of_classes, task.data.target)


def _numbers(own: pd.DataFrame, sample: str, target: str) -> pd.DataFrame:
    from serving.board import charts  # Altair is not needed until there is something to draw

    unit = "ln IC50 (µM)" if target == LN_IC50 else named(target)
    st.subheader(f"Drugs for {plain(sample)}", help=means(LN_IC50) if target == LN_IC50 else None)
    if len(own) > 1 and own["usual"].notna().any():
        by = st.segmented_control(
            "Rank by", [_BY_VALUE, _BY_DIFFERENCE], default=_BY_VALUE, required=True, help=means("usual")
        )
        if by == _BY_DIFFERENCE:
            own = own.sort_values("against_usual", kind="stable", na_position="last").reset_index(drop=True)
            own["rank"] = np.arange(1, len(own) + 1)
    top = own.head(_count(len(own)))
    first = top.iloc[0]
    frame.chart(
        charts.responses(top, f"Predicted {unit} – further left is more sensitive"),
        alt=f"Predicted {unit} of {len(top)} drugs with intervals; first is {first['drug']} with "
        f"{number(first['prediction'], 2)} [{number(first['low'], 2)}, {number(first['high'], 2)}].",
    )
    st.caption(
        plain("Point: prediction. Line: its interval. Gray tick: the drug's usual response in the data."),
        help=means("interval") + " " + means("usual"),
    )
    _number_table(own, target)
    return own


def _number_table(own: pd.DataFrame, target: str) -> None:
    short = "ln IC50" if target == LN_IC50 else named(target)
    shown = pd.DataFrame(
        {
            "Rank": own["rank"],
            "Drug": own["drug"],
            short: own["prediction"],
            "Interval": [
                f"{number(low, 2)} to {number(high, 2)}" for low, high in zip(own["low"], own["high"], strict=True)
            ],
        }
    )
    if target == LN_IC50:
        shown["IC50 (µM)"] = [micromolar(math.exp(value)) for value in own["prediction"]]
    if own["usual"].notna().any():
        shown["Usual"] = own["usual"]
        shown["Difference"] = own["against_usual"]
    if not own["familiar"].eq(True).all():  # where all are, the panel above says so
        shown["Familiar"] = _yes_no(own)

    def two(help: str | None = None, form: str = "%.2f") -> Any:
        return st.column_config.NumberColumn(format=form, help=help, width=66)

    st.dataframe(
        shown,
        hide_index=True,
        height=min(420, 36 * (len(shown) + 1) + 2),
        column_config={
            "Rank": st.column_config.NumberColumn(width=45),
            "Drug": st.column_config.TextColumn(width=140),
            short: two(means(LN_IC50) if target == LN_IC50 else None),
            "Interval": st.column_config.TextColumn(help=means("interval"), width=105),
            "IC50 (µM)": st.column_config.TextColumn(help=means("ic50"), width=75),
            "Usual": two(means("usual")),
            "Difference": two(means("usual"), "%+.2f"),
            "Familiar": st.column_config.TextColumn(help=means("familiar"), width=70),
        },
        alt=f"Predictions for {len(shown)} drugs with their intervals",
    )


def _labels(own: pd.DataFrame, sample: str) -> None:
    from serving.board import charts

    st.subheader(f"Drugs for {plain(sample)}", help=means("probability"))
    top = own.head(_count(len(own)))
    frame.chart(
        charts.sensitive(top),
        alt=f"Probability that {sample} is sensitive, for {len(top)} drugs; first is {top.iloc[0]['drug']}.",
    )
    st.dataframe(
        pd.DataFrame(
            {
                "Rank": own["rank"],
                "Drug": own["drug"],
                "Answer": own["label"].map(named),
                "Probability of being sensitive": own["sensitive"],
                "Not ruled out": own["labels"],
                "Like the training data": _yes_no(own),
            }
        ),
        hide_index=True,
        height=min(420, 36 * (len(own) + 1) + 2),
        column_config={
            "Probability of being sensitive": st.column_config.NumberColumn(format="%.2f", help=means("probability")),
            "Not ruled out": st.column_config.TextColumn(help=means("label_set")),
            "Like the training data": st.column_config.TextColumn(help=means("familiar")),
        },
        alt=f"Predicted classes for {len(own)} drugs",
    )


def _genes(asked: Asked, own: pd.DataFrame, sample: str, of_classes: bool, target: str) -> None:
    st.subheader("Genes behind a prediction", help=means("contribution"))
    drugs = own["drug"].tolist()
    drug = drugs[0] if len(drugs) == 1 else st.selectbox("Drug", drugs, key=f"explained {asked.endpoint.task} {sample}")
    about = asked.question.about
    row = int(np.flatnonzero((about["sample"] == sample) & (about["drug"] == drug))[0])
    lower_is_sensitive = not of_classes
    raises, lowers = "towards resistance", "towards sensitivity"
    if not lower_is_sensitive:
        raises, lowers = lowers, raises

    def shown(answer: Row) -> None:
        asking.genes(
            answer,
            raises=raises,
            lowers=lowers,
            file=f"{sample}_{drug}_contributions.csv",
            what=f"the prediction for {sample} with {drug}",
        )

    asking.explained(asked, row, shown, "Asking what moved it")


def _count(rows: int) -> int:
    """Return how many drugs the chart shows."""
    offered = [count for count in _COUNTS if count < rows]
    if not offered:
        return rows
    shown = st.segmented_control(
        "Drugs in the chart", [*offered, *([rows] if rows <= _COUNTS[-1] else [])], default=offered[0], required=True
    )
    return int(shown)


def _yes_no(table: pd.DataFrame) -> list[str]:
    said = {True: "yes", False: "no"}
    return [said.get(value, "not known") for value in table["familiar"]]
