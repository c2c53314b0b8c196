"""Several processes must train one model, the one that a single process would have trained, each on its own GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xgboost

from pipelines.errors import UserError
from tests.training.profile_samples import gene_samples
from training.architectures import get_architecture
from training.device import torch_device
from training.networks import distributed

ROOT = Path(__file__).parents[2]

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

calls = []

def late_nan(rows):  # in the last step of the second epoch, of the last process alone; its gradient is finite
    calls.append(1)
    last = distributed.rank() == distributed.size() - 1
    return loss(rows) + (float("nan") if last and len(calls) == 10 else 0.0)

diverged = fit(late_nan)

watched = []

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


LAUNCHERS = {
    # As `docs/data/images.md` says it; without a GPU the processes talk over gloo. Port 0: any that is free.
    "accelerate": [  # see `tests.training.test_fit_survives`
        *("-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"),
        *("--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"),
    ],
}


def _run(folder: Path, launcher: list[str], processes: int) -> list[dict]:
    folder.mkdir()
    script = folder / "fit.py"
    script.write_text(SCRIPT)
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, *launcher, str(script), str(folder)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads((folder / f"{processes}-{rank}.json").read_text()) for rank in range(processes)]


def test_two_processes_train_the_model_of_one(tmp_path: Path) -> None:
    (alone,) = _run(tmp_path / "one", [], 1)
    first, second = _run(tmp_path / "two", ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"], 2)
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


@pytest.mark.parametrize(
    ("asked", "rank", "found"),
    [("auto", None, "cuda"), ("auto", "2", "cuda:2"), ("cuda", "3", "cuda:3"), ("cuda:1", "3", "cuda:1")],
)
def test_each_process_of_a_launcher_takes_its_own_gpu(
    asked: str, rank: str | None, found: str, gpus: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if rank is not None:
        monkeypatch.setenv("LOCAL_RANK", rank)
    assert torch_device(asked) == found
    monkeypatch.setenv("LOCAL_RANK", "4")
    with pytest.raises(UserError, match="LOCAL_RANK is 4, and PyTorch sees 4 GPUs"):
        torch_device("auto")


def test_without_a_gpu_auto_is_the_cpu_and_cuda_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert torch_device("auto") == "cpu"
    for asked in ("cuda", "gpu"):
        with pytest.raises(UserError):
            torch_device(asked)


@pytest.mark.parametrize(
    ("device", "expected"),
    [("auto", [("device", torch.device("cuda:1")), ("talk", "nccl")]), ("cpu", [("talk", "gloo")])],
)
def test_a_launched_process_makes_its_gpu_the_current_one_before_it_talks(
    device: str, expected: list[Any], gpus: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[Any] = []
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "set_device", lambda which: done.append(("device", which)))
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda backend: done.append(("talk", backend)))
    distributed.start(device)
    assert done == expected


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
    assert trees.predict(samples).shape == samples.target.shape
    assert [each for each in asked if each != "cpu"] == ["cuda:1", "cuda:1"]  # training and answering
