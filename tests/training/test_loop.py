"""What would waste a night on a GPU: the wrong weights kept, an epoch forgotten, processes that train other models."""

import ctypes
import json
import math
import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import DEFAULT, Mock

import numpy as np
import pytest
import torch
import xgboost
from torch import Tensor, nn

from pipelines.errors import UserError
from tests.training.profile_samples import gene_samples
from tests.training.tiny import ROOT
from training import device
from training.architectures import get_architecture
from training.estimator import FitContext
from training.networks import distributed, loop
from training.networks.loop import Trained, TrainingChoices, train_network

Monitor = Callable[[], dict[str, float]]
Weights = dict[str, Tensor]

SETTINGS = TrainingChoices(epochs=8, patience=3, batch_size=16, learning_rate=0.02, weight_decay=0.1, seed=5)
N_ROWS = 50


class KilledError(Exception):
    pass


def _network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 1))


@pytest.fixture
def network() -> nn.Module:
    return _network()


def _loss(network: nn.Module) -> Callable[[Tensor], Tensor]:
    inputs = torch.randn(N_ROWS, 4, generator=torch.Generator().manual_seed(1))
    target = inputs @ torch.tensor([[1.0], [-2.0], [0.5], [0.0]])
    return lambda rows: nn.functional.mse_loss(network(inputs[rows]), target[rows])


def _real_monitor(network: nn.Module) -> Monitor:
    loss = _loss(network)
    return lambda: {"validation_rmse": float(loss(torch.arange(N_ROWS)).sqrt())}


def _scripted(values: list[float] | None) -> Monitor | None:
    left = iter(values or [])
    return None if values is None else lambda: {"validation_rmse": next(left)}


def _weights(network: nn.Module) -> Weights:
    return {key: value.detach().clone() for key, value in network.state_dict().items()}


def _equal(one: Weights, other: Weights) -> bool:
    return all(torch.equal(one[key], other[key]) for key in one)


def _train(network: nn.Module, monitor: Monitor | None = None, **given: Any) -> tuple[Trained, list[Weights]]:
    """Train and return what came of it with the weights after each epoch.

    Settings may be given, and loss, ``on_step``, checkpoint, ``n_rows``, ``start_counts`` and ``ema``.
    """
    after, on_step, loss = list[Weights](), given.pop("on_step", None), given.pop("loss", _loss(network))

    def seen(step: int, metrics: dict[str, float]) -> None:
        after.append(_weights(network))
        if on_step:
            on_step(step, metrics)

    context, n_rows = FitContext(seen, given.pop("checkpoint", None)), given.pop("n_rows", N_ROWS)
    options = {"context": context, "start_counts": given.pop("start_counts", False), "ema": given.pop("ema", 0.0)}
    return train_network(network, loss, n_rows, monitor, **options, settings=replace(SETTINGS, **given)), after


@pytest.mark.parametrize(
    ("values", "start_counts", "best", "epochs"),
    [
        ([3, 1, 2, 2, 2, 2, 2, 2], False, 1, 5),  # three epochs of patience after the best
        ([3, 2, 2.5, 2.5, 1, 2, 2, 2], False, 4, 8),  # patience starts anew with every new best
        ([5, 4, 4, 4, 4, 4, 4, 4], False, 1, 5),  # an equal value is no improvement
        ([3, 2, math.nan, math.nan, math.nan, 1], False, 1, 5),
        (None, False, 7, 8),
        ([1, 2, 2, 2, 2], True, -1, 3),  # the start is the best
        ([3, 1, 2, 2, 2, 2], True, 0, 4),
    ],
)
def test_the_best_weights_are_kept(network: nn.Module, values: Any, start_counts: bool, best: int, epochs: int) -> None:
    before = _weights(network)
    trained, after = _train(network, _scripted(values), start_counts=start_counts)
    assert (trained.best_epoch, len(trained.history), len(after)) == (best, epochs, epochs)
    kept = [_equal(_weights(network), each) for each in [*after, before]]
    assert kept[best] and sum(kept) == 1
    assert not network.training


def test_a_fit_that_is_gone_on_with_knows_its_start(network: nn.Module, tmp_path: Path) -> None:
    before, again = _weights(network), _network(1)
    options: dict[str, Any] = {"checkpoint": tmp_path / "checkpoint", "start_counts": True}
    with pytest.raises(KilledError):
        _train(network, _scripted([1, 2, 2, 2, 2]), on_step=Mock(side_effect=[None, KilledError]), **options)
    trained, _ = _train(again, _scripted([2, 2, 2]), **options)
    assert trained.best_epoch == -1 and _equal(_weights(again), before)


