"""What only runs on a GPU, run without one: a fake device that says it is CUDA and computes on the CPU."""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import optuna
import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torchvision.transforms import v2

from pipelines.datasets import Prepared
from tests.bench.gpu import gpu
from tests.training.image_samples import SMALL, in_memory
from tests.training.profile_samples import gene_samples, labels_samples
from tests.training.tiny import build
from training.architectures import get_architecture, names
from training.networks import cell_network, gene_network, molecule_encoder, response_network, transfer
from training.networks.loop import _Checkpoint

CUDA = torch.device("cuda")
_ASKING = {"_local_scalar_dense", "nonzero", "_unique2", "unique_dim", "unique_consecutive", "masked_select", "equal"}
_INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_"}


class OnTheCpu(TorchFunctionMode):
    """Sends what is meant for CUDA to the CPU, counts it, and keeps what autocast is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = 0
        self.precision: set[tuple[str, torch.dtype]] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        def here(value: Any) -> Any:
            if isinstance(value, torch.device) and value.type == "cuda":
                self.sent += 1
                return torch.device("cpu")
            return value

        return func(*map(here, args), **{key: here(value) for key, value in (kwargs or {}).items()})


Cuda = Callable[..., OnTheCpu]


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cuda]:
    """Return a function that makes networks believe that they are on CUDA with so many free bytes."""
    mode, real = OnTheCpu(), torch.autocast

    def on_the_cpu(device: str, dtype: torch.dtype, **others: Any) -> torch.autocast:
        mode.precision.add((device, dtype))
        return real("cpu", dtype=dtype, **others)

    monkeypatch.setattr(torch, "autocast", on_the_cpu)
    with contextlib.ExitStack() as stack:

        def start(free: float = 1e12) -> OnTheCpu:
            assert not mode.precision, "a network on the CPU computes in half precision"
            monkeypatch.setattr(transfer, "network_device", lambda device: CUDA)
            monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device=None: (free, free))
            return stack.enter_context(mode)

        yield start


def test_a_fit_that_goes_on_draws_with_the_gpu_s_own_generator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dropout, views and stains are drawn there: from its seed anew, a fit would repeat those of its first epochs."""
    drawn: list[tuple[list[int], torch.device]] = []
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: torch.arange(16, dtype=torch.uint8))
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda new, device: drawn.append((new.tolist(), device)))
    network = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(network.parameters())
    schedule = torch.optim.lr_scheduler.ConstantLR(optimizer)
    parts = {"network": network, "optimizer": optimizer, "schedule": schedule}
    kept = _Checkpoint(tmp_path / "fit.pt", parts, torch.Generator(), CUDA)
    kept.save(1, (0.5, None), 0, [])
    for device in (CUDA, torch.device("cpu")):  # the second is gone on with where there is no GPU
        kept._device = device
        assert kept.load()[0] == 1
    assert drawn == [(list(range(16)), CUDA)]


def _network(mode: str) -> Any:
    architecture = get_architecture("efficientnet_lite0", "images", "classification")
    # Of random weights on so few images, batch normalization makes what half precision rounds off large.
    weights = "imagenet" if mode == "full" else "none"
    others = {"weights": weights, "epochs": 1, "seed": 1, "views": 2, "test_views": 1, "device": "auto"}
    return architecture.build({**architecture.defaults, "mode": mode}, **others)


@pytest.mark.parametrize("mode", ["head", "full"])
def test_an_image_network_is_channels_last_on_cuda_and_predicts_as_on_a_cpu(mode: str, cuda: Cuda) -> None:
    train, unseen = in_memory(12, 32), in_memory(6, 32, first=100)
    expected = _network(mode).fit(train).predict_proba(unseen)
    mode_of_cuda, fitted = cuda(), _network(mode).fit(train)
    found, parameters = fitted.predict_proba(unseen), list(fitted.module_.parameters())
    assert mode_of_cuda.sent and mode_of_cuda.precision == {("cuda", torch.bfloat16)}
    filters = [each for each in parameters if each.ndim == 4 and each.shape[1] > 1 and each.shape[2] > 1]
    assert {each.dtype for each in parameters} == {torch.float32}
    assert filters and all(each.is_contiguous(memory_format=torch.channels_last) for each in filters)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(found, expected, atol=0.1)


@pytest.mark.parametrize(("free", "resident"), [(1e12, True), (1e4, False)])
def test_pixels_lie_on_the_device_if_there_is_room_and_stay_the_same(free: float, resident: bool, cuda: Cuda) -> None:
    train, network, mode_of_cuda, rows = in_memory(9, 32), _network("full"), cuda(free), [5, 0, 7]
    network._device = CUDA
    pixels = network._resident(train)
    once = mode_of_cuda.sent
    images = pixels(torch.tensor(rows))
    # All pixels are sent at once, before any is asked for; otherwise each batch is.
    assert (once > 0, mode_of_cuda.sent > once) == (resident, not resident)
    assert torch.equal(images, torch.from_numpy(train.pixels[train.index[rows]]).permute(0, 3, 1, 2).float())


