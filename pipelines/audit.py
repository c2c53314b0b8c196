"""Stage ``audit``: find copies, shortcuts and uneven groups, which neither validation nor a score shows.

A finding is a warning: the split keeps copies together, and readers of a score must know of a shortcut.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from pipelines.command import parser, run_command
from pipelines.params import read_params
from pipelines.paths import DATA, REPORTS, VALIDATION_FILE


def main(argv: Sequence[str] | None = None) -> int:
    """``python -m pipelines.audit --task T [--data DIR] [--reports DIR]``."""
    options = parser(__doc__ or "")
    options.add_argument("--data", type=Path, help="raw folder (default: data/<task>)")
    options.add_argument("--reports", type=Path, help="folder of the reports (default: reports/<task>)")
    arguments = options.parse_args(argv)
    from pipelines.audits.run import audit_samples, log_audit, write_audit
    from pipelines.validation_page import write_page

    params = read_params()
    task = params.task(arguments.task)
    data = arguments.data or DATA / arguments.task
    reports = arguments.reports or REPORTS / arguments.task

    audit = audit_samples(task.read(data).samples, data, arguments.task, task, params.seed)
    path = write_audit(audit, reports)
    if (reports / VALIDATION_FILE).is_file():
        write_page(reports, arguments.task)
    for finding in audit.findings:
        print(f"{finding.severity}: {finding.name}: {finding.message}", file=sys.stderr)
    log_audit(audit, data, reports)
    print(f"{arguments.task}: {audit.samples} samples audited, findings: {len(audit.findings)}, see {path}")
    return 0


if __name__ == "__main__":
    run_command(main)
