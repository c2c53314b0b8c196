"""What only runs on a GPU, run without one: a fake device that says it is CUDA and computes on the CPU."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torchvision.transforms import v2

from pipelines.datasets import Prepared
from tests.training.host_waits import HostWaits, watch_a_step
from tests.training.image_samples import draw, labeled
from tests.training.profile_samples import gene_samples, labels_samples
from tests.training.tiny import build
from training.architectures import get_architecture, names, transformer
from training.networks import (
    cell_network,
    gene_network,
    molecule_encoder,
    pair_module,
    response_network,
    transfer,
)
from training.networks.augment import augmentation
from training.networks.cell_network import CellNetwork
from training.networks.loop import TrainingChoices, _Checkpoint

CUDA = torch.device("cuda")
SETTINGS = TrainingChoices(epochs=4, patience=4, batch_size=8, learning_rate=1e-2, weight_decay=0.0)


class OnTheCpu(TorchFunctionMode):
    """Sends what is meant for CUDA to the CPU, and counts it."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        def here(value: Any) -> Any:
            if isinstance(value, torch.device) and value.type == "cuda":
                self.sent += 1
                return torch.device("cpu")
            return value

        return func(*map(here, args), **{key: here(value) for key, value in (kwargs or {}).items()})


@pytest.fixture
def precision(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, torch.dtype]]:
    """Make autocast on CUDA one on the CPU; gives what was asked for each time."""
    asked: list[tuple[str, torch.dtype]] = []
    real = torch.autocast

    def on_the_cpu(device: str, dtype: torch.dtype, **others: Any) -> torch.autocast:
        asked.append((device, dtype))
        return real("cpu", dtype=dtype, **others)

    monkeypatch.setattr(torch, "autocast", on_the_cpu)
    return asked


@pytest.fixture
def cuda(
    monkeypatch: pytest.MonkeyPatch, precision: list[tuple[str, torch.dtype]]
) -> Iterator[Callable[..., OnTheCpu]]:
    """Make networks believe that they are on CUDA with so many free bytes; gives what sends them to the CPU."""
    with contextlib.ExitStack() as stack:

        def start(free: float = 1e12) -> OnTheCpu:
            monkeypatch.setattr(transfer, "network_device", lambda device: CUDA)
            monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device=None: (free, free))
            return stack.enter_context(OnTheCpu())

        yield start


