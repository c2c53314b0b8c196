"""What a network frees is kept: without it every layer's activations are mapped anew, page by page."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

import pytest

from tests.training.tiny import ROOT
from training import memory

# Page faults of a process that makes, uses and frees 64 MiB a hundred times.
FAULTS = """
import resource, torch
from training.device import network_device
if {kept}:
    assert network_device("cpu").type == "cpu"
def once():
    torch.zeros(16 * 2**20).add_(1)
once()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(100):
    once()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(kept: bool) -> int:
    done = subprocess.run(
        [sys.executable, "-c", FAULTS.format(kept=kept)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
        text=True,
    )
    return int(done.stdout)


@pytest.mark.skipif(not memory.keep_freed_memory(), reason="this C library has no mallopt")
def test_a_network_on_a_processor_gets_its_memory_back_at_once() -> None:
    assert faults(kept=True) < faults(kept=False) / 20


def test_where_the_c_library_has_no_such_thing_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert memory.keep_freed_memory() is False
    monkeypatch.setattr(sys, "platform", "darwin")
    assert memory.keep_freed_memory() is False
