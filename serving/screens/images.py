"""Predict: what a cell image shows. What is asked; answers are drawn in `image_answers`."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st
from PIL import Image

from pipelines.modalities.images import ImagesTask
from pipelines.samples.image_formats import FORMATS
from serving.board import collection
from serving.board.endpoints import Endpoint
from serving.board.loading import load
from serving.board.words import counted, named
from serving.screens import asking, choosing, frame
from serving.screens.asking import Asked, Make

if TYPE_CHECKING:  # pandas and charts are loaded with the first question, not with the first page
    from serving.board.questions import Question

_ANSWERS = "serving.screens.image_answers"
_ENDINGS = ("png", "jpg", "jpeg", "bmp", "tif", "tiff", "webp")
_MOST = 64
_AT_ONCE = 8  # images in a request: an image takes a moment
_PREVIEW = 512  # pixels


def draw(name: str, task: ImagesTask, endpoint: Endpoint) -> None:
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
            type=list(_ENDINGS),
            accept_multiple_files=True,
            key=f"images {name}",
            help="One cell an image, stained and photographed as the training images were.",
        )
        if given:
            files = load("serving.board.questions").named_images((file.name, file.getvalue()) for file in given)
    else:
        files = _examples(name)
    if files:
        st.image(
            [shown(content) for content in list(files.values())[:4]],
            width=110,
            caption=[_short(each) for each in list(files)[:4]],
            alt=[f"Image {each}" for each in list(files)[:4]],
        )
        if len(files) > 4:
            st.caption(f"and {len(files) - 4} more")
    if not files:
        return None, "Choose or bring an image first."
    if len(files) > _MOST:
        return None, f"{counted(len(files), 'image')}: bring at most {_MOST} at a time."
    return (lambda _: _of_files(files)), ""


def _of_files(files: dict[str, bytes]) -> Question:
    """Return the question about images; runs on a thread."""
    made: Question = load("serving.board.questions").of_images(files)
    load(_ANSWERS)  # here, on the thread, so that the page need not wait
    return made


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


@st.cache_data(show_spinner=False, max_entries=128)
def shown(content: bytes) -> bytes:
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


def _results(asked: Asked, name: str, task: ImagesTask) -> None:
    load(_ANSWERS).draw(asked, name, task)
