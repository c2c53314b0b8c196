"""Models of images at their smallest size: what is trained and what is frozen, the start of a head, trees, views."""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from pipelines.errors import UserError
from pipelines.samples.images import ImageSamples
from tests.training.image_samples import NETWORKS, TREES, draw, in_memory, labeled, settled_weights
from training.architectures import Architecture, get_architecture
from training.architectures.efficientnet_lite0 import EfficientNetLite0
from training.backbone import Backbone
from training.estimator import FitContext
from training.features.cell_color import grayed, standardized
from training.features.cell_image import descriptors
from training.features.sources import between_sources
from training.networks import cell_network, transfer
from training.networks.augment import CHUNK, StainJitter, augment, augmentation, restained
from training.networks.cell_network import CellNetwork, viewed
from training.networks.transfer import TransferModule, probe

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


@of_every_network
def test_gradients_reach_what_is_trained_alone(architecture: Architecture, train: ImageSamples) -> None:
    stages = _start(architecture, "none")
    width = transfer.head_width(stages, 3, train.pixels.shape[1])
    for frozen in (0, len(stages) - 1):
        module = TransferModule(stages, width=width, frozen=frozen, classes=3, dropout=0.0).train()
        module.zero_grad()
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
def test_an_image_that_is_too_small_is_refused(architecture: Architecture) -> None:
    smallest = _backbone(architecture).smallest
    with pytest.raises(UserError, match=rf"{smallest} pixels.*have {smallest - 1}"):
        _build(architecture, weights="/nowhere").fit(in_memory(6, smallest - 1))


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(UserError, match="mode is 'frozen'"):
        _build(LITE, "frozen").fit(in_memory(6, 32))


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
    assert LITE.space(optuna.trial.FixedTrial(first), settings) == first
    assert {LITE.space(study.ask(), settings)["mode"] for _ in range(10)} <= set(modes)


@pytest.mark.parametrize("name", ["efficientnet_lite0", "resnet50"])
def test_what_no_package_has_weights_of_learns_as_a_whole_and_every_stage_alike(name: str) -> None:
    architecture = get_architecture(name, "images", "classification")
    assert architecture.space is not None
    modes, packaged = {"modes": ("head", "partial")}, name == "efficientnet_lite0"
    first = architecture.first_trial({**modes, "weights": "packaged"})
    as_named = architecture.first_trial({**modes, "weights": "imagenet" if packaged else "none"})
    assert first == as_named and first["mode"] == ("head" if packaged else "full")
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = [architecture.space(study.ask(), {**modes, "weights": "packaged"}) for _ in range(10)]
    assert packaged or {(each["mode"], each["layer_decay"]) for each in drawn} == {("full", 1.0)}
    made = architecture.build(first, weights="packaged")
    assert made.pretraining()["pretrained_on"] == (["ImageNet-1k"] if packaged else [])
    rates = made._rates(_of_stages(made), started=False) if not packaged else []
    assert len({share for _, share in rates[:-1]}) == (0 if packaged else 1)
    said = architecture.estimator.origin(first, {"weights": "packaged"})
    assert said["pretrained"] == str(packaged).lower() and ("imagenet" in said["weights"]) == packaged


def _of_stages(made: Any) -> TransferModule:
    made.classes_ = ["a", "b"]
    stages = made._stages(made.weights)
    made._make(stages, transfer.head_width(stages, 3, 64))
    return made.module_


@pytest.mark.parametrize(
    ("name", "count", "chosen", "atol"),
    [
        (LITE.name, 2, {"strength": 0.0, "learning_rate": 0.03}, 0.05),
        *((name, 6, {"row_share": 1.0}, 0.12) for name in TREES),
    ],
)
@pytest.mark.parametrize(("balanced", "expected"), [(True, [1 / 3] * 3), (False, [2 / 3, 1 / 6, 1 / 6])])
def test_classes_weigh_alike(name: str, count: int, chosen: Any, atol: float, balanced: bool, expected: Any) -> None:
    codes = np.repeat([0, 1, 2], [4 * count, count, count])
    blank = labeled(np.full((6 * count, 32, 32, 3), 120, np.uint8), codes)  # all that can be learnt is their shares
    architecture = get_architecture(name, "images", "classification")
    point = {**architecture.defaults, **chosen, "balanced": balanced}
    model = architecture.build(point, **{**SMALL, "epochs": 150, "rounds": 60, "trees": 5}).fit(blank)
    np.testing.assert_allclose(model.outputs(blank)[0], expected, rtol=0, atol=atol)