def test_a_fit_that_goes_on_draws_on_with_the_gpu_s_own_generator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dropout, views and stains are drawn there: from its seed anew, a fit would repeat those of its first epochs."""
    drawn: list[tuple[torch.Tensor, torch.device]] = []
    state = torch.arange(16, dtype=torch.uint8)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: state)
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda new, device: drawn.append((new, device)))
    network = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(network.parameters())
    schedule = torch.optim.lr_scheduler.ConstantLR(optimizer)
    kept = _Checkpoint(tmp_path / "fit.pt", network, optimizer, schedule, torch.Generator())
    kept._device = CUDA
    kept.save(1, (0.5, None), 0, [])
    assert kept.load()[0] == 1
    ((restored, device),) = drawn
    assert torch.equal(restored, state) and device == CUDA
    kept._device = torch.device("cpu")  # gone on with where there is no GPU
    assert kept.load()[0] == 1 and len(drawn) == 1


def _images(count: int, first: int = 0) -> Any:
    codes = np.arange(count) % 3
    return labeled(np.stack([draw(int(code), first + number, 32) for number, code in enumerate(codes)]), codes)


def _network(mode: str) -> CellNetwork:
    architecture = get_architecture("efficientnet_lite0", "images", "classification")
    others = {"weights": "none", "epochs": 1, "seed": 1, "views": 2, "test_views": 1, "device": "auto"}
    estimator = architecture.build({**architecture.defaults, "mode": mode}, **others)
    assert isinstance(estimator, CellNetwork)
    return estimator


@pytest.mark.parametrize("mode", ["head", "full"])
def test_an_image_network_is_channels_last_on_cuda_and_predicts_as_on_a_cpu(
    mode: str, cuda: Callable[..., OnTheCpu], precision: list[tuple[str, torch.dtype]]
) -> None:
    train, unseen = _images(12), _images(6, first=100)
    expected = _network(mode).fit(train).predict_proba(unseen)
    assert not precision
    mode_of_cuda = cuda()
    fitted = _network(mode).fit(train)
    found = fitted.predict_proba(unseen)
    assert mode_of_cuda.sent and set(precision) == {("cuda", torch.bfloat16)}
    filters = [p for p in fitted.module_.parameters() if p.ndim == 4 and p.shape[1] > 1 and p.shape[2] > 1]
    assert {p.dtype for p in fitted.module_.parameters()} == {torch.float32}
    assert filters and all(p.is_contiguous(memory_format=torch.channels_last) for p in filters)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(found, expected, atol=0.1)


@pytest.mark.parametrize(("free", "resident"), [(1e12, True), (1e4, False)])
def test_pixels_lie_on_the_device_where_there_is_room_and_come_out_the_same(
    free: float, resident: bool, cuda: Callable[..., OnTheCpu]
) -> None:
    train = _images(9)
    network = _network("full")
    network._device = CUDA
    mode_of_cuda = cuda(free)
    rows = torch.tensor([5, 0, 7])
    pixels = network._resident(train)
    once = mode_of_cuda.sent
    assert (once > 0) == resident  # all pixels are sent at once, before any is asked for
    images = pixels(rows)
    assert (mode_of_cuda.sent > once) != resident  # otherwise each batch is
    expected = torch.from_numpy(train.pixels[train.index[rows.numpy()]]).permute(0, 3, 1, 2).float()
    assert torch.equal(images, expected)


def test_recurrent_layers_are_explained_with_cudnn_off() -> None:
    samples = gene_samples(40)
    architecture = get_architecture("gru", "profiles", "multi_target")
    estimator: Any = architecture.build(dict(architecture.defaults), epochs=1, seed=0, device="cpu").fit(samples)
    backward: list[bool] = []
    layers = [module for module in estimator.network_.modules() if isinstance(module, nn.GRU)]
    for layer in layers:
        layer.register_full_backward_pre_hook(lambda module, gradient: backward.append(torch.backends.cudnn.enabled))
    assert layers and torch.backends.cudnn.enabled
    estimator.attribute(samples.take(np.arange(3)), np.zeros(3, dtype=np.int64))
    assert backward and not any(backward)
    assert torch.backends.cudnn.enabled  # as it was


# No step waits for the device


def test_what_would_wait_is_found_and_what_would_not_is_not() -> None:
    on_device, mask = torch.arange(6.0), torch.tensor([True, False] * 3)
    waits: list[list[str]] = []
    for job in (
        lambda: float(on_device.sum()),
        lambda: on_device[mask],
        lambda: on_device.unique(),
        lambda: mask.nonzero(),
        lambda: on_device[torch.randperm(6)],
        lambda: torch.randn(6).to(on_device.device),
        lambda: torch.tensor([1.0, 2.0], device=on_device.device),
        lambda: float(torch.rand(())) + int(torch.randint(4, ())),
        lambda: on_device[torch.randperm(6, device=on_device.device)].where(mask, 0.0) * torch.rand(()),
    ):
        one = HostWaits()
        one.start()
        job()
        one.stop()
        waits.append(one.found)
    assert [bool(found) for found in waits] == [True] * 7 + [False] * 2, waits


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make networks believe that their tensors lie on a GPU."""
    for module in (pair_module, molecule_encoder, transformer):
        monkeypatch.setattr(module, "waits_for", lambda tensor: True)


def _drug_network(name: str, **others: Any) -> Any:
    architecture = get_architecture(name, "pairs", "regression")
    return build(architecture, {**architecture.defaults, "batch_size": 32, "dropout": 0.0, **others}, epochs=1)


