"""A comparison in words: for the terminal, and as a report with its figures."""

from typing import Any

from evaluation.comparison.ranking import worst_parts
from pipelines.formatting import cost, counted, ends, interval, lines, number, p_value
from pipelines.report import figure, report, section, table, text

SIMULATED = "SIMULATED data: this is no result about patients or drugs."
FEW_GROUPS = 20

FIGURES = {
    "intervals": "Each architecture's metric on the test rows.",
    "differences": "By how much the architecture of a line is better than that of a column.",
    "quality_against_cost": "What quality costs; a dotted line joins what nothing beats in both.",
}
STANDINGS = {
    "best": "best",
    "indistinguishable": "not distinguishable from the best",
    "worse": "worse than the best",
    "undefined": "undefined",
}
_COSTS = {"cost_latency_ms_batch_1": "ms, 1 row", "cost_fit_seconds": "fit s", "cost_model_megabytes": "model MB"}


def sentences(comparison: dict[str, Any]) -> list[str]:
    """Return what a reader must know before the tables, simulated data first."""
    metric, best, rows = comparison["metric"], comparison["best"], comparison["rows"]
    said = [SIMULATED] if comparison["simulated"] else []
    if best is None:
        return [*said, f"No architecture has a defined {metric} on the test rows: there is no best."]
    others, near, groups = len(rows) - 1, best["indistinguishable"], comparison["groups_tested"]
    found = f"{best['architecture']} has the best {metric} on the test rows: {number(best['value'])} {ends(best)}."
    if not others:
        found += " It is the only one evaluated: nothing is compared."
    elif not near:
        found += f" It is significantly better than all others ({others})."
    else:
        found += f" It is not significantly better than {', '.join(near)}: statistically they cannot be distinguished."
    said.append(found)
    if others:
        pairs, resamples = len(comparison["pairs"]), comparison["resamples"]
        lowest = min(1.0, 2 * pairs / (resamples + 1))  # corrected p-value of the most different pair
        said.append(
            f"{counted(pairs, 'pair was', 'pairs were')} compared on the same {resamples} resamples of the "
            f"{groups} groups of {comparison['rows_tested']} test rows; p-values are two-sided, "
            f"corrected for the number of pairs (Holm) and significant below {1 - comparison['confidence']:.2g}. "
            f"{lowest:.2g} is the lowest that so many resamples allow. Intervals are not corrected."
        )
        said.append(
            "The best of several on the same rows looks better than it is. What is registered is chosen on validation "
            f"rows, not from this table. So far these rows were {comparison['looks']}."
        )
    if groups < FEW_GROUPS:
        said.append(
            f"With only {groups} groups among the test rows intervals and p-values are rough, and rather too small."
        )
    budgets = sorted({row["budget"] for row in rows})
    return [*said, f"The table mixes budgets: {', '.join(budgets)}."] if len(budgets) > 1 else said


def figures_of(comparison: dict[str, Any]) -> dict[str, str]:
    """Return the figures of a comparison with their captions; one architecture differs from none."""
    return {name: caption for name, caption in FIGURES.items() if name != "differences" or comparison["pairs"]}


def as_text(comparison: dict[str, Any]) -> str:
    """Return the comparison for the terminal."""
    title = f"{comparison['task']} ({comparison['mode']}{'; SIMULATED data' if comparison['simulated'] else ''})"
    return "\n".join([title, "", lines(*_board(comparison)), "", *comparison["notes"]])


def content(comparison: dict[str, Any]) -> dict[str, Any]:
    """Return the comparison as a report, see `pipelines.report`."""
    near = ["near" if row["standing"] in ("best", "indistinguishable") else "" for row in comparison["rows"]]
    dim = ["" if pair["significant"] else "dim" for pair in comparison["pairs"]]
    drawn = [figure(f"{name}.png", caption) for name, caption in figures_of(comparison).items()]
    sections = [
        section("", *(text(note) for note in comparison["notes"] if note != SIMULATED)),
        section("Leaderboard", table(*_board(comparison), near), *drawn),
        section("Pair by pair", *([table(*_duels(comparison), dim)] if comparison["pairs"] else [])),
        section("", text(f"Comparison {comparison['id']}.")),
    ]
    title = f"{comparison['task']}: comparison of {counted(len(comparison['rows']), 'architecture')}"
    return report(title, sections, simulated=comparison["simulated"])


def _board(comparison: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    best, percent = comparison["best"], f"{100 * comparison['confidence']:g} % interval"
    head = ["architecture", f"test {comparison['metric']}", percent, "against the best", "p corrected"]
    worst = worst_parts(comparison["rows"])
    head += [f"margin over {comparison['baseline']}", percent, *worst]
    head += _COSTS.values()
    rows = []
    for row in comparison["rows"]:
        against = None if best is None else best["p_corrected"].get(row["architecture"])
        margin = {"low": row["margin_low"], "high": row["margin_high"]}
        rows.append(
            [
                *(row["architecture"], number(row["value"]), ends(row), STANDINGS[row["standing"]]),
                "" if row["standing"] in ("best", "undefined") else p_value(against),
                *(("", "") if row["baseline"] else (number(row["margin"], sign="+"), ends(margin, sign="+"))),
                *(shown(row) for shown in worst.values()),
                *(cost(row["cost"].get(key)) for key in _COSTS),
            ]
        )
    return head, rows


def _duels(comparison: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    percent = f"difference with its {100 * comparison['confidence']:g} % interval"
    rows = []
    for pair in comparison["pairs"]:
        found = [interval(pair, "difference", sign="+"), *(p_value(pair[key]) for key in ("p", "p_corrected"))]
        rows.append([pair["first"], pair["second"], *found, "yes" if pair["significant"] else "no"])
    return ["better", "worse", percent, "p", "p corrected", "significant"], rows