def test_the_head_sees_means_and_spreads_of_every_stage_but_the_stem() -> None:
    stages, images = nn.Sequential(*(nn.Conv2d(3, 3, 1) for _ in range(4))), torch.randn(2, 3, 5, 5)
    with torch.no_grad():
        last, seen = transfer.tapped(stages, images, 0)
        middle, early = transfer.tapped(stages[:2], images, 0)
        maps, late = stages[2](middle), transfer.tapped(stages[2:], middle, 2)[1]
        torch.testing.assert_close(last, stages(images))
    assert len(seen) == 6
    torch.testing.assert_close(seen[2], maps.flatten(2).mean(2))
    torch.testing.assert_close(seen[3], maps.flatten(2).std(2, correction=0), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close([*early, *late], seen)


def test_a_channel_without_spread_has_a_finite_slope() -> None:
    images = torch.full((2, 3, 4, 4), 0.5, requires_grad=True)
    _, seen = transfer.tapped(nn.Sequential(nn.Identity(), nn.Identity()), images, 0)
    torch.cat(seen, dim=1).sum().backward()
    assert images.grad is not None and torch.isfinite(images.grad).all()


WIDTH, ROWS = 12, 300


def _rows(classes: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(classes)
    codes = rng.integers(classes, size=ROWS)
    features = rng.normal(size=(ROWS, WIDTH)) * np.logspace(-1, 2, WIDTH) + 5
    features[:, :classes] += np.eye(classes)[codes] * features[:, :classes].std(axis=0)
    return features, codes


def probed(seen: torch.Tensor, codes: np.ndarray, penalty: float) -> np.ndarray:
    """Return the logits of a head that starts from these features."""
    torch.manual_seed(0)
    mine = nn.Sequential(nn.BatchNorm1d(WIDTH, affine=False), nn.Dropout(0.3), nn.Linear(WIDTH, codes.max() + 1)).eval()
    probe(mine, seen, torch.from_numpy(codes), nn.CrossEntropyLoss(), penalty)
    return np.asarray(mine(seen.float()).detach())


@pytest.mark.parametrize(("classes", "kind", "at_once"), [(2, torch.float16, 7), (3, torch.float64, 4096)])
@pytest.mark.parametrize("penalty", [0.01, 30.0])
def test_it_is_logistic_regression_on_standardized_features(
    classes: int, kind: torch.dtype, at_once: int, penalty: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "_ROWS", at_once)
    features, codes = _rows(classes)
    seen = torch.from_numpy(features).to(kind)
    scaled = StandardScaler().fit_transform(seen.double().numpy())
    # Of two classes scikit-learn has one row of weights: the difference of the two that are penalized here.
    c = (2 if classes == 2 else 1) / (penalty * ROWS)
    theirs = LogisticRegression(C=c, tol=1e-8, max_iter=5000).fit(scaled, codes)
    np.testing.assert_allclose(softmax(probed(seen, codes, penalty), axis=1), theirs.predict_proba(scaled), atol=2e-3)


def fitted(held_out: ImageSamples | None = None, **seen: Any) -> EfficientNetLite0:
    settings: dict[str, Any] = {"epochs": 3, "views": 2, "seed": 1, "device": "cpu", "weights": "imagenet"}
    watched = in_memory(12, first=100) if held_out is None else held_out
    return EfficientNetLite0(**settings | seen).fit(in_memory(24), watched, FitContext())


def test_the_start_is_kept_where_no_epoch_is_better() -> None:
    held_out = in_memory(12, first=100)
    others = labeled(held_out.pixels, np.roll(held_out.target, 1))  # on which the more is learnt the worse it is
    spoiled, alone = fitted(others, learning_rate=0.03, penalty=10.0), fitted(others, epochs=0, penalty=10.0)
    assert (spoiled.trained_.best_epoch, len(spoiled.trained_.history), alone.trained_.history) == (-1, 3, [])
    np.testing.assert_array_equal(spoiled.predict_proba(held_out), alone.predict_proba(held_out))
    assert (alone.predict(held_out) == held_out.target).mean() > 0.8


def test_without_a_penalty_or_from_scratch_training_starts_from_chance() -> None:
    assert fitted(penalty=None).trained_.best_epoch >= 0
    assert fitted(mode="full", weights="none", epochs=1).trained_.best_epoch == 0
    untrained, held_out = fitted(penalty=None, epochs=0), in_memory(12, first=100)
    assert (untrained.predict(held_out) == held_out.target).mean() < 0.8


def test_training_does_not_carry_a_wide_head_off_its_start() -> None:
    held_out = in_memory(24, first=100)
    how: dict[str, Any] = {"views": 2, "strength": 0.0, "dropout": 0.0, "batch_size": 4, "seed": 1, "device": "cpu"}
    start, trained = (
        EfficientNetLite0(epochs=epochs, **how).fit(in_memory(24)).predict_proba(held_out) for epochs in (0, 2)
    )
    assert np.abs(trained - start).mean() < 0.03  # 0.06 if the rate did not fall with the width


def test_any_number_of_training_images_settles_batch_norm() -> None:
    EfficientNetLite0(mode="full", weights="none", epochs=0, device="cpu").fit(in_memory(transfer.BATCH + 1, 32))


@pytest.mark.parametrize("mode", ["partial", "full"])
def test_stages_that_are_trained_start_below_the_same_head(mode: str) -> None:
    held_out = in_memory(12, first=100)
    # The head of a full network has seen each image once, that of another each view.
    one, other = fitted(mode=mode, epochs=0), fitted(epochs=0, views=1 if mode == "full" else 2)
    np.testing.assert_allclose(one.predict_proba(held_out), other.predict_proba(held_out), atol=0.01)


def test_dropped_stages_are_neither_run_nor_seen_by_the_head() -> None:
    stages, held_out = _start(LITE, "imagenet"), in_memory(12, first=100)
    whole, short = fitted(epochs=0), fitted(epochs=0, dropped_stages=3)
    assert len(whole.module_.frozen) == len(stages) == len(short.module_.frozen) + 3
    assert short.module_.head[2].in_features == transfer.head_width(stages[:-3], 3, 64)
    assert short.cost()["multiply_adds"] < whole.cost()["multiply_adds"]
    assert (short.predict(held_out) == held_out.target).mean() > 0.8
    partial = fitted(mode="partial", dropped_stages=3, epochs=1).module_
    assert (len(partial.frozen), len(partial.tail)) == (len(stages) - 4, 1)


@pytest.mark.parametrize(("weights", "dropped"), [("imagenet", {0, 1, 2, 3}), ("none", {0})])
def test_a_study_drops_stages_of_trained_networks_alone(weights: str, dropped: set[int]) -> None:
    assert LITE.space is not None
    settings: dict[str, Any] = {"weights": weights, "modes": ["head", "full"]}
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = [LITE.space(study.ask(), settings) for _ in range(20)]
    models = [LITE.build(each, **settings) for each in [LITE.first_trial(settings), *drawn]]
    assert {model.get_params()["dropped_stages"] for model in models} == dropped
    assert {each["ema"] for each in drawn if each["mode"] == "full"} == {0.0, 0.99}
    assert not any("ema" in each for each in drawn if each["mode"] == "head")


def test_a_task_says_where_the_study_of_an_architecture_starts() -> None:
    own = {"dropped_stages": 3, "penalty": 0.07, "isolation": "cell"}
    settings = {"modes": ["head"], "first": {LITE.name: own, "resnet50": {"penalty": 1.0}}}
    assert LITE.first_trial(settings) == LITE.first_trial({"modes": ["head"]}) | own


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("dropped_stages", 4),
        ("dropped_stages", 1.5),
        ("penalty", "low"),
        ("isolation", "mask"),
        ("ema", 0.99),
        ("c", 1),
    ],
)
def test_a_start_outside_the_search_space_is_refused(name: str, value: Any) -> None:
    with pytest.raises(UserError, match=f"efficientnet_lite0 cannot start from {name}: {value!r}"):
        LITE.first_trial({"modes": ["head"], "first": {LITE.name: {name: value}}})


