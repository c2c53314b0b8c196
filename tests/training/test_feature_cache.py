"""What would make cached features wrong: another network's, another size's, half a file, or another order of images."""

import dataclasses
import json
import time
from pathlib import Path
from typing import Any, cast
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from pipelines.samples.images import ImageSamples
from tests.training.image_samples import from_files, in_memory, write_folder
from training.architectures.efficientnet_lite0 import EfficientNetLite0
from training.estimator import FitContext
from training.feature_cache import BATCH, FeatureCache
from training.features import embedding
from training.features.cell_image import descriptors

MAKER = "training.features.cell_image"  # the module whose code made what is cached


class Counting:
    """Stands in for a frozen network, and knows every image that it was run on."""

    def __init__(self) -> None:
        self.seen: list[np.ndarray] = []

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        assert len(pixels) <= BATCH
        self.seen += list(pixels)
        return features_of(pixels)


def features_of(pixels: np.ndarray) -> np.ndarray:
    return np.stack([pixels.mean(axis=(1, 2, 3)), pixels.std(axis=(1, 2, 3))], axis=1)


@pytest.fixture
def samples(tmp_path: Path) -> ImageSamples:
    write_folder(tmp_path / "raw", 3, 32)
    return from_files(tmp_path / "raw", 32)


def _expected(samples: ImageSamples) -> np.ndarray:
    return features_of(samples.pixels[samples.index])


def _made_anew(samples: ImageSamples) -> int:
    """Check what the cache gives for the samples; return how many of them it has computed."""
    run = Counting()
    np.testing.assert_array_equal(FeatureCache("network", MAKER).features(samples, run), _expected(samples))
    return len(run.seen)


# The cache by itself


def test_more_images_than_a_batch_keep_their_order(tmp_path: Path) -> None:
    write_folder(tmp_path / "raw", 25, 16)
    many = from_files(tmp_path / "raw", 16)
    none, refuse = many.take(np.array([], dtype=int)), Mock(side_effect=AssertionError)
    assert len(FeatureCache("network", MAKER).features(none, refuse)) == 0
    assert _made_anew(many) == len(many) > BATCH


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> ImageSamples:
    """Return samples in a file with a digest each."""
    samples, path = in_memory(20, 16), tmp_path_factory.mktemp("many") / "pixels.npy"
    np.save(path, samples.pixels)
    return dataclasses.replace(samples, pixels=np.load(path, mmap_mode="r"))


@settings(max_examples=40, deadline=None)
@given(asked=st.lists(st.lists(st.integers(0, 19), min_size=1, max_size=12), min_size=1, max_size=5))
def test_features_depend_on_no_order(asked: Any, many: ImageSamples, tmp_path_factory: pytest.TempPathFactory) -> None:
    cache, run = FeatureCache("network", MAKER, tmp_path_factory.mktemp("cache")), Counting()
    for rows in asked:
        part = many.take(np.array(rows))
        np.testing.assert_array_equal(cache.features(part, run), _expected(part))
    assert len(run.seen) == len({row for rows in asked for row in rows})


# What a killed run leaves behind


def _shard() -> Path:
    return next(FeatureCache("network", MAKER).place.glob("[!.]*.npy"))


def test_a_run_that_is_killed_leaves_no_shard(samples: ImageSamples) -> None:
    cache = FeatureCache("network", MAKER)
    with pytest.raises(KeyboardInterrupt):
        cache.features(samples, Mock(side_effect=KeyboardInterrupt))
    assert not list(cache.place.iterdir())
    # Files of `pipelines.files.written_whole` that a kill left are passed over.
    (cache.place / ".0123.json.abcd.json").write_text(json.dumps(samples.digests))
    (cache.place / ".4567.json.abcd.json").write_text('["half of a li')
    (cache.place / ".0123.npy.abcd.npy").write_bytes(b"")
    assert _made_anew(samples) == len(samples)


@pytest.mark.parametrize("ending", [".npy", ".json"])
@pytest.mark.parametrize("kept", [None, 0, 60, 150])
def test_a_shard_or_list_that_is_not_whole_is_made_anew(samples: ImageSamples, ending: str, kept: int | None) -> None:
    _made_anew(samples)
    file = _shard().with_suffix(ending)
    if kept is None:
        file.unlink()
    else:
        assert kept < file.stat().st_size
        file.write_bytes(file.read_bytes()[:kept])
    assert _made_anew(samples) == len(samples)


def test_a_list_longer_than_its_shard_is_not_believed(samples: ImageSamples) -> None:
    _made_anew(samples.take(np.arange(4)))
    index = _shard().with_suffix(".json")
    index.write_text(json.dumps([*json.loads(index.read_text()), *samples.take(np.arange(4, 9)).digests]))
    _made_anew(samples)


