"""Which device a run takes, on machines that this one is not: several processes on several GPUs, one for each."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import xgboost

from pipelines.errors import UserError
from tests.training.profile_samples import gene_samples
from training.architectures import get_architecture
from training.device import torch_device
from training.networks import distributed


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
