"""The evaluated runs of a task as a Markdown table, for the documentation: scores with intervals, explanations, costs.

``python -m evaluation.results_table --task T [--budget B]`` reads the tracking store, which keeps what another budget
has replaced in ``reports/``: the latest run of each architecture, and of trees on each kind of features.
"""

from collections.abc import Sequence
from typing import Any

from pipelines.command import parser, run_command
from pipelines.errors import UserError
from pipelines.formatting import cost, interval, number
from pipelines.params import Task, read_params
from pipelines.report import Code, as_markdown, report, section, table

SCORES = ("accuracy", "roc_auc", "macro_f1", "weighted_f1", "worst_stress_ece")  # beside the metric of the task
# Metrics of a run with their headings; they are shown where a run has them.
OTHERS = {
    "explanation/on_the_cell": "Grad-CAM on the cell",
    "explanation/deletion_drop": "deletion",
    "explanation/deletion_drop_random": "random deletion",
}
COSTS = {
    "cost/fit_seconds": "fit, s",
    "cost/parameters": "parameters",
    "cost/multiply_adds": "multiply-adds",
    "cost/model_megabytes": "model MB",
    "cost/peak_memory_megabytes": "peak MB",
}


def main() -> None:
    """Print the table."""
    arguments = parser(__doc__ or "")
    arguments.add_argument("--budget", nargs="*", default=[], help="only runs of these budgets")
    given = arguments.parse_args()
    from training.studies.trials import runs_of

    task = read_params().task(given.task)
    runs = [run for run in runs_of(given.task, "tags.stage = 'evaluate'") if run.data.tags.get("evidence.sha256")]
    runs = latest([run for run in runs if not given.budget or run.data.tags["budget"] in given.budget])
    if not runs:
        raise UserError(f"no evaluated run of {given.task} with such a budget; run `make train TASK={given.task}`")
    print(as_markdown(content(given.task, task, runs)))


def latest(runs: Sequence[Any]) -> list[Any]:
    """Return the newest of ``runs``, which are in that order, of each architecture and kind of features.

    Runs of another split than the newest one's were tested on other rows, and are left out.
    """
    found: dict[tuple[str, str | None], Any] = {}
    for run in runs:
        if run.data.tags["split.sha256"] == runs[0].data.tags["split.sha256"]:
            found.setdefault((run.data.tags["architecture"], run.data.params.get("features")), run)
    return list(found.values())


def content(name: str, task: Task, runs: Sequence[Any]) -> dict[str, Any]:
    """Return the table as a report, the best by the metric of the task first."""
    from evaluation.metrics import best_first

    metric = task.evaluate.metric
    every = sorted({key for run in runs for key in run.data.metrics})
    stressed = (f"worst_stress_{metric}", f"worst_stress_{metric}_drop")
    scores = [score for score in dict.fromkeys([metric, *stressed, *SCORES]) if f"test/{score}" in every]
    others, costs = ({key: heading for key, heading in of.items() if key in every} for of in (OTHERS, COSTS))
    rows = []
    for run in runs:
        tags, found = run.data.tags, run.data.metrics
        start = {"true": "pretrained", "false": "from scratch"}.get(tags.get("pretrained", ""), "")
        cells = [Code(tags["architecture"]), run.data.params.get("features", start), tags["budget"]]
        for score in scores:
            ends = {end: found.get(f"interval/{score}_{end}") for end in ("low", "high")}
            cells.append(interval({"value": found.get(f"test/{score}"), **ends}, alone="{}"))
        cells += [number(found.get(key), ".2f") for key in others]
        cells += [cost(found.get(key)) for key in costs]
        rows.append({"value": found.get(f"test/{metric}"), "cells": [*cells, run.info.run_id[:8]]})
    headings = [score.replace("_", " ") for score in scores]
    head = ["architecture", "from", "budget", *headings, *others.values(), *costs.values(), "run"]
    cells = [row["cells"] for row in best_first(rows, metric, "value")]
    simulated = any(run.data.tags.get("simulated") == "true" for run in runs)
    return report(name, [section("", table(head, cells))], simulated=simulated)


if __name__ == "__main__":
    run_command(main)