def test_what_differs_between_the_sources_of_a_class_counts_less_to_the_head() -> None:
    """One feature tells the class with noise, the other tells it in half of the sources alone."""
    rng, codes, source = np.random.default_rng(0), np.repeat([0, 1], 200), np.arange(400) // 50
    features = np.stack([codes + rng.normal(0, 0.7, 400), codes * (source % 2) + rng.normal(0, 0.2, 400)], axis=1)
    apart = between_sources(features, codes, source)
    means = np.array([features[source == each].mean(axis=0) for each in range(8)])
    spread = (means - np.repeat([means[:4].mean(axis=0), means[4:].mean(axis=0)], 4, axis=0)).std(axis=0)
    np.testing.assert_allclose(np.sqrt((apart**2).sum(axis=0)), spread, rtol=1e-5)
    seen, slopes = torch.from_numpy(features), []
    for weight in (0.0, 100.0):
        head = nn.Sequential(nn.BatchNorm1d(2, affine=False), nn.Dropout(0.0), nn.Linear(2, 2))
        given = torch.from_numpy(weight**0.5 * apart)
        probe(head, seen, torch.from_numpy(codes), nn.CrossEntropyLoss(), 0.01, apart=given)
        slopes.append(dict(head.named_parameters())["2.weight"].detach()[1].abs())
    assert slopes[1][1] / slopes[1][0] < 0.6 * slopes[0][1] / slopes[0][0]


