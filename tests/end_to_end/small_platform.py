"""Tiny samples and budgets: a copy of the repository driven by its commands, and a checkout without processes."""

import contextlib
import importlib
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines import probes
from pipelines.command import run_command
from pipelines.simulate.response import Size, simulate_drug_response
from tests.empty_store import working_in

ROOT = Path(__file__).parents[2]
TASK = "drug_response"
TINY = Size()  # as shipped: smaller ones leave too few lines to prove a margin on
_COPIED = ("pipelines", "training", "evaluation", "serving", "params.yaml", "dvc.yaml", "MLproject", "Makefile")

# Checks of the gate that a tiny sample or budget may fail.
WAIVED = ("audit", "calibration", "coverage", "explanation", "latency", "simple_models", "stress")

# What makes every task small; dotted keys of the task in params.yaml.
_SMALL: dict[str, Any] = {
    "tune.trials": {"quick": 2, "full": 2},
    "tune.rounds": {"quick": 20, "full": 20},
    "tune.epochs": {"quick": 3, "full": 3},
    "evaluate.resamples": 200,
    "evaluate.explained_samples": {"quick": 30, "full": 30},
}


# Entry points in one process that starts once, each with more variables.
CHAIN = """
import importlib, json, os, sys
from pipelines.command import run_command

for line, given in json.loads(sys.argv[1]):
    os.environ.update(given)
    sys.argv = line.split()
    try:
        run_command(importlib.import_module(sys.argv[0]).main)
    except SystemExit as ended:
        print(sys.argv[0], "exited with", ended.code)
"""


def stages(architectures: Sequence[str]) -> list[tuple[str, str]]:
    """Return the modules that bring a task from its raw folder to its leaderboard, and the architecture of each."""
    every = ("pipelines.validate", "pipelines.audit", "pipelines.prepare")
    of_each = ("training.tune", "training.fit", "evaluation.evaluate")
    fitted = [(module, name) for name in architectures for module in of_each]
    return [*((module, "") for module in every), *fitted, ("evaluation.leaderboard", "")]


@dataclass(frozen=True)
class Platform:
    root: Path
    task: str = TASK

    @property
    def env(self) -> dict[str, str]:
        """Return the environment of its commands: nothing of the test's own."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW", "OPTUNA", "DVC"))}
        silent = {"MLFLOW_DISABLE_TELEMETRY": "true", "DVC_NO_ANALYTICS": "1", "GX_ANALYTICS_ENABLED": "false"}
        own = {"PYTHONPATH": str(self.root), "MLFLOW_TRACKING_URI": f"sqlite:///{self.root}/mlflow.db"}
        own["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return kept | own | silent | {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}

    def run(
        self, *command: str, check: bool = True, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the copy, with ``env`` added; with ``check`` its output is shown if it fails."""
        given: dict[str, Any] = {"cwd": self.root, "env": self.env | dict(env or {}), "stdin": subprocess.DEVNULL}
        done = subprocess.run(command, capture_output=True, text=True, timeout=1200, **given)
        said = f"{command} exited with {done.returncode}\n{done.stdout[-30000:]}\n{done.stderr[-10000:]}"
        assert done.returncode == 0 or not check, said
        return done

    def python(self, *arguments: str, check: bool = True, **more: Any) -> subprocess.CompletedProcess[str]:
        return self.run(sys.executable, *arguments, check=check, **more)

    def dvc(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.run(sys.executable, "-m", "dvc", *arguments, check=check)

    def chain(self, *lines: str) -> str:
        """Run entry points in one process; return what they print, with their exit codes."""
        done = self.python("-c", CHAIN, json.dumps([(line, {}) for line in lines]))
        return done.stdout + done.stderr

    def read(self, path: str) -> Any:
        return json.loads((self.root / path).read_text())


def small_params(
    task: str,
    *,
    changes: Mapping[str, Any] | None = None,
    like: str | None = None,
    models: Sequence[str] | None = None,
    waive: bool = False,
) -> dict[str, Any]:
    """Return the content of the repository's ``params.yaml`` with one task, made small.

    ``like`` is the entry that a new task is copied from; ``waive`` waives what a tiny sample cannot prove. See
    `make_platform`.
    """
    params: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["tasks"] = {task: params["tasks"][like or task]}
    own_models = {key: model for key, model in params["models"].items() if model["task"] == task}
    params["models"] = own_models if models is None else {}
    params["budgets"] = {}
    own = params["policy"]["tasks"]
    params["policy"]["tasks"] = {task: own[task]} if task in own else {}
    if waive:
        why = {"reason": "a tiny sample", "by": "a test", "until": "2999-12-31"}
        waivers = [{"check": check, **why} for check in WAIVED]
        params["policy"]["tasks"] = {task: {"waivers": waivers}}
        params["policy"]["gate"]["stratum_drop"] = 10.0  # whose waiver would have to name the strata
    params["models"] |= {f"{task}-{name}": {"task": task, "architecture": name} for name in models or ()}
    for dotted, value in {**_SMALL, **(changes or {})}.items():
        *sections, last = dotted.split(".")
        section = params["tasks"][task]
        for each in sections:
            section = section[each]
        assert last in section or dotted == "data.threshold", dotted
        section[last] = value
    return params


def make_platform(
    root: Path,
    task: str = TASK,
    *,
    sample: Callable[[Path], object] = lambda folder: simulate_drug_response(folder, TINY),
    models: Sequence[str] | None = None,
    waive: bool = False,
) -> Platform:
    """Copy the code into ``root``, make it a git and DVC repository of its own and simulate a tiny sample in it.

    ``sample`` writes the raw folder of ``task``, the one task of the copy. ``models`` are architectures, instead of
    those that the repository has for the task.
    """
    root.mkdir(parents=True)
    for name in _COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, root / name)  # with __pycache__: else the copy would be compiled anew
        else:
            shutil.copy(source, root / name)
    params = small_params(task, models=models, waive=waive)
    # In flow style as in the repository, where tests replace text: `trials: {quick: 2, full: 2}`.
    (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False, default_flow_style=None))
    ignored = "__pycache__/ /budget.yaml /mlflow.db* /optuna.db* /mlruns /models /reports /prepared /checkpoints /cache"
    (root / ".gitignore").write_text(ignored.replace(" ", "\n") + "\n")
    sample(root / "data" / task)
    platform = Platform(root, task)
    platform.run("git", "init", "-q")
    platform.run("git", "config", "user.email", "test@example.org")
    platform.run("git", "config", "user.name", "test")
    platform.dvc("init", "-q")
    shutil.copy(ROOT / ".dvcignore", root)
    platform.dvc("add", "-q", "data")
    platform.run("git", "add", "-A")
    platform.run("git", "commit", "-qm", "tiny platform")
    return platform


