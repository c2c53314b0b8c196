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

from tests.empty_store import working_in


@dataclass(frozen=True)
class Checkout:
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
    with working_in(root, uri, **{"OPTUNA_STORAGE": f"sqlite:///{root}/optuna.db", **env}):
        yield Checkout(root)