def test_a_fit_takes_sources_into_account_with_every_view_once() -> None:
    train = in_memory(24)
    named = replace(train, table=train.table.assign(subject_id=[f"s{row % 8}" for row in range(24)]))
    settings: dict[str, Any] = {**SMALL, "weights": "imagenet", "epochs": 0}
    plain, other = (LITE.build({"source_penalty": each}, **settings).fit(named).module_ for each in (0.0, 10.0))
    assert not torch.allclose(plain.head[2].weight, other.head[2].weight, atol=1e-4)


@pytest.mark.parametrize("dropped", [-1, 8])
def test_stages_that_the_head_needs_cannot_be_dropped(dropped: int) -> None:
    with pytest.raises(UserError, match=f"dropped_stages is {dropped}.*9 stages"):
        fitted(dropped_stages=dropped)


def test_trials_whose_frozen_stages_are_the_same_do_not_share_maps_and_summaries() -> None:
    context, train = FitContext(), in_memory(12)
    settings: dict[str, Any] = {**SMALL, "weights": "imagenet", "epochs": 1}
    for chosen in ({"mode": "head", "dropped_stages": 2}, {"mode": "partial", "unfrozen": 2}):
        shared = LITE.build(chosen, **settings).fit(train, None, context)
        np.testing.assert_array_equal(shared.outputs(train), LITE.build(chosen, **settings).fit(train).outputs(train))


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
    outputs, features = loaded.outputs_embedded(unseen)
    for again in (loaded.predict_proba(unseen), outputs):
        np.testing.assert_array_equal(again, model.predict_proba(unseen))
    np.testing.assert_array_equal(features, model.embedded(unseen))


@pytest.mark.parametrize("name", TREES)
@pytest.mark.parametrize(
    ("settings", "allowed"),
    [
        ({"weights": "none"}, {"descriptors"}),
        ({"weights": "imagenet"}, {"embedding", "descriptors"}),
        ({"weights": "packaged", "tree_features": ("embedding",)}, {"embedding"}),
        ({"weights": "imagenet", "tree_features": ("descriptors",)}, {"descriptors"}),
    ],
)
def test_trees_see_the_features_that_weights_and_settings_allow(name: str, settings: Any, allowed: set[str]) -> None:
    architecture = get_architecture(name, "images", "classification")
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    assert architecture.space is not None
    assert {architecture.space(study.ask(), settings)["features"] for _ in range(12)} == allowed
    assert architecture.first_trial(settings)["features"] in allowed


@settings(max_examples=30, deadline=None)
@given(arrays(np.uint8, (16, 16, 3), elements=st.sampled_from([0, 7, 8, 9, 128, 255])), st.booleans())
def test_no_image_at_all_has_features_that_are_not_finite(pixels: np.ndarray, gray: bool) -> None:
    samples = labeled((pixels[..., :1].repeat(3, axis=2) if gray else pixels)[None], np.array([0]))
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        assert np.isfinite(descriptors(samples).astype(np.float16)).all()


