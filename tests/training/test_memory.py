"""What a network frees is kept: without it every layer's activations are mapped anew, page by page."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

import pytest

from tests.training.tiny import ROOT
from training import device

# Page faults where a process makes, uses and frees 64 MiB, before and after a network asked for a processor.
FAULTS = """
import resource, torch
from training.device import network_device
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(30):
        torch.zeros(16 * 2**20).add_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
assert network_device("cpu").type == "cpu"
faults()  # the heap may grow a few times until a freed block is large enough for the next
print(faults())
"""


@pytest.mark.skipif(not device.keep_freed_memory(), reason="this C library has no mallopt")
def test_a_network_on_a_processor_gets_its_memory_back_at_once() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", FAULTS]
    done = subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True)
    before, after = map(int, done.stdout.split())
    assert after < before / 20


def test_where_the_c_library_has_no_such_thing_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert device.keep_freed_memory() is False
    monkeypatch.setattr(sys, "platform", "darwin")
    assert device.keep_freed_memory() is False
