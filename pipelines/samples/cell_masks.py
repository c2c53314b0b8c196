"""Segmentation of the cell in the middle of an image into nucleus and cytoplasm."""

import contextlib
import hashlib
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike
from PIL import Image
from scipy import ndimage
from skimage.filters import threshold_multiotsu
from tqdm import tqdm

from pipelines.code_closure import loaded_code
from pipelines.files import cores, written_whole
from pipelines.samples.images import CACHE, ImageSamples

Run = Callable[..., np.ndarray]

OUTSIDE, CYTOPLASM, NUCLEUS = 0, 1, 2
_SIDE = 112  # pixels; images of any size are segmented at this one
_BLACK = 12  # of 255: darker pixels are the frame of a cell that was cut out
_FRAMED = 0.5  # share of black pixels on the border from which on the cell was cut out
_DARKER = 0.4  # optical density; a nucleus that is darker than the rest of a cut out cell by less fills it
_STAINED = 0.08  # of the optical density of the nucleus; what absorbs less is background
# Of the optical density of blue to that of green: red cells have 0.55 to 0.7, the cytoplasm of leukocytes 0.2 to 0.4.
_HEMOGLOBIN = 0.5
_REDDEST = 0.52  # of that ratio; nuclei have 0.35 and less
_PALEST = 0.25  # optical density; nuclei have 0.9 and more, in brightened images 0.5
_RED_SHARE = 0.88  # of the ratio of the red cells that are seen elsewhere in the image
_RED_SEEN = 0.01  # share of the image; fewer stained pixels tell nothing of red cells
# In radii of the nucleus beyond its edge: where red cells are looked at, and how far the cytoplasm reaches at most.
_AROUND, _REACH = 1.5, 2.0
# A further lobe lies within so many radii of another, has this share of the area of the first and of its density.
_GAP, _LEAST, _DENSE = 0.6, 0.08, 0.7
_NECK = 0.55  # of the largest disk within the cell; what narrower parts join to it is another's
_LARGEST = 0.9  # share of the image; a larger mask is no cell
_BLOCK = 64  # images at a time
_MASKS = "masks"  # what all else is made of
_SHOWN = 1000  # images from which on there is a progress bar


def cell_masks(samples: ImageSamples) -> np.ndarray:
    """Return `segment` of each image, uint8 ``(n, size, size)``; those of files are cached."""
    found, rows = per_image(samples, _MASKS, __name__, run=_segmented, shape=samples.pixels.shape[1:3])
    return np.asarray(found[rows])


def _segmented(pixels: np.ndarray) -> np.ndarray:
    with ThreadPoolExecutor(cores()) as pool:
        return np.stack(list(pool.map(segment, pixels)))


def per_image(
    samples: ImageSamples, name: str, module: str, *, run: Run, shape: tuple[int, ...], dtype: DTypeLike = np.uint8
) -> tuple[np.ndarray, np.ndarray]:
    """Return what ``run`` makes of images and their masks, ``(rows, *shape)``, and each sample's row.

    It is made once: for all images of a file, which are cached on the disk, or for these samples. ``module`` is the
    dotted name of the code of ``run``, a part of the key, see `pipelines.code_closure`.
    """
    every, masks = samples.pixels, None
    if name != _MASKS:
        masks, _ = per_image(samples, _MASKS, __name__, run=_segmented, shape=every.shape[1:3])

    def block(start: int, rows: slice | np.ndarray) -> np.ndarray:
        return run(every[rows]) if masks is None else run(every[rows], masks[start : start + _BLOCK])

    if not isinstance(every, np.memmap):  # of requests, and changed ones
        if name not in samples.found:
            parts = [block(at, samples.index[at : at + _BLOCK]) for at in range(0, len(samples), _BLOCK)]
            samples.found[name] = np.concatenate([np.zeros((0, *shape), dtype), *parts])
        return samples.found[name], np.arange(len(samples))
    decided = json.dumps([Path(str(every.filename)).name, name, loaded_code(module)])
    path = CACHE / name / f"{hashlib.sha256(decided.encode()).hexdigest()[:32]}.npy"
    with contextlib.suppress(OSError, ValueError, EOFError):  # the file is missing, or an incomplete copy
        return np.load(path, mmap_mode="r"), samples.index
    with written_whole(path) as temporary:
        into = np.lib.format.open_memmap(temporary, mode="w+", dtype=dtype, shape=(len(every), *shape))
        for start in tqdm(range(0, len(every), _BLOCK), desc=name, leave=False, disable=len(every) < _SHOWN):
            into[start : start + _BLOCK] = block(start, slice(start, start + _BLOCK))
        into.flush()
    return np.load(path, mmap_mode="r"), samples.index