def test_neither_how_a_cell_is_turned_nor_the_frame_of_a_segmented_one_counts() -> None:
    pixels, cell = draw(1, 5, SIDE), np.zeros((SIDE, SIDE, 3), np.uint8)
    cell[10:30, 12:30] = np.random.default_rng(0).integers(100, 180, (20, 18, 3))
    for images, within in (
        ([pixels, np.rot90(pixels), pixels[:, ::-1], np.rot90(pixels, 2)], 0.02),
        ([cell, np.roll(cell, (6, 9), axis=(0, 1))], 1e-4),
    ):
        first, *others = descriptors(labeled(np.stack(images), np.zeros(len(images), int))).astype(float)
        np.testing.assert_allclose(others, [first] * len(others), rtol=within, atol=within)


# Changes that would teach a network something else than the cell: mixed images, filled corners, a stained frame


def _images(count: int = 11) -> Tensor:
    """Return different images, float in 0..255; no number of them fills whole chunks."""
    return torch.from_numpy(in_memory(count, 32).pixels).permute(0, 3, 1, 2).float()


def _framed(count: int = 5) -> Tensor:
    """Return cells on black, as a segmented collection has them."""
    images = _images(count)
    y, x = torch.meshgrid(*[torch.linspace(-1, 1, 32)] * 2, indexing="ij")
    return images.clamp(min=20) * (y**2 + x**2 < 0.8)


def _turns(image: Tensor) -> set[bytes]:
    """Return the eight ways to turn and mirror a square."""
    turned = [torch.rot90(image, turn, (1, 2)) for turn in range(4)]
    return {each.numpy().tobytes() for one in turned for each in (one, one.flip(2))}


@pytest.mark.parametrize("strength", [0.0, 1.0])
@pytest.mark.parametrize("count", [1, CHUNK + 3])
def test_shape_and_range_stay_and_the_seed_alone_is_drawn_from(strength: float, count: int) -> None:
    images = _images(count)
    before = images.clone()
    found: list[Tensor] = []
    for seed in (0, 0, 1, 2, 3):
        torch.manual_seed(seed)
        found.append(changed := augment(images, augmentation(strength, 32)))
        assert changed.shape == images.shape and changed.dtype == torch.float32
        assert torch.isfinite(changed).all() and changed.min() >= 0 and changed.max() <= 255
    assert torch.equal(found[0], found[1])
    assert torch.equal(images, before), "the images themselves were changed"


def test_without_strength_images_are_turned_in_all_eight_ways_and_no_pixel_is_made_up() -> None:
    images = _images(CHUNK + 1)
    torch.manual_seed(0)
    changed = [augment(images, augmentation(0.0, 32)).numpy() for _ in range(120)]
    first, last = ({each[place].tobytes() for each in changed} for place in (0, -1))
    assert first == _turns(images[0]) and last <= _turns(images[-1])


def test_every_image_stays_at_its_own_row() -> None:
    codes = torch.arange(24) % 3
    images = torch.full((24, 3, 32, 32), 60.0)
    images[torch.arange(24), codes] = 180  # one channel of each image is bright
    torch.manual_seed(0)
    for _ in range(10):
        assert torch.equal(augment(images, augmentation(1.0, 32)).mean(dim=(2, 3)).argmax(dim=1), codes)


def test_images_are_stained_each_in_its_own_way_and_the_black_frame_of_a_cell_not() -> None:
    same, framed = _images(1).expand(CHUNK, -1, -1, -1), _framed()
    frame = framed.amax(dim=1) == 0
    torch.manual_seed(0)
    changed = augment(same, StainJitter(0.12))
    assert not any(torch.allclose(other, changed[0]) for other in changed[1:])
    assert (changed - same).abs().mean() > 1
    for _ in range(20):
        assert torch.equal(StainJitter(0.12)(framed).amax(dim=1) == 0, frame)


@settings(max_examples=50, deadline=None)
@given(
    scale=st.lists(st.floats(0.3, 2.0), min_size=3, max_size=3),
    shift=st.lists(st.floats(-0.8, 0.8), min_size=3, max_size=3),
)
def test_any_stain_keeps_range_frame_and_the_order_of_shades(scale: list[float], shift: list[float]) -> None:
    gray = torch.arange(8, 256, dtype=torch.float32).view(1, 1, 1, -1).expand(1, 3, 1, -1)
    changed = restained(gray, torch.tensor(scale).view(1, 3, 1, 1), torch.tensor(shift).view(1, 3, 1, 1))
    assert torch.isfinite(changed).all() and changed.min() >= 0 and changed.max() <= 255
    assert (changed.diff(dim=3) >= -1e-3).all(), "a darker shade became the lighter one"


