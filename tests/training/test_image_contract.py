"""Transfer learning on images, of two networks at their smallest size: what is trained and what is frozen."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from torch import nn

from pipelines.errors import UserError
from pipelines.samples.images import ImageSamples
from tests.training.image_samples import NETWORKS, draw, in_memory, labeled, settled_weights
from training.architectures import Architecture, get_architecture
from training.backbone import Backbone
from training.networks import cell_network, transfer_module
from training.networks.cell_network import CellNetwork
from training.networks.transfer_module import TransferModule

LITE = get_architecture("efficientnet_lite0", "images", "classification")
SMALL: dict[str, Any] = {"epochs": 4, "views": 2, "test_views": 2, "seed": 3, "device": "cpu"}

of_networks = pytest.mark.parametrize("architecture", ["alexnet", "efficientnet_lite0"], indirect=True)
of_every_network = pytest.mark.parametrize("architecture", NETWORKS, indirect=True)


def _build(architecture: Architecture, mode: str = "head", **settings: Any) -> Any:
    chosen = {**architecture.defaults, "mode": mode, "learning_rate": 2e-3}
    chosen |= {name: settings.pop(name) for name in list(settings) if name in architecture.defaults}
    return architecture.build(chosen, **{**SMALL, "weights": "none", **settings})


def _backbone(architecture: Architecture) -> Backbone:
    assert issubclass(architecture.estimator, CellNetwork)
    return architecture.estimator.backbone


@pytest.fixture(scope="module")
def architecture(request: pytest.FixtureRequest) -> Architecture:
    return get_architecture(request.param, "images", "classification")


@pytest.fixture(scope="module")
def train(architecture: Architecture) -> ImageSamples:
    return in_memory(12, _backbone(architecture).smallest)


@pytest.fixture(scope="module")
def weights(architecture: Architecture, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return a file that stands in for trained weights."""
    path, backbone = tmp_path_factory.mktemp("weights") / f"{architecture.name}.safetensors", _backbone(architecture)
    yield str(settled_weights(backbone, path, backbone.smallest))
    path.unlink()


def _start(architecture: Architecture, weights: str) -> list[nn.Module]:
    return _backbone(architecture).build(architecture.name, weights)


def _same(one: nn.Module, other: nn.Module) -> dict[str, bool]:
    """Return for each tensor whether both modules have it bit for bit."""
    left, right = one.state_dict(), other.state_dict()
    assert left.keys() == right.keys()
    return {key: left[key].numpy().tobytes() == right[key].numpy().tobytes() for key in left}


def test_augmentation_draws_from_the_seed_alone() -> None:
    train, answers = in_memory(6, 64), []
    for elsewhere, seed in ((98, 3), (99, 3), (99, 4)):
        torch.manual_seed(elsewhere)
        answers.append(_build(LITE, "full", strength=1.0, seed=seed, epochs=2).fit(train).predict_proba(train))
    np.testing.assert_array_equal(answers[0], answers[1])
    assert (answers[0] != answers[2]).any()


@of_every_network
@pytest.mark.parametrize("mode", ["partial", "full"])
def test_gradients_reach_all_that_is_trained_and_nothing_that_is_frozen(
    architecture: Architecture, train: ImageSamples, mode: str
) -> None:
    stages = _start(architecture, "none")
    width, frozen = transfer_module.head_width(stages, 3, train.pixels.shape[1]), len(stages) - 1
    settings: dict[str, Any] = {"frozen": frozen if mode == "partial" else 0, "classes": 3, "dropout": 0.0}
    module = TransferModule(stages, width=width, **settings).train()
    logits = module(torch.from_numpy(train.pixels[:6]).permute(0, 3, 1, 2) / 128 - 1)
    assert logits.shape == (6, 3)
    nn.functional.cross_entropy(logits, torch.tensor(train.target[:6])).backward()
    assert all(parameter.grad is None for parameter in module.frozen.parameters())
    for name, parameter in [*module.tail.named_parameters(), *module.head.named_parameters()]:
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name


@of_networks
@pytest.mark.parametrize(("mode", "kept"), [("head", True), ("partial", True), ("partial", False), ("full", True)])
def test_a_fit_trains_its_stages_and_leaves_frozen_ones_bit_for_bit_as_they_were(
    architecture: Architecture, weights: str, train: ImageSamples, mode: str, kept: bool, monkeypatch: Any
) -> None:
    if not kept:
        monkeypatch.setattr(cell_network, "LARGEST_FEATURES", 0.0)
    settings = {"weights": weights, "strength": 0.0, "dropout": 0.0, "penalty": None, "epochs": 6 if kept else 1}
    module, stages = _build(architecture, mode, **settings).fit(train).module_, _start(architecture, weights)
    frozen = {"head": len(stages), "partial": len(stages) - 1, "full": 0}[mode]
    assert len(module.frozen) == frozen
    assert all(_same(module.frozen, nn.Sequential(*stages[:frozen])).values())
    same = _same(module.tail, nn.Sequential(*stages[frozen:]))
    assert mode == "head" or not all(same.values()), "the last stage was not trained"
    if mode == "full":
        means = [key for key in same if key.endswith("running_mean")]
        assert not any(same[key] for key in same if key.endswith("weight")), "a weight was not trained"
        assert not any(same[key] for key in means), "a running mean stood still"
        assert bool(means) == any(isinstance(part, nn.BatchNorm2d) for part in module.tail.modules())


