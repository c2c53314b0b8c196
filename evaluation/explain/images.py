"""What a model sees of a cell, where it looks (Grad-CAM), and whether the maps depend on the model at all."""

from dataclasses import replace
from functools import partial
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy import ndimage

from evaluation.evidence.parts import Evaluation, Evidence, Explained
from evaluation.explain import checks
from evaluation.figures.plots import BLUE, RED, styled
from evaluation.metrics import as_metrics, mean_of_rows
from evaluation.modalities import Modality
from evaluation.problems import Measures
from pipelines.formatting import share
from pipelines.samples.cell_masks import OUTSIDE, cell_masks, frame
from pipelines.samples.images import ImageSamples
from training.estimator import Classifier
from training.features.isolated_cells import DARKEST
from training.modalities.images import outlined, overlay

PANELS = 16  # images of the Grad-CAM panel, and at most of that of the masks
MASKS = 3  # images of a class in the panel of the masks
FAILED = 0.05  # share of images in which no cell is found; from there on there is a warning
RANDOM_DRAWS = 3  # networks with random weights; one alone may look at the cell by chance
MAPS_DIFFER_BELOW = 0.5  # mean correlation with the maps of a network with random weights
FILLED = 0.5  # share of a field that is no black frame, from which on it is drawn at random: others hide less
_BLOCK = 64  # images at a time
GRID = 7  # fields a side that are masked whole: single pixels are noise to a network, and maps are no finer


def evidence(modality: Modality, run: Evaluation, measures: Measures) -> Evidence:
    """Show what is isolated and what decides, see `Modality.evidence`."""
    return isolation(run) | explanation(run, measures)


def isolation(run: Evaluation) -> Evidence:
    """Return in how many test images a model that isolates the cell found none, and the masks of some of each class."""
    every = np.arange(len(run.test))  # of a rotation `seen` images are in memory: all of them would fill it
    parts = (run.test.take(every[start : start + _BLOCK]) for start in every[::_BLOCK])
    if all(run.model.estimator.seen(part) is part for part in parts):
        return Evidence()
    failed = (cell_masks(run.test) == OUTSIDE).all(axis=(1, 2))
    section = {"images": len(failed), "failed": int(failed.sum()), "failed_share": float(failed.mean())}
    warning = f"no cell is found in {section['failed']:,} of {len(failed):,} test images, which are used whole"
    return Evidence(
        sections={"isolation": section},
        figures={"masks": masks_panel(run, failed)},
        logged={"isolation/failed": section["failed"], "isolation/failed_share": section["failed_share"]},
        warnings=[warning] if section["failed_share"] > FAILED else [],
    )


def explanation(run: Evaluation, measures: Measures) -> Evidence:
    """Explain some images of each class, right and wrong ones, and check the maps."""
    explained, estimator = measures.explained(run), run.model.estimator
    every = np.zeros(len(run.predictions), dtype=np.int64)
    rows = explained.rows(run.explained_samples, run.seed, every, explained.right)
    whole = run.test.take(rows)
    samples = estimator.seen(whole)
    maps = estimator.heatmaps(samples)
    if maps is None:
        return checks.not_explained()
    on_cell, area = on_the_cell(whole, samples, maps)
    without = int((cell_masks(whole) == OUTSIDE).all(axis=(1, 2)).sum())
    share = mean_of_rows(on_cell, run.groups[rows], **run.bootstrap)
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
        "method": estimator.heatmap_method,
        "images": len(rows),
        "on_the_cell": {**share.as_dict(), "area": area, "without_a_cell": without},
        "correlation_with_random_weights": correlation,
        "maps_depend_on_the_weights": depends,
        "deletion": {"fields": fell.genes, "drop_top": fell.drop_top, "drop_random": fell.drop_random},
        "checks": [checks.check("random_weights", correlation), checks.check("deletion", fell.difference)],
    }
    logged = as_metrics("explanation/on_the_cell", share.as_dict()) | checks.deletion_metrics(fell)
    if np.isfinite(correlation):
        logged["explanation/random_correlation"] = correlation
    member = checks.first_member(estimator)  # all of an ensemble average the same views
    by_views = pd.DataFrame(getattr(member, "by_views_", {})).rename(lambda row: row + 1).rename_axis("views")
    return Evidence(
        sections={"explanation": section},
        tables={} if by_views.empty else {"views": by_views.reset_index()},
        figures={"grad_cam": panel(run.title, explained, rows, samples=samples, maps=maps)},
        logged=logged,
        warnings=warnings,
    )


