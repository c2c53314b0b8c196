"""Images of single cells: brought or chosen, sent as files, and shown beside their Grad-CAM."""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

import streamlit as st
from PIL import Image

from pipelines.samples.raw_files import FORMATS, is_of_system
from pipelines.text_values import clean
from serving.dashboard.data import collection
from serving.dashboard.data.endpoints import Endpoint
from serving.dashboard.data.loading import tables
from serving.dashboard.data.words import counted, means, named, plain
from serving.dashboard.pages import answers, choosing, frame
from serving.dashboard.pages.predict import Asked, Make
from serving.modalities import Modality
from serving.problems import Answer, get_problem

_ENDINGS = ("png", "jpg", "jpeg", "bmp", "tif", "tiff", "webp")
_MOST = 64
_PREVIEW = 512  # pixels
_NO_CELL = "no cell found"  # begins the note of `training.modalities.images.NO_CELL`


class Images(Modality):
    """Images, a file each."""

    rows_at_once = 8  # an image takes a moment
    leading = ("accuracy",)
    pictures = ("grad_cam.png",)

    def invitation(self, task: Any) -> str:
        """Return which classes there are."""
        return (
            "Drop images of single cells and press Predict. Each is classified as one of "
            f"{', '.join(named(label).lower() for label in task.data.classes)}, with what is not ruled out and where "
            "the network looked."
        )

    def question(self, name: str, task: Any, endpoint: Endpoint) -> tuple[Make | None, str]:
        """Let people drop images, or choose some of the data; the first are shown."""
        st.markdown("#### 1 · Images")
        if choosing.source(name, "Which images") == choosing.OWN:
            given = st.file_uploader(
                "Cell images (PNG, JPEG, TIFF, BMP or WebP)",
                type=list(_ENDINGS),
                accept_multiple_files=True,
                key=f"images {name}",
                help="One cell an image, stained and photographed as the training images were.",
            )
            files = named_images((file.name, file.getvalue()) for file in given or ())
        else:
            files = _examples(name)
        if not files:
            return None, "Choose or bring an image first."
        first = list(files)[:4]
        st.image(
            [shown(files[each]) for each in first],
            width=110,
            caption=[each if len(each) <= 18 else f"{each[:8]}…{each[-8:]}" for each in first],
            alt=[f"Image {each}" for each in first],
        )
        if len(files) > len(first):
            st.caption(f"and {len(files) - len(first)} more")
        if len(files) > _MOST:
            return None, f"{counted(len(files), 'image')}: bring at most {_MOST} at a time."
        return (lambda _: of_images(files)), ""

    def answers(self, asked: Asked, name: str, task: Any) -> None:
        """Draw one image's answer beside what the model sees of it and its Grad-CAM."""
        problem = get_problem(task.problem)
        row, table = answers.one_of(asked, name, task, "image")
        answer, chosen = asked.answers[row], asked.question.names[row]
        content, stem = base64.b64decode(asked.question.rows[row]["image"]), PurePath(chosen).stem
        word = problem.heading(answer)
        if (held := problem.held(answer)) is not None:
            st.markdown(plain(held[0]), help=means(held[1]))

        def pictures(explained: Answer) -> None:
            if explained.get("outline"):
                found = "No cell was found" if _NO_CELL in str(answer.get("note")) else "Outlines of cell and nucleus"
                captions = {"outline": found, "seen": "What the model sees"}
                for column, (picture, said) in zip(st.columns(2), captions.items(), strict=True):
                    file = base64.b64decode(explained[picture])
                    column.image(file, caption=said, width="stretch", alt=f"{said}: {chosen}")
                st.caption(means("isolation"))
            image, map_ = st.columns(2)
            image.image(shown(content), caption="The image", width="stretch", alt=f"The image {chosen}")
            with map_:
                if not explained.get("overlay"):
                    st.info("This model has no Grad-CAM.", icon=":material/info:")
                    return
                overlay, alt = base64.b64decode(explained["overlay"]), f"Grad-CAM of {chosen}: {word.lower()}"
                st.image(overlay, caption="Where the network looked (Grad-CAM)", width="stretch", alt=alt)
                frame.offer("Download the Grad-CAM", overlay, f"{stem}_grad_cam.png")

        answers.explained(asked, row, pictures, "Asking where it looked")
        st.caption(means("grad_cam"))
        problem.show(answer, table[table["sample"] == chosen], f"the image {chosen}", stem)


def named_images(files: Iterable[tuple[str, bytes]]) -> dict[str, bytes]:
    """Return images by their names without folders, and without the files that systems leave beside images."""
    found: dict[str, bytes] = {}
    for place, (given, content) in enumerate(files, start=1):
        name = PurePosixPath(clean(given).replace("\\", "/")).name
        if is_of_system(name):
            continue
        found[name if name not in found else f"{name} ({place})"] = content
    return found


def of_images(files: Mapping[str, bytes]) -> tables.Question:
    """Return the question about images, whose files are sent as they are."""
    rows = [{"image": base64.b64encode(content).decode("ascii"), "sample_id": name} for name, content in files.items()]
    return tables.asked_samples(rows, list(files))


@st.cache_data(show_spinner=False, max_entries=128)
def shown(content: bytes) -> bytes:
    """Return an image as a small PNG, which every browser shows; a gray square where it cannot be read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                image.thumbnail((_PREVIEW, _PREVIEW))
                small = image.convert("RGB")
    except Exception:  # Pillow raises many types for a broken file, and the endpoint says what is wrong
        small = Image.new("RGB", (96, 96), (200, 206, 214))
    made = io.BytesIO()
    small.save(made, format="PNG")
    return made.getvalue()


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


MODALITY = Images()
