"""The table of architectures and split modes as a report."""

from pathlib import Path
from typing import Any

from evaluation.generalization.table import CHANGED
from pipelines.files import write_json, written_whole
from pipelines.formatting import counted, interval, number
from pipelines.problems import metrics
from pipelines.report import Code, Text, as_html, as_markdown, items, report, section, table, text

NAME = "generalization"
_WITHIN = "within_drug_pearson"
ASKED = {
    "random": "unseen rows",
    "cell_blind": "unseen cell lines",
    "drug_blind": "unseen drugs",
    "drug_pilot": "unseen drugs, measured on a few lines",
    "tissue_blind": "unseen tissues",
    "cross_study": "unseen lines of another study",
    "patient_blind": "unseen patients",
    "site_blind": "unseen hospitals",
    "plate_blind": "unseen plates",
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
    metric, called = found["metric"], metrics()[found["metric"]].label or found["metric"]
    within = any(_WITHIN in row["metrics"] for row in found["rows"])
    rows: list[list[Text]] = [
        [Code(name), *(_cell(column.get(name), metric, name == baseline) for _, _, column in shown)]
        for name in found["architectures"]
    ]
    rows.append(["tested on", *(_tested(next(iter(column.values()), None)) for _, _, column in shown)])
    blocks = [
        text(
            f"{called} on test rows with its {level} interval; below it by how much that is above ",
            *(Code(baseline), " on the same rows"),
            "; in brackets the mean correlation within a drug. Budget " if within else ". Budget ",
            *(Code(found["budget"]), ", one model each."),
        ),
        table(["", *((Code(mode), "\n", asked) for mode, asked, _ in shown)], rows),
    ]
    if found["contests"]:
        blocks.append(items(_sentence(contest, called, level) for contest in found["contests"]))
    if found["new_drugs"]:
        blocks += [text("New drugs: mean correlation within a drug, and by how much it is above the baseline's.")]
        blocks += [table(["", "", "drugs", "r", f"over {baseline}"], [_new_drugs(row) for row in found["new_drugs"]])]
    untested = {row["mode"]: row.get("untested_classes") for row in found["rows"]}
    for mode, names in untested.items():
        if names:
            blocks.append(
                text("Not tested in ", Code(mode), f", since all or most are of one group: {', '.join(names)}.")
            )
    if found["missing"]:
        names = [piece for mode, name in found["missing"] for piece in (", ", Code(mode), f" {name}")]
        blocks.append(text("Not run yet, or made from other data or settings: ", *names[1:], "."))
    blocks += [text(f"Failed: {sentence}") for sentence in found["failed"]]
    return report(f"{found['task']}: generalization", [section("", *blocks)], simulated=found["simulated"])


def write(found: dict[str, Any], folder: Path) -> None:
    """Write ``generalization.json``, ``.md`` and ``.html`` into ``folder``."""
    write_json(folder / f"{NAME}.json", found)
    made = content(found)
    for kind, page in (("md", as_markdown(made)), ("html", as_html(made))):
        with written_whole(folder / f"{NAME}.{kind}") as path:
            path.write_text(page, encoding="utf-8")


def _cell(row: dict[str, Any] | None, metric: str, naive: bool) -> Text:
    if row is None:
        return "-"
    found = row["metrics"]
    over = () if naive else ("\n", interval(found["margin"], sign="+", alone="{}"))
    within = ("\n", f"[r {number(found[_WITHIN]['value'])}]") if _WITHIN in found else ()
    return interval(found[metric], alone="{}"), *over, *within


def _tested(row: dict[str, Any] | None) -> Text:
    return "-" if row is None else (f"{row['rows']['test']:,} rows,", "\n", counted(row["units"], row["unit"]))


def _new_drugs(row: dict[str, Any]) -> list[Text]:
    over = interval(row["over_baseline"], sign="+", alone="{}")
    drugs = f"{row['drugs']} ({row['part']})"
    return [Code(row["mode"]), Code(row["architecture"]), drugs, interval(row["within"], alone="{}"), over]


def _sentence(contest: dict[str, Any], metric: str, level: str) -> Text:
    verdict = "better than" if contest["low"] > 0 else "worse than" if contest["high"] < 0 else "not different from"
    best, comma = ((), "") if CHANGED in contest["network"] else (("the best network by validation, ",), ",")
    return (
        *(
            Code(contest["mode"]),
            ": ",
            *best,
            Code(contest["network"]),
            f"{comma} is {verdict} ",
            Code(contest["rival"]),
        ),
        f": {metric} {interval(contest, 'difference', sign='+')} ({level} interval, paired)",
    )
