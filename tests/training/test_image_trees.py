"""What would make trees on images wrong: features that are not finite, other features when loaded, labels unlearnt."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tests.training.image_samples import TREES, draw, in_memory, labeled
from training.architectures import get_architecture
from training.features.cell_image import descriptors, foreground
from training.features.embedding import embeddings

SIDE = 48


@pytest.mark.parametrize("name", TREES)
def test_trees_on_embeddings_learn_are_saved_and_predict_the_same(name: str, tmp_path: Path) -> None:
    architecture, unseen = get_architecture(name, "images", "classification"), in_memory(18, SIDE, first=200)
    chosen = {**architecture.defaults, "features": "embedding"}  # the contract suite fits descriptors
    model: Any = architecture.build(chosen, rounds=30, trees=30, seed=3, device="cpu").fit(in_memory(36, SIDE), unseen)
    assert (model.predict(unseen) == unseen.target).mean() > 0.8
    model.save(tmp_path / "model")
    loaded = type(model).load(tmp_path / "model")
    assert loaded.features == "embedding"
    np.testing.assert_array_equal(loaded.predict_proba(unseen), model.predict_proba(unseen))


@pytest.mark.parametrize("name", TREES)
def test_classes_weigh_alike_where_that_is_asked_for(name: str) -> None:
    codes = np.array([0] * 24 + [1] * 6 + [2] * 6)
    blank = labeled(np.full((36, 32, 32, 3), 120, np.uint8), codes)  # all that can be learnt is how often a class is
    for balanced, expected in ((True, [1 / 3] * 3), (False, [2 / 3, 1 / 6, 1 / 6])):
        architecture = get_architecture(name, "images", "classification")
        chosen = {**architecture.defaults, "balanced": balanced, "row_share": 1.0}
        model = architecture.build(chosen, rounds=60, trees=5, device="cpu")
        np.testing.assert_allclose(model.fit(blank).outputs(blank)[0], expected, rtol=0, atol=0.12)


@pytest.mark.parametrize("name", TREES)
@pytest.mark.parametrize(
    ("weights", "allowed"), [("none", {"descriptors"}), ("imagenet", {"embedding", "descriptors"})]
)
def test_a_study_without_trained_weights_never_draws_embeddings(name: str, weights: str, allowed: set[str]) -> None:
    space = get_architecture(name, "images", "classification").space
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    assert space is not None and {space(study.ask(), {"weights": weights})["features"] for _ in range(12)} == allowed


def test_images_without_a_cell_have_finite_features() -> None:
    odd = np.zeros((8, SIDE, SIDE, 3), np.uint8)
    odd[1:4] = np.array([7, 90, 255])[:, None, None, None]
    odd[4] = np.random.default_rng(0).integers(0, 256, odd[4].shape)
    odd[2, 10:20, 10:20, 0] = odd[5, 20, 20] = odd[6, 20, 5:40] = 200  # no green, one pixel, a line
    odd[7, ::7, ::7] = 180
    samples = labeled(odd, np.zeros(8, int))
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        assert np.isfinite(descriptors(samples).astype(np.float16)).all()
    assert np.isfinite(embeddings(samples, "cpu")).all()


@settings(max_examples=30, deadline=None)
@given(arrays(np.uint8, (16, 16, 3), elements=st.sampled_from([0, 7, 8, 9, 128, 255])))
def test_no_image_at_all_has_features_that_are_not_finite(pixels: np.ndarray) -> None:
    found = descriptors(labeled(pixels[None], np.array([0])))
    assert np.isfinite(found.astype(np.float16)).all()


def test_descriptors_do_not_depend_on_how_the_cell_is_turned() -> None:
    pixels = draw(1, 5, SIDE)
    turned = np.stack([pixels, np.rot90(pixels), pixels[:, ::-1], np.rot90(pixels, 2)])
    found = descriptors(labeled(np.ascontiguousarray(turned), np.zeros(4, int))).astype(float)
    np.testing.assert_allclose(found[1:], np.tile(found[0], (3, 1)), rtol=0.02, atol=0.02)


@pytest.mark.parametrize("field", [0, 220])
def test_a_cell_on_black_or_on_a_bright_field_is_the_foreground(field: int) -> None:
    cell = np.full((SIDE, SIDE, 3), field, np.uint8)
    cell[10:30, 12:30] = (150, 60, 140)
    np.testing.assert_array_equal(foreground(cell), cell[..., 1] == 60)


def test_the_frame_of_a_segmented_cell_does_not_count() -> None:
    cell = np.zeros((SIDE, SIDE, 3), np.uint8)
    cell[10:30, 12:30] = np.random.default_rng(0).integers(100, 180, (20, 18, 3))
    moved = np.roll(cell, (6, 9), axis=(0, 1))
    found = descriptors(labeled(np.stack([cell, moved]), np.zeros(2, int)))
    np.testing.assert_allclose(found[1], found[0], rtol=1e-4, atol=1e-4)
