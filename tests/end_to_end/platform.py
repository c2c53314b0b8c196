"""A copy of the repository in a folder of its own, with a tiny simulated sample and budgets, driven by its commands."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.simulate import Size, simulate

ROOT = Path(__file__).parents[2]
TASK = "drug_response"
TINY = Size()  # as shipped: smaller ones leave too few lines to prove a margin on
_COPIED = ("pipelines", "training", "evaluation", "serving", "params.yaml", "dvc.yaml", "MLproject", "Makefile")


@dataclass(frozen=True)
class Platform:
    """The copy and the ways to drive it."""

    root: Path

    @property
    def env(self) -> dict[str, str]:
        """Return the environment of its commands: nothing of the test's own."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW", "OPTUNA", "DVC"))}
        return kept | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(self.root),
            "MLFLOW_TRACKING_URI": f"sqlite:///{self.root}/mlflow.db",
            "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "DVC_NO_ANALYTICS": "1",
            "GX_ANALYTICS_ENABLED": "false",
        }

    def run(self, *command: str, check: bool = True, timeout: int = 600) -> subprocess.CompletedProcess[str]:
        """Run a command in the copy; with ``check`` its output is shown if it fails."""
        done = subprocess.run(
            command,
            cwd=self.root,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
        )
        if check and done.returncode:
            raise AssertionError(
                f"{command} exited with {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
            )
        return done

    def python(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a module of the copy."""
        return self.run(sys.executable, *arguments, check=check)

    def dvc(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run DVC in the copy."""
        return self.run(sys.executable, "-m", "dvc", *arguments, check=check)

    def read(self, path: str) -> Any:
        """Read a JSON file of the copy."""
        return json.loads((self.root / path).read_text())

    def leaderboard(self) -> list[dict[str, Any]]:
        """Return the leaderboard that the copy wrote."""
        return self.read(f"reports/{TASK}/leaderboard.json")


def make_platform(root: Path) -> Platform:
    """Copy the code, make it a git and DVC repository of its own and simulate a tiny sample in it."""
    root.mkdir(parents=True)
    for name in _COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, root / name)
    params = (root / "params.yaml").read_text()
    for pattern, value in (
        (r"trials: \{.*\}", "trials: {quick: 2, full: 2}"),
        (r"rounds: \{.*\}", "rounds: {quick: 20, full: 20}"),
        (r"epochs: \{.*\}", "epochs: {quick: 3, full: 3}"),
        (r"resamples: \d+", "resamples: 200"),
        (r"explained_samples: \{.*\}", "explained_samples: {quick: 30, full: 30}"),
    ):
        params, found = re.subn(pattern, value, params)
        assert found == 1, pattern
    (root / "params.yaml").write_text(params)
    (root / ".gitignore").write_text("/mlflow.db\n/optuna.db\n/mlruns\n/models\n/reports\n/prepared\n/checkpoints\n")
    simulate(root / "data" / TASK, TINY)
    platform = Platform(root)
    platform.run("git", "init", "-q")
    platform.run("git", "config", "user.email", "test@example.org")
    platform.run("git", "config", "user.name", "test")
    platform.dvc("init", "-q")
    platform.dvc("add", "-q", "data")
    platform.run("git", "add", "-A")
    platform.run("git", "commit", "-qm", "tiny platform")
    return platform
