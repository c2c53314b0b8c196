"""A benchmark that nobody can run here must still run there: the same code, small, on the processor."""

from __future__ import annotations

import math

import pytest
import torch

from tests.bench.__main__ import run
from tests.bench.gpu import gpu


def test_without_a_gpu_nothing_is_measured_and_it_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert run("gpu", small=True)["records"] == []
    assert "no CUDA device here; nothing was measured" in capsys.readouterr().out


def test_the_benchmark_of_a_gpu_runs_through_on_a_processor() -> None:
    records = gpu(small=True, device="cpu")
    assert [record.unit for record in records] == ["images/s", "s", "s"]
    for record in records:
        assert "the processor" in (*record.sides, record.name) or "the processor" in record.name
        assert math.isfinite(record.ratio)
        assert min(record.ours, record.other) > 0
