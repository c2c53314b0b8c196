"""Images with the cell alone: cut out, put on black, and brought to one size."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import numpy as np
from PIL import Image

from pipelines.files import cores
from pipelines.samples.cell_masks import NUCLEUS, OUTSIDE, per_image
from pipelines.samples.images import ImageSamples

ISOLATIONS = ("none", "cell", "cell_size", "nucleus_size")
_TAGS = tuple(f" {each}" for each in ISOLATIONS)
DARKEST = 8  # of the brightest channel of a cell; what is darker is the black frame, see `training.networks.augment`
_SHARES = {"cell_size": 0.9, "nucleus_size": 0.5}  # of the side of the image: of the cell, or the nucleus, when scaled
_LARGEST_SCALE = 4.0


def isolated(samples: ImageSamples, isolation: str) -> ImageSamples:
    """Return the samples with the cell alone; those of files are cached, and what is isolated already is returned.

    ``isolation`` is ``none``, ``cell`` (as large as it is), ``cell_size`` (the longer side of the cell fills nine
    tenths of the image) or ``nucleus_size`` (a disk of the nucleus' area fills half of it). An image without a cell
    stays whole.
    """
    if isolation == "none" or samples.made.endswith(_TAGS):
        return samples
    run, shape = partial(_cut_all, isolation=isolation), samples.pixels.shape[1:]
    pixels, rows = per_image(samples, f"isolated_{isolation}", __name__, run=run, shape=shape)
    return replace(samples, pixels=pixels, index=rows, made=f"{samples.made} {isolation}")


def _cut_all(pixels: np.ndarray, masks: np.ndarray, isolation: str) -> np.ndarray:
    with ThreadPoolExecutor(cores()) as pool:
        return np.stack(list(pool.map(partial(_cut, isolation=isolation), pixels, masks)))


def _cut(pixels: np.ndarray, mask: np.ndarray, isolation: str) -> np.ndarray:
    inside = mask != OUTSIDE
    if not inside.any():
        return pixels
    cell = np.where(inside[..., None], np.maximum(pixels, DARKEST), 0).astype(np.uint8)
    side = len(cell)
    sized = mask == NUCLEUS if isolation == "nucleus_size" else inside
    if isolation == "cell" or not sized.any():
        return cell
    rows, columns = np.nonzero(sized)
    extent = max(np.ptp(rows), np.ptp(columns)) + 1
    size = 2 * np.sqrt(sized.sum() / np.pi) if isolation == "nucleus_size" else extent
    half = side / 2 * max(size / (_SHARES[isolation] * side), 1 / _LARGEST_SCALE)
    middle = [(axis.min() + axis.max() + 1) / 2 for axis in (columns, rows)]
    pad = int(np.ceil(half))
    box = tuple(place + pad + sign * half for sign in (-1, 1) for place in middle)
    padded = Image.fromarray(np.pad(cell, ((pad, pad), (pad, pad), (0, 0))))
    return np.asarray(padded.resize((side, side), Image.Resampling.BILINEAR, box=box))