# The cache under a network


class Counted(EfficientNetLite0):
    """The network with its packaged weights, which counts the images that its frozen stages are run on."""

    images = 0

    def _run_frozen(self, pixels: np.ndarray, view: int, strength: float, jitter: bool = False) -> np.ndarray:
        Counted.images += sum(bool(image.any()) for image in pixels)  # one of zeros asks for the size of a feature
        return super()._run_frozen(pixels, view, strength, jitter)


def _network(**others: object) -> Counted:
    chosen = {"epochs": 3, "views": 3, "test_views": 2, "strength": 0.5, "seed": 1, "device": "cpu", **others}
    return Counted(**chosen)  # type: ignore[arg-type]


def _ran(samples: ImageSamples, **others: object) -> int:
    before = Counted.images
    _network(**others).fit(samples)
    return Counted.images - before


def _held(samples: ImageSamples) -> ImageSamples:
    """Return the samples as a request's: no files, so nothing of them is in a cache."""
    return dataclasses.replace(samples, pixels=np.array(samples.pixels))


def test_in_head_mode_the_network_runs_once_over_each_image_and_view(samples: ImageSamples) -> None:
    train, validation = samples.take(np.arange(0, 9, 2)), samples.take(np.arange(1, 9, 2))
    Counted.images = 0
    for number in range(3):  # trials, each as if in a process of its own
        fitted = _network(learning_rate=1e-3 * (number + 1), dropout=0.1 * number).fit(train, validation)
        assert Counted.images == 3 * len(train) + len(validation)
    for _ in range(2):
        fitted.predict(validation)  # turned once, for the second view of a prediction
        assert Counted.images == 3 * len(train) + 2 * len(validation)


@pytest.mark.parametrize(("mode", "common"), [("head", True), ("partial", True), ("head", False)])
def test_members_of_an_ensemble_run_their_common_stages_once(samples: ImageSamples, mode: str, common: bool) -> None:
    members = [_network(mode=mode, seed=seed, learning_rate=1e-2).fit(samples) for seed in range(2)]
    if not common:
        with torch.no_grad():
            next(members[1].module_.frozen.parameters()).mul_(1.5)
        members[1]._of_frozen = {}
    request = _held(samples)
    each = [member.outputs(request) for member in members]
    assert np.ptp(each, axis=0).max() > (0 if common else 1e-3), "they all learnt the same"
    before = Counted.images
    np.testing.assert_array_equal(Counted.mean_outputs(members, request), np.mean(each, axis=0))
    views = (Counted.images - before) / len(samples)
    assert views == (2 if common else 4), "two views of each image, whatever the number of members"


@pytest.mark.parametrize("mode", ["head", "partial", "full"])
def test_the_embedding_is_what_the_head_sees_and_takes_no_pass_of_its_own(samples: ImageSamples, mode: str) -> None:
    members = [
        _network(mode=mode, seed=seed, epochs=1, test_views=1, learning_rate=1e-2).fit(samples) for seed in (1, 2)
    ]
    request, fitted = _held(samples), members[0]
    expected = fitted.outputs(request)
    before = Counted.images
    outputs, embedding = fitted.outputs_embedded(request)
    assert Counted.images - before == (0 if mode == "full" else len(samples))
    np.testing.assert_array_equal(outputs, expected)
    module = fitted.module_
    with torch.no_grad():
        whole = module.summary(*module.before(fitted._normalized(fitted._float(request.pixels[request.index]))))
        logits = module.head(whole)
    np.testing.assert_allclose(logits.double().softmax(dim=1).numpy(), expected, rtol=0, atol=5e-3)
    width = embedding.shape[1]
    assert width == whole.shape[1] if mode != "partial" else 0 < width < whole.shape[1], "trained stages count"
    np.testing.assert_allclose(embedding, whole[:, :width].numpy(), rtol=2e-3, atol=2e-3)
    np.testing.assert_array_equal(fitted.embedded(request), embedding)
    before = Counted.images
    _, of_all = Counted.mean_outputs_embedded(members, request)
    assert Counted.images - before == (0 if mode == "full" else len(samples))
    np.testing.assert_allclose(of_all, embedding, rtol=1e-5, atol=1e-6)


class Slow(EfficientNetLite0):
    """The network with frozen stages that take at least `PAUSE` for each view of the images."""

    PAUSE = 0.1

    def _run_frozen(self, pixels: np.ndarray, view: int, strength: float, jitter: bool = False) -> np.ndarray:
        time.sleep(self.PAUSE if pixels.any() else 0)
        return super()._run_frozen(pixels, view, strength, jitter)


