"""Cells are found on a slide and on black, and what surrounds them does not reach a model that isolates them."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from scipy import ndimage

from pipelines.samples.cell_masks import CYTOPLASM, NUCLEUS, OUTSIDE, cell_masks, segment
from pipelines.samples.images import ImageSamples
from training.features.isolated_cells import ISOLATIONS, isolated

SIZE = 112
_Y, _X = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2


def disk(radius: float, at: Any = (0.0, 0.0)) -> np.ndarray:
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


@pytest.mark.parametrize("shown", ["noise", "red cells", "a gray image"])
def test_noise_red_cells_and_gray_images_show_no_cell(shown: str) -> None:
    pixels = smear()
    noise = np.random.default_rng(0).normal(0, 6, pixels.shape)
    if shown == "red cells":
        pixels[disk(28)] = (190, 130, 140)
    elif shown == "a gray image":
        pixels[:] = pixels.mean(axis=2, keepdims=True)
    else:
        pixels[:] = 210
    assert not segment((pixels + noise).clip(0, 255).astype(np.uint8)).any()


@settings(max_examples=25, deadline=None)
@given(arrays(np.uint8, (24, 24, 3), elements=st.sampled_from([0, 7, 12, 13, 128, 255])))
def test_any_image_has_a_mask_of_known_values_and_an_isolated_image(pixels: np.ndarray) -> None:
    assert set(np.unique(segment(pixels))) <= {OUTSIDE, CYTOPLASM, NUCLEUS}
    for isolation in ISOLATIONS:
        found = isolated(samples_of(pixels), isolation)
        assert found.pixels.shape == (1, 24, 24, 3)
        assert found.pixels.dtype == np.uint8


def any_smear(seed: int) -> np.ndarray:
    """Return a cell of one to three lobes near the middle, among red cells and a platelet, in any light."""
    rng = np.random.default_rng(seed)
    pixels = np.full((SIZE, SIZE, 3), 255.0)
    for _ in range(rng.integers(8)):
        pixels[disk(rng.uniform(8, 15), rng.uniform(-SIZE / 2, SIZE / 2, 2))] = (205, 150, 185)
    pixels[disk(2.5, rng.uniform(-SIZE / 2, SIZE / 2, 2))] = (85, 45, 160)
    middle, radius, lobes = rng.uniform(-8, 8, 2), rng.uniform(18, 30), rng.integers(1, 4)
    pixels[disk(radius, middle)] = (190, 165, 225)
    for turn in rng.uniform(0, 2 * np.pi) + 2 * np.pi / 3 * np.arange(lobes):
        at = middle + radius / 2.6 * np.array([np.sin(turn), np.cos(turn)])
        pixels[disk(radius / (2 if lobes == 1 else 3), at)] = (85, 45, 160)
    return (pixels * rng.uniform(0.75, 1, 3) + rng.normal(0, 3, pixels.shape)).clip(0, 255).astype(np.uint8)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 3), st.booleans())
def test_turned_and_mirrored_images_have_turned_and_mirrored_masks(seed: int, turns: int, mirrored: bool) -> None:
    def moved(image: np.ndarray) -> np.ndarray:
        turned = np.rot90(image, turns)
        return np.ascontiguousarray(turned[:, ::-1] if mirrored else turned)

    pixels = any_smear(seed)
    assert (segment(moved(pixels)) != moved(segment(pixels))).mean() < 0.01


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_a_mask_is_one_cell_without_dust_and_every_lobe_is_its_nucleus(seed: int) -> None:
    mask = segment(any_smear(seed))
    assert ndimage.label(mask != OUTSIDE)[1] == 1
    lobes, count = ndimage.label(mask == NUCLEUS)
    assert 1 <= count <= 3
    assert min(np.bincount(lobes.ravel())[1:]) > 0.05 * (mask == NUCLEUS).sum()
    assert not ndimage.binary_fill_holes(mask != OUTSIDE)[mask == OUTSIDE].any()


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([64, 168, 224]))
def test_the_mask_of_a_scaled_image_is_the_scaled_mask(seed: int, side: int) -> None:
    pixels = any_smear(seed)
    scaled = segment(np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC)))
    for part in (NUCLEUS, CYTOPLASM):
        there = Image.fromarray((segment(pixels) >= part).astype(np.uint8)).resize(
            (side, side), Image.Resampling.NEAREST
        )
        assert overlap(scaled >= part, np.asarray(there) > 0) > 0.85


LIGHTS = [(1.0, 1.0, 1.0), (0.8, 1.0, 0.8), (0.75, 0.8, 1.0), (0.45, 0.45, 0.45)]


@pytest.mark.parametrize(
    ("gamma", "cast"), [*((gamma, cast) for gamma in (0.25, 0.5, 2.0) for cast in LIGHTS), (3.0, LIGHTS[0])]
)
def test_neither_light_nor_its_color_moves_a_mask(gamma: float, cast: tuple[float, float, float]) -> None:
    lit = (255 * (smear() / 255) ** gamma * cast).astype(np.uint8)
    mask = segment(lit)
    assert overlap(mask == NUCLEUS, disk(15)) > 0.9
    assert overlap(mask != OUTSIDE, disk(28)) > 0.85


def test_another_leukocyte_that_touches_the_cell_and_the_rest_of_a_neighbor_on_black_stay_outside() -> None:
    pixels = smear(red=False)
    pixels[disk(20, (0, 46))] = (170, 150, 200)
    pixels[disk(12, (0, 46))] = (80, 40, 130)
    assert overlap(segment(pixels) != OUTSIDE, disk(28)) > 0.85
    cell = np.zeros((SIZE, SIZE, 3), np.uint8)
    cell[disk(10, (-38, 0)) | (np.hypot(_Y + 28, _X) < 4)] = (150, 90, 120)
    cell[disk(26)] = (90, 40, 120)
    assert overlap(segment(cell) != OUTSIDE, disk(26)) > 0.95


def test_a_nucleus_that_is_hardly_darker_than_a_cell_on_black_fills_it() -> None:
    cell = np.zeros((SIZE, SIZE, 3), np.uint8)
    for color, expected in (((110, 56, 120), 30), ((150, 120, 170), 20)):
        cell[disk(30)], cell[disk(20)] = color, (90, 50, 120)
        assert overlap(segment(cell) == NUCLEUS, disk(expected)) > 0.9


@pytest.mark.parametrize("isolation", ISOLATIONS[1:])
def test_the_slide_does_not_reach_an_isolated_cell(isolation: str) -> None:
    slides = (240, 225, 210), (215, 210, 220)
    for slide in slides:
        assert not (segment(smear(slide)) != OUTSIDE)[~disk(28)].any()
    here, there = (isolated(samples_of(smear(slide)), isolation).pixels[0].astype(int) for slide in slides)
    assert (np.abs(here - there) > 5).any(axis=2).mean() < 0.02  # a rim where the masks differ by a pixel
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
