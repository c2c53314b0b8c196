"""Transfer learning on images, of two networks at their smallest size: what is trained and what is frozen."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
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
from training.estimator import Classifier
from training.networks import cell_network, transfer_module
from training.networks.cell_network import CellNetwork
from training.networks.transfer_module import TransferModule

SMALL: dict[str, Any] = {"epochs": 4, "views": 2, "test_views": 2, "seed": 3, "device": "cpu"}

Fits = Callable[[str], CellNetwork]

of_networks = pytest.mark.parametrize("architecture", ["alexnet", "efficientnet_lite0"], indirect=True)
of_every_network = pytest.mark.parametrize("architecture", NETWORKS, indirect=True)


def _build(architecture: Architecture, mode: str = "head", **settings: Any) -> Classifier:
    chosen = {**architecture.defaults, "mode": mode, "learning_rate": 2e-3}
    chosen |= {name: settings.pop(name) for name in list(settings) if name in architecture.defaults}
    estimator = architecture.build(chosen, **{**SMALL, "weights": "none", **settings})
    assert isinstance(estimator, Classifier)
    return estimator


def _side(architecture: Architecture) -> int:
    backbone: Any = vars(architecture.estimator)["backbone"]
    return int(backbone.smallest)


@pytest.fixture(scope="module")
def architecture(request: pytest.FixtureRequest) -> Architecture:
    return get_architecture(request.param, "images", "classification")


@pytest.fixture(scope="module")
def train(architecture: Architecture) -> ImageSamples:
    return in_memory(12, _side(architecture))


@pytest.fixture(scope="module")
def weights(architecture: Architecture, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return a file that stands in for trained weights."""
    assert issubclass(architecture.estimator, CellNetwork)
    path = tmp_path_factory.mktemp("weights") / f"{architecture.name}.safetensors"
    yield str(settled_weights(architecture.estimator.backbone, path, _side(architecture)))
    path.unlink()


@pytest.fixture(scope="module")
def fits(architecture: Architecture, weights: str, train: ImageSamples) -> Fits:
    """Return a function that gives the network fitted in a mode, fitted once."""
    models: dict[str, CellNetwork] = {}

    def get(mode: str) -> CellNetwork:
        if mode not in models:
            # From chance, so that it shows whether it learns.
            settings = {"weights": weights, "epochs": 6, "strength": 0.0, "dropout": 0.0, "penalty": None}
            fitted = _build(architecture, mode, **settings).fit(train)
            assert isinstance(fitted, CellNetwork)
            models[mode] = fitted
        return models[mode]

    return get


def _start(architecture: Architecture, weights: str) -> list[nn.Module]:
    assert issubclass(architecture.estimator, CellNetwork)
    return architecture.estimator.backbone.build(architecture.name, weights)


def _tensors(module: nn.Module) -> dict[str, np.ndarray]:
    return {key: tensor.detach().numpy().copy() for key, tensor in module.state_dict().items()}


def _same(one: nn.Module, other: nn.Module) -> dict[str, bool]:
    """Return for each tensor whether both modules have it bit for bit."""
    left, right = _tensors(one), _tensors(other)
    assert left.keys() == right.keys()
    return {key: left[key].tobytes() == right[key].tobytes() for key in left}


# Fitting


def test_augmentation_draws_from_the_seed_alone() -> None:
    train, answers = in_memory(6, 64), []
    for elsewhere, seed in ((98, 3), (99, 3), (99, 4)):
        torch.manual_seed(elsewhere)
        lite = get_architecture("efficientnet_lite0", "images", "classification")
        answers.append(_build(lite, "full", strength=1.0, seed=seed, epochs=2).fit(train).predict_proba(train))
    np.testing.assert_array_equal(answers[0], answers[1])
    assert (answers[0] != answers[2]).any()


