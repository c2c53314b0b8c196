"""What a person waits for: the demo, the start of a command, ``dvc repro`` with nothing to do, the first page."""

import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from dvc.repo import Repo

from pipelines.params import read_params
from pipelines.side_by_side import checks, fits
from serving import demo
from tests.bench.measured import Record, compare, in_turn, medians, spread
from tests.end_to_end.small_platform import ROOT, make_platform
from tests.serving.browser_window import CHROMIUM, NO_CHROMIUM, chromium, first_page, streamlit
from tests.serving.dashboard_platform import platform

ROOMS = ("pipelines", "training", "evaluation", "serving")
AT_MOST, FIRST_PAGE = 1.0, 3.0  # seconds of --help, and of the first page
BARE = 'import streamlit as st\n\nst.title("Predict")\nst.button("Predict")\n'


def waited(name: str, ours: list[float], other: list[float], sides: tuple[str, str], at_most: float | None) -> Record:
    """Return the record of seconds beside those of something that does less."""
    seconds = medians(ours, other)
    given: dict[str, Any] = {"bound": at_most, "bound_on": "ours", "higher_is_better": False, "sides": sides}
    return Record(name, *seconds, "s", spread=spread(ours, other), **given)


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


def baseline(small: bool = False) -> list[Record]:
    """Measure processor seconds of tune, fit and evaluate of a baseline, beside a warm process and each by itself."""
    with tempfile.TemporaryDirectory() as folder:
        platform = make_platform(Path(folder) / "platform", models=["mean_effects"])
        platform.dvc("repro", *(f"{stage}@{platform.task}" for stage in ("validate", "audit", "prepare")))
        given = f"--task {platform.task} --architecture mean_effects"
        stages = ("training.tune", "training.fit", "evaluation.evaluate")
        one_by_one = ("bash", "-ec", "\n".join(f"python -m {module} {given}" for module in stages))

        shutil.copy(platform.root / "mlflow.db", folder)

        def fresh(*command: str) -> None:
            shutil.rmtree(platform.root / "models", ignore_errors=True)
            (platform.root / "optuna.db").unlink(missing_ok=True)
            shutil.copy(Path(folder) / "mlflow.db", platform.root)
            platform.run(*command)

        beside = ("python", "-m", "pipelines.warm_process", *one_by_one)
        more: dict[str, Any] = {"unit": "processor s", "bound": 8.0, "bound_on": "ours"}
        return [
            compare(
                "tune, fit and evaluate of mean_effects, all imports included",
                lambda: fresh(*beside),
                lambda: fresh(*one_by_one),
                rounds=1 if small else 3,
                clock=_processor_seconds,
                sides=("beside a warm process", "each by itself"),
                **more,
            )
        ]


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _clone(place: Path) -> Path:
    subprocess.run(["git", "clone", "-q", str(ROOT), str(place)], check=True)
    return place


def _kept() -> dict[str, str]:
    """Return the environment of commands in a clone."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW", "OPTUNA", "PYTHON"))}
    return {**kept, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"}


def whole_demo(small: bool = False) -> list[Record]:
    """Time ``make demo`` in a fresh clone with the packages there, once and again, and its stages by plain DVC."""
    params = read_params(ROOT / "params.yaml")
    boards = [f"leaderboard@{task}" for task in params.tasks]
    chains = [*checks(params.tasks).values(), *fits(demo.models(params)).values(), boards]
    plain = f"dvc pull -q data.dvc; dvc repro -s budget inputs {' '.join(stage for chain in chains for stage in chain)}"
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        for name, commands in {"ours": ["make -o .venv/.ready demo"] * 2, "other": [plain]}.items():
            place = _clone(Path(folder) / name)
            (place / ".venv").symlink_to(sys.prefix)
            for command in commands:
                began = time.perf_counter()
                subprocess.run(["bash", "-ec", command], cwd=place, env=_kept(), check=True, stdout=subprocess.DEVNULL)
                seconds.append(time.perf_counter() - began)
    first, again, one_by_one = seconds
    sides = ("make demo", "stages one by one")
    return [
        Record("the demo", first, one_by_one, one_by_one / first, "s", 360.0, bound_on="ours", sides=sides),
        Record("the demo again", again, first, first / again, "s", 6.0, bound_on="ours", sides=("again", "first")),
    ]


def dvc_nothing_to_do(small: bool = False) -> list[Record]:
    """Time ``dvc repro`` with nothing to do on the whole platform, beside ``dvc status`` of an empty project.

    All data and models of params.yaml; each output that is a folder has ten files, as most have.
    """
    with tempfile.TemporaryDirectory() as folder:
        whole, empty = _clone(Path(folder) / "whole"), Path(folder) / "empty"
        subprocess.run(["git", "init", "-q", str(empty)], check=True)

        def dvc(place: Path, *arguments: str) -> str:
            command = [sys.executable, "-m", "dvc", *arguments]
            return subprocess.run(command, cwd=place, env=_kept(), check=True, stdout=subprocess.PIPE, text=True).stdout

        def repro() -> None:
            if "Running stage" in (said := dvc(whole, "repro")):
                raise AssertionError(f"dvc repro had something to do:\n{said}")

        dvc(empty, "init", "-q")
        dvc(whole, "pull", "-q", "data.dvc")
        dvc(whole, "repro", "-q", "inputs")
        for path in (Path(out.fs_path) for out in Repo(str(whole)).index.outs):
            files = [path] if path.suffix else [path / f"{each}.json" for each in range(10)]
            for file in files if not path.exists() else ():
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text("{}")
        dvc(whole, "commit", "--force", "--quiet")
        ours, other = in_turn([repro, lambda: dvc(empty, "status")], 1 if small else 5)
    print(f"dvc repro takes {medians(ours, other)[0]:.2f} s in all", flush=True)
    models = len(read_params(ROOT / "params.yaml").models)
    what = f"dvc repro with nothing to do, {models} models, less dvc status of an empty project"
    beyond = [seconds - status for seconds, status in zip(ours, other, strict=True)]
    return [waited(what, beyond, other, ("dvc repro, less that", "dvc status"), 3.0)]


def first_pages(small: bool = False) -> list[Record]:
    """Time the first page beside that of a Streamlit script of two lines: new processes, new windows, one by one."""
    if CHROMIUM is None:
        raise SystemExit(NO_CHROMIUM)
    times: dict[str, list[float]] = {"ours": [], "bare": []}
    with tempfile.TemporaryDirectory() as name, chromium() as browser, platform(Path(name)) as made:
        bare = Path(name) / "bare.py"
        bare.write_text(BARE)
        scripts = {"ours": ROOT / "serving" / "dashboard_server.py", "bare": bare}
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
