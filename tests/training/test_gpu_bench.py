"""The benchmark of a GPU, which cannot be measured here, runs through on the processor."""

from __future__ import annotations

import math

from tests.bench.gpu import gpu


def test_the_benchmark_of_a_gpu_runs_through_on_a_processor() -> None:
    records = gpu(small=True, device="cpu")
    assert [record.unit for record in records] == ["images/s", "s", "s"]
    assert all(math.isfinite(record.ratio) and min(record.ours, record.other) > 0 for record in records)
