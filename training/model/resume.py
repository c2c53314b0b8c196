"""Files of a final fit that is not logged yet, by which a killed fit continues in the same MLflow run."""

import hashlib
import json
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import mlflow
from mlflow.entities import Run

from pipelines import tracking
from pipelines.code_closure import closure
from pipelines.files import written_whole
from pipelines.params import Task
from training.studies.trials import CHECKPOINTS, runs_of

FIT_ORIGIN = "fit.origin"  # tag of the run; the fit writes its value into a file before it opens the run


@dataclass(frozen=True)
class Unfinished:
    """Files of a fit in ``checkpoints/fit/``, by question and code; a fit without a ``study`` has none."""

    study: str
    stem: str

    @classmethod
    def of(cls, study: str, task: Task, *, architecture: str, **asked: Any) -> Self:
        """Return the files of a fit, the same in all processes; ``asked`` is all that it depends on besides code."""
        code = closure("training.model.final_fit", task=task, architectures=(architecture, task.evaluate.baseline))
        decided = json.dumps([asked, code], sort_keys=True, default=str)
        return cls(study, f"{study}.{hashlib.sha256(decided.encode()).hexdigest()[:12]}")

    def file(self, kind: str) -> Path | None:
        """Return a file: ``pt`` for the network, ``metrics.jsonl`` for its steps, or ``origin``, see `tags`."""
        return None if self.study == "none" else CHECKPOINTS / "fit" / f"{self.stem}.{kind}"

    def tags(self) -> dict[str, str]:
        """Return the tag by which the run is found again; it is on disk before the run exists."""
        path = self.file("origin")
        if path is None:
            return {}
        if not path.is_file():
            with written_whole(path) as temporary:
                temporary.write_text(uuid.uuid4().hex, encoding="utf-8")
        return {FIT_ORIGIN: path.read_text(encoding="utf-8")}

    def run_id(self, task: str) -> str | None:
        """Return the run that this fit has begun, or None."""
        return next((run.info.run_id for run in self._runs(task)), None)

    def settle(self, task: str, run_id: str) -> None:
        """Delete further runs of this fit, which lost answers of the tracking server have made, and then the files."""
        for run in self._runs(task):
            if run.info.run_id != run_id:
                tracking.patiently(lambda run=run: mlflow.MlflowClient().delete_run(run.info.run_id))  # type: ignore[misc]
        for path in (CHECKPOINTS / "fit").glob(f"{self.study}.*"):
            path.unlink()

    def _runs(self, task: str) -> list[Run]:
        tags = self.tags()
        return runs_of(task, f"tags.`{FIT_ORIGIN}` = '{tags[FIT_ORIGIN]}'", "ASC") if tags else []
