"""Addresses in the MLflow UI."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote


@dataclass(frozen=True)
class Links:
    """Where things are in the MLflow UI at ``base``."""

    base: str

    def version(self, task: str, number: int) -> str:
        """Return the page of a version of a registered model."""
        return f"{self._root}/models/{quote(task, safe='')}/versions/{number}"

    def experiment(self, experiment_id: str) -> str:
        """Return the page of a task's experiment."""
        return f"{self._root}/experiments/{quote(experiment_id, safe='')}"

    def run(self, experiment_id: str, run_id: str) -> str:
        """Return the page of a run."""
        return f"{self.experiment(experiment_id)}/runs/{quote(run_id, safe='')}"

    @property
    def _root(self) -> str:
        return f"{self.base.rstrip('/')}/#"
