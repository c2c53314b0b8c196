"""The contract of every architecture that takes images, at the smallest size that it takes, from scratch."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
import torch
from torch import nn

from pipelines.errors import UserError
from pipelines.samples.images import ImageSamples
from tests.training.contract_builders import image_contract
from tests.training.image_samples import NETWORKS, TASK, draw, image_task, in_memory, labeled, settled_weights
from training.architectures import Architecture, get_architecture, names
from training.estimator import Classifier, FitContext
from training.model.predictor import Predictor
from training.model.track import save_model
from training.networks import cell_network, transfer_module
from training.networks.cell_network import CellNetwork
from training.networks.transfer import MODES
from training.networks.transfer_module import TransferModule

ROUNDING = 1e-4  # a batch of another size is summed in another order
SETTINGS: dict[str, Any] = {"modes": list(MODES), "weights": "imagenet"}
TUNED = [
    name
    for name in names("images", "classification")
    if get_architecture(name, "images", "classification").space is not None
]
SMALL: dict[str, Any] = {
    "epochs": 4,
    "views": 2,
    "test_views": 2,
    "rounds": 10,
    "trees": 10,
    "seed": 3,
    "device": "cpu",
}

Fits = Callable[[str], CellNetwork]

of_networks = pytest.mark.parametrize("architecture", NETWORKS, indirect=True)


def _build(architecture: Architecture, mode: str = "head", **settings: Any) -> Classifier:
    chosen = dict(architecture.defaults)
    if "mode" in chosen:
        chosen |= {"mode": mode, "learning_rate": 2e-3}
    chosen |= {name: settings.pop(name) for name in list(settings) if name in architecture.defaults}
    estimator = architecture.build(chosen, **{**SMALL, "weights": "none", **settings})
    assert isinstance(estimator, Classifier)
    return estimator


def _side(architecture: Architecture) -> int:
    return architecture.estimator.backbone.smallest if issubclass(architecture.estimator, CellNetwork) else 32


@pytest.fixture(scope="module", params=names("images", "classification"))
def architecture(request: pytest.FixtureRequest) -> Architecture:
    return get_architecture(request.param, "images", "classification")


@pytest.fixture(scope="module")
def train(architecture: Architecture) -> ImageSamples:
    return in_memory(12, _side(architecture))


@pytest.fixture(scope="module")
def unseen(architecture: Architecture) -> ImageSamples:
    return in_memory(5, _side(architecture), first=100)


@pytest.fixture(scope="module")
def model(architecture: Architecture, train: ImageSamples) -> Classifier:
    """Return the architecture fitted with its defaults, from scratch."""
    return _build(architecture).fit(train)


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


# Predicting


# Fitting


@pytest.mark.parametrize("name", ["alexnet", "efficientnet_lite0"])
def test_augmentation_draws_from_the_seed_alone(name: str) -> None:
    train, answers = in_memory(6, 64), []
    for elsewhere, seed in ((98, 3), (99, 3), (99, 4)):
        torch.manual_seed(elsewhere)
        fitted = _build(
            get_architecture(name, "images", "classification"), "full", strength=1.0, seed=seed, epochs=2
        ).fit(train)
        answers.append(fitted.predict_proba(train))
    np.testing.assert_array_equal(answers[0], answers[1])
    assert (answers[0] != answers[2]).any()


@of_networks
@pytest.mark.parametrize("mode", MODES)
def test_training_lowers_the_loss(fits: Fits, mode: str) -> None:
    losses = [metrics["train_loss"] for metrics in fits(mode).trained_.history]
    assert np.isfinite(losses).all()
    assert min(losses[1:]) < 0.9 * losses[0]


@of_networks
@pytest.mark.parametrize("mode", MODES)
def test_gradients_reach_all_that_is_trained_and_nothing_that_is_frozen(
    architecture: Architecture, weights: str, train: ImageSamples, mode: str
) -> None:
    stages = _start(architecture, weights)
    frozen = {"head": len(stages), "partial": len(stages) - 1, "full": 0}[mode]
    width = transfer_module.head_width(stages, 3, train.pixels.shape[1])
    module = TransferModule(stages, frozen=frozen, width=width, classes=3, dropout=0.0).train()
    images = torch.from_numpy(train.pixels[:6]).permute(0, 3, 1, 2) / 128 - 1
    logits = module(images)
    assert logits.shape == (6, 3)
    nn.functional.cross_entropy(logits, torch.tensor(train.target[:6])).backward()
    assert all(parameter.grad is None for parameter in module.frozen.parameters())
    for part in (module.tail, module.head):
        for name, parameter in part.named_parameters():
            assert parameter.grad is not None, f"{name} is not reached"
            assert torch.isfinite(parameter.grad).all(), f"{name} has no finite gradient"


@of_networks
@pytest.mark.parametrize("mode", ["head", "partial"])
def test_a_fit_leaves_frozen_stages_bit_for_bit_as_they_were(
    architecture: Architecture, fits: Fits, weights: str, mode: str
) -> None:
    stages = _start(architecture, weights)
    module = fits(mode).module_
    assert len(module.frozen) == len(stages) - (mode == "partial")
    same = _same(module.frozen, nn.Sequential(*stages[: len(module.frozen)]))
    assert same, "nothing is frozen"
    assert all(same.values()), f"moved: {[key for key, kept in same.items() if not kept][:5]}"
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
def test_training_mode_does_not_reach_frozen_batch_normalization(fits: Fits, train: ImageSamples) -> None:
    module = fits("partial").module_
    before = _tensors(module.frozen)
    images = torch.from_numpy(train.pixels[:4]).permute(0, 3, 1, 2).float()
    try:
        with torch.no_grad():
            module.train()
            module.frozen(images)
        after = _tensors(module.frozen)
        assert not any(part.training for part in module.frozen.modules())
    finally:
        module.train(False)
    assert all(before[key].tobytes() == after[key].tobytes() for key in before)


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


@of_networks
def test_deeper_stages_learn_slower(fits: Fits) -> None:
    fitted = fits("full")
    rates = [share for _, share in fitted._rates(fitted.module_)]
    assert rates == sorted(rates)
    assert rates[-1] == 1.0
    assert rates[0] < 0.1 * rates[-1]
    reached = {id(parameter) for parameters, _ in fitted._rates(fitted.module_) for parameter in parameters}
    assert reached == {id(parameter) for parameter in fitted.module_.parameters() if parameter.requires_grad}


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


@of_networks
def test_an_image_that_is_too_small_is_refused_before_any_work(architecture: Architecture) -> None:
    smallest = _side(architecture)
    with pytest.raises(UserError, match=rf"{architecture.name}.*{smallest} pixels.*have {smallest - 1}.*data\.size"):
        _build(architecture, weights="/nowhere").fit(in_memory(6, smallest - 1))


@of_networks
def test_an_unknown_mode_is_refused(architecture: Architecture, train: ImageSamples) -> None:
    with pytest.raises(UserError, match=r"mode is 'frozen'.*head, partial, full"):
        _build(architecture, "frozen").fit(train)


# Saving and serving


@of_networks
@pytest.mark.parametrize("mode", ["partial", "full"])
def test_a_loaded_network_predicts_the_same_in_every_mode(
    architecture: Architecture, fits: Fits, mode: str, unseen: ImageSamples, tmp_path: Path
) -> None:
    fits(mode).save(tmp_path / "model")
    loaded = architecture.estimator.load(tmp_path / "model")  # the file of weights that it started from is not asked
    np.testing.assert_array_equal(loaded.outputs(unseen), fits(mode).outputs(unseen))


def test_the_served_model_equals_the_model_in_process(
    architecture: Architecture, model: Classifier, train: ImageSamples, unseen: ImageSamples, tmp_path: Path
) -> None:
    task = image_task(_side(architecture))
    contract = image_contract(TASK, architecture.name, task, unseen, 1.7, 0.1)
    baseline = get_architecture("majority_class", "images", "classification").build({}).fit(train)
    save_model(model, baseline, contract, tmp_path / "model")
    served = Predictor().read(tmp_path / "model")
    request = json.loads(json.dumps(contract.request(unseen).to_dict("records")))
    answer = served.predict(None, pd.DataFrame(request), {"explain": True})
    in_process = model.predict_proba(unseen) ** (1 / 1.7)
    in_process /= in_process.sum(axis=1, keepdims=True)
    given = np.array([[row[name] for name in unseen.classes] for row in answer["probabilities"]])
    np.testing.assert_allclose(given, in_process, rtol=0, atol=ROUNDING)
    assert answer["label"].tolist() == [unseen.classes[code] for code in model.predict(unseen)]
    assert ("overlay" in answer) == (architecture.name in NETWORKS)
    json.dumps(answer.to_dict("records"))


# Explaining


@of_networks
@pytest.mark.parametrize("mode", MODES)
def test_grad_cam_gives_a_map_of_each_image(fits: Fits, mode: str, unseen: ImageSamples) -> None:
    maps = fits(mode).heatmaps(unseen)
    assert maps.shape == unseen.pixels.shape[:3]
    assert maps.dtype == np.float32
    assert np.isfinite(maps).all()
    assert maps.min() >= 0
    largest = maps.max(axis=(1, 2))
    assert ((largest == 0) | (np.abs(largest - 1) < 1e-5)).all()


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


def test_the_cost_counts_parameters_and_multiply_adds(architecture: Architecture, model: Classifier) -> None:
    cost = model.cost()
    json.dumps(cost)
    assert cost["parameters"] > 0
    if architecture.name in NETWORKS:
        assert cost["trained_parameters"] < cost["parameters"]
        assert cost["multiply_adds"] > cost["parameters"] / 10
        assert cost["images_per_second"] > 0


# Hyperparameters


@pytest.mark.parametrize("modes", [["head"], ["partial", "full"], ["full", "head"]], ids="-".join)
@pytest.mark.parametrize("name", TUNED)
def test_the_first_trial_of_a_study_keeps_to_the_modes_that_are_allowed(name: str, modes: list[str]) -> None:
    architecture = get_architecture(name, "images", "classification")
    assert architecture.space is not None
    settings = {**SETTINGS, "modes": modes}
    first = architecture.first_trial(settings)
    if "mode" in first:
        assert first["mode"] == ("head" if "head" in modes else modes[0])
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.enqueue_trial(first)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert architecture.space(study.ask(), settings) == first
    for _ in range(10):
        assert architecture.space(study.ask(), settings).get("mode", modes[0]) in modes


@pytest.mark.parametrize("balanced", [True, False])
def test_classes_weigh_alike_where_that_is_asked_for(balanced: bool) -> None:
    codes = np.array([0] * 8 + [1] * 2 + [2] * 2)
    blank = labeled(np.full((12, 32, 32, 3), 120, np.uint8), codes)  # all that can be learnt is how often a class is
    architecture = get_architecture("efficientnet_lite0", "images", "classification")
    chosen = {**architecture.defaults, "balanced": balanced, "strength": 0.0, "learning_rate": 0.03}
    answer = architecture.build(chosen, **{**SMALL, "epochs": 150}).fit(blank).outputs(blank)[0]
    np.testing.assert_allclose(answer, [1 / 3] * 3 if balanced else [2 / 3, 1 / 6, 1 / 6], rtol=0, atol=0.05)


def test_label_smoothing_makes_answers_less_certain() -> None:
    train, certain = in_memory(12, 32), []
    architecture = get_architecture("efficientnet_lite0", "images", "classification")
    for smoothing in (0.0, 0.3):
        chosen = {**architecture.defaults, "label_smoothing": smoothing, "learning_rate": 0.03, "dropout": 0.0}
        answers = architecture.build(chosen, **{**SMALL, "epochs": 100}).fit(train).outputs(train)
        assert (answers.argmax(axis=1) == train.target).all()
        certain.append(answers.max(axis=1).mean())
    assert certain[0] > 0.97
    assert 0.6 < certain[1] < 0.9, "three tenths of each label are spread over three classes: 0.8 is certain"


def test_a_killed_fit_goes_on_to_the_same_model(tmp_path: Path) -> None:
    class KilledError(Exception):
        pass

    def killed(step: int, metrics: dict[str, float]) -> None:
        if step == 1:
            raise KilledError

    architecture = get_architecture("efficientnet_lite0", "images", "classification")
    train, unseen = in_memory(9, 32), in_memory(6, 32, first=50)
    for mode in ("head", "full"):
        whole = _build(architecture, mode).fit(train, unseen)
        checkpoint = tmp_path / f"{mode}.pt"
        with pytest.raises(KilledError):
            _build(architecture, mode).fit(train, unseen, FitContext(killed, checkpoint))
        gone_on = _build(architecture, mode).fit(train, unseen, FitContext(None, checkpoint))
        np.testing.assert_array_equal(gone_on.predict_proba(unseen), whole.predict_proba(unseen))
        done = _build(architecture, mode).fit(train, unseen, FitContext(None, checkpoint))
        assert "images_per_second" not in done.cost(), "no epoch was left to train, and none is timed"


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
    assert images.grad is not None
    assert torch.isfinite(images.grad).all()
