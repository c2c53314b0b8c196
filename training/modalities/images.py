"""Requests of images: base64 of image files."""

import base64
import binascii
import hashlib
import io
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from mlflow.types import ColSpec, DataType
from PIL import Image
from scipy import ndimage

from pipelines.datasets import Prepared
from pipelines.environment import IMAGE_PIXELS
from pipelines.modalities.images import ImagesTask
from pipelines.params import Task, read_task
from pipelines.samples.cell_masks import CYTOPLASM, NUCLEUS, OUTSIDE, cell_masks
from pipelines.samples.images import ImageSamples, decoding, to_pixels
from pipelines.samples.raw_files import FORMATS
from training.contract import UNLIKE, Columns, Contract, PayloadError, Remarks, check_form, kind_of, summary_view
from training.estimator import Estimator
from training.features.stain import MOMENTS, stains
from training.features.summaries import IMAGE_COLUMNS, image_numbers
from training.model.novelty import View

MAX_ROWS = 256
MAX_BYTES = 20_000_000  # of one image file
_TOGETHER = 4  # images of that size that one request may hold in all
_SIDES = {  # what a note calls the views
    "image": "light, focus or texture",
    "stain": "stain of the cell",
    "background": "background",
    "embedding": "what the model sees of the cell",
}
NO_CELL = "no cell found: the whole image was used"
_OPACITY = 0.55  # of a heat map where it is 1


@dataclass(frozen=True, kw_only=True)
class Images(Contract):
    """What a model of images takes; the task says how files become pixels."""

    # PNG files in base64: under Grad-CAM, with the outlines of cell and nucleus, and as a model that isolates sees it.
    explained = tuple(ColSpec(DataType.string, name=name, required=False) for name in ("overlay", "outline", "seen"))

    isolates: bool = False  # whether the model sees the cell alone

    @classmethod
    def taken(cls, architecture: str, task: Task, prepared: Prepared, estimator: Estimator) -> dict[str, Any]:
        """Return whether the estimator isolates the cell."""
        one = prepared.samples.take(np.array([0])).alone()
        return {"isolates": estimator.seen(one) is not one}

    def read(self, frame: pd.DataFrame) -> ImageSamples:
        """Check a request, an image file in one of `FORMATS` a row, and return its samples."""
        check_form(frame, ["image"], ["image"], MAX_ROWS)
        task: Any = read_task(self.task_text)
        contents = [_content(value, row) for row, value in enumerate(frame["image"].tolist())]
        most = min(task.validate.largest_pixels, int(os.environ.get(IMAGE_PIXELS) or task.validate.largest_pixels))
        left = _TOGETHER * most
        decoded = []
        for row, content in enumerate(contents):
            pixels, count = _pixels(content, f"row {row}, field image", task, most=most, left=left)
            decoded.append(pixels)
            left -= count
        table = pd.DataFrame(
            {
                "sample_id": [f"row:{row}" for row in range(len(contents))],
                "subject_id": pd.Series([None] * len(contents), dtype=object),
                "digest": [hashlib.sha256(content).hexdigest() for content in contents],
            }
        )
        rows, classes = np.arange(len(table)), tuple(task.data.classes)
        return ImageSamples(table, np.stack(decoded), rows, classes, decoding(task.data))

    def join(self, parts: Sequence[ImageSamples]) -> ImageSamples:
        """Return the samples of several requests as those of one."""
        pixels = np.concatenate([part.pixels[part.index] for part in parts])
        table = pd.concat([part.table for part in parts], ignore_index=True)
        return replace(parts[0], table=table, pixels=pixels, index=np.arange(len(table)))

    def request(self, samples: ImageSamples) -> pd.DataFrame:
        """Return the request that asks for ``samples``."""
        size, crop = samples.pixels.shape[1], read_task(self.task_text).data.crop
        return pd.DataFrame({"image": [as_png(_uncropped(samples.pixels[row], size, crop)) for row in samples.index]})

    def inputs(self) -> list[ColSpec]:
        """Return the column ``image``: base64 of a file."""
        return [ColSpec(DataType.string, name="image")]

    def remarks(self, samples: ImageSamples) -> Remarks:
        """Return a note for each image in which a model that isolates the cell found none."""
        made = Remarks(len(samples))
        if self.isolates:
            made.add([NO_CELL if (mask == OUTSIDE).all() else None for mask in cell_masks(samples)])
        return made

    def describe(self, samples: ImageSamples) -> Columns:
        """See `image_numbers`."""
        table = np.array([image_numbers(samples.pixels[row]) for row in samples.index])
        return dict(zip(IMAGE_COLUMNS, table.reshape(-1, len(IMAGE_COLUMNS)).T, strict=True))

    def views(self, samples: ImageSamples, described: Columns | None = None) -> dict[str, View]:
        """Return the summary, and the stain of cell and background."""
        known = self.describe(samples) if described is None else described
        summary = summary_view(known, IMAGE_COLUMNS, "neighbors")
        moments = stains(samples)
        parts = {"stain": moments[:, :-MOMENTS], "background": moments[:, -MOMENTS:]}
        return {"image": summary} | {name: View(summary.kind, part, summary.index) for name, part in parts.items()}

    def unlike(self, views: Sequence[str]) -> str:
        """See `Contract.unlike`; the note names what is unlike."""
        return f"{', '.join(_SIDES[name] for name in views)} {UNLIKE}"

    def identities(self, samples: ImageSamples) -> list[bytes]:
        """Return the hash of each file."""
        return [digest.encode() for digest in samples.digests]

    def explain(self, estimator: Estimator, samples: ImageSamples) -> Columns:
        """Return where the predicted class was seen, in each image as the model sees it, and what it sees."""
        seen, columns = estimator.seen(samples), dict[str, list[np.ndarray]]()
        if seen is not samples:
            masks = cell_masks(samples)
            columns["outline"] = [
                outlined(samples.pixels[row], mask) for row, mask in zip(samples.index, masks, strict=True)
            ]
            columns["seen"] = list(seen.pixels[seen.index])
        if (maps := estimator.heatmaps(seen)) is not None:
            columns["overlay"] = [overlay(seen.pixels[row], each) for row, each in zip(seen.index, maps, strict=True)]
        return {name: pd.Series([as_png(image) for image in images]) for name, images in columns.items()}


