"""What a person waits for: the start of each command, and ``dvc repro`` with nothing to do."""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.bench.measured import Record, in_turn
from tests.end_to_end.small_platform import ROOT, make_platform

ROOMS = ("pipelines", "training", "evaluation", "serving")
AT_MOST = 1.0  # seconds of --help


def modules() -> list[str]:
    """Return the modules of the rooms that MLproject, dvc.yaml and the Makefile start."""
    text = "".join((ROOT / name).read_text() for name in ("MLproject", "dvc.yaml", "Makefile"))
    return sorted(set(re.findall(rf"python -m ((?:{'|'.join(ROOMS)})(?:\.[a-z_]+)+)", text)))


def start_up(small: bool = False) -> list[Record]:
    """Time ``--help`` of each command of MLproject, dvc.yaml and Makefile beside a Python that does nothing."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def run(*arguments: str) -> None:
        command = [sys.executable, *arguments]
        subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)

    found = modules()
    jobs = [lambda: run("-c", "pass"), *(lambda module=module: run("-m", module, "--help") for module in found)]
    nothing, *times = in_turn(jobs, 1 if small else 3)
    return [
        Record(
            *(f"python -m {module} --help", statistics.median(seconds), statistics.median(nothing)),
            *(statistics.median(a / b for a, b in zip(seconds, nothing, strict=True)), "s"),
            bound=AT_MOST,
            bound_on="ours",
            higher_is_better=False,
            sides=("the command", "python -c pass"),
        )
        for module, seconds in zip(found, times, strict=True)
    ]


def dvc_nothing_to_do(small: bool = False) -> list[Record]:
    """Time ``dvc repro`` with nothing to do on a tiny platform of one model, beside ``dvc status``."""
    with tempfile.TemporaryDirectory() as folder:
        platform = make_platform(Path(folder) / "platform", models=["mean_effects"])
        platform.dvc("repro")

        def repro() -> None:
            done = platform.dvc("repro")
            if "Running stage" in done.stdout:
                raise AssertionError(f"dvc repro had something to do:\n{done.stdout}")

        ours, other = in_turn([repro, lambda: platform.dvc("status")], 1 if small else 5)
    ratio = statistics.median(a / b for a, b in zip(ours, other, strict=True))
    what = "dvc repro with nothing to do, a platform of one model"
    seconds = (statistics.median(ours), statistics.median(other))
    return [Record(what, *seconds, ratio, "s", higher_is_better=False, sides=("dvc repro", "dvc status"))]
