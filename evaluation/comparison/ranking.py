"""The architectures of a task side by side, each with its interval and its margin, the best first."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from evaluation.evidence.evidence_file import evidence_path, read_evidence
from evaluation.evidence.summary import SIMULATED
from evaluation.explain.gene_tables import gene_table, overlap
from evaluation.metrics import best_first
from pipelines.errors import UserError
from pipelines.formatting import cost, interval, lines, number
from pipelines.params import Params
from pipelines.paths import REPORTS


def leaderboard(name: str, params: Params) -> list[dict[str, Any]]:
    """Return a row an architecture, the best first."""
    task = params.task(name)
    metric = task.evaluate.metric
    rows = []
    for architecture in params.architectures(name):
        path = evidence_path(name, architecture)
        if not path.is_file():
            continue  # not trained yet; the others are shown all the same
        evidence = read_evidence(path)
        found, margin = evidence["test"]["metrics"][metric], evidence["test"]["metrics"]["margin"]
        row: dict[str, Any] = {"architecture": architecture, "metric": metric, **found}
        row |= {"margin": margin["value"], "margin_low": margin["low"], "margin_high": margin["high"]}
        row |= {key: evidence[key] for key in ("seconds", "run_id", "model_uri")}
        row |= {"baseline": architecture == task.evaluate.baseline, "validation": evidence["validation"]["value"]}
        if "stress" in evidence:  # the same metric under the worst stress test, with its kind
            row["worst_stress"] = evidence["stress"]["worst"].get(metric)
        row["worst_stratum"] = (evidence.get("strata") or {}).get("worst")
        rows.append({**row, "simulated": evidence["simulated"], "cost": evidence["cost"]})
    if not rows:
        raise UserError(f"no model of {name} is evaluated yet; run `make train TASK={name}`")
    shared = agreement(REPORTS / name / "models", [row["architecture"] for row in rows])
    for row in rows:
        row["agreement"] = shared.get(row["architecture"], {})
    return best_first(rows, metric, "value")


def agreement(models: Path, names: list[str]) -> dict[str, dict[str, float]]:
    """Return for each model that names genes the share of its top genes that each other one names too."""
    tables = {name: table for name in names if (table := gene_table(models / name)) is not None}
    return {
        name: {other: overlap(own, table) for other, table in tables.items() if other != name}
        for name, own in tables.items()
    }


def agreement_text(rows: list[dict[str, Any]]) -> str:
    """Return which share of their top genes any two models have in common; nothing where fewer than two name genes."""
    found = {row["architecture"]: row["agreement"] for row in rows if row.get("agreement")}
    shown = [[name, *(number(own.get(other), ".2f") for other in found)] for name, own in found.items()]
    return lines(["same top genes", *found], shown) if shown else ""


def worst_stress(row: dict[str, Any]) -> str:
    """Return a row's metric under the worst stress test, with its interval and kind."""
    worst = row.get("worst_stress")
    return "–" if worst is None else f"{interval(worst)} ({worst['kind'].replace('_', ' ')})"


def worst_stratum(row: dict[str, Any]) -> str:
    """Return a row's metric in the stratum that lies furthest below all rows, with its interval and name."""
    worst = row.get("worst_stratum")
    return "–" if worst is None else f"{interval(worst)} ({worst['column']} {worst['name']})"


def worst_parts(rows: list[dict[str, Any]]) -> dict[str, Callable[[dict[str, Any]], str]]:
    """Return by heading what shows the worst part of a row, of those that some row has."""
    known = {"worst stress": worst_stress, "worst stratum": worst_stratum}
    return {head: shown for head, shown in known.items() if any(row.get(head.replace(" ", "_")) for row in rows)}


COSTS = {  # of an architecture: name in the evidence, heading
    "cost_parameters": "parameters",
    "cost_multiply_adds": "multiply-adds",
    "cost_images_per_second": "trained/s",
    "cost_latency_ms_batch_1": "ms, 1",
    "cost_latency_ms_batch_32": "ms, 32",
    "cost_peak_memory_megabytes": "peak MB",
    "cost_model_megabytes": "model MB",
}


def as_text(name: str, params: Params, rows: list[dict[str, Any]]) -> str:
    """Return a leaderboard for the terminal: scores, costs, and which top genes models have in common."""
    task = params.task(name)
    what = SIMULATED if rows[0]["simulated"] else "test split"
    title = f"{name} ({task.split.mode}; {what}; margin over {task.evaluate.baseline}; budget {params.budget})"
    scores, costs, worst = [], [], worst_parts(rows)
    for row in rows:
        margin = {"value": row["margin"], "low": row["margin_low"], "high": row["margin_high"]}
        run = [f"{row['seconds']:.1f}", row["run_id"]]
        parts = [shown(row) for shown in worst.values()]
        scores.append([row["architecture"], interval(row), interval(margin, sign="+"), *parts, *run])
        costs.append([row["architecture"], *(cost(row["cost"].get(key)) for key in COSTS)])
    head = ["architecture", f"test {rows[0]['metric']}", "margin", *worst, "seconds", "run"]
    tables = [lines(head, scores)]
    tables += [lines(["cost", *COSTS.values()], costs), agreement_text(rows)]
    return "\n\n".join([title, *filter(None, tables)])