def test_gray_and_standard_colors_do_not_tell_how_the_smear_was_lit_or_stained() -> None:
    images = _images().clamp(20, 200)
    gray, standard = grayed(images), standardized(images)
    assert gray.shape == images.shape and gray.flatten(1).std(dim=1).min() > 10
    assert torch.equal(gray[:, 0], gray[:, 1]) and torch.equal(gray[:, 0], gray[:, 2])
    assert not torch.equal(standard[:, 0], standard[:, 1]), "channels lie apart as they did"
    assert (standard.mean(dim=(2, 3)) - 120).abs().max() < 5
    scale, shift = torch.tensor([[0.8, 0.9, 1.1], [12.0, -8.0, 20.0]]).view(2, 1, 3, 1, 1)
    torch.testing.assert_close(standardized(images * scale + shift), standard, rtol=0, atol=0.1)
    for changed in (images * 0.8 + 9, images + shift):
        torch.testing.assert_close(grayed(changed), gray, rtol=0, atol=0.1)


@pytest.mark.parametrize("change", [grayed, standardized])
def test_gray_and_standard_colors_depend_on_no_other_image_and_no_frame(change: Callable[[Tensor], Tensor]) -> None:
    images = _framed()
    whole = change(images)
    torch.testing.assert_close(torch.cat([change(image[None]) for image in images]), whole)
    frame = images.amax(dim=1) == 0
    assert (whole.amax(dim=1)[frame] == 0).all()
    cut = images[:, :, 2:-2, 2:-2]
    inside = cut.amax(dim=1, keepdim=True) > 0
    assert not frame[:, 2:-2, 2:-2].all()
    whole_cell = (images.amax(dim=1) > 0).sum((1, 2)) == inside[:, 0].sum((1, 2))
    torch.testing.assert_close(change(cut)[whole_cell], whole[:, :, 2:-2, 2:-2][whole_cell], rtol=0, atol=1e-3)
    blank = change(torch.tensor([0.0, 7.0, 255.0]).view(3, 1, 1, 1).expand(3, 3, 8, 8))
    assert torch.isfinite(blank).all() and blank.min() >= 0 and blank.max() <= 255


def test_eight_views_are_the_eight_turns_and_keep_the_frame_of_a_cell_on_black() -> None:
    image = _images(1)
    assert torch.equal(viewed(image, 0, 1.0), image)
    plain, strong = (
        [viewed(image, view, strength)[0].numpy().tobytes() for view in range(16)] for strength in (0.0, 1.0)
    )
    assert set(plain[:8]) == set(plain) == _turns(image[0])
    assert len(set(plain)) == 8 and len(set(strong)) == 16
    for view in range(8):
        changed, turned = (viewed(_framed(), view, strength).amax(dim=1) for strength in (1.0, 0.0))
        assert torch.equal(changed == 0, turned == 0)


@pytest.mark.parametrize("view", [1, 6])
def test_a_view_is_the_same_for_every_image_every_time(view: int) -> None:
    images = _images()
    torch.manual_seed(1)
    whole = viewed(images, view, 0.5)
    torch.manual_seed(2)
    torch.testing.assert_close(torch.cat([viewed(image[None], view, 0.5) for image in images]), whole)
    assert not torch.allclose(viewed(images, view, 1.0), whole)
    state = torch.get_rng_state()
    viewed(images, view, 0.5)
    assert torch.equal(torch.get_rng_state(), state), "a cached view would draw otherwise than one made anew"


def test_a_probe_is_solved_without_epochs_and_refuses_random_weights() -> None:
    samples = in_memory(20, 64)
    how: dict[str, Any] = {"weights": "imagenet", "views": 1, "test_views": 1, "penalty": 0.5}
    probed = _build(LITE, "probe", **how).fit(samples, samples)
    assert not probed.watches and probed.trained_.history == [] and probed.cost()["trained_parameters"] > 0
    same = _build(LITE, "head", **{**how, "epochs": 0}).fit(samples)
    np.testing.assert_array_equal(probed.outputs(samples), same.outputs(samples))
    with pytest.raises(UserError, match="no trained weights"):
        _build(LITE, "probe", **{**how, "weights": "none"}).fit(samples)
