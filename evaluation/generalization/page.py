"""The table of architectures and split modes: as CSV, as Markdown for a README, and as a figure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from evaluation.figures.plots import BLUE, GRAY, STYLE
from pipelines.files import write_json, written_whole
from pipelines.problems import higher_is_better

SIMULATED = "SIMULATED data: this is no result about patients or drugs."
ASKED = {
    "random": "unseen pairs",
    "cell_blind": "unseen cell lines",
    "drug_blind": "unseen drugs",
    "tissue_blind": "unseen tissues",
    "cross_study": "unseen lines of another study",
}


def best_by_validation(rows: Sequence[dict[str, Any]]) -> str:
    """Return the architecture with the best score on the validation rows."""
    sign = 1 if higher_is_better(rows[0]["validation"]["metric"]) else -1
    return str(max(rows, key=lambda row: sign * row["validation"]["value"])["architecture"])


def columns(found: dict[str, Any]) -> list[tuple[str, str, dict[str, dict[str, Any]]]]:
    """Return the columns of the table: heading, what is asked, and the row of each architecture.

    Across studies there are two: all test rows, and those whose drug the training study has too.
    """
    made = []
    for mode in found["modes"]:
        rows = {row["architecture"]: row for row in found["rows"] if row["mode"] == mode}
        made.append((mode, ASKED[mode], rows))
        known = {
            name: {**row, **part, "mode": f"{mode}, known drugs", "rows": {"test": part["rows"]}}
            for name, row in rows.items()
            if (part := row.get("of_known_drugs"))
        }
        if known:
            made.append((f"{mode}, known drugs", f"{ASKED[mode]}, drugs in both", known))
    return made


def as_table(found: dict[str, Any]) -> pd.DataFrame:
    """Return a row a fit: mode, architecture, every metric with its interval, rows, units and cost."""
    rows = []
    for row in (row for _, _, rows in columns(found) for row in rows.values()):
        flat = {key: row[key] for key in ("mode", "architecture", "simulated", "budget", "hyperparameters_from")}
        for metric, interval in row["metrics"].items():
            flat |= {metric: interval["value"], f"{metric}_low": interval["low"], f"{metric}_high": interval["high"]}
        flat |= {f"{side}_rows": row["rows"].get(side) for side in ("train", "validation", "test")}
        flat |= {key: row[key] for key in ("unit", "units", "seconds", "peak_megabytes", "run_id")}
        flat |= {"validation_metric": row["validation"]["metric"], "validation": row["validation"]["value"]}
        rows.append(flat)
    return pd.DataFrame(rows)


def as_markdown(found: dict[str, Any]) -> str:
    """Return the table with its head: simulated data first, then what is asked in each mode, then the contests."""
    level, baseline, shown = f"{found['confidence']:.0%}", found["baseline"], columns(found)
    lines = [f"**{SIMULATED}**", ""] if found["simulated"] else []
    lines += [
        f"R² on test rows with its {level} interval; below it by how much that is above `{baseline}` on the same rows; "
        f"in brackets the mean correlation within a drug. Budget `{found['budget']}`, one model each.",
        "",
        "| | " + " | ".join(f"`{mode}`<br>{asked}" for mode, asked, _ in shown) + " |",
        "|---" * (len(shown) + 1) + "|",
    ]
    for architecture in found["architectures"]:
        cells = [_cell(rows.get(architecture), architecture == baseline) for _, _, rows in shown]
        lines.append(f"| `{architecture}` | " + " | ".join(cells) + " |")
    counts = [_tested(next(iter(rows.values()), None)) for _, _, rows in shown]
    lines += ["| tested on | " + " | ".join(counts) + " |", ""]
    for contest in found["contests"]:
        lines.append(f"- {_sentence(contest, level)}")
    lines += [""] if found["contests"] else []
    if found["missing"]:
        lines += [f"Not run yet, or made from other data or settings: {_missing(found)}.", ""]
    lines += [f"Failed: {sentence}" for sentence in found["failed"]]
    return "\n".join(lines).rstrip() + "\n"


def line(row: dict[str, Any]) -> str:
    """Return a fit in a line, for the terminal."""
    r2, margin = row["metrics"]["r2"], row["metrics"]["margin"]
    return (
        f"{row['mode']:<13}{row['architecture']:<16}R2 {_interval(r2)}  margin {_interval(margin, '+')}  "
        f"{row['seconds']:.0f} s, {row['peak_megabytes']:.0f} MB"
    )


def figure(found: dict[str, Any]) -> Figure:
    """Return a panel a column of the table: each architecture's R² with its interval, the baseline's as a line."""
    shown = [column for column in columns(found) if column[2]]
    names = found["architectures"][::-1]
    across = max(len(shown), 1)
    with plt.rc_context(STYLE):
        made, grid = plt.subplots(
            1, across, figsize=(2.5 * across + 1.2, 0.32 * len(names) + 1.7), sharey=True, squeeze=False
        )
        for axes, (mode, asked, rows) in zip(grid[0], shown, strict=False):
            for architecture, row in rows.items():
                place, r2 = names.index(architecture), row["metrics"]["r2"]
                naive = architecture == found["baseline"]
                color = GRAY if naive else BLUE
                if r2["low"] is not None and r2["high"] is not None:
                    axes.hlines(place, r2["low"], r2["high"], color=color, linewidth=2)
                axes.scatter(r2["value"], place, color=color, zorder=3)
                if naive:
                    axes.axvline(r2["value"], color=GRAY, linewidth=0.8, linestyle=":")
            axes.set(xlabel="test R²")
            axes.set_title(f"{mode}\n{asked.replace(', ', chr(10))}", fontsize=8)
            axes.margins(x=0.1)
        grid[0][0].set_yticks(range(len(names)), names)
        grid[0][0].set_ylim(-0.6, len(names) - 0.4)
        if found["simulated"]:
            made.suptitle(SIMULATED, fontsize=9, fontweight="bold", x=0.01, ha="left")
        plt.close(made)
    return made


def write(found: dict[str, Any], folder: Path) -> None:
    """Write ``generalization.json``, ``.csv``, ``.md`` and ``.png`` into ``folder``."""
    write_json(folder / "generalization.json", found)
    with written_whole(folder / "generalization.csv") as path:
        as_table(found).to_csv(path, index=False)
    with written_whole(folder / "generalization.md") as path:
        path.write_text(as_markdown(found), encoding="utf-8")
    with written_whole(folder / "generalization.png") as path:
        figure(found).savefig(path)


def _cell(row: dict[str, Any] | None, naive: bool) -> str:
    if row is None:
        return "-"
    found = row["metrics"]
    within = f"[r {_number(found['within_drug_pearson']['value'])}]"
    over = "" if naive else f"<br>{_interval(found['margin'], '+')}"
    return f"{_interval(found['r2'])}{over}<br>{within}"


def _missing(found: dict[str, Any]) -> str:
    """Return what is missing, mode by mode."""
    told = []
    for mode in dict.fromkeys(mode for mode, _ in found["missing"]):
        names = [architecture for of, architecture in found["missing"] if of == mode]
        told.append(f"`{mode}` ({'all' if len(names) == len(found['architectures']) else ', '.join(names)})")
    return ", ".join(told)


def _tested(row: dict[str, Any] | None) -> str:
    if row is None:
        return "-"
    return f"{row['rows']['test']:,} rows,<br>{row['units']:,} {row['unit']}{'s' if row['units'] != 1 else ''}"


def _sentence(contest: dict[str, Any], level: str) -> str:
    low, high = contest["low"], contest["high"]
    told = "better than" if low > 0 else "worse than" if high < 0 else "not told from"
    between = _interval({"value": contest["difference"], "low": low, "high": high}, "+")
    return (
        f"`{contest['mode']}`: the best network by validation, `{contest['network']}`, is {told} "
        f"`{contest['rival']}`: R² {between} ({level} interval, paired)"
    )


def _interval(found: dict[str, float | None], sign: str = "") -> str:
    return f"{_number(found['value'], sign)} [{_number(found['low'], sign)}, {_number(found['high'], sign)}]"


def _number(value: float | None, sign: str = "") -> str:
    return "-" if value is None or not math.isfinite(value) else f"{value:{sign}.3f}"
