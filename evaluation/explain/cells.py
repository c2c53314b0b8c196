"""Where in a cell's image a model looks, and whether its maps say anything of the model at all."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from evaluation.explain.deletion import Deletion, delete
from evaluation.explain.randomized import randomized
from pipelines.samples.images import ImageSamples
from training.estimator import Classifier, Estimator
from training.features.cell_image import foreground

RANDOM_DRAWS = 3  # networks without knowledge; one alone may look at the cell by chance
MAPS_DIFFER_BELOW = 0.5  # mean correlation with the maps of a network that has learnt nothing
GRID = 7  # fields a side that are masked whole: single pixels are noise to a network, and maps are no finer


@dataclass(frozen=True)
class CellExplanation:
    """Grad-CAM of some test images."""

    rows: np.ndarray
    maps: np.ndarray
    foreground_share: float
    foreground_area: float
    random_correlation: float

    def as_dict(self) -> dict[str, float | bool | str | int]:
        """Return the numbers, and what they say."""
        return {
            "method": "grad_cam",
            "images": len(self.rows),
            "attribution_on_the_cell": self.foreground_share,
            "area_of_the_cell": self.foreground_area,
            "correlation_with_random_weights": self.random_correlation,
            "maps_depend_on_the_weights": bool(abs(self.random_correlation) < MAPS_DIFFER_BELOW),
        }


def explain_cells(estimator: Estimator, samples: ImageSamples, rows: np.ndarray, seed: int) -> CellExplanation | None:
    """Return Grad-CAM of ``rows`` of ``samples`` with its checks; None where the estimator has no such maps."""
    chosen = samples.take(rows)
    maps = estimator.heatmaps(chosen)
    if maps is None:
        return None
    cells = np.stack([foreground(chosen.pixels[row]) for row in chosen.index])
    total = np.maximum(maps.sum(axis=(1, 2)), 1e-9)
    alike = []
    for draw in range(RANDOM_DRAWS):
        other = randomized(estimator, seed + draw).heatmaps(chosen)
        assert other is not None
        alike.append(_mean_correlation(maps, other))
    return CellExplanation(
        rows, maps, float(((maps * cells).sum(axis=(1, 2)) / total).mean()), float(cells.mean()), float(np.mean(alike))
    )


def deletion(
    estimator: Classifier, samples: ImageSamples, maps: np.ndarray, groups: np.ndarray, **bootstrap: Any
) -> Deletion:
    """Mask the hottest fields of each image, a quarter of it, and as many at random (Samek et al., 2017)."""
    pixels = np.array(samples.pixels[samples.index])  # in memory: of a file's images, features may be on disk
    every, size = np.arange(len(samples)), pixels.shape[1]
    field = np.minimum(np.arange(size) * GRID // size, GRID - 1)
    of_pixel = field[:, None] * GRID + field
    in_field = np.bincount(of_pixel.ravel(), minlength=GRID**2)
    heat = np.stack([np.bincount(of_pixel.ravel(), each.ravel(), GRID**2) / in_field for each in maps])
    mean = pixels.mean(axis=(1, 2), keepdims=True).round().astype(pixels.dtype)

    def outputs(shown: np.ndarray) -> np.ndarray:
        return estimator.outputs(replace(samples, pixels=shown, index=every))

    before = outputs(pixels)
    predicted = before.argmax(axis=1)

    def change(fields: np.ndarray) -> np.ndarray:
        masked = np.zeros((len(samples), GRID**2), dtype=bool)
        np.put_along_axis(masked, fields, True, axis=1)
        shown = np.where(masked[:, of_pixel][..., None], mean, pixels)
        fell: np.ndarray = before[every, predicted] - outputs(shown)[every, predicted]
        return fell

    return delete(change, heat, groups, **bootstrap)


def _mean_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Return the mean correlation of two rows of maps; a constant one correlates with nothing but a constant one."""
    flat_a, flat_b = (each.reshape(len(each), -1).astype(np.float64) for each in (a, b))
    flat_a, flat_b = (each - each.mean(axis=1, keepdims=True) for each in (flat_a, flat_b))
    size_a, size_b = (np.sqrt((each**2).sum(axis=1)) for each in (flat_a, flat_b))
    same = (size_a < 1e-6) & (size_b < 1e-6)  # a map that shows nothing whatever the weights does not depend on them
    product = (flat_a * flat_b).sum(axis=1) / np.maximum(size_a * size_b, 1e-9)
    return float(np.where(same, 1.0, product).mean())
