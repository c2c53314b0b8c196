"""Stage ``audit``: find copies, shortcuts and uneven groups, which neither validation nor a score shows.

A finding is a warning: the split keeps copies together, and readers of a score must know of a shortcut.
"""

import importlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.command import run_command, task_and_folders
from pipelines.params import Task, read_params
from pipelines.paths import AUDIT_FILE

if TYPE_CHECKING:
    from pipelines.audits import AuditFinding, Parts


@dataclass(frozen=True)
class Audit:
    """The outcome of auditing the samples of a task."""

    task: str
    modality: str
    samples: int  # how many there are
    duplicates: dict[str, Any]  # `counts`; `pairs`, the gravest first, and `merged_groups`, at most `LISTED` of each
    shortcuts: tuple[dict[str, Any], ...]  # one for each probe of `pipelines.probes`
    groups: dict[str, Any]  # how many, how uneven, and which labels few of them have
    findings: "tuple[AuditFinding, ...]"

    @property
    def passed(self) -> bool:
        """Return whether nothing was found."""
        return not self.findings

    def as_dict(self) -> dict[str, Any]:
        """Return the content of ``audit.json``."""
        return {"passed": self.passed, **asdict(self)}


def audit_samples(samples: Any, folder: Path, name: str, task: Task, seed: int) -> Audit:
    """Look for copies, shortcuts and uneven groups; the order of the samples does not matter."""
    samples = samples.take(samples.table["sample_id"].to_numpy(str).argsort(kind="stable"))
    audit: Callable[..., Parts] = importlib.import_module(f"pipelines.audits.{task.modality}").audit
    duplicates, shortcuts, groups, findings = audit(samples, folder, task.split, seed)
    return Audit(name, task.modality, len(samples), duplicates, tuple(shortcuts), groups, tuple(findings))


def write_audit(audit: Audit, reports: Path) -> None:
    """Write ``audit.json`` into ``reports``."""
    from pipelines.files import write_json

    write_json(reports / AUDIT_FILE, audit.as_dict())


def main(argv: Sequence[str] | None = None) -> int:
    """``python -m pipelines.audit --task T [--data DIR] [--reports DIR]``."""
    name, data, reports = task_and_folders(__doc__ or "", argv)
    from pipelines import tracking
    from pipelines.tune_metric import write_shortcuts

    params = read_params()
    task = params.task(name)

    audit = audit_samples(task.read(data).samples, data, name, task, params.seed)
    write_audit(audit, reports)
    write_shortcuts(task, audit.shortcuts, reports)
    for finding in audit.findings:
        print(f"{finding.severity}: {finding.name}: {finding.message}", file=sys.stderr)
    tags = {"audit.passed": str(audit.passed).lower(), "data.sha256": tracking.folder_sha256(data)}
    probes = {f"data/probe_{one['probe']}": one["score"] for one in audit.shortcuts if one["score"] is not None}
    counts = {"data/findings": len(audit.findings), "data/duplicate_pairs": audit.duplicates["counts"]["pairs"]}
    with tracking.run(audit.task, "audit", f"audit {audit.task}", tags=tags):
        tracking.mlflow.log_metrics({**counts, **probes})
        tracking.mlflow.log_artifact(str(reports / AUDIT_FILE))
    found = len(audit.findings)
    print(f"{name}: {audit.samples} samples audited, findings: {found}, see {reports / AUDIT_FILE}")
    return 0


if __name__ == "__main__":
    run_command(main)
