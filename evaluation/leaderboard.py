"""Stage ``leaderboard``: the architectures of a task side by side, each with its interval and its margin."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from evaluation import figures
from evaluation.classification import HIGHER_IS_BETTER as OF_CLASSES
from evaluation.evaluate import evidence_path, read_evidence
from evaluation.metrics import HIGHER_IS_BETTER as OF_NUMBERS
from pipelines.command import parser, run_command
from pipelines.faults import UserError
from pipelines.files import read_json, write_json
from pipelines.params import Params, read_params
from pipelines.prepare import REPORTS


def leaderboard(name: str, params: Params, reports: Path = REPORTS) -> list[dict[str, Any]]:
    """Return a row an architecture, the best first.

    Returns
    -------
    list of dict
        ``architecture, metric, value, low, high, margin, margin_low, margin_high, seconds, run_id``, and whether the
        row is the baseline's.
    """
    task = params.task(name)
    metric = task.evaluate.metric
    rows = []
    for architecture in params.architectures(name):
        path = evidence_path(name, architecture, reports)
        if not path.is_file():
            continue  # not trained yet; the others are shown all the same
        evidence = read_evidence(path)
        found, margin = evidence["test"]["metrics"][metric], evidence["test"]["metrics"]["margin"]
        rows.append(
            {
                "architecture": architecture,
                "metric": metric,
                **found,
                "margin": margin["value"],
                "margin_low": margin["low"],
                "margin_high": margin["high"],
                "seconds": evidence["seconds"],
                "run_id": evidence["run_id"],
                "model_uri": evidence["model_uri"],
                "baseline": architecture == task.evaluate.baseline,
                "validation": evidence["validation"]["value"],
                "simulated": evidence["simulated"],
                "cost": evidence["cost"],
            }
        )
    if not rows:
        raise UserError(f"no model of {name} is evaluated yet; run `make train TASK={name}`")
    sign = 1 if (OF_NUMBERS | OF_CLASSES)[metric] else -1
    return sorted(rows, key=lambda row: -sign * row["value"] if row["value"] is not None else float("inf"))


def as_text(rows: list[dict[str, Any]], title: str) -> str:
    """Return the leaderboard as a table for the terminal."""
    metric = rows[0]["metric"]
    head = f"{'architecture':<19}{f'test {metric}':>9}{'95 % interval':>18}{'margin':>10}{'95 % interval':>20}"
    head += f"{'seconds':>9}  run"
    lines = [title, "", head, "-" * (len(head) + 29)]
    for row in rows:
        lines.append(
            f"{row['architecture']:<19}{_number(row['value']):>9}{_interval(row['low'], row['high']):>18}"
            f"{_number(row['margin'], '+'):>10}{_interval(row['margin_low'], row['margin_high'], '+'):>20}"
            f"{row['seconds']:>9.1f}  {row['run_id']}"
        )
    return "\n".join(lines)


COSTS = {  # of an architecture: name in the evidence, heading, digits
    "cost_parameters": ("parameters", 0),
    "cost_multiply_adds": ("multiply-adds", 0),
    "cost_images_per_second": ("trained/s", 1),
    "cost_latency_ms_batch_1": ("ms, 1", 1),
    "cost_latency_ms_batch_32": ("ms, 32", 1),
    "cost_peak_memory_megabytes": ("peak MB", 0),
    "cost_model_megabytes": ("model MB", 1),
}


def cost_text(rows: list[dict[str, Any]]) -> str:
    """Return what each architecture costs, side by side; ``-`` where it does not apply."""
    head = f"{'cost':<19}" + "".join(f"{heading:>16}" for heading, _ in COSTS.values())
    lines = [head, "-" * len(head)]
    for row in rows:
        shown = [
            f"{row['cost'][key]:,.{digits}f}" if row["cost"].get(key) is not None else "-"
            for key, (_, digits) in COSTS.items()
        ]
        lines.append(f"{row['architecture']:<19}" + "".join(f"{value:>16}" for value in shown))
    return "\n".join(lines)


def title_of(name: str, params: Params, rows: list[dict[str, Any]]) -> str:
    """Return the leaderboard's title; simulated data is called simulated."""
    task = params.task(name)
    what = "SIMULATED data, not a result about patients or drugs" if rows[0]["simulated"] else "test split"
    return f"{name} ({task.split.mode}; {what}; margin over {task.evaluate.baseline}; budget {params.budget})"


def _number(value: float | None, sign: str = "") -> str:
    return "-" if value is None else f"{value:{sign}.3f}"


def _interval(low: float | None, high: float | None, sign: str = "") -> str:
    return f"[{_number(low, sign)}, {_number(high, sign)}]"


def main() -> int:
    """``python -m evaluation.leaderboard --task T [--show]``."""
    arguments = parser(__doc__ or "")
    arguments.add_argument("--show", action="store_true", help="print what the stage wrote and compute nothing")
    given = arguments.parse_args()
    params = read_params()
    folder = REPORTS / given.task
    if given.show:
        rows = read_json(folder / "leaderboard.json")
    else:
        rows = leaderboard(given.task, params)
        write_json(folder / "leaderboard.json", rows)
        title = f"{given.task}, {params.task(given.task).split.mode}"
        title += "\nsimulated data: no result about patients or drugs" if rows[0]["simulated"] else ""
        metric = rows[0]["metric"]
        figures.leaderboard(rows, metric, title).savefig(folder / "leaderboard.png")
        latency = [{**row, "latency_ms": row["cost"].get("cost_latency_ms_batch_1")} for row in rows]
        figures.quality_against_cost(latency, metric, "latency_ms", title).savefig(folder / "quality_against_cost.png")
    print(as_text(rows, title_of(given.task, params, rows)))
    print("\n" + cost_text(rows) + "\n")
    return 0


if __name__ == "__main__":
    run_command(main)