def _variants(name: str) -> list[dict[str, Any]]:
    """Return what switches parts of a network, one choice each."""
    trial, space = optuna.create_study().ask(), get_architecture(name, "pairs", "regression").space
    assert space is not None
    space(trial, {})
    found: dict[str, Any] = {key: trial.distributions.get(key) for key in ("convolution", "fusion")}
    return [{key: choice} for key, of in found.items() if of for choice in of.choices] or [{}]


DRUG_NETWORKS = [
    (name, variant)
    for name in names("pairs", "regression")
    if issubclass(get_architecture(name, "pairs", "regression").estimator, response_network.ResponseNetwork)
    for variant in _variants(name)
]
GENE_NETWORKS = [
    name
    for name in names("profiles", "multi_target")
    if issubclass(get_architecture(name, "profiles", "multi_target").estimator, gene_network.GeneNetwork)
]


@pytest.mark.parametrize(("name", "others"), DRUG_NETWORKS)
def test_a_step_on_pairs_does_not_wait_for_the_gpu_and_learns_what_a_cpu_learns(
    name: str, others: dict[str, Any], prepared: Prepared, monkeypatch: pytest.MonkeyPatch, request: Any
) -> None:
    train = prepared.side("train")
    expected = _drug_network(name, **others).fit(train).predict(train)
    request.getfixturevalue("far")
    watched = watch_a_step(monkeypatch, response_network)
    found = _drug_network(name, **others).fit(train)
    assert [waits.found for waits in watched] == [[]]
    if name != "multi_omics":  # which draws what it masks, for other lines than a CPU does
        np.testing.assert_allclose(found.predict(train), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", GENE_NETWORKS)
def test_a_step_on_genes_does_not_wait_for_the_gpu(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = watch_a_step(monkeypatch, gene_network)
    architecture = get_architecture(name, "profiles", "multi_target")
    chosen = {**architecture.defaults, "batch_size": 8, "mixup": 0.4}
    architecture.build(chosen, epochs=1, seed=0, device="cpu").fit(gene_samples(24))
    assert [waits.found for waits in watched] == [[]]


@pytest.mark.parametrize(("mode", "color"), [("head", "gray"), ("partial", "standard"), ("full", "gray")])
def test_a_step_on_images_does_not_wait_for_the_gpu(
    mode: str, color: str, cuda: Callable[..., OnTheCpu], precision: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda()
    constants: list[Tensor] = []  # torchvision keeps the bounds of its draws as a tensor, on the host

    def made(strength: float, size: int) -> Any:
        change = augmentation(strength, size)
        constants.extend(part._log_ratio for part in change.transforms if isinstance(part, v2.RandomResizedCrop))
        return change

    monkeypatch.setattr(cell_network, "augmentation", made)
    watched = watch_a_step(monkeypatch, transfer, constants)
    _network(mode).set_params(color=color, batch_size=6).fit(_images(12))
    assert [waits.found for waits in watched] == [[]]


@pytest.mark.parametrize(("mode", "mixup"), [("full", 0.3), ("partial", 0.0)])
def test_a_step_on_gene_images_does_not_wait_for_the_gpu(
    mode: str, mixup: float, cuda: Callable[..., OnTheCpu], precision: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda()
    constants: list[Tensor] = []  # one share a batch is drawn on the host, from a distribution that lies there
    beta = torch.distributions.Beta

    def made(one: float, other: float) -> torch.distributions.Beta:
        mixing = beta(one, other)
        constants.append(mixing._dirichlet.concentration)
        return mixing

    monkeypatch.setattr(torch.distributions, "Beta", made)
    watched = watch_a_step(monkeypatch, transfer, constants)
    architecture = get_architecture("resnet50", "profiles", "classification")
    chosen = {**architecture.defaults, "mode": mode, "mixup": mixup, "batch_size": 15}
    architecture.build(chosen, image_size=32, epochs=1, device="auto", weights="none").fit(labels_samples(30))
    assert [waits.found for waits in watched] == [[]]
