"""What MLflow's pages say of a model and of a task: descriptions in Markdown, made of evidence."""

from collections.abc import Sequence
from typing import Any

from evaluation.evidence.saved_view import page
from pipelines.formatting import cost, counted, interval

NOTE = "mlflow.note.content"  # the tag of a run or an experiment that MLflow shows as its description
SIMULATED = "SIMULATED data, not a result about patients or drugs"
_COSTS = {
    "cost_latency_ms_batch_1": "ms to answer a row",
    "cost_model_megabytes": "MB",
    "cost_parameters": "parameters",
}


def summary(evidence: dict[str, Any], metric: str, experiment: str, card: str = "") -> str:
    """Return the description of a run in five lines: ``metric`` is the task's, ``card`` the artifact with the card."""
    test, run = evidence["test"], f"#/experiments/{experiment}/runs/{evidence['run_id']}/artifacts"
    scores = f"test {metric} **{interval(test['metrics'][metric])}** on {counted(test['samples'], 'row')} of "
    scores += counted(test["groups"], test.get("unit", "group"))
    worst = evidence.get("stress", {}).get("worst", {}).get(metric)
    if worst is not None:
        scores += f"; {interval(worst)} under the worst stress test ({worst['kind'].replace('_', ' ')})"
    stratum = (evidence.get("strata") or {}).get("worst")
    if stratum is not None:
        scores += f"; {interval(stratum)} in the worst stratum ({stratum['column']} {stratum['name']})"
    took = [f"{cost(evidence['cost'][key])} {what}" for key, what in _COSTS.items() if key in evidence["cost"]]
    links = [f"[evidence]({run}/evidence.json)", *([f"[model card]({run}/{card})"] if card else [])]
    lines = [
        f"**{evidence['architecture']}** for **{evidence['task']}**, split {test['mode']}"
        + (f"; {SIMULATED}" if evidence["simulated"] else ""),
        scores,
        f"margin over {evidence['baseline']} {interval(test['metrics']['margin'], sign='+')}",
        ", ".join([f"budget {evidence['budget']}", f"fitted in {cost(evidence['seconds'])} s", *took]),
        ", ".join([*links, f"model `{evidence['model_uri']}`"]),
    ]
    return "  \n".join(lines)  # a line each in Markdown, too


def board(rows: Sequence[dict[str, Any]], lead: str, experiment: str) -> str:
    """Return the description of an experiment: ``lead``, and the leaderboard with links to the runs."""
    head = ["architecture", f"test {rows[0]['metric']}", "margin", "worst stress", "worst stratum", "ms, 1 row", "run"]
    cells = []
    for row in rows:
        margin = {"value": row["margin"], "low": row["margin_low"], "high": row["margin_high"]}
        link = f"[{row['run_id'][:8]}](#/experiments/{experiment}/runs/{row['run_id']})"
        worst = [interval(row.get(key) or {}) for key in ("worst_stress", "worst_stratum")]
        took = cost(row["cost"].get("cost_latency_ms_batch_1"))
        cells.append([row["architecture"], interval(row), interval(margin, sign="+"), *worst, took, link])
    table = [head, ["---"] * len(head), *cells]
    return "\n".join(
        [f"{lead} ([all runs, by score]({page(experiment)}))\n", *(f"| {' | '.join(each)} |" for each in table)]
    )
