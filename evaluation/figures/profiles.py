"""Figures of what classifiers of profiles look at."""

from __future__ import annotations

import math
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from evaluation.figures.plots import styled
from pipelines.samples.gene_names import symbol_of

_EACH = 3  # genes of a class in the heat map
_ALONE = 20  # genes where there is one answer


@styled
def genes_by_class(by_class: np.ndarray, names: Sequence[str], classes: Sequence[str], title: str) -> Figure:
    """Return a heat map of mean contributions: the genes that speak most for each class, over all classes."""
    known = np.flatnonzero(np.isfinite(by_class).all(axis=1)).tolist()
    columns: list[int] = []
    for code in known:
        order = np.argsort(-by_class[code], kind="stable")
        columns += [int(column) for column in order if int(column) not in columns][
            : _EACH if len(known) > 1 else _ALONE
        ]
    shown = by_class[known][:, columns]
    shown = shown / np.abs(shown).max(axis=1, keepdims=True, initial=1e-12)  # one class must not pale the others
    figure, axes = plt.subplots(figsize=(1.6 + 0.16 * len(columns), 1.6 + 0.2 * len(known)))
    image = axes.imshow(shown, cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto")
    axes.set_xticks(range(len(columns)), [symbol_of(names[column]) for column in columns], rotation=90, fontsize=6)
    axes.set_yticks(range(len(known)), [classes[code] for code in known], fontsize=7)
    axes.set(title=title)
    figure.colorbar(image, ax=axes, label="mean contribution, over the largest of the row")
    return figure


@styled
def layout_maps(
    layout: pd.DataFrame, by_class: np.ndarray, names: Sequence[str], classes: Sequence[str], title: str
) -> Figure:
    """Return for each class the mean contributions where the genes lie in the gene image."""
    place = layout.set_index("gene").reindex(list(names))
    rows, columns = (place[name].to_numpy(np.int64) - place[name].min() for name in ("row", "column"))
    side = int(max(rows.max(), columns.max())) + 1  # of the genes' own square
    known = np.flatnonzero(np.isfinite(by_class).all(axis=1)).tolist()
    across = min(8, len(known))
    down = math.ceil(len(known) / across)
    figure, grid = plt.subplots(down, across, figsize=(1.25 * across, 1.4 * down + 0.4), squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for axes, code in zip(grid.flat, known, strict=False):
        pixels = np.zeros((side, side))
        pixels[rows, columns] = by_class[code]
        size = np.quantile(np.abs(by_class[code]), 0.995) or 1e-12  # each class on its own scale
        axes.imshow(pixels, cmap="RdBu_r", vmin=-size, vmax=size)
        axes.set_title(classes[code], fontsize=7)
    figure.suptitle(f"{title}: mean contribution where the genes lie, each class on its own scale", fontsize=9)
    return figure
