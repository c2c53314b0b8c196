"""Predict: what a cell image shows, and where the network saw it."""

from __future__ import annotations

import base64
import binascii
import io
import warnings
from pathlib import Path

import pandas as pd
import streamlit as st
from PIL import Image

from pipelines.image_formats import FORMATS
from pipelines.params import ImageTask
from serving.board import collection
from serving.board.endpoints import Endpoint
from serving.board.glossary import means
from serving.board.questions import of_images
from serving.board.tables import Row, classes, coverage_of, probabilities, version_of
from serving.board.uploads import IMAGES, MOST_IMAGES
from serving.board.words import counted, named, plain, share
from serving.screens import asking, choosing, frame, trust
from serving.screens.asking import Asked, Make

_AT_ONCE = 8  # images in a request: an image takes a moment
_PREVIEW = 512  # pixels


def draw(name: str, task: ImageTask, endpoint: Endpoint) -> None:
    """Draw what is asked on the left, and what came of it on the right."""
    left, right = st.columns([1, 2], gap="large")
    with left:
        make, why_not = _question(name)
        asking.button(endpoint, make, why_not, rows_at_once=_AT_ONCE)
    with right:
        asking.results(
            endpoint,
            lambda asked: _results(asked, name, task),
            f"Drop images of single cells and press Predict. Each is told to be one of "
            f"{', '.join(named(label).lower() for label in task.data.classes)}, with what is not ruled out and where "
            "the network looked.",
        )


def _question(name: str) -> tuple[Make | None, str]:
    st.markdown("#### 1 · Images")
    files: dict[str, bytes] = {}
    if choosing.source(name, "Which images") == choosing.OWN:
        given = st.file_uploader(
            "Cell images (PNG, JPEG, TIFF, BMP or WebP)",
            type=list(IMAGES),
            accept_multiple_files=True,
            key=f"images {name}",
            help="One cell an image, stained and photographed as the training images were.",
        )
        for place, file in enumerate(given or [], start=1):
            files[file.name if file.name not in files else f"{file.name} ({place})"] = file.getvalue()
    else:
        files = _examples(name)
    if files:
        st.image(
            [_shown(content) for content in list(files.values())[:4]],
            width=110,
            caption=[_short(each) for each in list(files)[:4]],
            alt=[f"Image {each}" for each in list(files)[:4]],
        )
        if len(files) > 4:
            st.caption(f"and {len(files) - 4} more")
    if not files:
        return None, "Choose or bring an image first."
    if len(files) > MOST_IMAGES:
        return None, f"{counted(len(files), 'image')}: bring at most {MOST_IMAGES} at a time."
    return (lambda _: of_images(files)), ""


def _examples(name: str) -> dict[str, bytes]:
    found = collection.example_images(frame.DATA / name)
    if not found:
        frame.advice(f"There are no images in data/{name}.", "dvc pull data.dvc")
        return {}
    chosen = st.multiselect(
        "Images",
        list(found),
        default=next(iter(found)),
        key=f"examples {name}",
        help="The first images of each class of the data; the model may have been trained on them.",
    )
    return {each: Path(found[each]).read_bytes() for each in chosen}


def _results(asked: Asked, name: str, task: ImageTask) -> None:
    table = classes(asked.answers, asked.question.names)
    version = version_of(asked.answers)
    trust.panel(name, task.family, table, what="images", version=version, declared=coverage_of(asked.answers))
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
        image.image(_shown(content), caption="The image", width="stretch", alt=f"The image {chosen}")
        if explained is None:
            return
        shown = _overlay(explained)
        if shown is None:
            map_.info("This model looks at no place that it could show.", icon=":material/info:")
        else:
            map_.image(
                shown,
                caption="Where the network looked (Grad-CAM)",
                width="stretch",
                alt=f"Grad-CAM of {chosen}: where the network saw {named(str(answer['label'])).lower()}",
            )

    asking.explained(asked, row, pictures, "Asking where it looked")
    st.caption(means("grad_cam"))
    shares(answer, f"the image {chosen}")


def shares(answer: Row, what: str) -> None:
    """Draw the probability of each class."""
    from serving.board import charts  # Altair is not needed until there is something to draw

    found = probabilities(answer)
    shown = found.assign(label=[named(str(label)) for label in found["label"]])
    pairs = zip(shown["label"].head(3), shown["probability"].head(3), strict=True)
    said = ", ".join(f"{label} {share(float(value))}" for label, value in pairs)
    frame.chart(charts.probabilities(shown), alt=f"Probabilities of the classes of {what}: {said}.")


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


@st.cache_data(show_spinner=False, max_entries=128)
def _shown(content: bytes) -> bytes:
    """Return an image as a small PNG, which every browser shows; a gray square where it cannot be read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                image.thumbnail((_PREVIEW, _PREVIEW))
                small = image.convert("RGB")
    except Exception:  # Pillow raises many types for a broken file, and the endpoint is going to say what is wrong
        small = Image.new("RGB", (96, 96), (200, 206, 214))
    made = io.BytesIO()
    small.save(made, format="PNG")
    return made.getvalue()


def _short(name: str) -> str:
    return name if len(name) <= 18 else f"{name[:8]}…{name[-8:]}"