@of_every_network
@pytest.mark.parametrize("mode", ["partial", "full"])
def test_gradients_reach_all_that_is_trained_and_nothing_that_is_frozen(
    architecture: Architecture, train: ImageSamples, mode: str
) -> None:
    stages = _start(architecture, "none")
    frozen = {"partial": len(stages) - 1, "full": 0}[mode]
    width = transfer_module.head_width(stages, 3, train.pixels.shape[1])
    module = TransferModule(stages, frozen=frozen, width=width, classes=3, dropout=0.0).train()
    images = torch.from_numpy(train.pixels[:6]).permute(0, 3, 1, 2) / 128 - 1
    logits = module(images)
    assert logits.shape == (6, 3)
    nn.functional.cross_entropy(logits, torch.tensor(train.target[:6])).backward()
    assert all(parameter.grad is None for parameter in module.frozen.parameters())
    for part in (module.tail, module.head):
        for name, parameter in part.named_parameters():
            assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name


@of_networks
@pytest.mark.parametrize("mode", ["head", "partial"])
def test_a_fit_leaves_frozen_stages_bit_for_bit_as_they_were(
    architecture: Architecture, fits: Fits, weights: str, mode: str
) -> None:
    stages = _start(architecture, weights)
    module = fits(mode).module_
    assert len(module.frozen) == len(stages) - (mode == "partial")
    same = _same(module.frozen, nn.Sequential(*stages[: len(module.frozen)]))
    assert same and all(same.values()), f"moved: {[key for key, kept in same.items() if not kept][:5]}"
    if mode == "partial":
        moved = _same(module.tail, nn.Sequential(*stages[-1:]))
        assert not all(moved.values()), "the last stage was not trained"


@of_networks
def test_frozen_stages_do_not_move_where_features_are_too_large_to_keep(
    architecture: Architecture, weights: str, train: ImageSamples, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cell_network, "LARGEST_FEATURES", 0.0)
    fitted = _build(architecture, "partial", weights=weights, epochs=1).fit(train)
    assert isinstance(fitted, CellNetwork)
    stages = _start(architecture, weights)
    assert all(_same(fitted.module_.frozen, nn.Sequential(*stages[:-1])).values())


@of_networks
def test_full_mode_trains_every_stage_and_its_batch_normalization(
    architecture: Architecture, fits: Fits, weights: str
) -> None:
    module = fits("full").module_
    assert len(module.frozen) == 0
    same = _same(module.tail, nn.Sequential(*_start(architecture, weights)))
    weighed = [key for key in same if key.endswith("weight")]
    assert not any(same[key] for key in weighed), "a weight was not trained"
    assert not any(same[key] for key in same if key.endswith("running_mean")), "a running mean stood still"
    batch_normalized = any(isinstance(part, nn.BatchNorm2d) for part in module.tail.modules())
    assert batch_normalized == any(key.endswith("running_mean") for key in same)


def test_a_step_of_each_stage_is_as_long_as_its_depth_says() -> None:
    architecture = get_architecture("efficientnet_lite0", "images", "classification")
    settings = {"learning_rate": 0.01, "backbone_rate": 0.5, "layer_decay": 0.7, "weight_decay": 0.0}
    fitted = _build(architecture, "full", weights="imagenet", epochs=1, strength=0.0, **settings).fit(in_memory(12, 64))
    assert isinstance(fitted, CellNetwork)
    stages = _start(architecture, "imagenet")
    assert len(stages) == len(fitted.module_.tail) > 3
    for depth, (stage, start) in enumerate(zip(fitted.module_.tail, stages, strict=True)):
        moved = [
            float((p - q).detach().abs().max()) for p, q in zip(stage.parameters(), start.parameters(), strict=True)
        ]
        # All images are one batch, and the first step of Adam is as long as the rate, whatever the gradient.
        assert max(moved) == pytest.approx(0.01 * 0.5 * 0.7 ** (len(stages) - 1 - depth), rel=0.02)