def test_the_monitor_sees_the_network_in_evaluation_mode_and_the_loss_in_training_mode(network: nn.Module) -> None:
    modes = set()

    def watched(of: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def seen(*arguments: Any) -> Any:
            modes.add((of, network.training, torch.is_grad_enabled()))
            return call(*arguments)

        return seen

    _train(network, watched("monitor", _real_monitor(network)), loss=watched("loss", _loss(network)))
    assert modes == {("monitor", False, False), ("loss", True, True)}


@pytest.mark.parametrize(("n_rows", "sizes"), [(33, {16}), (1, {1}), (N_ROWS, {16, 2})])
def test_rows_are_seen_once_an_epoch_in_orders_of_their_own(network: nn.Module, n_rows: int, sizes: set[int]) -> None:
    loss = _loss(network)
    epochs: list[list[list[int]]] = [[]]

    def learned(rows: Tensor) -> Tensor:
        epochs[-1].append(rows.tolist())
        return loss(rows)

    _train(network, loss=learned, n_rows=n_rows, on_step=lambda step, metrics: epochs.append([]))
    orders = [[row for batch in epoch for row in batch] for epoch in epochs[:-1]]
    assert {len(batch) for epoch in epochs for batch in epoch} == sizes
    assert all(len(set(order)) == len(order) == n_rows - (n_rows == 33) for order in orders)
    assert n_rows == 1 or len(set(map(tuple, orders))) == len(orders) == SETTINGS.epochs


def test_the_learning_rate_warms_up_and_falls(network: nn.Module) -> None:
    rates = [metrics["learning_rate"] for metrics in _train(network, epochs=40)[0].history]
    peak = int(np.argmax(rates))
    assert peak < 4 and max(rates) == pytest.approx(SETTINGS.learning_rate, rel=0.05)
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[-1] == pytest.approx(0.01 * SETTINGS.learning_rate, rel=0.1)


def test_a_fixed_seed_gives_the_same_weights_and_another_seed_others() -> None:
    found = []
    for seed, noise in ((5, 1), (5, 2), (6, 1)):
        network = _network()
        torch.manual_seed(noise)  # what else was drawn before must not matter
        found.append(_train(network, seed=seed)[1][-1])
    assert _equal(found[0], found[1]) and not _equal(found[0], found[2])


@pytest.mark.parametrize("monitored", [True, False])
def test_the_average_of_weights_is_monitored_and_kept_and_does_not_change_the_training(monitored: bool) -> None:
    network, watched = _network(), list[Weights]()

    def monitor() -> dict[str, float]:
        watched.append(_weights(network))
        return {"validation_rmse": -float(len(watched))}

    trained, after = _train(network, monitor if monitored else None, ema=0.9, batch_size=N_ROWS)
    assert trained.best_epoch == len(after) - 1
    average = after[0]
    for weights in after[1:]:  # of one step each
        average = {key: 0.9 * average[key] + 0.1 * weights[key] for key in weights}
    for key, kept in _weights(network).items():
        torch.testing.assert_close(kept, average[key])
        assert not torch.equal(kept, after[-1][key])
    assert not monitored or _equal(watched[-1], _weights(network))
    assert all(map(_equal, _train(_network(), batch_size=N_ROWS)[1], after))


@pytest.mark.parametrize(("where", "ema"), [("on_step", 0.0), ("on_step", 0.9), ("monitor", 0.0), ("loss", 0.9)])
@pytest.mark.parametrize("epoch", [0, 2])
def test_a_killed_fit_goes_on_to_exactly_the_same_weights(tmp_path: Path, where: str, ema: float, epoch: int) -> None:
    whole, killed, checkpoint = _network(), _network(), tmp_path / "deeper" / "fit.0.pt"
    expected, _ = _train(whole, _real_monitor(whole), patience=8, ema=ema)
    calls: dict[str, Any] = {"loss": _loss(killed), "monitor": _real_monitor(killed), "on_step": lambda *_: None}
    before = epoch * (math.ceil(N_ROWS / SETTINGS.batch_size) if where == "loss" else 1)
    calls[where] = Mock(wraps=calls[where], side_effect=[DEFAULT] * before + [KilledError])
    with pytest.raises(KilledError):
        _train(killed, **calls, checkpoint=checkpoint, patience=8, ema=ema)
    # A new process draws other weights; where there is no checkpoint, it starts from the same.
    other = _network(7 if checkpoint.is_file() else 0)
    steps: list[int] = []
    options: dict[str, Any] = {"checkpoint": checkpoint, "patience": 8, "ema": ema}
    trained, _ = _train(other, _real_monitor(other), on_step=lambda step, _: steps.append(step), **options)
    # One whose metrics may not have been told is trained again, wherever in it the kill fell.
    assert steps == list(range(epoch, SETTINGS.epochs)), "an epoch was left out, or one before it trained again"
    assert trained.first_epoch == epoch and trained == expected
    assert _equal(_weights(other), _weights(whole))


def test_going_on_after_the_end_trains_nothing_more(tmp_path: Path) -> None:
    network, again = _network(), _network(7)
    expected, _ = _train(network, _scripted([3.0, 1, 2, 2, 2]), checkpoint=tmp_path / "fit.pt")
    assert _train(again, _scripted([]), checkpoint=tmp_path / "fit.pt") == (expected, [])
    assert _equal(_weights(again), _weights(network))


def test_a_kill_in_writing_leaves_the_checkpoint_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "fit.pt"
    _train(_network(), epochs=3, checkpoint=path)
    whole = path.read_bytes()

    def half(content: object, target: Path) -> None:
        Path(target).write_bytes(whole[:100])
        raise KilledError

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(KilledError):
        _train(_network(), epochs=4, checkpoint=path)
    assert path.read_bytes() == whole


@pytest.mark.parametrize("scale", [1e-3, 6.0, 1e3, math.inf, math.nan])
def test_gradients_are_clipped_to_the_same_bits_as_by_pytorch(scale: float) -> None:
    networks = [_network().eval() for _ in range(2)]
    for network in networks:
        network[0].requires_grad_(False)  # a frozen layer has no gradient
        (scale * _loss(network)(torch.arange(N_ROWS))).backward()
    loop._clip(list(networks[0].parameters()))
    nn.utils.clip_grad_norm_(networks[1].parameters(), loop._LONGEST_GRADIENT)
    found = [[p.grad.view(torch.int32) for p in each.parameters() if p.grad is not None] for each in networks]
    assert len(found[0]) == 2 and all(map(torch.equal, *found))


@pytest.mark.parametrize(("value", "monitored"), [(math.nan, True), (math.inf, False)])
def test_a_loss_that_is_not_finite_does_not_lose_the_weights(network: nn.Module, value: float, monitored: bool) -> None:
    loss, epoch = _loss(network), [0]

    def count(step: int, metrics: dict[str, float]) -> None:
        epoch[0] = step + 1

    def diverging(rows: Tensor) -> Tensor:
        return loss(rows) * (value if epoch[0] == 3 else 1.0)

    monitor = _scripted([3, 1, 2, 2, 2, 2, 2, 2] if monitored else None)
    trained, after = _train(network, monitor, loss=diverging, on_step=count)
    assert (len(trained.history), trained.best_epoch) == (3, 1 if monitored else 2)
    assert _equal(_weights(network), after[trained.best_epoch])
    assert all(torch.isfinite(weight).all() for weight in _weights(network).values())


# Several processes, each on its own GPU

SCRIPT = """
import json, sys
from pathlib import Path
import torch
from torch import nn
from training.networks import distributed
from training.estimator import FitContext
from training.networks.loop import TrainingChoices, train_network

out = Path(sys.argv[1])
distributed.start()
torch.manual_seed(distributed.rank())  # processes that begin apart must not stay apart
network = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 1))
draw = torch.Generator().manual_seed(1)
x = torch.randn(69, 5, generator=draw)  # the last batch has 5 rows, of which one process takes 3 and the other 2
y = x[:, :1] * 2 - x[:, 1:2]
seen = []

def loss(rows):
    seen.extend(rows.tolist())
    return nn.functional.mse_loss(network(x[rows]), y[rows])

def fit(loss, monitor=None, epochs=3, patience=3, context=None):
    shape = {"epochs": epochs, "patience": patience, "batch_size": 16, "seed": 7}
    settings = TrainingChoices(**shape, learning_rate=1e-2, weight_decay=0.0)
    return train_network(network, loss, 69, monitor, settings=settings, context=context or FitContext())

done = fit(loss, context=FitContext(checkpoint=out / "checkpoint.pt"))
weights = torch.cat([p.detach().flatten() for p in network.parameters()]).tolist()

calls, watched = [], []

def late_nan(rows):  # in the last step of the second epoch, of the last process alone; its gradient is finite
    calls.append(1)
    last = distributed.rank() == distributed.size() - 1
    return loss(rows) + (float("nan") if last and len(calls) == 10 else 0.0)

diverged = fit(late_nan)

def monitor():  # falls in the first process and rises in the others
    watched.append(1)
    return {"validation": float(len(watched) * (-1) ** (distributed.rank() == 0))}

stopped = fit(loss, monitor, epochs=4, patience=1)
name = f"{distributed.size()}-{distributed.rank()}.json"
histories = {"plain": done.history, "diverged": diverged.history, "stopped": stopped.history}
(out / name).write_text(json.dumps({"weights": weights, "seen": seen, "histories": histories}))
if distributed.size() > 1:
    torch.distributed.barrier()
"""


def _python(*arguments: str) -> str:
    """Run Python and return what it prints."""
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, *arguments], env=env, capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_two_processes_train_the_model_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = [str(tmp_path / "fit.py"), str(tmp_path)]
    Path(script[0]).write_text(SCRIPT)
    monkeypatch.setattr(sys, "argv", script)
    runpy.run_path(script[0])
    _python("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", *script)
    alone, first, second = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("1-0", "2-0", "2-1"))
    assert first["weights"] == second["weights"]
    np.testing.assert_allclose(first["weights"], alone["weights"], rtol=0, atol=1e-5)
    # Between them they see each row once an epoch.
    assert sorted(first["seen"][:35] + second["seen"][:34]) == list(range(69))
    # The curve is that of one process, and the same in both.
    for kind, epochs in {"plain": 3, "diverged": 1, "stopped": 4}.items():
        histories = [each["histories"][kind] for each in (first, second, alone)]
        assert histories[0] == histories[1]
        assert [len(history) for history in histories] == [epochs] * 3  # none went on where another ended
        losses = [[metrics["train_loss"] for metrics in history] for history in histories]
        np.testing.assert_allclose(losses[0], losses[2], rtol=1e-4)


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four GPUs, and no launcher."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.delenv("LOCAL_RANK", raising=False)


