"""The architectures of a task side by side, each with its interval and its margin, the best first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from evaluation.evidence.evidence_file import evidence_path, read_evidence
from pipelines.errors import UserError
from pipelines.params import Params
from pipelines.paths import REPORTS
from pipelines.problems import higher_is_better


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
    names = [str(row["architecture"]) for row in rows]
    for row in rows:
        row["agreement"] = agreement(reports / name / "models", str(row["architecture"]), names)
    sign = 1 if higher_is_better(metric) else -1
    return sorted(rows, key=lambda row: -sign * row["value"] if row["value"] is not None else float("inf"))


def agreement(models: Path, architecture: str, others: list[str]) -> dict[str, float]:
    """Return for each other architecture the share of the top genes that both name, class by class or target by target.

    Empty where a model names no genes.
    """
    tables = {name: gene_table(models / name) for name in others}
    own = tables[architecture]
    if own is None:
        return {}
    from evaluation.explain.profiles import overlap  # here: most tasks name no genes, and it loads what models need

    return {name: overlap(own, table) for name, table in tables.items() if table is not None and name != architecture}


def gene_table(folder: Path) -> pd.DataFrame | None:
    """Return ``class, gene`` of a model's evidence: the genes that it names for each class or target, None without."""
    for file, key in (("genes_by_class.csv", "class"), ("predictors_by_target.csv", "target")):
        if (folder / file).is_file():
            table = pd.read_csv(folder / file, dtype={key: str, "gene": str})
            return table.rename(columns={key: "class"})[["class", "gene"]]
    return None


def agreement_text(rows: list[dict[str, Any]]) -> str:
    """Return which share of their top genes any two models have in common; nothing where fewer than two name genes."""
    names = [row["architecture"] for row in rows if row.get("agreement")]
    if len(names) < 2:
        return ""
    found = {row["architecture"]: row["agreement"] for row in rows}
    head = f"{'same top genes':<21}" + "".join(f"{name[:14]:>16}" for name in names)
    lines = [head, "-" * len(head)]
    for name in names:
        shown = ["-" if other == name else f"{found[name][other]:.2f}" for other in names]
        lines.append(f"{name:<21}" + "".join(f"{value:>16}" for value in shown))
    return "\n".join(lines) + "\n"


def as_text(rows: list[dict[str, Any]], title: str) -> str:
    """Return the leaderboard as a table for the terminal."""
    metric = rows[0]["metric"]
    head = f"{'architecture':<21}{f'test {metric}':>9}{'95 % interval':>18}{'margin':>10}{'95 % interval':>20}"
    head += f"{'seconds':>9}  run"
    lines = [title, "", head, "-" * (len(head) + 29)]
    for row in rows:
        lines.append(
            f"{row['architecture']:<21}{_number(row['value']):>9}{_interval(row['low'], row['high']):>18}"
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
    head = f"{'cost':<21}" + "".join(f"{heading:>16}" for heading, _ in COSTS.values())
    lines = [head, "-" * len(head)]
    for row in rows:
        shown = [
            f"{row['cost'][key]:,.{digits}f}" if row["cost"].get(key) is not None else "-"
            for key, (_, digits) in COSTS.items()
        ]
        lines.append(f"{row['architecture']:<21}" + "".join(f"{value:>16}" for value in shown))
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