def test_a_step_of_each_stage_is_as_long_as_its_depth_says() -> None:
    settings = {"learning_rate": 0.01, "backbone_rate": 0.5, "layer_decay": 0.7, "weight_decay": 0.0}
    fitted = _build(LITE, "full", weights="imagenet", epochs=1, strength=0.0, **settings).fit(in_memory(12, 64))
    stages = _start(LITE, "imagenet")
    assert len(stages) == len(fitted.module_.tail) > 3
    for depth, both in enumerate(zip(fitted.module_.tail, stages, strict=True)):
        pairs = zip(*(part.parameters() for part in both), strict=True)
        # All images are one batch, and the first step of Adam is as long as the rate, whatever the gradient.
        longest = max(float((p - q).detach().abs().max()) for p, q in pairs)
        assert longest == pytest.approx(0.01 * 0.5 * 0.7 ** (len(stages) - 1 - depth), rel=0.02)


@of_every_network
def test_an_image_that_is_too_small_or_an_unknown_mode_is_refused(architecture: Architecture) -> None:
    smallest = _backbone(architecture).smallest
    with pytest.raises(UserError, match="mode is 'frozen'"):
        _build(architecture, "frozen").fit(in_memory(6, smallest))
    with pytest.raises(UserError, match=rf"{smallest} pixels.*have {smallest - 1}"):
        _build(architecture, weights="/nowhere").fit(in_memory(6, smallest - 1))


def test_grad_cam_follows_the_cell() -> None:
    side = 160
    pixels = np.full((4, side, side, 3), 190, np.uint8)
    pixels[0, 40:120, :80] = pixels[1, 40:120, 80:] = draw(2, 1, side // 2)
    samples = labeled(pixels, np.array([2, 2, 0, 0]))
    maps = _build(LITE, weights="imagenet", epochs=10).fit(samples).heatmaps(samples)
    share = maps[:2, :, : side // 2].sum(axis=(1, 2)) / maps[:2].sum(axis=(1, 2))
    assert share[0] > share[1] + 0.2


@pytest.mark.parametrize("modes", [["head"], ["partial", "full"], ["full", "head"]], ids="-".join)
def test_the_first_trial_of_a_study_keeps_to_the_modes_that_are_allowed(modes: list[str]) -> None:
    assert LITE.space is not None
    settings = {"weights": "imagenet", "modes": modes}
    first = LITE.first_trial(settings)
    assert first["mode"] == ("head" if "head" in modes else modes[0])
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.enqueue_trial(first)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert LITE.space(study.ask(), settings) == first
    assert {LITE.space(study.ask(), settings)["mode"] for _ in range(10)} <= set(modes)


@pytest.mark.parametrize(("balanced", "expected"), [(True, [1 / 3] * 3), (False, [2 / 3, 1 / 6, 1 / 6])])
def test_classes_weigh_alike_where_that_is_asked_for(balanced: bool, expected: list[float]) -> None:
    codes = np.array([0] * 8 + [1] * 2 + [2] * 2)
    blank = labeled(np.full((12, 32, 32, 3), 120, np.uint8), codes)  # all that can be learnt is how often a class is
    chosen = {**LITE.defaults, "balanced": balanced, "strength": 0.0, "learning_rate": 0.03}
    answer = LITE.build(chosen, **{**SMALL, "epochs": 150}).fit(blank).outputs(blank)[0]
    np.testing.assert_allclose(answer, expected, rtol=0, atol=0.05)


def test_the_head_sees_means_and_spreads_of_every_stage_but_the_stem() -> None:
    stages, images = nn.Sequential(*(nn.Conv2d(3, 3, 1) for _ in range(4))), torch.randn(2, 3, 5, 5)
    with torch.no_grad():
        last, seen = transfer_module.tapped(stages, images, 0)
        middle, early = transfer_module.tapped(stages[:2], images, 0)
        maps, late = stages[2](middle), transfer_module.tapped(stages[2:], middle, 2)[1]
        torch.testing.assert_close(last, stages(images))
    assert len(seen) == 6
    torch.testing.assert_close(seen[2], maps.flatten(2).mean(2))
    torch.testing.assert_close(seen[3], maps.flatten(2).std(2, correction=0), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close([*early, *late], seen)


def test_a_channel_without_spread_has_a_finite_slope() -> None:
    images = torch.full((2, 3, 4, 4), 0.5, requires_grad=True)
    _, seen = transfer_module.tapped(nn.Sequential(nn.Identity(), nn.Identity()), images, 0)
    torch.cat(seen, dim=1).sum().backward()
    assert images.grad is not None and torch.isfinite(images.grad).all()
