"""Predict: drugs ranked for a sample, and why."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from pipelines.modalities.pairs import PairsTask
from serving.board import charts
from serving.board.glossary import means
from serving.board.loading import load
from serving.board.measured import usual_responses
from serving.board.tables import Row, coverage_of, csv_of, ranked, ranked_labels, version_of
from serving.board.words import counted, micromolar, named, number, plain
from serving.screens import explaining, frame, trust
from serving.screens.asking import Asked

LN_IC50 = "ln_ic50"
_RESISTANCE, _SENSITIVITY = "towards resistance", "towards sensitivity"
_DRAWING = "drawing"  # of an answer: its molecule
_COUNTS = (15, 30, 60)
_BY_VALUE, _BY_DIFFERENCE = "Predicted response", "Difference from the drug's usual response"


@st.cache_data(show_spinner=False, ttl=600)
def _usual(folder: str, target: str) -> dict[str, float]:
    return usual_responses(Path(folder), target)


def draw(asked: Asked, name: str, task: PairsTask) -> None:
    """Draw the answers: ranked, with how far they can be trusted, to download, and explained one by one."""
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
    frame.notes(table)
    samples = list(dict.fromkeys(about["sample"]))
    chosen = samples[0] if len(samples) == 1 else st.selectbox("Sample", samples, key=f"sample {name}")
    own = table[table["sample"] == chosen]
    if of_classes:
        _labels(own, str(chosen), task.data.target)
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
    unit = _unit(target)
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
        placeholder="–",
        alt=f"Predictions for {len(shown)} drugs with their intervals",
    )


def _labels(own: pd.DataFrame, sample: str, target: str) -> None:
    st.subheader(f"Drugs for {plain(sample)}", help=means("sensitive"))
    st.markdown(plain(_said(own)), help=means("label_set"))
    top = own.head(_count(len(own)))
    first = top.iloc[0]
    frame.chart(
        charts.sensitive(top),
        alt=f"Probability that {sample} is sensitive, for {len(top)} drugs; first is {first['drug']} with "
        f"{number(first['sensitive'], 2)}, {first['holds']}.",
    )
    st.caption(plain("Bar: how probable it is that the cells are sensitive. Color: what is not ruled out."))
    shown = pd.DataFrame(
        {
            "Rank": own["rank"],
            "Drug": own["drug"],
            "Answer": own["label"].map(named),
            "Sensitive": own["sensitive"],
            "Not ruled out": own["holds"],
        }
    )
    if own["called_below"].notna().any():
        in_micromolar = target == LN_IC50
        head = "Below (µM)" if in_micromolar else "Below"
        shown[head] = [
            micromolar(math.exp(value)) if in_micromolar else number(value, 2) for value in own["called_below"]
        ]
    if not own["familiar"].eq(True).all():
        shown["Familiar"] = _yes_no(own)
    threshold = st.column_config.TextColumn(help=means("called_below"), width=80)
    st.dataframe(
        shown,
        hide_index=True,
        height=min(420, 36 * (len(own) + 1) + 2),
        column_config={
            "Rank": st.column_config.NumberColumn(width=45),
            "Drug": st.column_config.TextColumn(width=140),
            "Answer": st.column_config.TextColumn(help=means("sensitive"), width=90),
            "Sensitive": st.column_config.NumberColumn(
                format="%.2f", help="Probability of being sensitive. " + means("probability"), width=80
            ),
            "Not ruled out": st.column_config.TextColumn(help=means("label_set"), width=130),
            "Below (µM)": threshold,
            "Below": threshold,
            "Familiar": st.column_config.TextColumn(help=means("familiar"), width=70),
        },
        alt=f"Predicted classes for {len(own)} drugs, with what is not ruled out",
    )


def _said(own: pd.DataFrame) -> str:
    """Return in a sentence what the answers come to."""
    sets = own["holds"].value_counts()
    alone, other = int(sets.get("sensitive alone", 0)), int(sets.get("resistant alone", 0))
    open_, none = int(sets.get("either is possible", 0)), int(sets.get("neither fits", 0))
    parts = [f"to {alone:,} the cells are called sensitive and resistance is ruled out"]
    parts.append(f"to {other:,} resistant and sensitivity is ruled out")
    parts.append(f"for {open_:,} the model cannot tell")
    if none:
        parts.append(f"for {none:,} neither class fits")
    return f"Of {counted(len(own), 'drug')}: {', '.join(parts)}."


def _genes(asked: Asked, own: pd.DataFrame, sample: str, of_classes: bool, target: str) -> None:
    st.subheader("Genes behind a prediction", help=means("contribution"))
    drugs = own["drug"].tolist()
    drug = drugs[0] if len(drugs) == 1 else st.selectbox("Drug", drugs, key=f"explained {asked.endpoint.task} {sample}")
    about = asked.question.about
    row = int(np.flatnonzero((about["sample"] == sample) & (about["drug"] == drug))[0])
    smiles = asked.question.rows[row].get("smiles")
    raises, lowers = _RESISTANCE, _SENSITIVITY
    summed, unit = "The prediction", _unit(target)
    if of_classes:
        raises, lowers = lowers, raises
        summed = unit = "the log odds of being sensitive"

    def shown(answer: Row) -> None:
        if of_classes:
            st.caption(plain(f"Log odds: {means('log_odds')[:1].lower()}{means('log_odds')[1:]}"))
        explaining.genes(
            answer,
            raises=raises,
            lowers=lowers,
            red=_RESISTANCE,
            file=f"{sample}_{drug}_contributions.csv",
            what=f"the prediction for {sample} with {drug}",
            summed=summed[:1].upper() + summed[1:],
        )
        _atoms(answer, f"{sample}_{drug}")

    def with_molecule(answer: Row) -> Row:
        if "atoms" not in answer:
            return answer
        drawing = load("serving.board.molecules").drawing  # RDKit and matplotlib take seconds to import
        return {**answer, _DRAWING: drawing(answer, str(drug), smiles, unit)}

    explaining.explained(asked, row, shown, "Asking what moved it", with_molecule)


def _atoms(answer: Row, file: str) -> None:
    """Draw the molecule, where the model looks at atoms."""
    if _DRAWING not in answer:
        return
    st.subheader("Atoms behind it", help=means("atoms"))
    found = answer[_DRAWING]
    if found is None:
        st.info("The model sees atoms, and no molecule of this drug was asked about.", icon=":material/info:")
        return
    st.image(found.svg, alt=found.told, width=520)
    st.markdown(plain(found.told))
    drawn, listed = st.columns(2)
    drawn.download_button(
        "Download the drawing",
        found.svg,
        file_name=f"{file}_atoms.svg",
        mime="image/svg+xml",
        on_click="ignore",
        icon=":material/download:",
    )
    with listed:
        frame.download(found.atoms, f"{file}_atoms.csv", "Download the atoms as CSV")


def _unit(target: str) -> str:
    return "ln IC50 (µM)" if target == LN_IC50 else named(target)


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
