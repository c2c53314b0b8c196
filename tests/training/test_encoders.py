"""Encoders that a user brings: each form fits, is explained and saved with its file; what is no encoder is refused."""

import hashlib
import importlib.util
import pickle
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import timm
import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor, nn

from evaluation.evidence.build import pretraining
from evaluation.explain.checks import randomized
from pipelines.code_closure import closure
from pipelines.encoders import plain_name
from pipelines.errors import UserError
from pipelines.params import ParamsError, read_params
from pipelines.stage_inputs import inputs
from tests.training.image_samples import from_files, image_task, in_memory, write_folder
from tests.training.tiny import ROOT
from training.architectures import ENCODER, Architecture, get_architecture
from training.encoder_stages import FrozenEncoder, encoder_stages
from training.model.final_fit import affordable

SIDE, SIZE = 48, 64  # of the images, and of what the encoders take
ENTRY: dict[str, Any] = {
    "size": SIZE,
    "mean": [0.5, 0.4, 0.3],
    "std": [0.2, 0.3, 0.4],
    "pretrained_on": ["Cells of us"],
}
FORMS = {"maps": "grad_cam", "embedding": "occlusion", "test_vit": "grad_cam", "test_convnext": "occlusion"}


class Program(nn.Module):
    """Maps of four convolutions, or their means over the upper left quarter of the image."""

    def __init__(self, pooled: bool, side: int = SIZE) -> None:
        super().__init__()
        self.convolution, self.pooled, self.side = nn.Conv2d(3, 8, 4, stride=4), pooled, side

    def forward(self, images: Tensor) -> Tensor:
        assert images.shape[2] == self.side
        maps = torch.relu(self.convolution(images))
        return maps[:, :, :8, :8].mean(dim=(2, 3)) if self.pooled else maps


