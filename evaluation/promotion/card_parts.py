"""Parts of the model card on where a model is weak, strata and stress tests, and on decisions on labels."""

from functools import partial
from typing import Any

from pipelines import report as reports
from pipelines.formatting import interval, number, p_value, share
from pipelines.report import Block, text

_LIMITS = {
    "one": "one for all rows",
    "mondrian": "one for each {by} (Mondrian)",
    "scaled": "in units of the spread of each {by} (locally weighted)",
}
SHOWN = 10  # of the worst strata, classes, drugs or genes
score = partial(interval, alone="– (no interval: too few groups to resample)")


def as_table(head: list[str], rows: list[list[str]]) -> list[Block]:
    """Return a table, nothing without rows."""
    return [reports.table(head, rows)] if rows else []


def decision_blocks(decided: dict[str, Any] | None) -> list[Block]:
    """Return what people decided on doubtful labels, and each decision on tested samples; nothing without any."""
    if decided is None:
        return []
    told = ", ".join(f"{decided[each]:,} {each}" for each in ("keep", "change", "drop"))
    head = ["decision", "samples", "labeled", "new label", "by", "why"]
    keys = ("given", "new_label", "by", "why")
    rows = [[one["decision"], f"{one['samples']:,}", *(one[key] for key in keys)] for one in decided["tested"]]
    of_tested = "these are of tested samples:" if rows else "none is of a tested sample."
    return [text(f"Labels that people decided on: {told}; {of_tested}"), *as_table(head, rows)]


def federated_blocks(found: dict[str, Any] | None) -> list[Block]:
    """Return where the rows were that the model was trained on, nothing where they were here."""
    if found is None:
        return []
    rows = [
        [site["site"], f"{site.get('num-examples', 0):,.0f}", f"{site.get('groups', 0):,.0f}"]
        for site in found["sites"]
    ]
    said = (
        f"The data stayed where it was: {len(rows)} sites trained on their own rows by {found['strategy']}, and only "
        f"weights, sums for standardization, counts, and names (of genes, drugs and classes) left them"
    )
    said += ", summed by secure aggregation. " if found["secure"] else ". "
    if (private := found["privacy"]) is not None:
        said += (
            f"The weights are differentially private by group: epsilon {private['epsilon']:.2f} at delta "
            f"{private['delta']:g}; the sums are not. "
        )
    return [text(said + "The rows below are the coordinator's."), *as_table(["site", "training rows", "groups"], rows)]


def strata_blocks(evidence: dict[str, Any]) -> list[Block]:
    """Return how far each judged stratum lies from all rows, the worst first; nothing where no column is named."""
    strata = evidence.get("strata")
    if strata is None or not strata["rows"]:
        return []
    metric, least, worst, columns = (strata[key] for key in ("metric", "least_groups", "worst", "columns"))
    if worst is None:
        return [text(f"No stratum of {', '.join(columns)} has {least} groups and a score: none is judged.")]
    judged = [row for row in strata["rows"] if row["judged"]]
    rows = [
        [
            *(f"{row['column']} {row['name']}", f"{row['rows']:,}", f"{row['groups']:,}"),
            *(score(row["metrics"][metric]), score(row["drop"], sign="+"), score(row["rest"], "difference", sign="+")),
            *(p_value(row["rest"]["p_corrected"]), interval(row["coverage"], "observed", ".1%", alone="{}")),
            *([score(row["metrics"]["ece"])] if "ece" in row["metrics"] else []),
        ]
        for row in sorted(judged, key=lambda row: -(row["drop"]["value"] or 0))[:SHOWN]
    ]
    said = (
        f"The worst stratum is {worst['column']} {worst['name']}: {metric} {score(worst)}. Of the "
        f"{len(strata['rows'])} strata of {', '.join(columns)} those with {least} groups and a score are judged, "
        f"{len(judged)}. A p-value is of the difference from the rest of the rows, corrected for the number of strata "
        "(Holm)."
    )
    head = ["stratum", "rows", "groups", metric, "below all rows", "above the rest", "p corrected", "covered"]
    head += ["ece"] if "ece" in judged[0]["metrics"] else []
    return [text(said), *as_table(head, rows)]


