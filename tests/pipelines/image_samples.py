"""Tiny textured images in memory and as files, for tests that plant faults in them."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from scipy.ndimage import gaussian_filter

from pipelines.samples.images import ImageSamples

SIDE = 48


def cell(seed: int, side: int = SIDE) -> np.ndarray:
    """Return an image that is like no other: blotches on a background of noise; uint8, shape ``(side, side, 3)``."""
    rng = np.random.default_rng(seed)
    blotches = gaussian_filter(rng.normal(size=(side, side, 3)), (side / 30, side / 30, 0))
    return np.clip(128 + 35 * blotches / blotches.std() + rng.normal(0, 2, blotches.shape), 0, 255).astype(np.uint8)


def on_black(seed: int, side: int = 168) -> np.ndarray:
    """Return a round cell cut out onto a black frame, much like the others by shape."""
    rng = np.random.default_rng(seed)
    row, column = np.mgrid[:side, :side] - side / 2
    inside = np.hypot(row * rng.uniform(0.95, 1.05), column) < side / 3
    spots = gaussian_filter(rng.normal(size=(side, side)), side / 30)
    color = np.array([90, 40, 110]) * (1 + 0.25 * (spots / spots.std())[..., None])
    return np.clip(np.where(inside[..., None], color, 0), 0, 255).astype(np.uint8)


def compressed(pixels: np.ndarray, quality: int) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def resized(pixels: np.ndarray, share: float) -> np.ndarray:
    """Return pixels made smaller by ``share`` and as large as before again."""
    image = Image.fromarray(pixels)
    small = image.resize((round(image.width * share), round(image.height * share)), Image.Resampling.BICUBIC)
    return np.asarray(small.resize(image.size, Image.Resampling.BICUBIC))


def brighter(pixels: np.ndarray, factor: float) -> np.ndarray:
    return np.clip(pixels * factor, 0, 255).astype(np.uint8)


def samples_of(
    images: Sequence[np.ndarray],
    *,
    labels: Sequence[str] | None = None,
    subjects: Sequence[str | None] | None = None,
    names: Sequence[str] | None = None,
    digests: Sequence[str] | None = None,
) -> ImageSamples:
    """Return samples of images in memory; every file has bytes of its own unless ``digests`` says otherwise."""
    labels = ["a"] * len(images) if labels is None else labels
    classes = tuple(sorted(set(labels)))
    table = pd.DataFrame(
        {
            "sample_id": names or [f"{label}/{number:04d}.png" for number, label in enumerate(labels)],
            "label": labels,
            "subject_id": pd.Series(np.array(subjects or [None] * len(images), dtype=object)),
            "digest": digests or [f"digest {number}" for number in range(len(images))],
        }
    )
    table["target"] = table["label"].map({name: code for code, name in enumerate(classes)})
    return ImageSamples(table, np.stack(images), np.arange(len(images)), classes)


Saver = Callable[[Image.Image, Path, str], None]


def saved_as_jpeg(image: Image.Image, path: Path, label: str) -> None:
    image.save(path, "JPEG", quality=90)


def write_files(samples: ImageSamples, folder: Path, save: Saver = saved_as_jpeg) -> Path:
    """Write the images below ``folder``/images by ``save(image, path, label)`` and return ``folder``."""
    for position, name, label in zip(samples.index, samples.table["sample_id"], samples.table["label"], strict=True):
        path = folder / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        save(Image.fromarray(samples.pixels[position]), path, label)
    return folder