def write(form: str, folder: Path, **program: Any) -> dict[str, Any]:
    """Write a small encoder with random weights; return its entry of ``encoders``."""
    torch.manual_seed(7)
    if form.startswith("test_"):
        path, network = folder / f"{form}.safetensors", timm.create_model(form, num_classes=0)
        save_file({key: tensor.contiguous() for key, tensor in network.state_dict().items()}, path)
        return {**ENTRY, "file": str(path), "timm": form, "size": 112 if form == "test_vit" else SIZE}  # 7 x 7, 2 x 2
    path = folder / f"{form}.pt"
    torch.jit.script(Program(form == "embedding", **program).eval()).save(path)
    return {**ENTRY, "file": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def params_with(folder: Path, encoders: Mapping[str, Any], **gate: Any) -> dict[str, Any]:
    """Write ``params.yaml`` with ``encoders``, each a model of blood cells, into ``folder``."""
    params: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["encoders"] = dict(encoders)
    own = {f"blood_cell-{name}": {"task": "blood_cell", "architecture": name} for name in encoders}
    params["models"] |= own
    params["policy"]["gate"] |= gate
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    return params


def brought(entry: Mapping[str, Any], folder: Path, name: str = "ours") -> Architecture:
    params_with(folder, {name: entry})
    return get_architecture(name, "images", "classification")


def build(architecture: Architecture, **more: Any) -> Any:
    settings = {"epochs": 3, "views": 2, "test_views": 2, "seed": 1, "device": "cpu", "weights": "none", "rounds": 3}
    return architecture.build({**architecture.defaults, **more}, **settings)


@pytest.mark.parametrize("form", FORMS)
def test_each_form_learns_is_explained_and_is_saved_with_its_file(form: str, elsewhere: Path) -> None:
    architecture = brought(write(form, elsewhere), elsewhere)
    model = build(architecture).fit(in_memory(24, SIDE), in_memory(9, SIDE, first=50))
    test = in_memory(12, SIDE, first=100)
    assert (model.predict(test) == test.target).mean() > 0.9
    maps = model.heatmaps(test)
    assert model.heatmap_method == FORMS[form] and maps.shape == (12, SIDE, SIDE)
    assert maps.min() == 0 and set(maps.max(axis=(1, 2))) <= {0, 1} and maps.max(axis=(1, 2)).mean() > 0.7
    if form == "embedding":  # of the upper left quarter alone, and fields of a seventh reach over its edge
        assert max(maps[:, 28:].max(), maps[:, :, 28:].max()) < 1e-5
    cost = model.cost()
    assert cost["trained_parameters"] < 1000 < 0.02 * cost["multiply_adds"] and cost["parameters"] > 400
    model.save(elsewhere / "saved")
    Path(model.encoder["file"]).unlink()  # the file is a part of the model
    loaded = get_architecture(ENCODER, "images", "classification").estimator.load(elsewhere / "saved")
    np.testing.assert_array_equal(loaded.predict_proba(test), model.predict_proba(test))
    np.testing.assert_array_equal(loaded.heatmaps(test), maps)
    assert loaded.pretraining()["pretrained_on"] == ["Cells of us"]


@pytest.mark.skipif(importlib.util.find_spec("onnxruntime") is None, reason="onnxruntime is an optional package")
def test_a_graph_of_onnx_learns_too(elsewhere: Path) -> None:
    path = elsewhere / "ours.onnx"
    axes = {"images": {0: "n"}}
    torch.onnx.export(
        Program(False), (torch.zeros(1, 3, SIZE, SIZE),), path, dynamo=False, input_names=["images"], dynamic_axes=axes
    )
    entry = {**ENTRY, "file": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    model, test = build(brought(entry, elsewhere)).fit(in_memory(24, SIDE)), in_memory(12, SIDE, first=100)
    assert (model.predict(test) == test.target).mean() > 0.9 and model.heatmaps(test).max() == 1
    assert "multiply_adds" not in model.cost()


def test_without_the_package_a_graph_of_onnx_is_refused_by_the_name_of_the_package(elsewhere: Path) -> None:
    (path := elsewhere / "ours.onnx").write_bytes(b"graph")
    entry = {**ENTRY, "file": str(path), "sha256": hashlib.sha256(b"graph").hexdigest()}
    with (
        patch("importlib.import_module", side_effect=ModuleNotFoundError("onnxruntime")) as asked,
        pytest.raises(UserError, match=r"encoders\.ours: .*ours\.onnx needs the package onnxruntime"),
    ):
        encoder_stages("ours", {**entry, "interpolation": "bicubic"}, b"graph")
    assert asked.called


def test_images_reach_the_encoder_at_its_size_and_normalized(elsewhere: Path) -> None:
    class Mean(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            assert images.shape[2] == images.shape[3] == 64
            return images.mean(dim=(2, 3))

    torch.jit.script(Mean()).save(path := elsewhere / "mean.pt")
    entry = {**ENTRY, "file": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    train = in_memory(12, SIDE)
    model = build(brought(entry, elsewhere)).fit(train)
    seen = model._frozen(train, 0, 0.0)
    means = train.pixels.mean(axis=(1, 2)) / 255
    expected = (means - np.array(ENTRY["mean"])) / np.array(ENTRY["std"])
    np.testing.assert_allclose(seen, expected, atol=0.02)  # cubic edges, and half precision
    assert model.module_.head[2].in_features == 3


def test_features_of_another_program_are_not_taken_from_the_cache(elsewhere: Path) -> None:
    class Scaled(nn.Module):
        def __init__(self, factor: float) -> None:
            super().__init__()
            self.factor = factor  # no tensor

        def forward(self, images: Tensor) -> Tensor:
            return self.factor * images.mean(dim=(2, 3))

    write_folder(elsewhere / "raw", 3, SIDE)
    train, found = from_files(elsewhere / "raw", SIDE), []
    for factor in (1.0, 2.0):
        torch.jit.script(Scaled(factor)).save(path := elsewhere / "ours.pt")
        entry = {**ENTRY, "file": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        found.append(build(brought(entry, elsewhere)).fit(train)._frozen(train, 0, 0.0))
    assert list((elsewhere / "cache" / "frozen").iterdir())
    np.testing.assert_allclose(found[1], 2 * found[0], rtol=1e-2)


def test_a_transformer_of_another_size_gives_patches_as_maps_and_its_class_token(elsewhere: Path) -> None:
    entry = {**write("test_vit", elsewhere), "interpolation": "bicubic", "options": {}}  # of 160 pixels
    content = Path(entry["file"]).read_bytes()
    entry["sha256"] = hashlib.sha256(content).hexdigest()
    resize, network = encoder_stages("ours", entry, content)
    with torch.no_grad():
        maps, numbers = network(resize(torch.rand(2, 3, SIDE, SIDE)))
    assert maps.shape == (2, 64, 7, 7) and numbers.shape == (2, 64)


def test_weights_that_lack_a_part_or_have_more_are_refused_and_never_filled_up_at_random(elsewhere: Path) -> None:
    def load(network: nn.Module, drop: str = "none", **options: float) -> nn.Module:
        kept = {key: tensor for key, tensor in network.state_dict().items() if drop not in key}
        save_file(kept, path := elsewhere / "ours.safetensors")
        content = path.read_bytes()
        entry = {**ENTRY, "file": str(path), "timm": "test_vit", "interpolation": "bicubic", "options": options}
        return encoder_stages("ours", {**entry, "sha256": hashlib.sha256(content).hexdigest()}, content)[1]

    whole, scaled = timm.create_model("test_vit"), timm.create_model("test_vit", num_classes=0, init_values=1e-5)
    loaded = load(whole).state_dict()  # with its classifier, which is left out
    assert torch.equal(loaded["network.network.blocks.0.attn.qkv.weight"], whole.blocks[0].attn.qkv.weight)
    assert not [key for key in loaded if "head" in key]
    load(scaled, init_values=1e-5)
    with pytest.raises(UserError, match=r"lacks 12 tensors of it, blocks\.1\.norm1"):
        load(whole, drop="blocks.1.")
    with pytest.raises(UserError, match=r"has blocks\.0\.ls1\.gamma beside it; see timm and options"):
        load(scaled)
    with pytest.raises(UserError, match=r"lacks \d+ tensors of it, blocks\.0\.ls1\.gamma first"):
        load(whole, init_values=1e-5)


class _Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def _unlike(form: str, folder: Path) -> tuple[dict[str, Any], str]:
    """Return an entry that is refused, and what the error says."""
    if form == "no file":
        return {**write("maps", folder), "file": str(folder / "lost.pt")}, r"lost\.pt: no such file; encoders\.ours"
    if form == "another hash":
        return {**write("maps", folder), "sha256": "0" * 64}, r"has the SHA-256 \w+, and 0{64} is expected"
    if form == "another size":
        return write("maps", folder, side=32), "takes no images of 64 pixels"
    if form == "another network":
        return {**write("test_vit", folder), "timm": "test_convnext"}, "holds no weights of test_convnext: it lacks"
    if form == "unknown network":
        return {**write("test_vit", folder), "timm": "test_vitt"}, r"has no network 'test_vitt'; it has test_vit"
    if form == "network of a hub":
        return {**write("test_vit", folder), "timm": "hf-hub:timm/test_vit"}, "has no network 'hf-hub"
    entry = write("maps", folder)
    path = Path(entry["file"])
    if form == "output of another form":
        torch.jit.script(nn.Sequential(nn.Conv2d(3, 2, 1), nn.Flatten(2))).save(path)
        says = r"its output for 2 images is \(2, 2, 4096\); maps"
    elif form == "pickle":
        path.write_bytes(pickle.dumps(_Evil(folder / "the code of a pickle was run")))
        says = "cannot be read"
    else:  # pickle in an archive of PyTorch
        torch.save(_Evil(folder / "the code of a pickle was run"), path)
        says = "cannot be read"
    return {**entry, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}, says


REFUSED = (
    *("no file", "another hash", "another size", "another network", "unknown network", "network of a hub"),
    *("output of another form", "pickle", "pickle in an archive"),
)


@pytest.mark.parametrize("form", REFUSED)
def test_what_is_no_such_encoder_ends_the_fit(form: str, elsewhere: Path) -> None:
    entry, says = _unlike(form, elsewhere)
    model = build(brought(entry, elsewhere))
    with pytest.raises(UserError, match=says), patch("torch.jit.load", wraps=torch.jit.load) as loaded:
        model.fit(in_memory(6, SIDE))
    assert not (elsewhere / "the code of a pickle was run").exists()
    assert form != "another hash" or not loaded.called  # a program runs only after its hash was compared


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda maps: {"maps": maps}, "dict;"),
        (lambda maps: (maps, maps[..., ::2, ::2]), r"\(2, 3, 8, 8\), \(2, 3, 4, 4\);"),
        (lambda maps: maps.mean(dim=(0, 2, 3))[None], r"\(1, 3\);"),  # rows of the cache would stay zeros
    ],
)
def test_an_output_that_is_not_one_row_an_image_of_each_kind_is_refused(change: Any, says: str) -> None:
    network = nn.Identity()
    network.register_forward_hook(lambda *given: change(given[-1]))
    with pytest.raises(UserError, match=says):
        FrozenEncoder(network)(torch.zeros(2, 3, 8, 8))


def test_a_file_that_was_exchanged_in_a_saved_model_is_refused(elsewhere: Path) -> None:
    model = build(brought(write("maps", elsewhere), elsewhere)).fit(in_memory(12, SIDE))
    model.file_ = np.concatenate([model.file_, np.zeros(1, np.uint8)])
    model.save(elsewhere / "saved")
    with pytest.raises(UserError, match="has the SHA-256"):
        type(model).load(elsewhere / "saved")


BAD: list[tuple[dict[str, Any], str]] = [
    ({"sha256": ""}, "runs as a program: name its sha256"),
    ({"sha256": "ABC"}, "no SHA-256"),
    ({"file": "weights/ours.pth"}, r"must end with one of \.safetensors, \.pt, \.onnx"),
    ({"file": "weights/ours.safetensors"}, "needs `timm`"),
    ({"timm": "test_vit"}, "needs `timm`"),
    ({"options": {"init_values": 1.0}}, "of networks of timm alone"),
    ({"size": 8}, "between 16 and 1024"),
    ({"std": [0.2, 0.0, 0.2]}, "not above 0"),
    ({"mean": [0.2, float("nan"), 0.2]}, "no number"),
    ({"mean": [0.5]}, "must have 3 entries"),
    ({"interpolation": "lanczos"}, "one of bilinear, bicubic, nearest"),
    ({"pretrained_on": "C-NMC"}, "must be a list"),
    ({"color": "gray"}, r"unknown key params\.encoders\.ours\.color"),
]


@pytest.mark.parametrize(("change", "says"), BAD)
def test_an_entry_that_makes_no_sense_is_refused_with_its_line(
    change: dict[str, Any], says: str, elsewhere: Path
) -> None:
    params_with(elsewhere, {"ours": {**ENTRY, "file": "weights/ours.pt", "sha256": "a" * 64, **change}})
    with pytest.raises(ParamsError, match=rf"params\.yaml, line \d+: .*{says}"):
        read_params()


@pytest.mark.parametrize(("name", "says"), [("resnet50", "an architecture already"), ("../ours", "lowercase letters")])
def test_a_name_that_another_has_or_that_leaves_its_folder_is_refused(name: str, says: str, elsewhere: Path) -> None:
    params_with(elsewhere, {name: {**ENTRY, "file": "weights/ours.pt", "sha256": "a" * 64}})
    with pytest.raises(ParamsError, match=says):
        read_params()


def test_an_encoder_is_an_architecture_of_its_name_and_of_images_alone(elsewhere: Path) -> None:
    architecture = brought(write("test_vit", elsewhere), elsewhere)
    assert (architecture.name, architecture.file) == ("ours", ENCODER)
    assert architecture.defaults["mode"] == "head"
    told = architecture.origin({}, {})
    assert (told["pretrained"], told["pretrained_on"], len(told["encoder.sha256"])) == ("true", "Cells of us", 64)
    for asked in (("theirs", "images", "classification"), ("ours", "profiles", "classification")):
        with pytest.raises(UserError, match="is none; there are"):
            get_architecture(*asked)
    (elsewhere / "params.yaml").unlink()
    with pytest.raises(UserError, match="'ours' is none"):
        get_architecture("ours", "images", "classification")


def test_what_is_too_large_to_be_served_is_refused_before_any_work(elsewhere: Path) -> None:
    entry = write("test_vit", elsewhere)
    architecture = brought(entry, elsewhere)
    size = Path(entry["file"]).stat().st_size / 1e6
    assert architecture.expected_megabytes() == pytest.approx(size) and affordable(architecture, 5) == 5
    large = replace(architecture, given={"encoder": {**architecture.given["encoder"], "megabytes": 40.0}})
    assert affordable(large, 5) == 1  # every member has the encoder
    params_with(elsewhere, {"ours": entry}, megabytes=size / 2)
    with pytest.raises(UserError, match=r"encoders\.ours: .* raise policy\.gate\.megabytes"):
        get_architecture("ours", "images", "classification")


def test_stages_depend_on_the_entry_and_the_bytes_of_its_file_and_those_of_others_do_not(elsewhere: Path) -> None:
    entry = write("test_vit", elsewhere)

    def known(**change: Any) -> dict[str, Any]:
        params_with(elsewhere, {"ours": {**entry, **change}})
        params, names = read_params(), ("majority_class", "efficientnet_lite0", "ours")
        models = {key: params.models[key] for key in (f"blood_cell-{name}" for name in names)}
        return inputs(replace(params, models=models), "blood_cell")

    before, after = known(), known(interpolation="nearest")
    unlike = {stage for stage, content in before.items() if after[stage] != content}
    assert unlike == {"tune-ours", "fit-ours", "evaluate-ours"}
    with Path(entry["file"]).open("ab") as file:
        file.write(b"more")
    after = known()
    unlike = {stage for stage, content in before.items() if after[stage] != content}
    assert unlike == {"tune-ours", "fit-ours", "evaluate-ours"}
    code = "training/architectures/_encoder.py"
    assert code in before["tune-ours"]["code"] and code not in before["tune-efficientnet_lite0"]["code"]
    assert code not in closure("training.tune", architectures=["elastic_net"])


def test_collections_are_one_whatever_their_case_and_punctuation() -> None:
    assert plain_name("C-NMC 2019") == plain_name("c_nmc_2019") != plain_name("C-NMC")


def test_random_weights_of_a_program_leave_its_variances_positive(elsewhere: Path) -> None:
    program = nn.Sequential(nn.Conv2d(3, 8, 4, stride=4), nn.BatchNorm2d(8), nn.ReLU()).eval()
    torch.jit.script(program).save(path := elsewhere / "ours.pt")
    entry = {**ENTRY, "file": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    model, test = build(brought(entry, elsewhere)).fit(in_memory(12, SIDE)), in_memory(6, SIDE, first=100)
    other = randomized(model, 1)
    tensors = model.module_.frozen.state_dict()
    assert any(not torch.equal(value, tensors[key]) for key, value in other.module_.frozen.state_dict().items())
    maps = other.heatmaps(test)
    assert maps is not None and np.isfinite(maps).all()


def test_evidence_says_what_weights_were_trained_on_and_of_a_file_only_what_is_declared() -> None:
    task = replace(image_task(), data=replace(image_task().data, collections=("Ours",)))

    def said(estimator: Any, *declared: str) -> Any:
        declaring = replace(task, tune=replace(task.tune, pretrained_on=declared))
        found = pretraining(SimpleNamespace(model=SimpleNamespace(estimator=estimator), task=declaring))  # type: ignore
        assert found["collections"] == ["Ours"] and found["encoder"] is None
        return found["pretrained_on"]

    network = get_architecture("efficientnet_lite0", "images", "classification")
    known = {
        weights: said(network.build(network.defaults, weights=weights)) for weights in ("imagenet", "none", "a.pth")
    }
    assert known == {"imagenet": ["ImageNet-1k"], "none": [], "a.pth": None}
    assert said(network.build(network.defaults, weights="a.pth"), "PBC", "BMC") == ["PBC", "BMC"]
    trees = get_architecture("random_forest", "images", "classification")
    for features, expected in (("embedding", ["ImageNet-1k"]), ("descriptors", [])):
        assert said(trees.build({**trees.defaults, "features": features})) == expected
