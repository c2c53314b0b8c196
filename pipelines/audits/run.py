"""The audit of the samples of a task: run, written and logged."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.audits import AuditFinding, Parts
from pipelines.files import write_json
from pipelines.params import Task
from pipelines.paths import AUDIT_FILE


@dataclass(frozen=True)
class Audit:
    """The outcome of auditing the samples of a task."""

    task: str
    modality: str
    samples: int  # how many there are
    duplicates: dict[str, Any]  # `counts`; `pairs`, the gravest first, and `merged_groups`, at most `LISTED` of each
    shortcuts: tuple[dict[str, Any], ...]  # one for each probe of `pipelines.probes`
    groups: dict[str, Any]  # how many, how uneven, and which labels few of them have
    findings: tuple[AuditFinding, ...]

    @property
    def passed(self) -> bool:
        """Return whether nothing was found."""
        return not self.findings

    def as_dict(self) -> dict[str, Any]:
        """Return the content of ``audit.json``."""
        return {"passed": self.passed, **asdict(self)}


def audit_samples(samples: Any, folder: Path, name: str, task: Task, seed: int) -> Audit:
    """Look for copies, shortcuts and uneven groups; the order of the samples does not matter.

    Images are also read from their raw ``folder``, for what only the files show.
    """
    samples = samples.take(np.argsort(samples.table["sample_id"].to_numpy(str), kind="stable"))
    audit: Callable[..., Parts] = importlib.import_module(f"pipelines.audits.{task.modality}").audit
    duplicates, shortcuts, groups, findings = audit(samples, folder, task.split, seed)
    return Audit(name, task.modality, len(samples), duplicates, tuple(shortcuts), groups, tuple(findings))


def write_audit(audit: Audit, reports: Path) -> Path:
    """Write ``audit.json`` into ``reports`` and return its path."""
    write_json(reports / AUDIT_FILE, audit.as_dict())
    return reports / AUDIT_FILE


def log_audit(audit: Audit, folder: Path, reports: Path) -> None:
    """Log the outcome and its report to MLflow, as a run."""
    from pipelines import tracking

    tags = {"audit.passed": str(audit.passed).lower(), "data.sha256": tracking.folder_sha256(folder)}
    probes = {f"probe_{one['probe']}": one["score"] for one in audit.shortcuts if one["score"] is not None}
    counts = {"audit_findings": len(audit.findings), "duplicate_pairs": audit.duplicates["counts"]["pairs"]}
    with tracking.run(audit.task, "audit", f"audit {audit.task}", tags=tags):
        tracking.mlflow.log_metrics({**counts, **probes})
        tracking.mlflow.log_artifact(str(reports / AUDIT_FILE))
