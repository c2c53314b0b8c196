"""``docs/performance.md``, its picture and the records that both are drawn from, in ``performance.json`` beside it."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from evaluation.figures.plots import BLUE, GRAY, RED, STYLE
from pipelines.files import read_json, write_json, written_whole
from tests.bench.measured import Record, Table, number

RECORDED = "performance.json"
BEGIN, END = "<!-- what follows is written by: python -m tests.bench --report docs -->", "<!-- end -->"


def add(folder: Path, name: str, result: dict[str, Any], order: list[str]) -> None:
    """Keep the ``result`` of `tests.bench.__main__.run` in ``performance.json``, and write page and picture anew.

    ``folder`` has ``performance.md``, whose text outside the marks stays as it is, and ``images/``.
    """
    kept = folder / RECORDED
    results = (read_json(kept) if kept.is_file() else {}) | {name: result}
    results = {each: results[each] for each in order if each in results}
    write_json(kept, results)
    page = folder / "performance.md"
    text = page.read_text() if page.is_file() else f"{BEGIN}\n{END}\n"
    if BEGIN not in text or END not in text:
        raise ValueError(f"{page.name} has lost the marks between which figures stand: {BEGIN} and {END}")
    before, after = text[: text.index(BEGIN)], text[text.index(END) :]
    with written_whole(page) as temporary:
        temporary.write_text(f"{before}{BEGIN}\n\n{measured(results)}\n{after}")
    figure = picture(results)
    with written_whole(folder / "images" / "performance.png") as temporary:
        figure.savefig(temporary, dpi=120, metadata={"Software": None})


def records_of(result: dict[str, Any]) -> list[Record]:
    return [Record(**{**each, "sides": tuple(each["sides"])}) for each in result["records"]]


def measured(results: dict[str, dict[str, Any]]) -> str:
    """Return the figures as Markdown: a section a benchmark, and what each took."""
    lines = ["![Every comparison as a ratio](images/performance.png)", ""]
    for name, result in results.items():
        first, _, more = result["about"].partition("\n\n")
        lines += [f"## {name}", "", " ".join(first.split()), ""]
        if more:
            lines += [" ".join(more.split()), ""]
        lines += ["| what | ours | other | ratio | asked |", "|---|---|---|---|---|"]
        lines += [f"| {' | '.join(record.cells)} |" for record in records_of(result)]
        for table in result.get("tables", []):
            lines += ["", *Table(**table).lines()]
        busy = max(result["load"]) > result["cores"]
        lines += [
            "",
            f"{result['day']}, {result['cores']} cores, {result['threads']} threads, {result['system']}; load average "
            f"{result['load'][0]} before and {result['load'][1]} after"
            f"{' (more than the cores: other work ran beside it)' if busy else ''}; {result['seconds']:.0f} s in all"
            f"{'; **small sizes, which show that it works and little more**' if result['small'] else ''}.",
            "",
        ]
    total = sum(result["seconds"] for result in results.values())
    lines += ["## How long it takes", "", "| benchmark | seconds |", "|---|---|"]
    lines += [f"| {name} | {result['seconds']:.0f} |" for name, result in results.items()]
    return "\n".join([*lines, f"| all | {total:.0f} |", ""])


def picture(results: dict[str, dict[str, Any]]) -> Figure:
    """Return every ratio as a bar from 1: right of it where ours is better, red where a bound is missed."""
    import matplotlib.pyplot as plt

    records = [record for result in results.values() for record in records_of(result)]
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(9, 0.34 * len(records) + 1.2))
        for place, record in enumerate(reversed(records)):
            better = record.ratio if record.higher_is_better else 1 / record.ratio
            color = {None: GRAY, True: BLUE, False: RED}[record.holds]
            axes.plot([1, better], [place, place], color=color, linewidth=5, solid_capstyle="butt")
            axes.plot(better, place, "o", color=color, markersize=4)
            text, side = f"{number(record.ours)} : {number(record.other)}", ("right", "left")[bool(better >= 1)]
            axes.text(better, place, f" {text} {record.unit} ", va="center", ha=side, fontsize=6.5)
        names = [f"{record.name}\nagainst {record.sides[1]}" for record in reversed(records)]
        axes.set_yticks(range(len(records)), names, fontsize=6.5)
        axes.axvline(1, color=GRAY, linewidth=0.8)
        axes.set_xscale("log")
        axes.margins(x=0.25)
        axes.set_xlabel("times better than the other side; left of 1 it is worse", fontsize=8)
        figure.suptitle("Blue: what is asked holds; red: it is missed; gray: nothing is asked", fontsize=9)
        plt.close(figure)
    return figure
