"""Predict: the class of each image, what is not ruled out, and where the network looked."""

from __future__ import annotations

import base64
import binascii
from pathlib import PurePath

import pandas as pd
import streamlit as st

from pipelines.modalities.images import ImagesTask
from serving.board import charts
from serving.board.glossary import means
from serving.board.tables import Row, classes, coverage_of, probabilities, version_of
from serving.board.words import counted, named, plain, share
from serving.screens import explaining, frame, trust
from serving.screens.asking import Asked
from serving.screens.images import shown


def draw(asked: Asked, name: str, task: ImagesTask) -> None:
    """Draw the answers: classes, with how far they can be trusted, to download, and where the network looked."""
    table = classes(asked.answers, asked.question.names)
    version = version_of(asked.answers)
    trust.panel(name, task.family, table, what="images", version=version, declared=coverage_of(asked.answers))
    frame.notes(table)
    if len(table) > 1:
        summary(table, "Image")
    frame.download(table, f"{name}_predictions.csv", f"Download {counted(len(table), 'prediction')} as CSV")
    names = asked.question.names
    chosen = names[0] if len(names) == 1 else st.selectbox("Image", names, key=f"shown {name}")
    row = names.index(str(chosen))
    answer, content = asked.answers[row], base64.b64decode(asked.question.rows[row]["image"])
    st.subheader(f"{plain(named(str(answer['label'])))} – {share(answer['probability'])}", help=means("probability"))
    st.markdown(plain(_set_of(answer)), help=means("label_set"))

    def pictures(explained: Row | None) -> None:
        image, map_ = st.columns(2)
        image.image(shown(content), caption="The image", width="stretch", alt=f"The image {chosen}")
        if explained is None:
            return
        overlay = _overlay(explained)
        if overlay is None:
            map_.info("This model looks at no place that it could show.", icon=":material/info:")
        else:
            map_.image(
                overlay,
                caption="Where the network looked (Grad-CAM)",
                width="stretch",
                alt=f"Grad-CAM of {chosen}: where the network saw {named(str(answer['label'])).lower()}",
            )
            map_.download_button(
                "Download the Grad-CAM",
                overlay,
                file_name=f"{PurePath(str(chosen)).stem}_grad_cam.png",
                mime="image/png",
                on_click="ignore",
                icon=":material/download:",
            )

    explaining.explained(asked, row, pictures, "Asking where it looked")
    st.caption(means("grad_cam"))
    shares(answer, f"the image {chosen}", f"{PurePath(str(chosen)).stem}_probabilities.csv")


def shares(answer: Row, what: str, file: str) -> None:
    """Draw the probability of each class, with all of them as a table and as a CSV file."""
    found = probabilities(answer)
    table = found.assign(label=[named(str(label)) for label in found["label"]])
    pairs = zip(table["label"].head(3), table["probability"].head(3), strict=True)
    said = ", ".join(f"{label} {share(float(value))}" for label, value in pairs)
    frame.chart(charts.probabilities(table), alt=f"Probabilities of the classes of {what}: {said}.")
    every = probabilities(answer, len(answer.get("probabilities") or {}))
    shown = pd.DataFrame(
        {
            "class": [named(str(label)) for label in every["label"]],
            "probability": every["probability"],
            "set of classes": ["in the set" if held else "ruled out" for held in every["held"]],
        }
    )
    frame.numbers(shown, file, f"Probability of each class of {what}")


def summary(table: pd.DataFrame, what: str) -> None:
    """Show a row a sample."""
    said = {True: "yes", False: "no"}
    st.dataframe(
        pd.DataFrame(
            {
                what: table["sample"],
                "Class": [named(str(label)) for label in table["label"]],
                "Probability": table["probability"],
                "Not ruled out": table["labels"],
                "Like the training data": [said.get(value, "not known") for value in table["familiar"]],
            }
        ),
        hide_index=True,
        height=min(320, 36 * (len(table) + 1) + 2),
        column_config={
            "Probability": st.column_config.NumberColumn(format="%.2f", help=means("probability")),
            "Not ruled out": st.column_config.TextColumn(help=means("label_set")),
            "Like the training data": st.column_config.TextColumn(help=means("familiar")),
        },
        alt=f"Predicted classes of {len(table)} samples",
    )


def _set_of(answer: Row) -> str:
    held = [named(str(label)) for label in answer.get("labels") or []]
    if not held:
        return "It rules out every class: this is like nothing that it knows."
    if len(held) == 1:
        return f"It rules out every class but {held[0]}."
    return f"It does not rule out {', '.join(held[:-1])} or {held[-1]}."


def _overlay(answer: Row) -> bytes | None:
    try:
        return base64.b64decode(str(answer["overlay"]), validate=True)
    except (KeyError, binascii.Error):
        return None
