"""Simulated cells are found by segmentation, and laboratories are told apart by slide and stain alone."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipelines.params import read_params
from pipelines.samples.cell_masks import CYTOPLASM, NUCLEUS, OUTSIDE, cell_masks
from pipelines.samples.images import ImageSamples
from pipelines.simulate.cells import BLOOD_CELLS, LABORATORIES, SIDE, Laboratory, Stain, simulate_blood_cell

ROOT = Path(__file__).parents[2]
PER_CLASS = 8


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], ImageSamples]:
    def read(laboratories: str) -> ImageSamples:
        folder = tmp_path_factory.mktemp(laboratories)
        simulate_blood_cell(folder, per_class=PER_CLASS, subjects=2, laboratories=laboratories)
        samples: ImageSamples = read_params(ROOT / "params.yaml").task("blood_cell").read(folder).samples
        return samples

    return read


@pytest.fixture(scope="module")
def both(drawn: Callable[[str], ImageSamples]) -> ImageSamples:
    return drawn("both")


def test_nucleus_and_cytoplasm_of_every_kind_are_found_in_both_laboratories(both: ImageSamples) -> None:
    masks = cell_masks(both)
    share = pd.DataFrame(
        {
            "label": both.table["label"],
            "cell": [(mask != OUTSIDE).mean() for mask in masks],
            "cytoplasm": [(mask == CYTOPLASM).sum() / max(1, (mask == NUCLEUS).sum()) for mask in masks],
        }
    )
    for label, found in share.groupby("label"):
        low, high = (np.pi * (radius / SIDE) ** 2 for radius in BLOOD_CELLS[str(label)].radius)
        assert found["cell"].between(0.75 * low, 1.3 * high * LABORATORIES[1].magnification ** 2).mean() >= 0.85, label
        assert found["cytoplasm"].min() > 0.05, label
    # The cytoplasm of neutrophils takes up eosin as red cells do: what is found of it shows that they are told apart.
    assert share[share["label"] == "seg_neutrophil"]["cytoplasm"].median() > 0.8


def test_red_cells_absorb_more_blue_than_any_cytoplasm() -> None:
    nothing, some = np.zeros((SIDE, SIDE)), np.full((SIDE, SIDE), 0.3)
    for laboratory in (Laboratory(), *LABORATORIES):
        stain = Stain.draw(np.random.default_rng(0), 0.0, laboratory)

        def ratio(*amounts: np.ndarray, stain: Stain = stain) -> float:
            density = -np.log(stain.transmit(*amounts) / stain.light)[0, 0]
            return float(density[2] / density[1])

        assert 0.57 < ratio(nothing, nothing, some) < 0.67
        assert 0.18 < ratio(nothing, some, nothing) < ratio(some, nothing, nothing) < 0.4


def test_laboratories_are_confounded_with_the_class_or_in_every_class(
    drawn: Callable[[str], ImageSamples], both: ImageSamples
) -> None:
    def yellow(samples: ImageSamples) -> list[float]:
        """Return for each class the share of images of the second laboratory, whose light is yellow."""
        light = np.array(
            [np.median(image[image[..., 1] >= np.quantile(image[..., 1], 0.8)], axis=0) for image in samples.pixels]
        )
        second = pd.Series(light[samples.index, 2] < light[samples.index, 1] - 5)
        return second.groupby(samples.target).mean().tolist()

    assert yellow(drawn("confounded")) == [0, 0, 0, 1, 1]
    assert yellow(both) == [0.5] * 5
    assert yellow(drawn("one")) == [0] * 5
