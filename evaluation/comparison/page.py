"""A comparison in words: for the terminal, as Markdown, and as a page that needs no other file."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import jinja2

from evaluation.figures.comparison import p_text

SIMULATED = "SIMULATED data: this is no result about patients or drugs."
FEW_GROUPS = 20

FIGURES = {
    "intervals": "Each architecture's metric on the test rows.",
    "differences": "By how much the architecture of a line is better than that of a column.",
    "quality_against_cost": "What quality costs; a dotted line joins what nothing beats in both.",
}

STANDINGS = {
    "best": "best",
    "indistinguishable": "not told from the best",
    "worse": "worse than the best",
    "undefined": "undefined",
}

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{{ c.task }}: comparison</title><style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 68rem; margin: 2rem auto; padding: 0 1rem; color: #1f2937; }
table { border-collapse: collapse; width: 100%; font-size: 14px; } th, td { text-align: right; padding: .3rem .6rem; }
th:first-child, td:first-child, .name { text-align: left; } tr { border-bottom: 1px solid #e5e7eb; }
.warn { color: #9a6700; font-weight: 600; } .near { background: #eef4fa; } .dim { color: #6b7280; }
img { max-width: 100%; } figure { margin: 1.5rem 0; } figcaption { color: #6b7280; }
</style></head><body>
<h1>{{ c.task }}: comparison of {{ c.rows | length }} architectures</h1>
{% if c.simulated %}<p class="warn">{{ simulated }}</p>{% endif %}
{% for note in c.notes %}<p>{{ note }}</p>
{% endfor %}
<h2>Leaderboard</h2>
<table><tr>{% for heading in board.head %}<th>{{ heading }}</th>{% endfor %}</tr>
{% for row, cells in board.rows %}<tr class="{{ 'near' if row.standing in ('best', 'indistinguishable') else '' }}">
{% for cell in cells %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</table>
{% for name, caption, data in figures %}
<figure><img alt="{{ caption }}" src="data:image/png;base64,{{ data }}"><figcaption>{{ caption }}</figcaption></figure>
{% endfor %}
{% if c.pairs %}<h2>Pair by pair</h2>
<table><tr>{% for heading in duels.head %}<th>{{ heading }}</th>{% endfor %}</tr>
{% for row, cells in duels.rows %}<tr class="{{ '' if row.significant else 'dim' }}">
{% for cell in cells %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</table>{% endif %}
<p class="dim">Comparison {{ c.id }}.</p>
</body></html>
"""


def sentences(comparison: dict[str, Any]) -> list[str]:
    """Return what a reader must know before the tables, simulated data first."""
    metric, best, rows = comparison["metric"], comparison["best"], comparison["rows"]
    said = [SIMULATED] if comparison["simulated"] else []
    if best is None:
        return [*said, f"No architecture has a defined {metric} on the test rows: there is no best."]
    others, near = len(rows) - 1, best["indistinguishable"]
    found = f"{best['architecture']} has the best {metric} on the test rows: {_interval(best)}."
    if not others:
        found += " It is the only one evaluated: nothing is compared."
    elif not near:
        found += f" It is significantly better than {_all(others)}."
    else:
        found += f" It is not significantly better than {', '.join(near)}: statistically they cannot be told apart."
    said.append(found)
    if others:
        said.append(
            f"{_pairs(len(comparison['pairs']))} compared on the same {comparison['resamples']} resamples of the "
            f"{comparison['groups_tested']} groups of {comparison['rows_tested']} test rows; p-values are two-sided, "
            f"corrected for the number of pairs (Holm) and significant below {1 - comparison['confidence']:.2g}. "
            f"{_floor(comparison):.2g} is the lowest that so many resamples allow. Intervals are not corrected."
        )
        said.append(
            "The best of several on the same rows looks better than it is. What is registered is chosen on validation "
            "rows, not from this table."
        )
    if comparison["groups_tested"] < FEW_GROUPS:
        said.append(
            f"With only {comparison['groups_tested']} groups among the test rows intervals and p-values are rough, and "
            "rather too small."
        )
    budgets = sorted({row["budget"] for row in rows})
    if len(budgets) > 1:
        said.append(f"The table mixes budgets: {', '.join(budgets)}.")
    return said


def figures_of(comparison: dict[str, Any]) -> dict[str, str]:
    """Return the figures of a comparison with their captions; one architecture differs from none."""
    return {name: caption for name, caption in FIGURES.items() if name != "differences" or comparison["pairs"]}


