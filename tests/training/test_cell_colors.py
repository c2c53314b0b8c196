"""Stains of two laboratories are brought to that of the training rows, which no other row can move."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.training.image_samples import TREES, draw, in_memory, labeled
from tests.training.test_isolated_cells import samples_of, smear
from training.architectures import get_architecture
from training.architectures.efficientnet_lite0 import EfficientNetLite0
from training.features.cell_color import COLORS, learned_stain, matched, stain_moments
from training.features.isolated_cells import isolated
from training.networks.augment import restained

SIDE = 48
AIM = torch.tensor([[0.5, 0.9, 0.4], [0.15, 0.3, 0.1]])


def cells(count: int = 4) -> torch.Tensor:
    """Return isolated cells, float in 0..255, with noise."""
    pixels = isolated(samples_of(smear()), "cell").pixels[0]
    noise = np.random.default_rng(0).normal(0, 6, (count, *pixels.shape))
    noisy = np.where(pixels.max(axis=2, keepdims=True) > 0, (pixels + noise).clip(20, 235), 0)
    return torch.from_numpy(noisy).permute(0, 3, 1, 2).float()


def test_a_cell_has_the_moments_that_are_asked_for_and_its_frame_stays_black() -> None:
    images = cells()
    changed = matched(images, AIM)
    torch.testing.assert_close(stain_moments(changed), AIM, rtol=0, atol=0.03)
    outside = images.amax(dim=1) == 0
    assert (changed.permute(0, 2, 3, 1)[outside] == 0).all() and outside.any()


def test_one_cell_in_two_stains_becomes_one_picture() -> None:
    images = cells()
    scale, shift = (torch.tensor(each).view(1, 3, 1, 1) for each in ([1.3, 0.8, 1.1], [0.05, -0.02, 0.1]))
    other = restained(images, scale, shift)
    assert (images - other).abs()[images > 0].mean() > 15
    aim = stain_moments(images)
    torch.testing.assert_close(matched(images, aim), matched(other, aim), rtol=0, atol=4)
    torch.testing.assert_close(matched(images, aim), images, rtol=0, atol=4)


def test_an_image_of_one_color_stays_finite_and_one_of_many_does_not_depend_on_the_others() -> None:
    flat = torch.full((1, 3, 8, 8), 128.0)
    assert matched(flat, AIM).isfinite().all() and matched(0 * flat, AIM).eq(0).all()
    images = cells()
    torch.testing.assert_close(matched(images, AIM)[1:2], matched(images[1:2], AIM))


def fitted(name: str, train: Any, validation: Any, **chosen: Any) -> Any:
    architecture = get_architecture(name, "images", "classification")
    features = {"features": "embedding"} if name in TREES else {}
    small = {"rounds": 30, "trees": 30, "views": 2, "seed": 3, "device": "cpu", "epochs": 1, **chosen}
    point = {**architecture.defaults, **features, "color": small.pop("color", "reinhard")}
    return architecture.build(point, **small).fit(train, validation)


@pytest.mark.parametrize("name", [EfficientNetLite0.architecture, *TREES])
def test_the_stain_is_learned_on_training_rows_alone_and_saved_with_the_model(name: str, tmp_path: Path) -> None:
    train, unseen = in_memory(36, SIDE), in_memory(18, SIDE, first=200)
    model = fitted(name, train, unseen)
    np.testing.assert_array_equal(model.stain_, learned_stain("reinhard", train))
    green = labeled(np.full_like(unseen.pixels, (20, 200, 20)), unseen.target)
    np.testing.assert_array_equal(fitted(name, train, green).stain_, model.stain_)
    alone = model.predict_proba(unseen.take(np.array([0])))
    np.testing.assert_allclose(model.predict_proba(unseen)[:1], alone, atol=1e-4)  # no batch has moments of its own
    model.predict_proba(green)
    model.save(tmp_path / "model")
    loaded = type(model).load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.stain_, learned_stain("reinhard", train))
    np.testing.assert_array_equal(loaded.predict_proba(unseen), model.predict_proba(unseen))


@pytest.mark.parametrize("name", [EfficientNetLite0.architecture, TREES[0]])
def test_a_model_of_an_earlier_release_has_no_stain_and_answers_as_it_did(name: str) -> None:
    train, unseen = in_memory(24, SIDE), in_memory(6, SIDE, first=200)
    model = fitted(name, train, unseen, color="as_is")
    state = model.state()
    assert state.pop("stain") is None
    restored = type(model)(**model.get_params(deep=False)).restore(state)
    np.testing.assert_array_equal(restored.predict_proba(unseen), model.predict_proba(unseen))


def test_a_network_is_shown_the_cell_in_the_stain_of_the_training_rows() -> None:
    """Whether a cell is stained heavily does not reach a network with ``reinhard``, and reaches one without."""
    train = in_memory(24, SIDE)
    heavy = np.stack([draw(code, 300 + code, SIDE) for code in range(3)])
    light = restained(torch.from_numpy(heavy).permute(0, 3, 1, 2).float(), torch.tensor(0.6), torch.tensor(0.0))
    samples = [labeled(pixels, np.arange(3)) for pixels in (heavy, light.permute(0, 2, 3, 1).round().byte().numpy())]
    moved = {}
    for color in ("as_is", "reinhard"):
        model = fitted(EfficientNetLite0.architecture, train, None, color=color, epochs=0)
        one, other = (model._normalized(model._float(each.pixels)) for each in samples)
        moved[color] = float((one - other).abs().mean())
    assert moved["reinhard"] < 0.3 * moved["as_is"]
    assert set(COLORS) == {"as_is", "gray", "standard", "reinhard"}
