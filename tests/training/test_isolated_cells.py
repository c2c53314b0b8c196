"""Cells are found on a slide and on black, and what surrounds them does not reach a model that isolates them."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipelines.samples.cell_masks import CYTOPLASM, NUCLEUS, OUTSIDE, cell_masks, segment
from pipelines.samples.images import ImageSamples
from training.features.isolated_cells import ISOLATIONS, isolated

SIZE = 112
_Y, _X = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2


def disk(radius: float, at: tuple[float, float] = (0.0, 0.0)) -> np.ndarray:
    return np.hypot(_Y - at[0], _X - at[1]) <= radius


def smear(background: tuple[int, int, int] = (240, 225, 210), red: bool = True) -> np.ndarray:
    """Return a cell with a nucleus among red cells, one of which touches it."""
    pixels = np.full((SIZE, SIZE, 3), background, np.uint8)
    for at in ((-40, -40), (38, 30), (0, 44), (-42, 20)) if red else ():
        pixels[disk(14, at)] = (190, 130, 140)
    pixels[disk(28)] = (170, 150, 200)
    pixels[disk(15)] = (80, 40, 130)
    return pixels


def samples_of(*images: np.ndarray) -> ImageSamples:
    names = [f"{row}" for row in range(len(images))]
    table = pd.DataFrame({"sample_id": names, "digest": names, "target": 0})
    return ImageSamples(table, np.stack(images), np.arange(len(images)), ("a", "b"), "made")


def overlap(found: np.ndarray, true: np.ndarray) -> float:
    return float((found & true).sum() / (found | true).sum())


@pytest.mark.parametrize("background", [(240, 225, 210), (215, 210, 220), (255, 255, 255)])
def test_nucleus_and_cytoplasm_are_found_among_red_cells(background: tuple[int, int, int]) -> None:
    mask = segment(smear(background))
    assert overlap(mask == NUCLEUS, disk(15)) > 0.9
    assert overlap(mask != OUTSIDE, disk(28)) > 0.85


@pytest.mark.parametrize("color", [(150, 60, 140), (9, 9, 9)])
def test_on_black_the_cell_is_what_is_not_black(color: tuple[int, int, int]) -> None:
    cell = np.zeros((SIZE, SIZE, 3), np.uint8)
    cell[disk(30)] = np.maximum(color, 12)
    assert overlap(segment(cell) != OUTSIDE, disk(30)) > 0.97


@pytest.mark.parametrize("flat", [0, 128, 255])
def test_an_image_without_a_cell_stays_whole(flat: int) -> None:
    pixels = np.full((SIZE, SIZE, 3), flat, np.uint8)
    assert not segment(pixels).any()
    for isolation in ISOLATIONS:
        np.testing.assert_array_equal(isolated(samples_of(pixels), isolation).pixels[0], pixels)


@settings(max_examples=25, deadline=None)
@given(arrays(np.uint8, (24, 24, 3), elements=st.sampled_from([0, 7, 12, 13, 128, 255])))
def test_any_image_has_a_mask_of_known_values_and_an_isolated_image(pixels: np.ndarray) -> None:
    assert set(np.unique(segment(pixels))) <= {OUTSIDE, CYTOPLASM, NUCLEUS}
    for isolation in ISOLATIONS:
        found = isolated(samples_of(pixels), isolation)
        assert found.pixels.shape == (1, 24, 24, 3)
        assert found.pixels.dtype == np.uint8


@pytest.mark.parametrize("isolation", ISOLATIONS[1:])
def test_the_slide_does_not_reach_an_isolated_cell(isolation: str) -> None:
    here, there = (
        isolated(samples_of(smear(color)), isolation).pixels[0] for color in ((240, 225, 210), (215, 210, 220))
    )
    assert (here != there).any(axis=2).mean() < 0.02  # a rim where the masks differ
    assert (here[[0, -1]] == 0).all()


def test_cells_of_two_magnifications_come_to_one_size() -> None:
    large = smear(red=False)
    small = np.full_like(large, (240, 225, 210))
    small[28:84, 28:84] = large[::2, ::2]
    for isolation in ("cell_size", "nucleus_size"):
        areas = (isolated(samples_of(large, small), isolation).pixels.max(axis=3) > 0).mean(axis=(1, 2))
        assert areas[0] == pytest.approx(areas[1], rel=0.15)


def test_what_is_isolated_is_not_isolated_again() -> None:
    once = isolated(samples_of(smear()), "cell_size")
    assert isolated(once, "cell_size") is once


def test_masks_and_isolated_cells_of_files_are_computed_once(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    images = np.stack([smear(), smear((215, 210, 220))])
    np.save("pixels.npy", images)
    of_files = replace(samples_of(*images), pixels=np.load("pixels.npy", mmap_mode="r"))
    second = of_files.take(np.array([1]))
    masks, cells = cell_masks(second), isolated(second, "cell")
    np.testing.assert_array_equal(masks[0], segment(images[1]))
    np.testing.assert_array_equal(cells.pixels[cells.index], isolated(samples_of(images[1]), "cell").pixels)
    monkeypatch.setattr("pipelines.samples.cell_masks.threshold_multiotsu", None)  # would fail if it were called
    np.testing.assert_array_equal(cell_masks(of_files)[1:], masks)
    assert isinstance(isolated(of_files, "cell").pixels, np.memmap)
