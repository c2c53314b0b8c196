"""How a smear is stained and lit: optical densities of nucleus, cytoplasm and background."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from scipy import ndimage

from pipelines.files import cores
from pipelines.samples.cell_masks import CYTOPLASM, NUCLEUS, OUTSIDE, per_image
from pipelines.samples.images import ImageSamples

MOMENTS = 6  # of a region
_SIDE = 56  # pixels: of so few, means and spreads are the same
_EDGE = 3  # pixels around the cell that are neither cell nor background
_LEAST = 20  # pixels of a region; of fewer nothing is known
_BLACK = 12  # of 255: darker pixels outside the cell are the frame of a cell that was cut out


def stains(samples: ImageSamples) -> np.ndarray:
    """Return `stain_numbers` of each image, float32, ``(n, 3 * MOMENTS)``; those of files are cached."""
    found, rows = per_image(samples, "stains", __name__, run=_all, shape=(3 * MOMENTS,), dtype=np.float32)
    return np.asarray(found[rows])


def _all(pixels: np.ndarray, masks: np.ndarray) -> np.ndarray:
    with ThreadPoolExecutor(cores()) as pool:
        return np.array(list(pool.map(stain_numbers, pixels, masks)), np.float32)


def stain_numbers(pixels: np.ndarray, mask: np.ndarray) -> list[float]:
    """Return means and spreads of the optical density of an RGB image's channels, uint8, ``(size, size, 3)``.

    `MOMENTS` numbers each of nucleus, cytoplasm and background, in this order; NaN where there are no such pixels.
    """
    step = max(1, pixels.shape[0] // _SIDE)
    small = np.ascontiguousarray(pixels[::step, ::step])
    mask = mask[::step, ::step]
    density = -np.log((small.astype(np.float32) + 1) / 256)
    outside = ~ndimage.binary_dilation(mask != OUTSIDE, iterations=_EDGE) & (small.max(axis=2) >= _BLACK)
    regions = (mask == NUCLEUS, mask == CYTOPLASM, outside)
    return [number for region in regions for number in _moments(density[region])]


def _moments(values: np.ndarray) -> list[float]:
    if len(values) < _LEAST:
        return [float("nan")] * MOMENTS
    return [*values.mean(axis=0).tolist(), *values.std(axis=0).tolist()]
