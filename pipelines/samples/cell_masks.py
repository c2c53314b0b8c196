"""Segmentation of the cell in the middle of an image into nucleus and cytoplasm."""

import hashlib
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from scipy import ndimage
from skimage.filters import threshold_multiotsu
from tqdm import tqdm

from pipelines.code_closure import closure
from pipelines.files import cores, written_whole
from pipelines.samples.images import CACHE, ImageSamples

Run = Callable[[np.ndarray], np.ndarray]

OUTSIDE, CYTOPLASM, NUCLEUS = 0, 1, 2
_BLACK = 12  # of 255: darker pixels are the frame of a cell that was cut out
_FRAMED = 0.5  # share of black pixels on the border from which on the cell was cut out
_STAINED = 0.1  # optical density of green; what absorbs less is background
# Of the optical density of blue to that of green: red cells have 0.55 to 0.7, the cytoplasm of leukocytes 0.2 to 0.4.
_HEMOGLOBIN = 0.5
_RED_SHARE = 0.85  # of the ratio of the red cells that are seen elsewhere in the image
_RED_SEEN = 0.01  # share of the image; fewer stained pixels tell nothing of red cells
_REACH = 1.5  # of the cytoplasm, in radii of the nucleus beyond its edge
_LOBES = (0.6, 0.08)  # a further lobe lies within so many radii of the first, and has this share of its area
_LARGEST = 0.9  # share of the image; a larger mask is no cell
_BLOCK = 64  # images at a time
_SHOWN = 1000  # images from which on there is a progress bar


def cell_masks(samples: ImageSamples) -> np.ndarray:
    """Return `segment` of each image, uint8 ``(n, size, size)``; those of files are cached."""
    found, rows = per_image(samples, "masks", __name__, run=_segmented, shape=samples.pixels.shape[1:3])
    return np.asarray(found[rows])


def _segmented(pixels: np.ndarray) -> np.ndarray:
    with ThreadPoolExecutor(cores()) as pool:
        return np.stack(list(pool.map(segment, pixels)))