@of_every_network
def test_an_image_that_is_too_small_or_an_unknown_mode_is_refused(architecture: Architecture) -> None:
    smallest = _side(architecture)
    with pytest.raises(UserError, match=r"mode is 'frozen'.*head, partial, full"):
        _build(architecture, "frozen").fit(in_memory(6, smallest))
    with pytest.raises(UserError, match=rf"{architecture.name}.*{smallest} pixels.*have {smallest - 1}.*data\.size"):
        _build(architecture, weights="/nowhere").fit(in_memory(6, smallest - 1))


# Explaining


def test_grad_cam_follows_the_cell() -> None:
    side = 160
    gray, red = np.full((side, side, 3), 190, np.uint8), draw(2, 1, side // 2)
    left, right = gray.copy(), gray.copy()
    left[40:120, :80], right[40:120, 80:] = red, red
    samples = labeled(np.stack([left, right, gray, gray]), np.array([2, 2, 0, 0]))
    architecture = get_architecture("efficientnet_lite0", "images", "classification")
    fitted = _build(architecture, weights="imagenet", epochs=10).fit(samples)
    maps = fitted.heatmaps(samples)
    assert maps is not None
    share = maps[:2, :, : side // 2].sum(axis=(1, 2)) / maps[:2].sum(axis=(1, 2))
    assert share[0] > share[1] + 0.2


# Hyperparameters


@pytest.mark.parametrize("modes", [["head"], ["partial", "full"], ["full", "head"]], ids="-".join)
def test_the_first_trial_of_a_study_keeps_to_the_modes_that_are_allowed(modes: list[str]) -> None:
    architecture = get_architecture("efficientnet_lite0", "images", "classification")
    assert architecture.space is not None
    settings = {"weights": "imagenet", "modes": modes}
    first = architecture.first_trial(settings)
    assert first["mode"] == ("head" if "head" in modes else modes[0])
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.enqueue_trial(first)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert architecture.space(study.ask(), settings) == first
    for _ in range(10):
        assert architecture.space(study.ask(), settings)["mode"] in modes


@pytest.mark.parametrize("balanced", [True, False])
def test_classes_weigh_alike_where_that_is_asked_for(balanced: bool) -> None:
    codes = np.array([0] * 8 + [1] * 2 + [2] * 2)
    blank = labeled(np.full((12, 32, 32, 3), 120, np.uint8), codes)  # all that can be learnt is how often a class is
    architecture = get_architecture("efficientnet_lite0", "images", "classification")
    chosen = {**architecture.defaults, "balanced": balanced, "strength": 0.0, "learning_rate": 0.03}
    answer = architecture.build(chosen, **{**SMALL, "epochs": 150}).fit(blank).outputs(blank)[0]
    np.testing.assert_allclose(answer, [1 / 3] * 3 if balanced else [2 / 3, 1 / 6, 1 / 6], rtol=0, atol=0.05)


def test_the_head_sees_means_and_spreads_of_every_stage_but_the_stem() -> None:
    stages = nn.Sequential(*(nn.Conv2d(3, 3, 1) for _ in range(4)))
    images = torch.randn(2, 3, 5, 5)
    with torch.no_grad():
        last, seen = transfer_module.tapped(stages, images, 0)
        maps = stages[:3](images)
        torch.testing.assert_close(last, stages(images))
        assert len(seen) == 6
        torch.testing.assert_close(seen[2], maps.flatten(2).mean(2))
        torch.testing.assert_close(seen[3], maps.flatten(2).std(2, correction=0), rtol=1e-3, atol=1e-3)
        halves = [
            transfer_module.tapped(stages[:2], images, 0),
            transfer_module.tapped(stages[2:], stages[:2](images), 2),
        ]
        for one, other in zip(halves[0][1] + halves[1][1], seen, strict=True):
            torch.testing.assert_close(one, other)


def test_a_channel_without_spread_has_a_finite_slope() -> None:
    images = torch.full((2, 3, 4, 4), 0.5, requires_grad=True)
    _, seen = transfer_module.tapped(nn.Sequential(nn.Identity(), nn.Identity()), images, 0)
    torch.cat(seen, dim=1).sum().backward()
    assert images.grad is not None and torch.isfinite(images.grad).all()