def segment(pixels: np.ndarray) -> np.ndarray:
    """Return `OUTSIDE`, `CYTOPLASM` or `NUCLEUS` for each pixel of an RGB image, uint8 ``(size, size)``.

    The nucleus is the darkest of three classes of green (Otsu, 1979; Liao et al., 2001) nearest to the center, with its
    lobes. The cytoplasm around it is what absorbs green and, relative to that, less blue than hemoglobin does; what
    only a neck joins to it is another cell. On a black frame the cell is what is not black. `OUTSIDE` alone where there
    is no cell.
    """
    small = np.asarray(Image.fromarray(pixels).resize((_SIDE, _SIDE), Image.Resampling.BILINEAR))
    framed = is_framed(small)
    cell, nucleus = _cut_out(small) if framed else _on_slide(small)
    if not cell.any() or (not framed and cell.mean() > _LARGEST):
        return np.zeros(pixels.shape[:2], np.uint8)
    cell, nucleus = (_resized(mask, len(pixels)) for mask in (cell, nucleus))
    if framed:
        cell = ndimage.binary_fill_holes(cell & (pixels.max(axis=2) >= _BLACK))
    return cell.astype(np.uint8) + (cell & nucleus)


def is_framed(pixels: np.ndarray) -> bool:
    """Return whether an image is of a cell that was cut out on black."""
    ring = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    return bool((ring.max(axis=1) < _BLACK).mean() > _FRAMED)


def _resized(mask: np.ndarray, side: int) -> np.ndarray:
    resized = Image.fromarray(mask.astype(np.uint8) * 255).resize((side, side), Image.Resampling.BILINEAR)
    return np.asarray(resized) > 127