def test_recurrent_layers_are_explained_with_cudnn_off() -> None:
    samples, architecture = gene_samples(40), get_architecture("gru", "profiles", "multi_target")
    estimator: Any = architecture.build(dict(architecture.defaults), epochs=1, seed=0, device="cpu").fit(samples)
    backward: list[bool] = []
    for layer in estimator.network_.modules():
        if isinstance(layer, nn.GRU):
            layer.register_full_backward_pre_hook(lambda *_: backward.append(torch.backends.cudnn.enabled))
    assert torch.backends.cudnn.enabled
    estimator.attribute(samples.take(np.arange(3)), np.zeros(3, dtype=np.int64))
    assert backward and not any(backward) and torch.backends.cudnn.enabled


# No step waits for the device: every tensor is the device's but those made on the host


class HostWaits:
    """What a stretch of code would wait for, in ``found``."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self._made_here: dict[int, Tensor] = {}  # by address; kept alive, so that no address is given out twice
        self._stack = contextlib.ExitStack()

    def start(self) -> None:
        for mode in (_Calls(), _Operations()):
            mode.waits = self
            self._stack.enter_context(mode)

    def stop(self) -> None:
        self._stack.close()

    def is_here(self, tensor: Tensor) -> bool:
        return tensor.untyped_storage().data_ptr() in self._made_here

    def made_here(self, value: Any) -> None:
        for each in tree_leaves(value):
            if isinstance(each, Tensor) and each.numel():
                self._made_here[each.untyped_storage().data_ptr()] = each


class _Calls(TorchFunctionMode):
    """Tells tensors made on the host from those made on the device, and sees what is sent there or mixed."""

    waits: HostWaits

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given, waits = kwargs or {}, self.waits
        tensors = [each for each in tree_leaves((args, given)) if isinstance(each, Tensor)]
        here = [each for each in tensors if waits.is_here(each)]
        name = getattr(func, "__name__", str(func))
        done = func(*args, **given)
        place = given.get("device")
        if not tensors:
            if place is None or place == "cpu":
                waits.made_here(done)
            elif name in ("tensor", "as_tensor"):
                waits.found.append(f"{name} of the host's numbers")
        elif len(here) == len(tensors):
            if name in ("to", "cuda") and any(isinstance(each, torch.device) for each in tree_leaves((args, given))):
                waits.found.append("a tensor of the host is sent")
            else:
                waits.made_here(done)
        elif any(each.ndim for each in here):
            waits.found.append(f"{name} of a tensor of the host and one of the device")
        return done


class _Operations(TorchDispatchMode):
    """Sees what asks a tensor of the device for its values, in the backward pass too."""

    waits: HostWaits

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name.removeprefix("aten::")
        if name in _ASKING or name in _INDEXING:
            for each in tree_leaves(args[1] if name in _INDEXING else args[:1]):
                by_mask = isinstance(each, Tensor) and each.dtype in (torch.bool, torch.uint8)
                if isinstance(each, Tensor) and (by_mask or name in _ASKING) and not self.waits.is_here(each):
                    self.waits.found.append(name)
        return func(*args, **(kwargs or {}))


def watch_a_step(monkeypatch: pytest.MonkeyPatch, module: Any, constants: Sequence[Tensor] = ()) -> list[HostWaits]:
    """Watch the first step of each fit that ``module`` asks `train_network` for, from its loss to the next one's.

    ``constants`` were made on the host before it.
    """
    watched: list[HostWaits] = []
    real = module.train_network

    def train(network: Any, loss: Callable[[Tensor], Tensor], *others: Any, **more: Any) -> Any:
        waits, calls = HostWaits(), 0

        def seen(rows: Tensor) -> Tensor:
            nonlocal calls
            calls += 1
            if calls == 1:
                watched.append(waits)
                waits.made_here(constants)
                waits.start()
            elif calls == 2:
                waits.stop()
            return loss(rows)

        try:
            done = real(network, seen, *others, **more)
        finally:
            waits.stop()
        assert calls > 1, "a fit of one step was not watched to the step's end"
        return done

    monkeypatch.setattr(module, "train_network", train)
    return watched


def test_what_would_wait_is_found_and_what_would_not_is_not() -> None:
    on_device, mask = torch.arange(6.0), torch.tensor([True, False] * 3)
    found: list[bool] = []
    for job in (
        lambda: float(on_device.sum()),
        lambda: on_device[mask],
        lambda: on_device.unique(),
        lambda: on_device[torch.randperm(6)],
        lambda: torch.randn(6).to(on_device.device),
        lambda: torch.tensor([1.0, 2.0], device=on_device.device),
        lambda: float(torch.rand(())) + int(torch.randint(4, ())),
        lambda: on_device[torch.randperm(6, device=on_device.device)].where(mask, 0.0) * torch.rand(()),
    ):
        waits = HostWaits()
        waits.start()
        job()
        waits.stop()
        found.append(bool(waits.found))
    assert found == [True] * 6 + [False] * 2


def _variants(name: str) -> list[dict[str, Any]]:
    """Return what switches parts of a network, one choice each."""
    trial, space = optuna.create_study().ask(), cast(Any, get_architecture(name, "pairs", "regression").space)
    space(trial, {})
    found = cast(Any, trial.distributions)
    return [{key: choice} for key in ("convolution", "fusion") if key in found for choice in found[key].choices] or [{}]


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
def test_no_step_on_pairs_waits(name: str, others: Any, prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    train, architecture = prepared.side("train"), get_architecture(name, "pairs", "regression")
    point = {**architecture.defaults, "batch_size": 32, "dropout": 0.0, **others}
    expected = build(architecture, point, epochs=1).fit(train).predict(train)
    for module in (response_network, molecule_encoder):
        monkeypatch.setattr(module, "waits_for", lambda tensor: True)  # as if it lay on a GPU
    watched = watch_a_step(monkeypatch, response_network)
    found = build(architecture, point, epochs=1).fit(train)
    assert [waits.found for waits in watched] == [[]]
    if name != "multi_omics":  # which draws what it masks, for other lines than a CPU does
        np.testing.assert_allclose(found.predict(train), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", GENE_NETWORKS)
def test_no_step_on_genes_waits(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = watch_a_step(monkeypatch, gene_network)
    architecture = get_architecture(name, "profiles", "multi_target")
    chosen = {**architecture.defaults, "batch_size": 8, "mixup": 0.4}
    architecture.build(chosen, epochs=1, seed=0, device="cpu").fit(gene_samples(24))
    assert [waits.found for waits in watched] == [[]]


def _constants(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, of: Callable[[Any], Any]) -> list[Tensor]:
    """Return a list that gets the tensors ``of`` each object that the module's function makes: they lie on the host."""
    constants, make = list[Tensor](), getattr(module, name)

    def made(*given: Any, **named: Any) -> Any:
        found = make(*given, **named)
        constants.extend(of(found))
        return found

    monkeypatch.setattr(module, name, made)
    return constants


