"""A forward pass on a processor: in a process that keeps the memory that layers free, and in one that gives it back."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys

from tests.bench.measured import Record
from tests.end_to_end.small_platform import ROOT

# A frozen backbone on batches of 64, as features are made; it prints the seconds of all but the first.
PASS = """
import sys, time, torch
from training.architectures.efficientnet_lite0 import EfficientNetLite0
from training.memory import keep_freed_memory
if sys.argv[1] == "kept":
    assert keep_freed_memory()
stages = torch.nn.Sequential(*EfficientNetLite0.backbone.build("efficientnet_lite0", "none")).eval()
images = torch.rand(64, 3, 224, 224).contiguous(memory_format=torch.channels_last)
with torch.inference_mode():
    stages(images)
    began = time.perf_counter()
    for _ in range(int(sys.argv[2])):
        stages(images)
print(time.perf_counter() - began)
"""


def kept_memory(small: bool = False) -> list[Record]:
    """Run a frozen backbone over images in a process that keeps what it frees, and in one that does not.

    What is freed otherwise goes back to the kernel, which gives it to the next layer zeroed, page by page.
    """
    batches, rounds = (1, 1) if small else (2, 3)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def run(which: str) -> float:
        command = [sys.executable, "-c", PASS, which, str(batches)]
        done = subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True)
        return float(done.stdout)

    seconds: dict[str, list[float]] = {"kept": [], "given": []}
    for turn in range(rounds):
        for which in ("kept", "given") if turn % 2 == 0 else ("given", "kept"):
            seconds[which].append(run(which))
    ratio = statistics.median(b / a for a, b in zip(seconds["kept"], seconds["given"], strict=True))
    kept, given = (1e3 * statistics.median(each) / (64 * batches) for each in seconds.values())
    name = "a forward pass of efficientnet_lite0, batches of 64 images of 224 px"
    record = Record(name, kept, given, ratio, "ms/image", sides=("memory kept", "memory given back"))
    return [record]