def on_the_cell(whole: ImageSamples, seen: ImageSamples, maps: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the share of each map that lies on the cell, NaN of none and of an empty map, and the cells' area share.

    ``maps`` are of ``seen`` images; in those that the model isolated the cell is what is not black.
    """
    cells = cell_masks(whole) != OUTSIDE
    found = cells.any(axis=(1, 2))
    if seen is not whole:  # not all models of a rotation need to isolate
        pixels = seen.pixels[seen.index]
        alone = (pixels != whole.pixels[whole.index]).any(axis=(1, 2, 3))
        cells = np.where(alone[:, None, None], pixels.max(axis=3) >= DARKEST, cells)
    total = maps.sum(axis=(1, 2))
    found &= total > 0
    share = (maps * cells).sum(axis=(1, 2)) / np.where(found, total, np.nan)
    return share, float(cells[found].mean()) if found.any() else float("nan")


def deletion(
    estimator: Classifier, samples: ImageSamples, maps: np.ndarray, groups: np.ndarray, **bootstrap: Any
) -> checks.Deletion:
    """Mask the hottest fields of each image, a quarter of those with a cell, and as many of these at random.

    Masked pixels become those of a blurred copy (Fong and Vedaldi, 2017), and a black frame stays black: patches of one
    color are like no image that the model has seen, and take confidence wherever they are.
    """
    pixels = np.array(samples.pixels[samples.index])  # in memory: of a file's images, features may be on disk
    every, size = np.arange(len(samples)), pixels.shape[1]
    field = np.minimum(np.arange(size) * GRID // size, GRID - 1)
    of_pixel = field[:, None] * GRID + field
    shown = ~np.stack([frame(each) for each in pixels])
    blur = partial(ndimage.gaussian_filter, sigma=(0, size / GRID / 2, size / GRID / 2, 0))
    weight = shown[..., None].astype(np.float32)
    blurred = (blur(pixels * weight) / np.maximum(blur(weight), 1e-3)).clip(0, 255).round().astype(pixels.dtype)

    def of_fields(numbers: np.ndarray) -> np.ndarray:
        every_field = [np.bincount(of_pixel.ravel(), each.ravel(), GRID**2) for each in numbers]
        return np.stack(every_field) / np.bincount(of_pixel.ravel(), minlength=GRID**2)

    among = of_fields(shown) >= FILLED
    few = np.maximum(1, among.sum(axis=1, keepdims=True) // 4)

    def outputs(changed: np.ndarray) -> np.ndarray:
        return estimator.outputs(replace(samples, pixels=changed, index=every))

    before = outputs(pixels)
    predicted = before.argmax(axis=1)

    def change(fields: np.ndarray) -> np.ndarray:
        masked = np.zeros((len(samples), GRID**2), dtype=bool)
        np.put_along_axis(masked, fields, np.arange(fields.shape[1]) < few, axis=1)
        changed = np.where((masked[:, of_pixel] & shown)[..., None], blurred, pixels)
        return np.asarray(before[every, predicted] - outputs(changed)[every, predicted])

    return checks.delete(change, of_fields(maps), groups, among, **bootstrap)


def _mean_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Return the mean correlation of two rows of maps; that of a constant map is 1 with a constant one, else 0."""
    flat_a, flat_b = (each.reshape(len(each), -1).astype(np.float64) for each in (a, b))
    flat_a, flat_b = (each - each.mean(axis=1, keepdims=True) for each in (flat_a, flat_b))
    size_a, size_b = (np.sqrt((each**2).sum(axis=1)) for each in (flat_a, flat_b))
    constant = (size_a < 1e-6) & (size_b < 1e-6)  # a map that is constant for any weights does not depend on them
    product = (flat_a * flat_b).sum(axis=1) / np.maximum(size_a * size_b, 1e-9)
    return float(np.where(constant, 1.0, product).mean())


@styled
def masks_panel(run: Evaluation, failed: np.ndarray) -> Figure:
    """Return images of each class, failed ones first, with the outlines of the masks beside what the model sees."""
    samples = run.test
    order = np.lexsort((~failed, samples.target))  # stable: within a class those without a cell come first
    turn = pd.Series(samples.target[order]).groupby(samples.target[order]).cumcount().to_numpy()
    shown = samples.take(order[turn < min(MASKS, max(1, PANELS // len(samples.classes)))])
    seen, masks = run.model.estimator.seen(shown), cell_masks(shown)
    down = -(-len(shown) // MASKS)
    figure, grid = plt.subplots(down, MASKS, figsize=(2.5 * MASKS, 1.5 * down + 0.5), squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for place, (axes, mask) in enumerate(zip(grid.flat, masks, strict=False)):
        left, right = outlined(shown.pixels[shown.index[place]], mask), seen.pixels[seen.index[place]]
        axes.imshow(np.concatenate([left, right], axis=1))
        label = shown.classes[shown.target[place]].replace("_", " ")
        axes.set_title(label + ("" if mask.any() else ": no cell found"), fontsize=6, fontweight="normal", pad=3)
    title = f"{run.title}: no cell in {share(failed.mean())} of the test images"
    figure.suptitle(title, fontsize=9, fontweight="bold", x=0.01, ha="left")
    return figure


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


@styled
def stressed_panel(title: str, samples: ImageSamples, stressed: dict[str, ImageSamples]) -> Figure:
    """Return an image of each class as it is and under each kind of stress, with the outlines of its mask."""
    rows = np.unique(samples.target, return_index=True)[1]
    shown = {"home": samples.take(rows), **{kind: changed.take(rows) for kind, changed in stressed.items()}}
    size = samples.pixels.shape[1]
    figure, axes = plt.subplots(figsize=(1.1 * len(shown) + 1.4, 1.1 * len(rows) + 0.9))
    columns = [
        np.concatenate([outlined(of.pixels[row], mask) for row, mask in zip(of.index, cell_masks(of), strict=True)])
        for of in shown.values()
    ]
    axes.imshow(np.concatenate(columns, axis=1))
    names = [kind.replace("_", " ") for kind in shown]
    axes.set_xticks((np.arange(len(shown)) + 0.5) * size, names, rotation=30, ha="right", fontsize=7)
    axes.set_yticks((np.arange(len(rows)) + 0.5) * size, shown["home"].table["label"].tolist(), fontsize=7)
    axes.set_title(f"{title} (outlines: cell green, nucleus yellow)", fontsize=9)
    axes.spines[:].set_visible(False)
    return figure
