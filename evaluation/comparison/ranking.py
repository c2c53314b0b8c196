"""The architectures of a task side by side, each with its interval and its margin, the best first."""

from pathlib import Path
from typing import Any

from evaluation.evidence.evidence_file import evidence_path, read_evidence
from evaluation.explain.gene_tables import gene_table, overlap
from pipelines.errors import UserError
from pipelines.formatting import interval, lines, number
from pipelines.params import Params
from pipelines.paths import REPORTS
from pipelines.problems import higher_is_better


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
        rows.append({**row, "simulated": evidence["simulated"], "cost": evidence["cost"]})
    if not rows:
        raise UserError(f"no model of {name} is evaluated yet; run `make train TASK={name}`")
    names = [str(row["architecture"]) for row in rows]
    for row in rows:
        row["agreement"] = agreement(REPORTS / name / "models", str(row["architecture"]), names)
    sign = 1 if higher_is_better(metric) else -1
    return sorted(rows, key=lambda row: -sign * row["value"] if row["value"] is not None else float("inf"))


def agreement(models: Path, architecture: str, others: list[str]) -> dict[str, float]:
    """Return for each other architecture the share of the top genes that both name, empty where a model names none."""
    tables = {name: gene_table(models / name) for name in others}
    own = tables[architecture]
    if own is None:
        return {}
    return {name: overlap(own, table) for name, table in tables.items() if table is not None and name != architecture}


def agreement_text(rows: list[dict[str, Any]]) -> str:
    """Return which share of their top genes any two models have in common; nothing where fewer than two name genes."""
    found = {row["architecture"]: row["agreement"] for row in rows if row.get("agreement")}
    if len(found) < 2:
        return ""
    shown = [
        [name, *("-" if other == name else number(own[other], ".2f", nothing="nan") for other in found)]
        for name, own in found.items()
    ]
    return lines(["same top genes", *found], shown) + "\n"


def as_text(rows: list[dict[str, Any]], title: str) -> str:
    """Return the leaderboard as a table for the terminal."""
    head = ["architecture", f"test {rows[0]['metric']}", "margin", "seconds", "run"]
    shown = []
    for row in rows:
        margin = {"value": row["margin"], "low": row["margin_low"], "high": row["margin_high"]}
        scores = [interval(row), interval(margin, sign="+")]
        shown.append([row["architecture"], *scores, f"{row['seconds']:.1f}", row["run_id"]])
    return f"{title}\n\n{lines(head, shown)}"


COSTS = {  # of an architecture: name in the evidence, heading, digits
    "cost_parameters": ("parameters", 0),
    "cost_multiply_adds": ("multiply-adds", 0),
    "cost_latency_ms_batch_1": ("ms, 1", 1),
    "cost_latency_ms_batch_32": ("ms, 32", 1),
    "cost_peak_memory_megabytes": ("peak MB", 0),
    "cost_model_megabytes": ("model MB", 1),
}


def cost_text(rows: list[dict[str, Any]]) -> str:
    """Return what each architecture costs, side by side; ``-`` where it does not apply."""
    shown = [
        [row["architecture"]]
        + [number(row["cost"].get(key), f",.{digits}f", nothing="-") for key, (_, digits) in COSTS.items()]
        for row in rows
    ]
    return lines(["cost", *(heading for heading, _ in COSTS.values())], shown)


def title_of(name: str, params: Params, rows: list[dict[str, Any]]) -> str:
    """Return the leaderboard's title; simulated data is called simulated."""
    task = params.task(name)
    what = "SIMULATED data, not a result about patients or drugs" if rows[0]["simulated"] else "test split"
    return f"{name} ({task.split.mode}; {what}; margin over {task.evaluate.baseline}; budget {params.budget})"