def per_image(
    samples: ImageSamples, name: str, module: str, *, run: Run, shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Return what ``run`` makes of images, uint8 ``(rows, *shape)``, once for all of a file, and each sample's row.

    ``module`` is the dotted name of the code of ``run``, a part of the key, see `pipelines.code_closure`.
    """
    every = samples.pixels
    if not isinstance(every, np.memmap):  # of requests, and changed ones
        parts = [run(every[samples.index[at : at + _BLOCK]]) for at in range(0, len(samples), _BLOCK)]
        return np.concatenate([np.zeros((0, *shape), np.uint8), *parts]), np.arange(len(samples))
    decided = json.dumps([Path(str(every.filename)).name, name, closure(module)])
    path = CACHE / name / f"{hashlib.sha256(decided.encode()).hexdigest()[:32]}.npy"
    if not path.is_file():
        with written_whole(path) as temporary:
            into = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=(len(every), *shape))
            for start in tqdm(range(0, len(every), _BLOCK), desc=name, leave=False, disable=len(every) < _SHOWN):
                into[start : start + _BLOCK] = run(every[start : start + _BLOCK])
            into.flush()
    return np.load(path, mmap_mode="r"), samples.index


def segment(pixels: np.ndarray) -> np.ndarray:
    """Return `OUTSIDE`, `CYTOPLASM` or `NUCLEUS` for each pixel of an RGB image, uint8 ``(size, size)``.

    The nucleus is the darkest of three classes of green (Otsu, 1979; Liao et al., 2001) nearest to the center, with its
    lobes. The cytoplasm around it is what absorbs green and, relative to that, less blue than hemoglobin does: red
    cells that touch the cell stay outside. On a black frame the cell is what is not black. `OUTSIDE` alone where there
    is no cell.
    """
    size = pixels.shape[0]
    scale = max(1, size // 112)
    black = pixels.max(axis=2) < _BLACK
    framed = np.concatenate([black[0], black[-1], black[:, 0], black[:, -1]]).mean() > _FRAMED
    inside = None
    if framed:
        inside = ndimage.binary_fill_holes(_central(ndimage.binary_opening(~black, iterations=2 * scale)))
    green = pixels[..., 1]
    levels = np.unique(green if inside is None else green[inside])
    if len(levels) < (2 if inside is None else 1):
        return np.zeros((size, size), np.uint8)
    limit = levels[0]
    if len(levels) > 1:
        limit = threshold_multiotsu(green if inside is None else green[inside], classes=min(3, len(levels)))[0]
    nucleus = ndimage.binary_opening(green <= limit, iterations=scale)
    if inside is not None:
        nucleus = ndimage.binary_fill_holes(_central(nucleus & inside))
        return np.where(inside, np.where(nucleus, NUCLEUS, CYTOPLASM), OUTSIDE).astype(np.uint8)
    nucleus = _with_lobes(nucleus)
    if not nucleus.any():
        return np.zeros((size, size), np.uint8)
    cell = _with_cytoplasm(pixels, nucleus, scale)
    if cell.mean() > _LARGEST:
        return np.zeros((size, size), np.uint8)
    return (cell.astype(np.uint8) * CYTOPLASM) + (cell & nucleus) * np.uint8(NUCLEUS - CYTOPLASM)


def _central(mask: np.ndarray) -> np.ndarray:
    """Return the largest part of a mask, parts far from the center of the image being discounted."""
    labels, count = ndimage.label(mask)
    if not count:
        return mask
    parts = np.arange(1, count + 1)
    middle = (np.array(mask.shape) - 1) / 2
    far = np.hypot(*(np.array(ndimage.center_of_mass(mask, labels, parts)) - middle).T) / mask.shape[0]
    return np.asarray(
        labels == 1 + int((ndimage.sum_labels(mask, labels, parts) * np.exp(-((far / 0.2) ** 2))).argmax())
    )


def _with_lobes(mask: np.ndarray) -> np.ndarray:
    """Return the central part of a mask with the parts near it that are not much smaller."""
    first = _central(mask)
    area = first.sum()
    if not area:
        return first
    labels, count = ndimage.label(mask)
    parts = np.arange(1, count + 1)
    away = ndimage.minimum(ndimage.distance_transform_edt(~first), labels, parts)
    near, least = _LOBES
    kept = (away <= near * np.sqrt(area / np.pi)) & (ndimage.sum_labels(mask, labels, parts) >= least * area)
    return np.asarray(ndimage.binary_fill_holes(np.isin(labels, parts[kept])))


def _with_cytoplasm(pixels: np.ndarray, nucleus: np.ndarray, scale: int) -> np.ndarray:
    """Return a nucleus with what is stained around it, reaches it, and is no red cell."""
    green = pixels[..., 1]
    light = np.median(pixels[green >= np.quantile(green, 0.8)], axis=0) + 1  # of the background
    density = -np.log((pixels[..., 1:] + 1.0) / light[1:])
    of_green, of_blue = (ndimage.uniform_filter(density[..., channel], 2 * scale + 1) for channel in (0, 1))
    near = ndimage.distance_transform_edt(~nucleus) <= _REACH * np.sqrt(nucleus.sum() / np.pi)
    stained = of_green > _STAINED
    elsewhere, limit = stained & ~near, _HEMOGLOBIN
    if elsewhere.mean() > _RED_SEEN:
        limit = float(
            np.clip(_RED_SHARE * np.median(of_blue[elsewhere] / of_green[elsewhere]), 0.8 * limit, 1.3 * limit)
        )
    found = (
        ndimage.binary_opening(stained & (of_blue < limit * of_green) & near | nucleus, iterations=2 * scale) | nucleus
    )
    labels, _ = ndimage.label(found)
    cell = ndimage.binary_fill_holes(np.isin(labels, np.unique(labels[nucleus])))
    return np.asarray(ndimage.binary_erosion(cell, iterations=scale) | nucleus)  # smoothing has widened it
