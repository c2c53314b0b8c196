"""Images for tests: a tiny valid raw folder, the same bytes every time, and textured ones in memory and as files."""

import io
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from scipy.ndimage import gaussian_filter

from pipelines.samples.images import ImageSamples

CLASSES = ("all", "hem")
SUBJECTS = 6  # of each class, with two images each
SIDE = 24


def picture(*seed: int) -> Image.Image:
    """Return an RGB image of noise that no other seed gives."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8))


def png(width: int, height: int, data: bytes = b"", depth: int = 8, color: int = 2) -> bytes:
    """Return a PNG file that says that it is of this size; ``data`` is compressed. Pillow writes no 16-bit color."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([depth, color, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def write_image_folder(folder: Path) -> Path:
    """Write 12 images of 6 subjects for each class, and ``images.csv``; return ``folder``."""
    rows = []
    for code, label in enumerate(CLASSES):
        (folder / "images" / label).mkdir(parents=True)
        for number in range(2 * SUBJECTS):
            file = f"{label}/cell_{number:02d}.png"
            picture(code, number).save(folder / "images" / file)
            rows.append((file, label, f"{label}-{number // 2}"))
    pd.DataFrame(rows, columns=["file", "label", "subject_id"]).to_csv(folder / "images.csv", index=False)
    return folder


def cell(seed: int, side: int = 48) -> np.ndarray:
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


Seq = Sequence[Any] | None


def samples_of(
    images: Sequence[np.ndarray], labels: Seq = None, *, subjects: Seq = None, names: Seq = None, digests: Seq = None
) -> ImageSamples:
    """Return samples of images in memory; every file has bytes of its own unless ``digests`` says otherwise."""
    labels = ["a"] * len(images) if labels is None else labels
    classes = tuple(sorted(set(labels)))
    names = names or [f"{label}/{number:04d}.png" for number, label in enumerate(labels)]
    whose = pd.Series(np.array(subjects or [None] * len(images), dtype=object))
    digests = digests or [f"digest {number}" for number in range(len(images))]
    table = pd.DataFrame({"sample_id": names, "label": labels, "subject_id": whose, "digest": digests})
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
