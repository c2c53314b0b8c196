"""Where in an image of a cell a model looks (Grad-CAM), and whether the maps depend on the model at all."""

from dataclasses import replace
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from evaluation.evidence.parts import Evaluation, Evidence, Explained
from evaluation.explain import checks
from evaluation.figures.plots import BLUE, RED, styled
from evaluation.modalities import Modality
from evaluation.problems import Measures
from pipelines.samples.cell_masks import OUTSIDE, cell_masks
from pipelines.samples.images import ImageSamples
from training.estimator import Classifier
from training.modalities.images import overlay

PANELS = 16  # images of the Grad-CAM panel
RANDOM_DRAWS = 3  # networks with random weights; one alone may look at the cell by chance
MAPS_DIFFER_BELOW = 0.5  # mean correlation with the maps of a network with random weights
GRID = 7  # fields a side that are masked whole: single pixels are noise to a network, and maps are no finer


def evidence(modality: Modality, run: Evaluation, measures: Measures) -> Evidence:
    """Explain some images of each class, right and wrong ones, and check the maps; see `Modality.evidence`."""
    explained, estimator = measures.explained(run), run.model.estimator
    every = np.zeros(len(run.predictions), dtype=np.int64)
    rows = explained.rows(run.explained_samples, run.seed, every, explained.right)
    samples = estimator.seen(run.test.take(rows))
    maps = estimator.heatmaps(samples)
    if maps is None:
        return checks.not_explained()
    cells = cell_masks(samples) != OUTSIDE
    share = float(((maps * cells).sum(axis=(1, 2)) / np.maximum(maps.sum(axis=(1, 2)), 1e-9)).mean())
    alike = []
    for draw in range(RANDOM_DRAWS):
        other = checks.randomized(estimator, run.seed + draw).heatmaps(samples)
        assert other is not None
        alike.append(_mean_correlation(maps, other))
    correlation = float(np.mean(alike))
    fell = deletion(estimator, samples, maps, run.groups[rows], **run.bootstrap)
    depends = bool(abs(correlation) < MAPS_DIFFER_BELOW)
    warnings = []
    if not fell.passed:
        warnings.append("masking where the Grad-CAM maps are hot takes no more confidence than masking elsewhere")
    if not depends:
        warnings.append("the Grad-CAM maps hardly change with random weights: they show the image, not the model")
    section = {
        "method": "grad_cam",
        "images": len(rows),
        "attribution_on_the_cell": share,
        "area_of_the_cell": float(cells.mean()),
        "correlation_with_random_weights": correlation,
        "maps_depend_on_the_weights": depends,
        "deletion": {"fields": fell.genes, "drop_top": fell.drop_top, "drop_random": fell.drop_random},
        "checks": [checks.check("random_weights", correlation), checks.check("deletion", fell.difference)],
    }
    logged = {"on_the_cell": share, "random_correlation": correlation}
    logged |= {"deletion_drop": fell.drop_top, "deletion_drop_random": fell.drop_random}
    member = getattr(estimator, "members_", [estimator])[0]  # all of an ensemble average the same views
    by_views = pd.DataFrame(getattr(member, "by_views_", {})).rename(lambda row: row + 1).rename_axis("views")
    return Evidence(
        sections={"explanation": section},
        tables={} if by_views.empty else {"views": by_views.reset_index()},
        figures={"grad_cam": panel(run.title, explained, rows, samples=samples, maps=maps)},
        logged={f"explanation_{name}": value for name, value in logged.items()},
        warnings=warnings,
    )


def deletion(
    estimator: Classifier, samples: ImageSamples, maps: np.ndarray, groups: np.ndarray, **bootstrap: Any
) -> checks.Deletion:
    """Mask the hottest fields of each image, a quarter of it, and as many at random."""
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
        return np.asarray(before[every, predicted] - outputs(shown)[every, predicted])

    return checks.delete(change, heat, groups, **bootstrap)


def _mean_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Return the mean correlation of two rows of maps; that of a constant map is 1 with a constant one, else 0."""
    flat_a, flat_b = (each.reshape(len(each), -1).astype(np.float64) for each in (a, b))
    flat_a, flat_b = (each - each.mean(axis=1, keepdims=True) for each in (flat_a, flat_b))
    size_a, size_b = (np.sqrt((each**2).sum(axis=1)) for each in (flat_a, flat_b))
    constant = (size_a < 1e-6) & (size_b < 1e-6)  # a map that is constant for any weights does not depend on them
    product = (flat_a * flat_b).sum(axis=1) / np.maximum(size_a * size_b, 1e-9)
    return float(np.where(constant, 1.0, product).mean())


@styled
def panel(title: str, explained: Explained, rows: np.ndarray, *, samples: ImageSamples, maps: np.ndarray) -> Figure:
    """Return images as the model sees them beside their maps, right ones framed in blue and wrong ones in red."""
    right = np.ones(len(rows), dtype=bool) if explained.right is None else explained.right[rows]
    of_row = explained.of_row[rows]
    # Of each class right and wrong ones in turn; wrong ones first: readers look for these.
    chosen = np.lexsort((right, pd.Series(right).groupby([of_row, right]).cumcount().to_numpy()))[:PANELS]
    shown = chosen[np.lexsort((of_row[chosen], right[chosen]))].tolist()
    across, down = min(4, len(shown)), -(-len(shown) // 4)
    size = (2.5 * across, 1.5 * down + 0.5)
    figure, grid = plt.subplots(down, across, figsize=size, squeeze=False, gridspec_kw={"wspace": 0.1})
    for axes in grid.flat[len(shown) :]:
        axes.axis("off")
    for axes, place in zip(grid.flat, shown, strict=False):
        pixels, color = samples.pixels[samples.index[place]], BLUE if right[place] else RED
        heat = np.clip(np.nan_to_num(maps[place].astype(np.float64)), 0, 1)
        axes.imshow(np.concatenate([pixels, overlay(pixels, heat)], axis=1))
        axes.set_title(explained.caption(int(rows[place])), fontsize=6, fontweight="normal", pad=3, color=color)
        axes.set(xticks=[], yticks=[])
        for spine in axes.spines.values():
            spine.set(visible=True, color=color, linewidth=2)
    figure.suptitle(f"{title} (frame: blue right, red wrong)", fontsize=9, fontweight="bold", x=0.01, ha="left")
    return figure
