"""Predict: the class of a profile or its other genes, and which genes the model goes by."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st

from pipelines.modalities.profiles import ProfilesTask
from pipelines.samples.gene_names import match_genes
from serving.board import charts
from serving.board.glossary import means
from serving.board.tables import Row, classes, coverage_of, targets, version_of
from serving.board.words import counted, listed, named, number, plain, share
from serving.screens import explaining, frame, image_answers, trust
from serving.screens.asking import Asked

_SHOWN = 30


def draw(asked: Asked, name: str, task: ProfilesTask) -> None:
    """Draw the answers: classes or genes, with how far they can be trusted, to download, and explained one by one."""
    if task.family == "gene_targets":
        _genes(asked, name, task)
    else:
        _labels(asked, name, task)


def _labels(asked: Asked, name: str, task: ProfilesTask) -> None:
    table = classes(asked.answers, asked.question.names)
    version = version_of(asked.answers)
    trust.panel(name, task.family, table, what="samples", version=version, declared=coverage_of(asked.answers))
    frame.notes(table)
    if len(table) > 1:
        image_answers.summary(table, "Sample")
    frame.download(table, f"{name}_predictions.csv", f"Download {counted(len(table), 'prediction')} as CSV")
    row = _shown_row(asked, name)
    answer, sample = asked.answers[row], asked.question.names[row]
    st.subheader(f"{plain(named(str(answer['label'])))} – {share(answer['probability'])}", help=means("probability"))
    _filled_in(answer)
    image_answers.shares(answer, sample, f"{sample}_probabilities.csv")
    st.subheader("Genes behind it", help=means("contribution"))

    def shown(explained: Row) -> None:
        label = named(str(answer["label"]))
        explaining.genes(
            explained,
            raises=f"for {label}",
            lowers=f"against {label}",
            file=f"{sample}_contributions.csv",
            what=f"the answer {label} for {sample}",
        )

    explaining.explained(asked, row, shown, "Asking which genes it goes by")


def _genes(asked: Asked, name: str, task: ProfilesTask) -> None:
    table = targets(asked.answers, asked.question.names)
    version, declared = version_of(asked.answers), coverage_of(asked.answers)
    of_samples = table.drop_duplicates("sample")
    trust.panel(name, task.family, of_samples, what="samples", version=version, declared=declared)
    frame.notes(of_samples)
    table["measured"] = _measured(asked, table, task.data.scale)
    frame.download(table, f"{name}_predictions.csv", f"Download {counted(len(table), 'prediction')} as CSV")
    row = _shown_row(asked, name)
    answer, sample = asked.answers[row], asked.question.names[row]
    _filled_in(answer)
    own = table[table["sample"] == sample].sort_values("prediction", ascending=False, kind="stable")
    st.subheader(f"Predicted genes of {plain(sample)}", help="In log2 units. " + means("interval"))
    shown = own.rename(columns={"measured": "usual"}).assign(drug=own["gene"]).head(_SHOWN)
    first = own.iloc[0]
    frame.chart(
        charts.responses(shown, "Predicted expression (log2)"),
        alt=f"Predicted expression of {len(shown)} genes with intervals; the highest is {first['gene']} with "
        f"{number(first['prediction'], 2)} [{number(first['low'], 2)}, {number(first['high'], 2)}].",
    )
    if own["measured"].notna().any():
        st.caption("Point: prediction. Line: its interval. Gray tick: what was measured.")
    _gene_table(own)
    st.subheader("Genes behind one", help=means("contribution"))
    target = st.selectbox(
        "Predicted gene",
        own["target"].tolist(),
        format_func=lambda one: str(own.loc[own["target"] == one, "gene"].iloc[0]),
        key=f"target {name}",
    )

    def explained(found: Row) -> None:
        explaining.genes(
            found,
            raises="raises it",
            lowers="lowers it",
            file=f"{sample}_{target}_contributions.csv",
            what=f"the prediction of {target} for {sample}",
            target=str(target),
        )

    explaining.explained(asked, row, explained, "Asking which genes it goes by")


def _gene_table(own: pd.DataFrame) -> None:
    shown = pd.DataFrame(
        {"Gene": own["gene"], "Predicted (log2)": own["prediction"], "Low": own["low"], "High": own["high"]}
    )
    if own["measured"].notna().any():
        shown["Measured (log2)"] = own["measured"]
    two = st.column_config.NumberColumn(format="%.2f")
    st.dataframe(
        shown,
        hide_index=True,
        height=min(360, 36 * (len(shown) + 1) + 2),
        column_config={
            "Predicted (log2)": two,
            "Low": st.column_config.NumberColumn(format="%.2f", help=means("interval")),
            "High": two,
            "Measured (log2)": two,
        },
        alt=f"Predicted expression of {len(shown)} genes with intervals",
    )


def _shown_row(asked: Asked, name: str) -> int:
    names = asked.question.names
    if len(names) == 1:
        return 0
    return names.index(str(st.selectbox("Sample", names, key=f"shown {name}")))


def _filled_in(answer: Row) -> None:
    """Say which genes the model filled in, and which it left out."""
    lacking = [str(gene) for gene in answer.get("imputed") or []]
    if lacking:
        st.info(
            plain(f"{counted(len(lacking), 'gene')} not in the profile, filled in: {listed(lacking)}."),
            icon=":material/info:",
        )
    ignored = [str(gene) for gene in answer.get("ignored") or []]
    if ignored:
        st.info(
            plain(f"{counted(len(ignored), 'gene')} that the model does not know, left out: {listed(ignored)}."),
            icon=":material/info:",
        )


def _measured(asked: Asked, table: pd.DataFrame, scale: str) -> list[float]:
    """Return what the profiles themselves have of the predicted genes, in log2 units; NaN where they have nothing."""
    found: list[float] = []
    given = dict(zip(asked.question.names, asked.question.rows, strict=True))
    for sample, part in table.groupby("sample", sort=False):
        profile = given[str(sample)]["expression"]
        match = match_genes(list(profile), part["target"].tolist()).found
        values = [profile.get(match.get(target, ""), None) for target in part["target"]]
        numbers = np.array([np.nan if value is None else float(value) for value in values])
        found += (np.log2(numbers + 1) if scale == "linear" else numbers).tolist()
    return found
