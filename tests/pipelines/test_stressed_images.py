"""What should not matter in an image is changed, and what is the cell stays: the same way every time."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from pipelines.params import read_params
from pipelines.samples.cell_masks import NUCLEUS, OUTSIDE, cell_masks, is_framed
from pipelines.samples.images import ImageSamples
from pipelines.samples.stressed_images import KINDS, stressed
from tests.pipelines.image_samples import on_black, samples_of

SIZE = 112
_Y, _X = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
ON_BLACK = set(KINDS) - {"slide", "border", "slide_and_stain"}
SLIDES = {"a": (240, 225, 210), "b": (210, 215, 230), "c": (250, 240, 245)}
NUCLEI = {"a": (80, 40, 130), "b": (60, 50, 110), "c": (100, 30, 140)}


def smear(label: str, number: int) -> np.ndarray:
    """Return a cell with a nucleus, its slide's color by the class, among red cells."""
    rng = np.random.default_rng([ord(label), number])
    pixels = np.full((SIZE, SIZE, 3), SLIDES[label], np.float64)
    for _ in range(5):
        turn = rng.uniform(0, 2 * np.pi)
        pixels[np.hypot(_Y - 46 * np.sin(turn), _X - 46 * np.cos(turn)) <= 10] = (190, 130, 140)
    at = rng.uniform(-9, 9, 2)
    pixels[np.hypot(_Y - at[0], _X - at[1]) <= 26] = (170, 150, 200)
    pixels[np.hypot(_Y - at[0], _X - at[1]) <= 15] = NUCLEI[label]
    return np.clip(pixels + rng.normal(0, 2, pixels.shape), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def smears() -> ImageSamples:
    labels = [label for label in SLIDES for _ in range(4)]
    images = [smear(label, number) for number, label in enumerate(labels)]
    subjects = [f"s{number // 2}" if number % 3 else None for number in range(len(labels))]
    return samples_of(images, labels, subjects=subjects)


@pytest.fixture(scope="module")
def black() -> ImageSamples:
    return samples_of([on_black(number, SIZE) for number in range(6)], ["a", "b"] * 3)


@pytest.fixture(scope="module")
def found(smears: ImageSamples) -> dict[str, ImageSamples]:
    return stressed(smears, smears, 3)


def test_every_kind_changes_every_image_and_no_row(found: dict[str, ImageSamples], smears: ImageSamples) -> None:
    assert list(found) == list(KINDS)
    for kind, changed in found.items():
        assert changed.table is smears.table and changed.classes == smears.classes
        assert not isinstance(changed.pixels, np.memmap), kind  # of which features would be cached
        assert changed.pixels.dtype == np.uint8 and changed.pixels.shape == smears.pixels.shape
        assert (changed.pixels != smears.pixels).any(axis=(1, 2, 3)).all(), kind
    for one, other in pairwise(found.values()):
        assert (one.pixels != other.pixels).any(axis=(1, 2, 3)).all()
        assert one.made != other.made  # part of the key of what is remembered of images


def test_a_seed_gives_the_same_images_also_of_a_part_and_in_another_order(
    found: dict[str, ImageSamples], smears: ImageSamples
) -> None:
    rows = np.array([7, 2, 9])
    part = stressed(smears.take(rows), smears.take(np.arange(len(smears))[::-1]), 3)
    for kind, changed in found.items():
        np.testing.assert_array_equal(part[kind].pixels, changed.pixels[rows], err_msg=kind)
    other = stressed(smears.take(rows), smears, 4, kinds=("noise", "slide"))
    assert set(other) == {"noise", "slide"}
    assert all((other[kind].pixels != part[kind].pixels).any() for kind in other)


def test_the_cell_is_on_the_slide_of_another_class(found: dict[str, ImageSamples], smears: ImageSamples) -> None:
    inside, slide = cell_masks(smears) != OUTSIDE, found["slide"].pixels
    assert inside.any(axis=(1, 2)).all()
    far = ~ndimage.binary_dilation(inside, np.ones((1, 3, 3)), iterations=5)
    for row, label in enumerate(smears.table["label"]):
        background = np.median(slide[row][far[row]], axis=0)
        nearest = min(SLIDES, key=lambda each: np.abs(background - SLIDES[each]).sum())
        assert nearest != label
        assert np.abs(background - SLIDES[nearest]).max() < 5
        # All of the cell's pixels are in another light, and else as they were.
        ratio = (slide[row][inside[row]] + 1.0) / (smears.pixels[row][inside[row]] + 1.0)
        assert ratio.std(axis=0).max() < 0.02
        np.testing.assert_allclose(ratio.mean(axis=0), np.array(SLIDES[nearest]) / SLIDES[label], atol=0.03)
    after = cell_masks(found["slide"]) != OUTSIDE  # the partner's cell is gone: one cell is found, the own
    assert ((inside & after).sum(axis=(1, 2)) / (inside | after).sum(axis=(1, 2))).min() > 0.85


def test_the_border_is_anothers_and_the_center_the_own(found: dict[str, ImageSamples], smears: ImageSamples) -> None:
    border, central = found["border"].pixels, slice(SIZE // 4, -SIZE // 4)
    ratio = (border[:, central, central] + 1.0) / (smears.pixels[:, central, central] + 1.0)  # of the light
    assert ratio.std(axis=(1, 2)).max() < 0.02
    assert (np.abs(border[:, :3].astype(int) - smears.pixels[:, :3]).mean(axis=(1, 2, 3)) > 5).all()


def test_the_stain_is_that_of_another_class(found: dict[str, ImageSamples], smears: ImageSamples) -> None:
    nuclei = cell_masks(smears) == NUCLEUS
    for row, label in enumerate(smears.table["label"]):
        background = np.median(found["stain"].pixels[row][[0, -1]], axis=(0, 1))
        nucleus = np.median(found["stain"].pixels[row][nuclei[row]], axis=0)
        assert min(SLIDES, key=lambda each: np.abs(background - SLIDES[each]).sum()) != label
        assert min(NUCLEI, key=lambda each: np.abs(nucleus - NUCLEI[each]).sum()) != label


def test_magnification_makes_cells_smaller_and_larger_and_leaves_no_corner(
    found: dict[str, ImageSamples], smears: ImageSamples
) -> None:
    before, after = ((cell_masks(each) != OUTSIDE).sum(axis=(1, 2)) for each in (smears, found["magnification"]))
    factors = np.sqrt(after / before)
    assert ((factors > 0.65) & (factors < 1.5)).all()
    assert (factors < 0.95).any() and (factors > 1.05).any()
    assert (found["magnification"].pixels.max(axis=3) > 100).mean() > 0.99


def test_black_stays_black_and_has_no_slide(black: ImageSamples) -> None:
    found = stressed(black, black, 1)
    assert set(found) == ON_BLACK
    assert all(is_framed(pixels) for pixels in black.pixels)
    frame = black.pixels.max(axis=3) < 12
    for kind, changed in found.items():
        assert (changed.pixels != black.pixels).any(axis=(1, 2, 3)).all(), kind
        if kind != "magnification":
            np.testing.assert_array_equal(changed.pixels[frame], black.pixels[frame], err_msg=kind)
        assert (changed.pixels[:, [0, -1]] == 0).all(), kind


def test_partners_are_of_all_other_classes_and_subjects_alike() -> None:
    """One class has many images, and one subject has nearly all images of another."""
    labels = ["a"] * 40 + ["b"] * 200 + ["c"] * 20
    images = [np.full((16, 16, 3), value, np.uint8) for value in (*range(40), *[100] * 200, *[200] * 19, 220)]
    subjects = [None] * 240 + ["s1"] * 19 + ["s2"]
    samples = samples_of(images, labels, subjects=subjects)
    slides = stressed(samples.take(np.arange(40)), samples, 1, kinds=("slide",))["slide"].pixels
    colors, counts = np.unique(slides[:, 0, 0, 0], return_counts=True)
    assert colors.tolist() == [100, 200, 220]
    assert counts[0] >= 12 and counts[1:].min() >= 4
    own = pd.Series(["s2"] * 40 + [None] * 200 + ["s1"] * 19 + ["s2"], dtype=object)
    of_s2 = replace(samples, table=samples.table.assign(subject_id=own))
    slides = stressed(of_s2.take(np.arange(40)), of_s2, 1, kinds=("slide",))["slide"].pixels
    assert set(np.unique(slides[:, 0, 0, 0])) == {100, 200}, "another image of the own subject is on the same slide"


@pytest.mark.parametrize("flat", [0, 128, 255])
def test_images_without_a_cell_and_of_one_class_have_a_result(flat: int) -> None:
    samples = samples_of([np.full((24, 24, 3), flat, np.uint8)] * 2)
    for kind, changed in stressed(samples, samples, 1).items():
        assert changed.pixels.shape == samples.pixels.shape, kind
    assert len(stressed(samples.take(np.arange(0)), samples, 1)["noise"]) == 0


def test_tasks_on_images_have_stress_tests_and_others_none(smears: ImageSamples) -> None:
    tasks = read_params().tasks
    one = smears.take(np.array([0]))
    assert set(tasks["blood_cell"].stressed(one, smears, 1)) == set(KINDS)
    assert tasks["tumor_type"].stressed(replace(one), smears, 1) == {}