def test_each_process_of_a_launcher_takes_its_own_gpu(gpus: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert device.torch_device("auto") == "cuda"
    for asked, rank, found in ("auto", "2", "cuda:2"), ("cuda", "3", "cuda:3"), ("cuda:1", "3", "cuda:1"):
        monkeypatch.setenv("LOCAL_RANK", rank)
        assert device.torch_device(asked) == found
    monkeypatch.setenv("LOCAL_RANK", "4")
    with pytest.raises(UserError, match="LOCAL_RANK is 4, and PyTorch sees 4 GPUs"):
        device.torch_device("auto")


def test_without_a_gpu_auto_is_the_cpu_and_cuda_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert device.torch_device("auto") == "cpu"
    for asked in ("cuda", "gpu"):
        with pytest.raises(UserError):
            device.torch_device(asked)


def test_a_launched_process_makes_its_gpu_current_before_it_talks(gpus: None, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[Any] = []
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "set_device", lambda which: done.append(("device", which)))
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda backend: done.append(("talk", backend)))
    distributed.start("auto")
    distributed.start("cpu")
    assert done == [("device", torch.device("cuda:1")), ("talk", "nccl"), ("talk", "gloo")]


def test_trees_grow_and_answer_on_the_device_of_the_process(gpus: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    asked: list[str] = []

    def on_cpu(call: Any, place: int) -> Any:
        def called(*given: Any, **more: Any) -> Any:
            params = given[place]
            if isinstance(params, dict) and "device" in params:
                asked.append(params["device"])
                params = {**params, "device": "cpu"}
            return call(*given[:place], params, *given[place + 1 :], **more)

        return called

    monkeypatch.setattr(xgboost, "train", on_cpu(xgboost.train, 0))
    monkeypatch.setattr(xgboost.Booster, "set_param", on_cpu(xgboost.Booster.set_param, 1))
    samples = gene_samples(40)
    trees = get_architecture("xgboost", "profiles", "multi_target").build({}, rounds=3, device="auto").fit(samples)
    trees.attribute(samples, np.zeros(len(samples), int))  # which is done on the CPU
    assert trees.predict(samples).shape == samples.target.shape
    assert [each for each in asked if each != "cpu"] == ["cuda:1", "cuda:1"]  # training and answering


# The memory of a processor

# Page faults where a process makes, uses and frees 36 MiB, more than glibc learns to keep by itself, before and after a
# network asked for a processor.
FAULTS = """
import resource, torch
from concurrent.futures import ThreadPoolExecutor
from training.device import network_device
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(30):
        torch.zeros(9 * 2**20).add_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
assert network_device("cpu").type == "cpu"
faults()  # the heap may grow a few times until a freed block is large enough for the next
print(faults())
with ThreadPoolExecutor() as other:  # as a server answers
    print(*[other.submit(faults).result() for _ in range(3)][2:])
"""


@pytest.mark.skipif(not device.keep_freed_memory(), reason="this C library has no mallopt")
def test_a_network_on_a_processor_gets_its_memory_back_at_once() -> None:
    before, *after = map(int, _python("-c", FAULTS).split())
    assert max(after) < before / 20


def test_where_the_c_library_has_no_such_thing_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert device.keep_freed_memory() is False
    monkeypatch.setattr(sys, "platform", "darwin")
    assert device.keep_freed_memory() is False
