"""Register the best model of a task: ``python -m serving.register --task T [--architecture A]``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from evaluation.classification import HIGHER_IS_BETTER as OF_CLASSES
from evaluation.evaluate import evidence_path, read_evidence
from evaluation.metrics import HIGHER_IS_BETTER as OF_NUMBERS
from pipelines import tracking
from pipelines.command import parser, run_command
from pipelines.faults import UserError
from pipelines.params import Params, read_params
from pipelines.prepare import REPORTS
from serving.registry import register
from training.architectures import get_architecture

NOT_STAGED = 2


def choose(name: str, params: Params, architecture: str | None, reports: Path = REPORTS) -> dict[str, Any]:
    """Return the evidence of ``architecture``, or of the one that did best on rows held out of its fit.

    The choice is made on validation rows: the best of five on the test split would owe a part of its score to luck.
    """
    baseline = params.task(name).evaluate.baseline
    candidates = [architecture] if architecture else [a for a in params.architectures(name) if a != baseline]
    paths = [evidence_path(name, each, reports) for each in candidates]
    found = [read_evidence(path) for path in paths if path.is_file() or architecture]
    if not found:
        raise UserError(f"no model of {name} is evaluated yet; run `make train TASK={name}`")
    metric = found[0]["validation"]["metric"]
    sign = 1 if (OF_NUMBERS | OF_CLASSES)[metric] else -1
    return max(found, key=lambda evidence: sign * evidence["validation"]["value"])


def main() -> int:
    """Register, and say whether the version was staged; exit code 2 where it was not."""
    arguments = parser(__doc__ or "")
    arguments.add_argument("--architecture", default="", help="this one, instead of the best on validation rows")
    given = arguments.parse_args()
    params = read_params()
    task = params.task(given.task)
    if given.architecture:
        get_architecture(given.architecture, task.family)
    tracking.experiment(given.task)
    evidence = choose(given.task, params, given.architecture or None)
    registration = register(given.task, evidence)
    where = f"{registration.name} version {registration.version} ({evidence['architecture']})"
    if registration.staged:
        print(f"registered {where} and gave it staging: {registration.reason}")
        return 0
    print(f"registered {where}; staging stays where it was: {registration.reason}")
    return NOT_STAGED


if __name__ == "__main__":
    run_command(main)
