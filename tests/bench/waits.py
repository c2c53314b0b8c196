"""What a person waits for: the start of a command, ``dvc repro`` with nothing to do, the dashboard's first page."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.bench.measured import Record, in_turn, medians
from tests.end_to_end.small_platform import ROOT, make_platform
from tests.serving.browser_window import CHROMIUM, NO_CHROMIUM, chromium, first_page, streamlit
from tests.serving.dashboard_platform import platform

ROOMS = ("pipelines", "training", "evaluation", "serving")
AT_MOST, FIRST_PAGE = 1.0, 3.0  # seconds of --help, and of the first page
BARE = 'import streamlit as st\n\nst.title("Predict")\nst.button("Predict")\n'


def waited(name: str, ours: list[float], other: list[float], sides: tuple[str, str], at_most: float | None) -> Record:
    """Return the record of seconds beside those of something that does less."""
    seconds = medians(ours, other)
    return Record(name, *seconds, "s", bound=at_most, bound_on="ours", higher_is_better=False, sides=sides)


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

    found, sides = modules(), ("the command", "python -c pass")
    jobs = [lambda: run("-c", "pass"), *(lambda module=module: run("-m", module, "--help") for module in found)]
    nothing, *times = in_turn(jobs, 1 if small else 3)
    named = zip(found, times, strict=True)
    return [waited(f"python -m {module} --help", seconds, nothing, sides, AT_MOST) for module, seconds in named]


def dvc_nothing_to_do(small: bool = False) -> list[Record]:
    """Time ``dvc repro`` with nothing to do on a tiny platform of one model, beside ``dvc status``."""
    with tempfile.TemporaryDirectory() as folder:
        made = make_platform(Path(folder) / "platform", models=["mean_effects"])
        made.dvc("repro")

        def repro() -> None:
            done = made.dvc("repro")
            if "Running stage" in done.stdout:
                raise AssertionError(f"dvc repro had something to do:\n{done.stdout}")

        ours, other = in_turn([repro, lambda: made.dvc("status")], 1 if small else 5)
    what = "dvc repro with nothing to do, a platform of one model"
    return [waited(what, ours, other, ("dvc repro", "dvc status"), None)]


def first_pages(small: bool = False) -> list[Record]:
    """Time the first page beside that of a Streamlit script of two lines: new processes, new windows, one by one."""
    if CHROMIUM is None:
        raise SystemExit(NO_CHROMIUM)
    times: dict[str, list[float]] = {"ours": [], "bare": []}
    with tempfile.TemporaryDirectory() as name, chromium() as browser, platform(Path(name)) as made:
        bare = Path(name) / "bare.py"
        bare.write_text(BARE)
        scripts = {"ours": ROOT / "serving" / "dashboard_app.py", "bare": bare}
        for _ in range(1 if small else 8):
            for side, script in scripts.items():
                with streamlit(script, made.folder, made.environment) as server:
                    context = browser.new_context(viewport={"width": 1440, "height": 1000})
                    first_page(context.new_page(), server.url)
                    times[side].append(time.monotonic() - server.started)
                    context.close()
    print(f"the longest of {len(times['ours'])}: {max(times['ours']):.2f} s", flush=True)
    sides = ("the dashboard", "a Streamlit script of two lines")
    name = "first page after the start of the process"
    return [waited(name, times["ours"], times["bare"], sides, FIRST_PAGE)]
