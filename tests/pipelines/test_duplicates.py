"""A copy that is overlooked is on both sides of a split; two cells that are taken for one are lost to it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.groups import group_samples
from pipelines.groups.images import COLUMNS, duplicate_pairs
from pipelines.params import Split
from pipelines.samples.images import ImageSamples
from tests.pipelines.image_samples import brighter, cell, compressed, on_black, resized, samples_of

NEAR = 0.95
COUNT = 16
CHANGES = {
    "recompressed": lambda pixels: compressed(pixels, 60),
    "resized": lambda pixels: resized(pixels, 0.5),
    "brighter": lambda pixels: brighter(pixels, 1.1),
    "all_three": lambda pixels: compressed(resized(brighter(pixels, 0.9), 0.7), 75),
}
VIEWS = [(mirrored, turns) for mirrored in (False, True) for turns in range(4)]


def ids(samples: ImageSamples, pairs: pd.DataFrame) -> set[tuple[frozenset[str], str]]:
    name = samples.table["sample_id"].to_numpy(str)
    return {(frozenset((name[a], name[b])), how) for a, b, how in pairs[["a", "b", "how"]].to_numpy()}


@pytest.fixture(scope="module", params=[cell, on_black], ids=["filled", "on_black"])
def images(request: pytest.FixtureRequest) -> list[np.ndarray]:
    return [request.param(seed, 168) for seed in range(COUNT)]


def test_changed_turned_and_mirrored_copies_are_found_and_different_images_are_none(images: list[np.ndarray]) -> None:
    changed = [change(image) for change, image in zip(CHANGES.values(), images, strict=False)]
    turned = [np.rot90(image[:, ::-1] if mirrored else image, turns) for (mirrored, turns), image in
              zip(VIEWS[1:], images[len(CHANGES) :], strict=False)]  # fmt: skip
    copies = [*changed, *(compressed(np.ascontiguousarray(image), 75) for image in turned)]
    assert len(copies) == len(CHANGES) + len(VIEWS) - 1
    found = duplicate_pairs(samples_of([*images, *copies]), NEAR)
    assert list(found.columns) == COLUMNS
    assert found[["a", "b"]].to_numpy().tolist() == [[number, COUNT + number] for number in range(len(copies))]
    assert found["how"].tolist() == ["near"] * len(CHANGES) + ["turned"] * len(turned)
    assert found["similarity"].between(NEAR, 1).all()


def test_identical_files_identical_pixels_near_and_turned_copies_are_distinguished() -> None:
    images = [cell(seed) for seed in range(6)]
    turned = np.ascontiguousarray(np.rot90(images[3]))
    samples = samples_of(
        [*images, images[0], images[1], compressed(images[2], 80), turned],
        digests=["0", "1", "2", "3", "4", "5", "0", "1 in PNG", "2 again", "3 turned"],
    )
    found = duplicate_pairs(samples, NEAR)
    how = enumerate(("bytes", "pixels", "near", "turned"))
    assert found[["a", "b", "how"]].to_numpy().tolist() == [[at, at + 6, each] for at, each in how]
    assert (found["similarity"][:2] == 1).all()


def test_no_pair_is_listed_twice_and_many_identical_images_make_few_pairs() -> None:
    images = [cell(0)] * 30 + [compressed(cell(0), 80)] * 30 + [cell(1)]
    samples = samples_of(images, digests=["same"] * 20 + [f"digest {number}" for number in range(41)])
    found = duplicate_pairs(samples, NEAR)
    assert not found[["a", "b"]].duplicated().any()
    assert (found["a"] < found["b"]).all()
    assert found["how"].value_counts().to_dict() == {"pixels": 39, "bytes": 19, "near": 1}
    split = Split("subject_blind", test=0.2, validation=0.1, folds=3, near_identical=NEAR)
    assert group_samples(samples, split)[0].nunique() == 2


def test_blank_images_are_one_only_if_identical() -> None:
    rng = np.random.default_rng(0)
    flat = [np.full((48, 48, 3), value, np.uint8) for value in (0, 0, 10, 200)]
    noise = [(flat[3] + rng.integers(0, 2, (48, 48, 3))).astype(np.uint8) for _ in range(10)]
    shade = (np.hypot(*np.mgrid[-24:24, -24:24]) / 5).astype(np.uint8)[..., None]  # of one microscope's lamp
    shaded = [flat[3] - shade, flat[3] - 30 - shade]
    found = duplicate_pairs(samples_of([*flat, *noise, *shaded]), NEAR)
    assert found[["a", "b", "how"]].to_numpy().tolist() == [[0, 1, "pixels"]]


def test_only_images_above_the_threshold_are_copies_also_among_few() -> None:
    samples = samples_of([cell(0), compressed(cell(0), 60), cell(1)])
    similarity = duplicate_pairs(samples, NEAR)["similarity"].item()
    assert duplicate_pairs(samples, similarity + 1e-4).empty
    assert len(duplicate_pairs(samples, similarity - 1e-4)) == 1
    for rows in ([], [0], [1, 2]):
        assert duplicate_pairs(samples.take(np.array(rows, dtype=int)), NEAR).empty


@settings(max_examples=8, deadline=None)
@given(order=st.permutations(range(24)))
def test_pairs_do_not_depend_on_the_order_of_rows(order: list[int]) -> None:
    images = [cell(seed) for seed in range(16)]
    turned = [np.ascontiguousarray(np.rot90(image)) for image in images[:4]]
    copies = [compressed(images[4], 80), compressed(images[5], 70), images[6], images[7]]
    digests = [*(f"digest {number}" for number in range(23)), "digest 7"]
    samples = samples_of([*images, *turned, *copies], digests=digests)
    moved = samples.take(np.array(order))
    found, again = duplicate_pairs(samples, NEAR), duplicate_pairs(moved, NEAR)
    assert ids(samples, found) == ids(moved, again)
    assert len(found) == len(again) == 8
    assert (again["a"] < again["b"]).all()
    assert sorted(found["similarity"]) == sorted(again["similarity"])