def said(call: Callable[[], object], *argv: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Return what a call in this process would print and exit with as a command."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.setattr(sys, "argv", list(argv))
        for name, value in env.items():
            patch.setenv(name, value)
        try:
            call()
        except SystemExit as ended:
            code = int(ended.code or 0)
    return subprocess.CompletedProcess(argv, code, out.getvalue(), err.getvalue())


@dataclass(frozen=True)
class Checkout:
    """A checkout whose commands run in this process, without the seconds that each takes to start."""

    root: Path

    def command(self, module: str, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run ``python -m module arguments``, errors included, with ``env`` added."""
        return said(lambda: run_command(importlib.import_module(module).main), module, *arguments, **env)

    def run(self, module: str, *arguments: str) -> int:
        """Run ``python -m module arguments`` in this process; returns its exit code."""
        before = sys.argv
        sys.argv = [module, *arguments]
        try:
            return int(importlib.import_module(module).main() or 0)
        finally:
            sys.argv = before

    def train(self, task: str, architectures: Sequence[str]) -> None:
        """Bring a task from its raw folder to its leaderboard."""
        for module, name in stages(architectures):
            assert self.run(module, "--task", task, *(("--architecture", name) if name else ())) == 0

    def stage(self, task: str, architecture: str) -> None:
        """Complete the evidence of a model, register it and promote it to staging."""
        assert self.run("evaluation.candidate", "--task", task, "--architecture", architecture) == 0
        assert self.run("serving.register", "--task", task, "--by", "A. Person") == 0
        assert self.run("serving.promote", "--task", task, "--by", "A. Person") == 0

    def read(self, path: str) -> Any:
        return json.loads((self.root / path).read_text())

    def leaderboard(self, task: str) -> dict[str, Any]:
        return {row["architecture"]: row for row in self.read(f"reports/{task}/leaderboard.json")}

    def evidence(self, task: str, architecture: str) -> Any:
        return self.read(f"reports/{task}/models/{architecture}/evidence.json")

    def score(self, task: str, data: Path, capsys: pytest.CaptureFixture[str]) -> Any:
        """Score a folder with the model in staging; return the JSON that stands in one line."""
        capsys.readouterr()
        assert self.run("evaluation.score", "--model", f"models:/{task}@staging", "--data", str(data)) == 0
        (line,) = [line for line in capsys.readouterr().out.splitlines() if line.strip()]
        return json.loads(line)


@contextlib.contextmanager
def checked_out(root: Path, params: dict[str, Any], uri: str | None = None, **env: str) -> Iterator[Checkout]:
    """Write ``params.yaml`` into ``root`` and work there, with studies and, without ``uri``, a tracking store there."""
    (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    with (
        pytest.MonkeyPatch.context() as patch,
        working_in(root, uri, **{"OPTUNA_STORAGE": f"sqlite:///{root}/optuna.db", **env}),
    ):
        patch.setitem(probes._TREES, "n_estimators", 10)  # of the audit
        yield Checkout(root)
