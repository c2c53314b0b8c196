"""The table of architectures and split modes: as a report, and as a figure."""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from evaluation.figures.plots import BLUE, GRAY, styled
from pipelines.files import write_json, written_whole
from pipelines.formatting import counted, interval, number
from pipelines.report import Code, Text, as_html, as_markdown, figure, items, report, section, table, text

NAME = "generalization"
ASKED = {
    "random": "unseen pairs",
    "cell_blind": "unseen cell lines",
    "drug_blind": "unseen drugs",
    "tissue_blind": "unseen tissues",
    "cross_study": "unseen lines of another study",
}


def columns(found: dict[str, Any]) -> list[tuple[str, str, dict[str, dict[str, Any]]]]:
    """Return the columns: heading, test rows in words, each architecture's row; across studies also of known drugs."""
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


def content(found: dict[str, Any]) -> dict[str, Any]:
    """Return the table as a report, see `pipelines.report`, with the contests and what is missing."""
    level, baseline, shown = f"{found['confidence']:.0%}", found["baseline"], columns(found)
    rows: list[list[Text]] = [
        [Code(name), *(_cell(column.get(name), name == baseline) for _, _, column in shown)]
        for name in found["architectures"]
    ]
    rows.append(["tested on", *(_tested(next(iter(column.values()), None)) for _, _, column in shown)])
    blocks = [
        text(
            f"R² on test rows with its {level} interval; below it by how much that is above ",
            *(Code(baseline), " on the same rows; in brackets the mean correlation within a drug. Budget "),
            *(Code(found["budget"]), ", one model each."),
        ),
        table(["", *((Code(mode), "\n", asked) for mode, asked, _ in shown)], rows),
    ]
    if found["contests"]:
        blocks.append(items(_sentence(contest, level) for contest in found["contests"]))
    if found["missing"]:
        names = [piece for mode, name in found["missing"] for piece in (", ", Code(mode), f" {name}")]
        blocks.append(text("Not run yet, or made from other data or settings: ", *names[1:], "."))
    blocks += [text(f"Failed: {sentence}") for sentence in found["failed"]]
    if found["rows"]:
        blocks.append(figure(f"{NAME}.png", "R² on test rows with its interval; dotted: the baseline"))
    return report(f"{found['task']}: generalization", [section("", *blocks)], simulated=found["simulated"])


def line(row: dict[str, Any]) -> str:
    """Return a fit in a line, for the terminal."""
    r2, margin = (interval(row["metrics"][name], sign=sign) for name, sign in (("r2", ""), ("margin", "+")))
    costs = f"{row['seconds']:.0f} s, {row['peak_megabytes']:.0f} MB"
    return f"{row['mode']:<13}{row['architecture']:<16}R2 {r2}  margin {margin}  {costs}"


@styled
def draw(found: dict[str, Any]) -> Figure:
    """Return a panel a column of the table: each architecture's R² with its interval, the baseline's as a line."""
    shown = [column for column in columns(found) if column[2]]
    names = found["architectures"][::-1]
    across = max(len(shown), 1)
    size = (2.5 * across + 1.2, 0.32 * len(names) + 1.7)
    made, grid = plt.subplots(1, across, figsize=size, sharey=True, squeeze=False)
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
        made.suptitle("SIMULATED data", fontsize=9, fontweight="bold", x=0.01, ha="left")
    return made


def write(found: dict[str, Any], folder: Path) -> None:
    """Write ``generalization.json``, ``.png``, ``.md`` and ``.html`` into ``folder``."""
    write_json(folder / f"{NAME}.json", found)
    with written_whole(folder / f"{NAME}.png") as path:
        draw(found).savefig(path)
    made, figures = content(found), {f"{NAME}.png": (folder / f"{NAME}.png").read_bytes()}
    for kind, page in (("md", as_markdown(made)), ("html", as_html(made, figures))):
        with written_whole(folder / f"{NAME}.{kind}") as path:
            path.write_text(page, encoding="utf-8")


def _cell(row: dict[str, Any] | None, naive: bool) -> Text:
    if row is None:
        return "-"
    found = row["metrics"]
    over = () if naive else ("\n", interval(found["margin"], sign="+", alone="{}"))
    return interval(found["r2"], alone="{}"), *over, "\n", f"[r {number(found['within_drug_pearson']['value'])}]"


def _tested(row: dict[str, Any] | None) -> Text:
    return "-" if row is None else (f"{row['rows']['test']:,} rows,", "\n", counted(row["units"], row["unit"]))


def _sentence(contest: dict[str, Any], level: str) -> Text:
    verdict = "better than" if contest["low"] > 0 else "worse than" if contest["high"] < 0 else "not different from"
    return (
        *(Code(contest["mode"]), ": the best network by validation, ", Code(contest["network"]), f", is {verdict} "),
        *(Code(contest["rival"]), f": R² {interval(contest, 'difference', sign='+')} ({level} interval, paired)"),
    )
