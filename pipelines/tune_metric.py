"""Which metric a study optimizes where ``params.yaml`` says ``auto``: the audit decides."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipelines.errors import UserError
from pipelines.files import read_json, write_json
from pipelines.params import AUTO, Params, Task
from pipelines.paths import REPORTS, SHORTCUTS_FILE


def write_shortcuts(task: Task, shortcuts: Sequence[dict[str, Any]], reports: Path) -> None:
    """Write the probes of an audit that found a shortcut; none for a task whose studies do not depend on them.

    `audit.json` would run the studies of every table again when anything in it changes.
    """
    found = [shortcut["probe"] for shortcut in shortcuts if shortcut["finding"]]
    write_json(reports / SHORTCUTS_FILE, {"shortcuts": found if AUTO in task.tunable else []})


def with_tune_metric(params: Params, name: str, reports: Path = REPORTS) -> tuple[Params, str]:
    """Return the parameters with the `tune.metric` that ``auto`` stands for, and why it is that."""
    task, path = params.task(name), reports / name / SHORTCUTS_FILE
    if task.tune.metric != AUTO:
        return params, ""
    if not path.is_file():
        raise UserError(f"{path} is not there, and tune.metric is {AUTO}; run `dvc repro audit@{name}`")
    metric, why = task.tuned_by(read_json(path)["shortcuts"])
    return with_metric(params, name, metric), f"tune.metric is {metric}: {why}"


def with_metric(params: Params, name: str, metric: str) -> Params:
    """Return the parameters with another `tune.metric` of a task."""
    task = params.task(name)
    return replace(params, tasks={**params.tasks, name: replace(task, tune=replace(task.tune, metric=metric))})