@pytest.mark.parametrize(("mode", "color"), [("head", "gray"), ("partial", "standard"), ("full", "gray")])
def test_no_step_on_images_waits(mode: str, color: str, cuda: Cuda, monkeypatch: pytest.MonkeyPatch) -> None:
    cuda()
    crops = lambda change: [part._log_ratio for part in change.transforms if isinstance(part, v2.RandomResizedCrop)]  # noqa: E731
    watched = watch_a_step(monkeypatch, transfer, _constants(monkeypatch, cell_network, "augmentation", crops))
    _network(mode).set_params(color=color, batch_size=6).fit(in_memory(12, 32))
    assert [waits.found for waits in watched] == [[]]


@pytest.mark.parametrize(("mode", "mixup"), [("full", 0.3), ("partial", 0.0)])
def test_no_step_on_gene_images_waits(mode: str, mixup: float, cuda: Cuda, monkeypatch: pytest.MonkeyPatch) -> None:
    cuda()
    shares = _constants(monkeypatch, torch.distributions, "Beta", lambda mixing: [mixing._dirichlet.concentration])
    watched = watch_a_step(monkeypatch, transfer, shares)
    architecture = get_architecture("resnet50", "profiles", "classification")
    monkeypatch.setattr(architecture.estimator, "backbone", SMALL)
    chosen = {**architecture.defaults, "mode": mode, "mixup": mixup, "batch_size": 15}
    architecture.build(chosen, image_size=32, epochs=1, device="auto", weights="none").fit(labels_samples(30))
    assert [waits.found for waits in watched] == [[]]


def test_the_benchmark_of_a_gpu_runs_through_on_a_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    for modality in ("images", "profiles"):
        estimator = get_architecture("resnet50", modality, "classification").estimator
        monkeypatch.setattr(estimator, "backbone", SMALL)
    records = gpu(small=True, device="cpu")
    assert [record.unit for record in records] == ["images/s", "s", "s"]
    assert all(math.isfinite(record.ratio) and min(record.ours, record.other) > 0 for record in records)
