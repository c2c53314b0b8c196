"""A checkout whose commands run in this process: as a person types them, without the seconds that each takes to start.

What a shell, DVC and git add is tested where the commands run in processes of their own, see `small_platform`.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines import tracking


@dataclass(frozen=True)
class Checkout:
    """The folder and the ways to drive it."""

    root: Path

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
        for stage in ("pipelines.validate", "pipelines.audit", "pipelines.prepare"):
            assert self.run(stage, "--task", task) == 0
        for architecture in architectures:
            for stage in ("training.tune", "training.fit", "evaluation.evaluate"):
                assert self.run(stage, "--task", task, "--architecture", architecture) == 0
        assert self.run("evaluation.leaderboard", "--task", task) == 0

    def stage(self, task: str, architecture: str) -> None:
        """Complete the evidence of a model, register it and promote it to staging."""
        assert self.run("evaluation.candidate", "--task", task, "--architecture", architecture) == 0
        assert self.run("serving.register", "--task", task, "--by", "A. Person") == 0
        assert self.run("serving.promote", "--task", task, "--by", "A. Person") == 0

    def read(self, path: str) -> Any:
        """Read a JSON file of the checkout."""
        return json.loads((self.root / path).read_text())


@contextlib.contextmanager
def checked_out(root: Path, params: dict[str, Any]) -> Iterator[Checkout]:
    """Write ``params.yaml`` into ``root`` and work there, with a tracking store and studies of its own."""
    before = tracking.mlflow.get_tracking_uri()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root}/mlflow.db")
        patch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "false")
        patch.setenv("OPTUNA_STORAGE", f"sqlite:///{root}/optuna.db")
        patch.setattr(tracking, "git", lambda *arguments: None)
        tracking.mlflow.set_tracking_uri(f"sqlite:///{root}/mlflow.db")
        (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
        yield Checkout(root)
    tracking.mlflow.set_tracking_uri(before)
