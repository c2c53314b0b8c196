"""Stage ``audit``: copies, shortcuts and uneven groups, which validation lets pass and a score does not show.

A finding is a warning and refuses nothing: the split already keeps copies together, and whether a shortcut matters is
for whoever reads the score. It is written down, so that evidence and model card can carry it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.audits import AuditFinding, Parts
from pipelines.audits.expression import audit_expression
from pipelines.audits.images import audit_images
from pipelines.audits.response import audit_response
from pipelines.command import parser, run_command
from pipelines.files import read_json, write_json
from pipelines.params import Split, Task, read_params
from pipelines.reading import read_samples
from pipelines.report import write_page
from pipelines.validate import REPORT_FILE

DATA = Path("data")
REPORTS = Path("reports")
AUDIT_FILE = "audit.json"
_KINDS: dict[str, Callable[[Any, Path, Split, int], Parts]] = {
    "images": audit_images,
    "response": audit_response,
    "expression": audit_expression,
}


@dataclass(frozen=True)
class Audit:
    """The outcome of auditing the samples of a task.

    Attributes
    ----------
    task, kind
        Name and kind of the task.
    samples
        How many there are.
    duplicates
        ``counts``; ``pairs``, the gravest first, and ``merged_groups``, at most `pipelines.audits.LISTED` of each.
    shortcuts
        A mapping a probe, from `pipelines.probes`.
    groups
        How many groups, how uneven, and which labels few of them carry.
    findings
        What is not as it should be.
    """

    task: str
    kind: str
    samples: int
    duplicates: dict[str, Any]
    shortcuts: tuple[dict[str, Any], ...]
    groups: dict[str, Any]
    findings: tuple[AuditFinding, ...]

    @property
    def passed(self) -> bool:
        """Return whether nothing was found."""
        return not self.findings

    def as_dict(self) -> dict[str, Any]:
        """Return what ``audit.json`` holds."""
        return {"passed": self.passed, **asdict(self)}


def audit_samples(samples: Any, folder: Path, name: str, task: Task, seed: int) -> Audit:
    """Look for copies, shortcuts and uneven groups.

    Parameters
    ----------
    samples
        Labeled samples of any kind.
    folder
        Their raw folder, for what only the files tell.
    name, task
        The task and its name.
    seed
        Of the probes.

    Returns
    -------
    Audit
        The same for any order of the samples.
    """
    samples = samples.take(np.argsort(samples.table["sample_id"].to_numpy(str), kind="stable"))
    duplicates, shortcuts, groups, findings = _KINDS[task.kind](samples, folder, task.split, seed)
    return Audit(name, task.kind, len(samples), duplicates, tuple(shortcuts), groups, tuple(findings))


def write_audit(audit: Audit, reports: Path) -> Path:
    """Write ``audit.json`` into ``reports`` and return its path."""
    path = reports / AUDIT_FILE
    write_json(path, audit.as_dict())
    return path


def read_audit(reports: Path) -> dict[str, Any] | None:
    """Return what `write_audit` wrote into ``reports``, None where the audit has not run."""
    path = reports / AUDIT_FILE
    return read_json(path) if path.is_file() else None


def log_audit(audit: Audit, folder: Path, reports: Path) -> None:
    """Log the outcome and its report to MLflow, in a run of its own."""
    from pipelines import tracking

    tags = {"audit.passed": str(audit.passed).lower(), "data.sha256": tracking.folder_sha256(folder)}
    probes = {f"probe_{one['probe']}": one["score"] for one in audit.shortcuts if one["score"] is not None}
    counts = {"audit_findings": len(audit.findings), "duplicate_pairs": audit.duplicates["counts"]["pairs"]}
    with tracking.run(audit.task, "audit", f"audit {audit.task}", tags=tags):
        tracking.mlflow.log_metrics({**counts, **probes})
        tracking.mlflow.log_artifact(str(reports / AUDIT_FILE))


def main(argv: Sequence[str] | None = None) -> int:
    """``python -m pipelines.audit --task T [--data DIR] [--reports DIR]``."""
    options = parser(__doc__ or "")
    options.add_argument("--data", type=Path, help="raw folder (default: data/<task>)")
    options.add_argument("--reports", type=Path, help="folder of the reports (default: reports/<task>)")
    arguments = options.parse_args(argv)
    params = read_params()
    task = params.task(arguments.task)
    data = arguments.data or DATA / arguments.task
    reports = arguments.reports or REPORTS / arguments.task

    audit = audit_samples(read_samples(data, task).samples, data, arguments.task, task, params.seed)
    path = write_audit(audit, reports)
    if (reports / REPORT_FILE).is_file():
        write_page(reports, arguments.task)
    for finding in audit.findings:
        print(f"{finding.severity}: {finding.name}: {finding.message}", file=sys.stderr)
    log_audit(audit, data, reports)
    print(f"{arguments.task}: {audit.samples} samples audited, findings: {len(audit.findings)}, see {path}")
    return 0


if __name__ == "__main__":
    run_command(main)
