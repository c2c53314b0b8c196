"""Descriptors of a cell's image that a haematologist could name: color, texture, size and shape."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from skimage.color import rgb2hed
from skimage.feature import graycomatrix, graycoprops, local_binary_pattern
from skimage.measure import label, regionprops

from pipelines.samples.cell_masks import OUTSIDE, segment
from pipelines.samples.images import ImageSamples
from training.device import threads
from training.feature_cache import FeatureCache

_LEVELS = 32  # gray levels of the co-occurrence matrix
_SHAPE = ("area", "eccentricity", "solidity", "extent", "perimeter")
_TEXTURE = ("contrast", "homogeneity", "energy", "correlation")


def descriptors(samples: ImageSamples) -> np.ndarray:
    """Return color, texture (Haralick et al., 1973; Ojala et al., 2002) and shape: float16, ``(n, features)``."""

    def run(pixels: np.ndarray) -> np.ndarray:
        with ThreadPoolExecutor(threads()) as pool:
            return np.stack(list(pool.map(_describe, pixels))).astype(np.float16)

    return FeatureCache(f"{samples.pixels.shape[1:]} {samples.made}", __name__).features(samples, run)


def _describe(pixels: np.ndarray) -> np.ndarray:
    cell = segment(pixels) != OUTSIDE
    if not cell.any():
        cell = np.ones_like(cell)
    stains = rgb2hed(pixels)[..., :2]
    channels = np.concatenate([pixels / 255.0, stains], axis=2)[cell]
    color = [channels.mean(axis=0), channels.std(axis=0), *np.percentile(channels, [5, 50, 95], axis=0)]
    gray = pixels.mean(axis=2)
    binned = np.where(cell, gray / 256 * (_LEVELS - 1) + 1, 0).astype(np.uint8)
    pairs = graycomatrix(binned, [1, 3], [0, np.pi / 4, np.pi / 2, 3 * np.pi / 4], _LEVELS, symmetric=True)
    pairs = pairs[1:, 1:].astype(np.float64)  # without what lies outside the cell
    pairs /= np.maximum(pairs.sum(axis=(0, 1), keepdims=True), 1)
    texture = [graycoprops(pairs, name).mean(axis=1) for name in _TEXTURE]
    patterns = local_binary_pattern(gray.astype(np.uint8), 8, 1, "uniform")[cell]
    histogram = np.bincount(patterns.astype(int), minlength=10) / len(patterns)
    found = max(regionprops(label(cell)), key=lambda region: region.area)
    side = pixels.shape[0]
    scale = {"area": side**2, "perimeter": side}
    shape = [float(getattr(found, name)) / scale.get(name, 1) for name in _SHAPE]
    return np.concatenate([*color, *texture, histogram, shape, [cell.mean()]]).astype(np.float32)
