"""The architectures of a task against one another: who is better, whether that is proved, and what it costs."""

import sys

from pipelines.command import parser, run_command
from pipelines.params import read_params
from pipelines.paths import REPORTS


def main() -> int:
    """``python -m evaluation.compare --task T``."""
    name = parser(__doc__ or "").parse_args().task
    from mlflow import MlflowClient

    from evaluation.comparison.architectures import FILTER, FOLDER, compare, log, view, write
    from evaluation.comparison.page import as_text
    from pipelines.datasets import read_prepared

    params = read_params()
    task = params.task(name)
    folder = REPORTS / name / FOLDER
    comparison = compare(name, params, train=lambda: read_prepared(name, task).side("train"))
    write(comparison, folder)
    warnings = view(comparison, MlflowClient())
    run_id = log(comparison, folder)
    print(as_text(comparison))
    print(
        f"\n{folder / 'comparison.html'}; run {run_id}; the models side by side: `make ui`, experiment {name}, filter"
    )
    print(f"  {FILTER}")
    for warning in warnings:
        print(f"warning: {name}: {warning}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    run_command(main)