def _cut_out(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the masks of cell and nucleus of a cell on black, without the remains of others that adhere to it."""
    inside = pixels.max(axis=2) >= _BLACK
    if not inside.any():
        return inside, inside
    depth = ndimage.distance_transform_edt(inside)
    cell = _without_necks(inside, _central(depth > depth.max() / 2))
    weight = ndimage.gaussian_filter(cell.astype(np.float32), 1)
    density = _density(ndimage.gaussian_filter(pixels[..., 1] * cell, 1, output=np.float32) / np.maximum(weight, 1e-3))
    levels = density[ndimage.binary_erosion(cell)]
    if len(np.unique(levels)) < 3:
        return cell, cell
    low, _ = threshold_multiotsu(levels, classes=3)
    if levels[levels > low].mean() - levels[levels <= low].mean() < _DARKER:
        return cell, cell
    return cell, _with_lobes(cell & (density > low), density)


def _on_slide(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the masks of cell and nucleus of a cell among others."""
    nothing = np.zeros(pixels.shape[:2], dtype=bool)
    light = np.median(pixels[pixels[..., 1] >= np.quantile(pixels[..., 1], 0.8)], axis=0)  # of the background
    smooth = [ndimage.gaussian_filter(pixels[..., each], 1, output=np.float32) for each in (1, 2)]
    of_green, of_blue = (_density(*each) for each in zip(smooth, light[1:], strict=True))
    if len(np.unique(of_green)) < 3:
        return nothing, nothing
    dark = smooth[0] <= threshold_multiotsu(smooth[0], classes=3)[0]
    dark &= of_green >= 0.3 * np.quantile(of_green[dark], 0.9)
    nucleus = _with_lobes(dark, of_green)
    if not nucleus.any() or of_green[nucleus].mean() < _PALEST:
        return nothing, nothing
    if of_blue[nucleus].mean() > _REDDEST * of_green[nucleus].mean():  # a red cell, or a gray image
        return nothing, nothing
    away = ndimage.distance_transform_edt(~nucleus) / _radius(nucleus)
    stained = of_green > min(0.1, _STAINED * of_green[nucleus].mean())
    ratio = ndimage.gaussian_filter(of_blue, 1) / np.maximum(ndimage.gaussian_filter(of_green, 1), 1e-3)
    limit, least = _HEMOGLOBIN, 0.8 * _HEMOGLOBIN
    elsewhere = stained & (away > _AROUND) & (ratio > least)
    if elsewhere.mean() > _RED_SEEN:
        limit = float(np.clip(_RED_SHARE * np.median(ratio[elsewhere]), least, 1.3 * limit))
    found = nucleus | (stained & (away <= _REACH) & (ratio < limit) & ~dark)
    found = ndimage.binary_fill_holes(ndimage.binary_closing(found)) & ~(dark & ~nucleus)
    cell = ndimage.binary_erosion(_without_necks(found, nucleus), border_value=1)  # smoothing has widened it
    return _touching(cell | nucleus, nucleus), nucleus


def _density(channel: np.ndarray, light: float = 255.0) -> np.ndarray:
    """Return the optical density."""
    return -np.log((channel + 1) / (light + 1))


def _radius(mask: np.ndarray) -> float:
    """Return the radius of a disk of the area of a mask."""
    return float(np.sqrt(mask.sum() / np.pi))


def frame(pixels: np.ndarray) -> np.ndarray:
    """Return where an image is the black frame of a cell that was cut out, bool ``(size, size)``."""
    black = np.asarray(pixels.max(axis=2) < _BLACK)
    return black if is_framed(pixels) else np.zeros_like(black)


def _central(mask: np.ndarray) -> np.ndarray:
    """Return the largest part of a mask, parts far from the center of the image being discounted."""
    labels, count = ndimage.label(mask)
    if not count:
        return mask
    parts = np.arange(1, count + 1)
    middle = (np.array(mask.shape) - 1) / 2
    far = np.hypot(*(np.array(ndimage.center_of_mass(mask, labels, parts)) - middle).T) / mask.shape[0]
    areas = ndimage.sum_labels(mask, labels, parts)
    return np.asarray(labels == parts[(areas * np.exp(-((far / 0.2) ** 2))).argmax()])


def _with_lobes(mask: np.ndarray, density: np.ndarray) -> np.ndarray:
    """Return the central part of a mask with the parts near it that are not much smaller, nor lighter."""
    first = _central(mask)
    if not first.any():
        return first
    labels, count = ndimage.label(mask)
    parts = np.arange(1, count + 1)
    kept = ndimage.sum_labels(mask, labels, parts) >= _LEAST * first.sum()
    kept &= ndimage.mean(density, labels, parts) >= _DENSE * density[first].mean()
    lobes = np.isin(labels, parts[kept]) | first
    joined, _ = ndimage.label(ndimage.distance_transform_edt(~lobes) <= _GAP / 2 * _radius(first))
    return np.asarray(ndimage.binary_fill_holes(lobes & (joined == joined[first].max())))


def _without_necks(mask: np.ndarray, seed: np.ndarray) -> np.ndarray:
    """Return the part of a mask around ``seed``, without what narrower necks join to it, and without holes."""
    depth = ndimage.distance_transform_edt(mask)
    half_width = _NECK * depth[seed].max()
    core = _touching(depth > half_width, seed)
    wide = mask & (ndimage.distance_transform_edt(~core) <= half_width + 0.5)
    return _touching(ndimage.binary_fill_holes(wide | seed), seed)


def _touching(mask: np.ndarray, seed: np.ndarray) -> np.ndarray:
    """Return the parts of a mask that hold a pixel of ``seed``."""
    labels, _ = ndimage.label(mask)
    return np.isin(labels, np.unique(labels[seed & mask]))