def outlined(pixels: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return the image with the outlines of the cell (green) and of its nucleus (yellow) of `cell_masks`."""
    shown = pixels.copy()
    for part, color in ((CYTOPLASM, (0, 200, 80)), (NUCLEUS, (255, 220, 0))):
        inside = mask >= part
        shown[inside & ~ndimage.binary_erosion(inside, iterations=1 + len(pixels) // 200)] = color
    return shown


def overlay(pixels: np.ndarray, heatmap: np.ndarray) -> np.ndarray:
    """Return the image, uint8 ``(size, size, 3)``, under a map in 0..1 ``(size, size)`` in color."""
    import matplotlib  # here, since few who load an endpoint ask it to explain

    color = matplotlib.colormaps["inferno"](heatmap)[..., :3] * 255
    share = (_OPACITY * heatmap)[..., None]
    return (pixels * (1 - share) + color * share).clip(0, 255).astype(np.uint8)


def as_png(pixels: np.ndarray) -> str:
    """Return an image as base64 of a PNG file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return base64.b64encode(file.getvalue()).decode("ascii")


def _content(value: Any, row: int) -> bytes:
    if not isinstance(value, str) or not value.strip():
        kind = "empty" if isinstance(value, str) else kind_of(value)
        raise PayloadError(f"row {row}, field image: must be base64 text of an image file, it is {kind}")
    if len(value) * 3 / 4 > MAX_BYTES:
        raise PayloadError(f"row {row}, field image: larger than {MAX_BYTES // 1_000_000} MB; send a smaller file")
    text = value.split(",", 1)[1] if value.startswith("data:") and "," in value[:100] else value
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise PayloadError(f"row {row}, field image: not base64 ({error})") from error


def _pixels(content: bytes, where: str, task: ImagesTask, *, most: int, left: int) -> tuple[np.ndarray, int]:
    """Decode an image of at most ``most`` pixels, of a request that may hold ``left`` more; return their number too."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:  # reads the header alone
                if reason := _refusal(image, content, task, most=most, left=left):
                    raise PayloadError(f"{where}: {reason}")
                count = image.width * image.height
                return to_pixels(image, task.data), count
    except PayloadError:
        raise
    except Exception as error:  # Pillow raises many types for a broken file
        raise PayloadError(f"{where}: not an image that can be decoded ({str(error)[:120]})") from error


def _refusal(image: Image.Image, content: bytes, task: ImagesTask, *, most: int, left: int) -> str | None:
    width, height = image.size
    if width * height > most:
        return f"{width} x {height} pixels are more than {most}"
    if width * height > left:
        return f"with it the images have more than {_TOGETHER * most} pixels; send fewer"
    if min(width, height) < task.validate.smallest_side:
        return f"{width} x {height} pixels; each side needs at least {task.validate.smallest_side}"
    if (frames := getattr(image, "n_frames", 1)) > 1:
        return f"has {frames} frames; send one image"
    if image.mode not in ("RGB", "RGBA", "P", "L", "LA"):
        return f"its mode is {image.mode}; send 8-bit RGB"
    if (bits := _bits(content, image)) > 8:
        return f"has {bits} bits a channel; send 8-bit RGB"
    return None


def _bits(content: bytes, image: Image.Image) -> int:
    """Return the bits of a channel; Pillow opens 16-bit color as 8-bit RGB."""
    if image.format == "PNG":
        return content[24]  # after the signature, length and type of the header, width and height
    if image.format == "TIFF":
        return max(image.tag_v2.get(258, (1,)))  # type: ignore[attr-defined]  # BitsPerSample
    return 8


def _uncropped(pixels: np.ndarray, size: int, crop: float) -> np.ndarray:
    """Return an image whose central square, as `pipelines.samples.images.to_pixels` cuts it, is ``pixels``."""
    side = next(side for side in range(size, 100 * size) if round(side * crop) == size)
    frame = ((side - size) // 2, side - size - (side - size) // 2)
    return np.pad(pixels, (frame, frame, (0, 0)))


TAKEN = Images