def test_reading_the_cache_is_not_passed_off_as_speed_of_training(samples: ImageSamples) -> None:
    chosen: dict[str, Any] = {"epochs": 3, "views": 2, "test_views": 1, "seed": 1, "device": "cpu", "mode": "partial"}
    context, fastest = FitContext(), 3 * len(samples) / (2 * Slow.PAUSE)
    for context_of_fit in (context, context, FitContext()):  # computed, in memory, on disk
        assert 0 < Slow(**chosen).fit(samples, None, context_of_fit).cost()["images_per_second"] <= fastest
    for kept in Path("cache").rglob("*.seconds"):
        kept.unlink()
    assert "images_per_second" not in Slow(**chosen).fit(samples).cost()


def test_changed_features_are_made_anew(samples: ImageSamples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    n = len(samples)
    assert _ran(samples) == 3 * n
    assert _ran(samples, mode="head", learning_rate=1e-2, balanced=False, batch_size=32) == 0
    assert _ran(samples, strength=1.0) == 2 * n, "the first view is the image itself, however strong"
    assert _ran(samples, views=4) == n
    assert _ran(samples, color="gray") == _ran(samples, color="standard") == 3 * n
    assert _ran(samples, mode="partial") == 3 * n, "another stage's features were taken"
    assert _ran(samples, mode="partial", unfrozen=2) == 3 * n
    tensors = {key: tensor.clone() for key, tensor in EfficientNetLite0.backbone.create(True).state_dict().items()}
    tensors["bn2.bias"][0] += 0.5
    save_file(tensors, tmp_path / "other.safetensors")
    assert _ran(samples, weights=str(tmp_path / "other.safetensors")) == 3 * n
    for size, crop in ((40, 1.0), (32, 0.9)):
        assert _ran(from_files(tmp_path / "raw", size, crop=crop)) == 3 * n
    normalized = dataclasses.replace(EfficientNetLite0.backbone, mean=(0.4, 0.5, 0.5))
    for name, value in (("architecture", "efficientnet_b0"), ("backbone", normalized)):  # other code
        with monkeypatch.context() as patch:
            patch.setattr(Counted, name, value)
            assert _ran(samples) == 3 * n
        assert _ran(samples) == 0


@pytest.mark.parametrize("mode", ["head", "partial"])
def test_cached_features_are_those_computed_anew(samples: ImageSamples, mode: str) -> None:
    held = _held(samples)
    cached, direct = (_network(mode=mode).fit(each) for each in (samples, held))
    for view in range(3):
        one, other = cached._frozen(samples, view, 0.5), direct._frozen(held, view, 0.5)
        assert one.dtype == other.dtype == np.float32
        assert np.abs(one).max() > 0.1
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(cached.predict_proba(samples), direct.predict_proba(held), rtol=0, atol=1e-3)


def test_features_are_the_network_s_own_and_those_of_a_request_leave_no_trace(samples: ImageSamples) -> None:
    fitted, network = _network(epochs=1).fit(samples), cast(Any, EfficientNetLite0.backbone.create(True).eval())
    images = torch.from_numpy(samples.pixels[samples.index]).permute(0, 3, 1, 2)
    with torch.no_grad():
        maps = network.forward_features((images.float() - 127) / 128)
    last = fitted._frozen(samples, 0, 0.0)[:, -2 * maps.shape[1] :].astype(float)  # means and spreads of the last maps
    means, spreads = maps.mean((2, 3)), (maps.var((2, 3), correction=0) + 1e-5).sqrt()
    np.testing.assert_allclose(last, torch.cat([means, spreads], 1).numpy(), rtol=1e-4, atol=1e-4)
    before = sorted(Path("cache").rglob("*"))
    for run in (fitted.predict, fitted.heatmaps, descriptors, lambda each: embedding.embeddings(each, "cpu")):
        run(_held(samples))
    assert sorted(Path("cache").rglob("*")) == before


def test_embeddings_and_descriptors_are_kept_apart(samples: ImageSamples, monkeypatch: pytest.MonkeyPatch) -> None:
    embedded, described = embedding.embeddings(samples, "cpu"), descriptors(samples)
    assert embedded.shape != described.shape
    np.testing.assert_allclose(embedded, embedding.embeddings(_held(samples), "cpu"), rtol=2e-3, atol=2e-3)
    np.testing.assert_array_equal(described, descriptors(_held(samples)))
    monkeypatch.setattr(FeatureCache, "_add", Mock(side_effect=AssertionError("computed again")))
    turned = samples.take(np.arange(len(samples))[::-1])
    np.testing.assert_array_equal(embedding.embeddings(turned, "cpu"), embedded[::-1])
    np.testing.assert_array_equal(descriptors(turned), described[::-1])