def origin_blocks(evidence: dict[str, Any]) -> list[Block]:
    """Return how well the site and plate of a profile are told from the model's features; nothing of other samples."""
    said = {"asked": "a profile that is asked", "learned": "the profiles that the model learned from, after ComBat"}
    rows = [
        [row["origin"], said[row["features"]], interval(row, alone="{}"), number(row["chance"]), f"{row['sites']:,}"]
        for row in evidence.get("origins", {}).get("rows", [])
    ]
    head = ["told is its", "from the features of", "share, mean over them", "chance", "told apart"]
    return as_table(head, rows)


def limit_blocks(found: dict[str, Any], what: str) -> list[Block]:
    """Return how the limits of intervals or sets were chosen; nothing of models of earlier releases."""
    if "method" not in found:
        return []
    blocks = [text(f"Limits of {what}: {_LIMITS[found['method']].format(by=found['by'])}.")]
    if tried := found["tried"]:
        said = "Chosen on held-out folds, as the smallest under which hardly any cell is covered significantly less "
        rows = [
            [
                *(_LIMITS[row["method"]].format(by=row["by"]), share(row["coverage"]), number(row["size"])),
                f"{row['short']} of {row['cells']}",
            ]
            for row in tried
        ]
        blocks += [text(f"{said}than declared:"), *as_table(["limits", "covered", "mean size", "cells short"], rows)]
    if of_drugs := found.get("by_drug"):
        blocks.append(
            text(
                f"Of {of_drugs['drugs']:,} drugs with ten groups {share(of_drugs['share'])} are covered within "
                f"{of_drugs['near']:g} of what is declared, {share(of_drugs['expected'])} would be if every interval "
                f"held with just that probability. The lowest coverage of a drug is {share(of_drugs['lowest'])}."
            )
        )
    return blocks


def stress_blocks(evidence: dict[str, Any]) -> list[Block]:
    """Return scores under each stress test; nothing where there is none."""
    if (stress := evidence.get("stress")) is None:
        return []
    metric, home = stress["metric"], stress["home"]
    shown = [name for name in (metric, "ece") if name in home]
    recalls = [name for name in home if name.startswith("recall_")]

    def lowest(metrics: dict[str, Any]) -> list[str]:
        known = {name: metrics[name] for name in recalls if metrics[name]["value"] is not None}
        if not known:
            return ["–"] * bool(recalls)
        name = min(known, key=lambda each: float(known[each]["value"]))
        return [f"{name.removeprefix('recall_')} {number(known[name]['value'])}"]

    rows = [["home", *(score(home[name]) for name in shown), "", *lowest(home)]]
    rows += [
        [
            each["kind"].replace("_", " "),
            *(score(each["metrics"][name]) for name in shown),
            score(each["drop"]),
            *lowest(each["metrics"]),
        ]
        for each in stress["kinds"]
    ]
    said = (
        f"{stress['samples']:,} test rows of {stress['groups']:,} groups, as many of each class, once more with what "
        "should not matter changed: slide, border and stain of a cell of another class, light, focus, compression, "
        f"magnification, noise. The drop is the paired difference of {metric} from the same rows at home."
    )
    head = ["stress", *shown, f"drop of {metric}", *(["lowest recall"] if recalls else [])]
    return [text(said), *as_table(head, rows), *_novelty(evidence.get("novelty"))]


def _novelty(found: dict[str, Any] | None) -> list[Block]:
    if found is None:
        return []
    said = (
        f"The model calls {interval(found['false_alarms'], form='.1%', alone='{}')} of the test rows unlike the "
        "training data. How well its score of novelty tells the rows under stress from the same rows at home, and how "
        "many of them it calls unlike:"
    )
    rows = [
        [kind.replace("_", " "), score(each["auroc"]), share(each["called_unlike"])]
        for kind, each in found["kinds"].items()
    ]
    return [text(said), *as_table(["stress", "AUROC", "called unlike"], rows)]