def as_text(comparison: dict[str, Any]) -> str:
    """Return the comparison for the terminal."""
    head, rows = _board(comparison)
    widths = [max(len(head[at]), *(len(cells[at]) for _, cells in rows)) for at in range(len(head))]

    def line(cells: list[str]) -> str:
        return cells[0].ljust(widths[0]) + "".join(
            f"  {cell.rjust(width)}" for cell, width in zip(cells[1:], widths[1:], strict=True)
        )

    title = f"{comparison['task']} ({comparison['mode']}{'; SIMULATED data' if comparison['simulated'] else ''})"
    table = [line(head), "-" * (sum(widths) + 2 * len(widths) - 2), *(line(cells) for _, cells in rows)]
    return "\n".join([title, "", *table, "", *comparison["notes"]])


def as_markdown(comparison: dict[str, Any]) -> str:
    """Return the comparison as Markdown; its figures lie beside it."""
    parts = [f"# {comparison['task']}: comparison of {len(comparison['rows'])} architectures"]
    parts += [f"**{note}**" if note == SIMULATED else note for note in comparison["notes"]]
    parts += ["## Leaderboard", _table(*_board(comparison))]
    parts += [f"![{caption}]({name}.png)" for name, caption in figures_of(comparison).items()]
    if comparison["pairs"]:
        parts += ["## Pair by pair", _table(*_duels(comparison))]
    return "\n\n".join([*parts, f"Comparison {comparison['id']}."]) + "\n"


def as_html(comparison: dict[str, Any], folder: Path) -> str:
    """Return the comparison as a page with the figures of ``folder`` inside it."""
    figures = [
        (name, caption, base64.b64encode((folder / f"{name}.png").read_bytes()).decode())
        for name, caption in figures_of(comparison).items()
    ]
    board, duels = (
        dict(zip(("head", "rows"), found, strict=True)) for found in (_board(comparison), _duels(comparison))
    )
    template = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(_PAGE)
    shown = {**comparison, "notes": [note for note in comparison["notes"] if note != SIMULATED]}
    return template.render(c=shown, simulated=SIMULATED, board=board, duels=duels, figures=figures)


Table = tuple[list[str], list[tuple[dict[str, Any], list[str]]]]


def _board(comparison: dict[str, Any]) -> Table:
    best, percent = comparison["best"], _percent(comparison)
    head = [
        *("architecture", f"test {comparison['metric']}", percent, "against the best", "p corrected"),
        *(f"margin over {comparison['baseline']}", percent, "ms, 1 row", "fit s", "model MB"),
    ]
    rows = []
    for row in comparison["rows"]:
        against = None if best is None else best["p_corrected"].get(row["architecture"])
        cells = [
            row["architecture"],
            _number(row["value"]),
            _ends(row["low"], row["high"]),
            STANDINGS[row["standing"]],
            "" if row["standing"] in ("best", "undefined") else p_text(against).removeprefix("p "),
            "" if row["baseline"] else _number(row["margin"], "+"),
            "" if row["baseline"] else _ends(row["margin_low"], row["margin_high"], "+"),
        ]
        for key in ("cost_latency_ms_batch_1", "cost_fit_seconds", "cost_model_megabytes"):
            cells.append("–" if row["cost"].get(key) is None else f"{row['cost'][key]:.3g}")
        rows.append((row, cells))
    return head, rows


def _duels(comparison: dict[str, Any]) -> Table:
    head = ["better", "worse", "difference", _percent(comparison), "p", "p corrected", "significant"]
    rows = []
    for pair in comparison["pairs"]:
        cells = [pair["first"], pair["second"], _number(pair["difference"], "+"), _ends(pair["low"], pair["high"], "+")]
        cells += [p_text(pair[key]).removeprefix("p ") for key in ("p", "p_corrected")]
        rows.append((pair, [*cells, "yes" if pair["significant"] else "no"]))
    return head, rows


def _table(head: list[str], rows: list[tuple[dict[str, Any], list[str]]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *(cells for _, cells in rows)]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _percent(comparison: dict[str, Any]) -> str:
    return f"{100 * comparison['confidence']:g} % interval"


def _interval(row: dict[str, Any]) -> str:
    return f"{_number(row['value'])} {_ends(row['low'], row['high'])}"


def _ends(low: float | None, high: float | None, sign: str = "") -> str:
    return f"[{_number(low, sign)}, {_number(high, sign)}]"


def _number(value: float | None, sign: str = "") -> str:
    return "–" if value is None else f"{value:{sign}.3f}"


def _floor(comparison: dict[str, Any]) -> float:
    """Return the lowest corrected p-value of the most different pair."""
    return min(1.0, 2 * len(comparison["pairs"]) / (comparison["resamples"] + 1))


def _pairs(count: int) -> str:
    return "1 pair was" if count == 1 else f"{count} pairs were"


def _all(others: int) -> str:
    return "the other one" if others == 1 else f"all {others} others"
