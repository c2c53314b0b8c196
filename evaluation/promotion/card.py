"""The model card of a version, made from its evidence, as Markdown and as one HTML file.

References
----------
Mitchell M. et al. (2019). Model cards for model reporting. FAT*: the sections.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

from evaluation.problems import measures_of
from evaluation.promotion.card_text import HOW_CHECKED, Use, use_of
from pipelines.files import written_whole
from pipelines.formatting import cost, interval, number, share
from pipelines.problems import get_problem
from pipelines.report import (
    Block,
    as_html,
    as_markdown,
    code,
    figure,
    items,
    read_figures,
    report,
    section,
    table,
    text,
)

__all__ = ["HTML", "MARKDOWN", "as_html", "content", "read_figures", "write_card"]

MARKDOWN, HTML = "card.md", "card.html"
SHOWN = 10  # of the worst classes, drugs or genes
_CAPTIONS = {  # figures in the order of the card
    "measured_against_predicted": "Measured against predicted, test rows",
    "confusion_matrix": "Confusion of the classes, test rows",
    "roc_curves": "Receiver operating characteristic of each class",
    "precision_recall": "Precision and recall beside the baseline's and chance",
    "calibration": "Calibration: observed accuracy by predicted confidence",
    "worst_and_best_genes": "Genes that are predicted worst and best",
    "residuals_by_level": "Residuals by level",
    "error_by_cohort": "Error by cohort",
    "grad_cam": "Image regions that support the prediction (Grad-CAM)",
    "top_genes": "Genes that move the prediction most",
    "top_genes_by_drug": "Genes that move the prediction most, by drug",
    "contributions_by_omics": "What each omics table, the tissue and the drug add to the prediction",
    "sensitizing_genes": "Genes that make a line sensitive or resistant, drug by drug",
    "genes_by_class": "Most important genes of each class",
    "predictors_by_target": "Most important predictors of each target",
    "layout": "Where genes lie in the image",
    "learning_curves": "Learning curves",
}

_NUMBERED = {"molecule": "What each atom of a drug adds to the prediction"}
_KINDS = {"naive": "naive baseline", "simple": "simple model", "peer": "other model", "production": "in production"}
_score = partial(interval, alone="– (no interval: too few groups to resample)")


def write_card(evidence: dict[str, Any], folder: Path) -> None:
    """Write ``card.md`` and ``card.html`` of a candidate's evidence into ``folder``, which has its ``figures/``."""
    figures = read_figures(folder / "figures")
    card = content(evidence, list(figures))
    for name, page in ((MARKDOWN, as_markdown(card, "figures/")), (HTML, as_html(card, figures))):
        with written_whole(folder / name) as temporary:
            temporary.write_text(page, encoding="utf-8")


def content(evidence: dict[str, Any], figures: list[str]) -> dict[str, Any]:
    """Return the card, see `pipelines.report`; ``figures`` are file names."""
    task, architecture = evidence["task"], evidence["architecture"]
    use = use_of(evidence["modality"], evidence["problem"])
    order = {stem: place for place, stem in enumerate(_CAPTIONS)}
    drawn = sorted(figures, key=lambda name: order.get(Path(name).stem, len(order)))
    sections = [
        section("Intended use", *_intended(use)),
        section("Data", *_data(evidence)),
        section("Performance", *_metrics(evidence)),
        section("Weakest parts", *_worst(evidence)),
        section("Comparisons", *_comparisons(evidence)),
        section("External cohorts", *_cohorts(evidence)),
        section("Calibration and coverage", *_sure(evidence)),
        section("Audit of the data", *_found(evidence)),
        section("Explanation", *_explanation(evidence)),
        section("Limitations", items([*_limits(evidence), *use.limits])),
        section("Cost", *_cost(evidence)),
        section("Figures", *(figure(name, _caption(Path(name).stem)) for name in drawn)),
        section("Reproduction", *_again(evidence)),
        section("Provenance", *_provenance(evidence)),
    ]
    return report(f"{task}: {architecture}", sections, lead=use.what, simulated=evidence["simulated"])


def _caption(stem: str) -> str:
    """Return what a figure shows; molecules are numbered, and each drawing names its drug."""
    kind = re.sub(r"_\d+$", "", stem)
    return _CAPTIONS.get(stem, _NUMBERED.get(kind, stem.replace("_", " ").capitalize()))


def _intended(use: Use) -> list[Block]:
    intended = [text("Intended:"), items(use.intended)] if use.intended else []
    return [*intended, text("Not intended:"), items(use.not_intended)]


def _data(evidence: dict[str, Any]) -> list[Block]:
    data, test = evidence["data"], evidence["test"]
    sides = [side for side in ("train", "validation", "test") if side in data.get("samples", {})]
    rows = [[side, f"{data['samples'][side]:,}", f"{data['groups'][side]:,}"] for side in sides]
    blocks: list[Block] = [
        text(
            f"Raw data in data/{evidence['task']}, with the hash "
            f"{evidence['hashes'].get('data.sha256', 'unknown')[:12]}. The split is {test['mode']}: no group is on two "
            "sides of it. Every figure here is of the test rows, and nothing was chosen by them."
        )
    ]
    if rows:
        blocks.append(table(["side", "samples", "groups"], rows))
    if dropped := data.get("dropped"):
        told = ", ".join(f"{count:,} {rule.replace('_', ' ')}" for rule, count in dropped.items())
        blocks.append(text(f"Excluded before the split: {told}."))
    checked = data["validation"]
    if checked["passed"] is None:
        blocks.append(text("Validation of the raw data is not recorded."))
    else:
        blocks.append(
            text("The raw data passed validation." if checked["passed"] else "The raw data did NOT pass validation.")
        )
        blocks += [items([str(one.get("message", one)) for one in checked["warnings"]])] if checked["warnings"] else []
    return blocks


def _metrics(evidence: dict[str, Any]) -> list[Block]:
    test = evidence["test"]
    known, baseline = {each.name: each for each in get_problem(evidence["problem"]).metrics}, evidence["baseline"]
    whole = {name: found for name, found in test["metrics"].items() if name in known}
    rows = [[name, _score(found), known[name].meaning.format(baseline=baseline)] for name, found in whole.items()]
    said = (
        f"On {test['samples']:,} test rows of {test['groups']:,} groups; intervals of "
        f"{test['confidence']:.0%} by resampling groups."
    )
    return [text(said), table(["metric", "value", "meaning"], rows)]


def _worst(evidence: dict[str, Any]) -> list[Block]:
    worst = evidence["worst"]
    rows = [
        [f"{row['label']} ({row['name']})" if row.get("label") else row["name"], f"{row['n']:,}", _score(row)]
        for row in worst["rows"][:SHOWN]
    ]
    unit = worst["unit"]
    many = f"{unit}es" if unit.endswith("s") else f"{unit}s"
    said = f"The lowest {worst['metric']} of {len(worst['rows'])} {many}."
    return [text(said), table([unit, "test rows", worst["metric"]], rows)] if rows else []


def _comparisons(evidence: dict[str, Any]) -> list[Block]:
    rows, notes = [], []
    for one in evidence.get("comparisons", []):
        who = one["with"] if one["version"] is None else f"{one['with']} (version {one['version']})"
        rows.append([_KINDS[one["kind"]], who, one["metric"], _score(one, "difference", sign="+"), f"{one['rows']:,}"])
        notes += [f"{who}: {one['note']}"] if one.get("note") else []
    said = (
        "Paired differences on the same rows and the same resamples of their groups. Above zero this model is better; "
        "if the interval contains zero, the two cannot be distinguished."
    )
    head = ["", "other", "metric", "difference", "rows"]
    return [text(said), table(head, rows), *([items(notes)] if notes else [])] if rows else []


def _cohorts(evidence: dict[str, Any]) -> list[Block]:
    cohorts = evidence.get("cohorts", [])
    known = [metric.name for metric in get_problem(evidence["problem"]).metrics]
    shown = [name for name in known if any(name in each["metrics"] for each in cohorts)][:4]
    rows = [
        [each["name"], f"{each['n']:,}", f"{each['groups']:,}"]
        + [_score(each["metrics"][name]) if name in each["metrics"] else "–" for name in shown]
        for each in cohorts
    ]
    return [table(["cohort", "samples", "groups", *shown], rows)] if rows else []


def _sure(evidence: dict[str, Any]) -> list[Block]:
    covered, calibration = evidence["coverage"], evidence.get("calibration", {})
    what = measures_of(evidence["problem"]).promise
    if covered["observed"] is None:
        return [text(f"No {what}: too few rows were held out of the fit.")]
    ends = " (no interval: too few groups to resample)"
    if covered["low"] is not None:
        ends = f" [{share(covered['low'])}, {share(covered['high'])}]"
    blocks = [
        text(
            f"Declared coverage of {what}: {share(covered['declared'])} of rows contain the true value. Observed on "
            f"the test rows: {share(covered['observed'])}{ends}."
        )
    ]
    if sides := covered.get("by_novelty"):
        told = [
            f"{share(side['observed'])} of the {side['rows']:,} rows that are {word} the training data"
            for word, side in sides.items()
            if side["observed"] is not None
        ]
        blocks.append(text(f"Observed coverage is {' and '.join(told)}. No coverage is declared for rows unlike it."))
    if (unseen := (evidence.get("interval") or {}).get("unseen_half_width")) is not None:
        blocks.append(
            text(
                f"Drugs without a training row have a wider interval, ± {unseen:.2f} instead of ± "
                f"{evidence['interval']['half_width']:.2f}, measured on drugs held out of a fit."
            )
        )
    if "mean_set_size" in calibration:
        ece = _score(evidence["test"]["metrics"]["ece"])
        blocks.append(
            text(
                f"Logits are divided by a temperature of {calibration['temperature']:.2f}, fitted on rows held out "
                f"of the fit. Expected calibration error: {ece}. Mean size of a prediction set: "
                f"{calibration['mean_set_size']:.2f} classes."
            )
        )
    elif (half := evidence.get("interval", {}).get("half_width")) is not None:
        blocks.append(text(f"Half width of the interval, mean over targets: {number(half)}."))
    return blocks


def _found(evidence: dict[str, Any]) -> list[Block]:
    audit = evidence["data"]["audit"]
    if audit is None:
        return [text("The data was not audited: copies, shortcuts and uneven groups are unknown.")]
    blocks: list[Block] = []
    if audit["findings"]:
        blocks.append(text("Findings that need an answer in params.yaml before this model is promoted:"))
        blocks.append(items([f"{one['name']}: {one['message']}" for one in audit["findings"]]))
    else:
        blocks.append(text("The audit has no finding."))
    if beside := [one["sentence"] for one in (evidence.get("audit") or {}).get("shortcuts", []) if "sentence" in one]:
        blocks += [text("Confounders beside the score of the model:"), items(beside)]
    probes = [
        [one["probe"], one["metric"], _score({"value": one["score"], **one}), "yes" if one["finding"] else "no"]
        for one in audit["shortcuts"]
    ]
    if probes:
        blocks.append(text("How well confounders alone predict the label:"))
        blocks.append(table(["confounder", "metric", "score", "finding"], probes))
    copies = audit["duplicates"].get("pairs")
    blocks += [text(f"Pairs of identical or nearly identical samples: {copies:,}.")] if copies is not None else []
    return blocks


def _explanation(evidence: dict[str, Any]) -> list[Block]:
    explained = evidence["explanation"]
    if not explained["checks"]:
        return [text("The model uses no feature, or it has no explanation that can be checked.")]
    rows = [[one["name"].replace("_", " "), _checked(one), HOW_CHECKED[one["name"]]] for one in explained["checks"]]
    blocks = [
        text(f"Method: {str(explained['method']).replace('_', ' ')}. Checks of the explanation:"),
        table(["check", "value", "interpretation"], rows),
    ]
    if "attribution_on_the_cell" in explained:
        on, area = explained["attribution_on_the_cell"], explained["area_of_the_cell"]
        blocks.append(
            text(f"{share(on)} of the attribution lies on the cell, which covers {share(area)} of the image.")
        )
    top = explained.get("top")
    if isinstance(top, dict):
        blocks.append(
            table(["class", "most important genes"], [[label, ", ".join(genes)] for label, genes in top.items()])
        )
    elif top:
        blocks.append(text("Most important features: " + ", ".join(str(one["gene"]) for one in top) + "."))
    return blocks + _biomarkers(explained.get("biomarkers"))


def _checked(check: dict[str, Any]) -> str:
    """Return the value of a check of the explanation; some have no interval, since they resample no rows."""
    if check.get("low") is None and check["value"] is not None:
        return f"{number(check['value'])} (over the explained rows, without resampling)"
    return _score(check)


def _biomarkers(known: dict[str, Any] | None) -> list[Block]:
    """Return which known biomarkers are among the explanations, and whether the data shows them."""
    if not known:
        return []
    rows = [
        [
            str(one["drug_id"]) if one["drug_id"] == one["drug"] else f"{one['drug']} ({one['drug_id']})",
            f"{one['gene']} {one['omics'].replace('_', ' ')}: {one['makes']}",
            f"{one['status']}: {one['why']}",
            one["data"] if one["data_effect"] is None else f"{one['data']}: {_effect(one)}",
        ]
        for one in known["rows"]
        if one["status"] != "not in the data"
    ]
    told = "none is in the model's tables"
    if known["looked_up"]:
        told = f"{known['found']} of {known['looked_up']} in the model's tables are found"
        told += f", which means {known['rule']}"
    outside = {
        "not looked at": "in tables that the model does not use",
        "not tested": "of drugs with too few test lines",
        "not in the data": "not in the data",
    }
    counts = [(known["status"].get(status, 0), words) for status, words in outside.items()]
    others = ", ".join(f"{count:,} are {words}" for count, words in counts if count)
    blocks = [text(f"Known biomarkers, drug by drug: {told}" + (f"; {others}." if others else "."))]
    if rows:
        head = ["drug", "known", "in the model", "in the data: change of the measured response"]
        blocks.append(table(head, rows))
    return blocks


def _effect(row: dict[str, Any]) -> str:
    found = {end: row[f"data_{name}"] for end, name in (("value", "effect"), ("low", "low"), ("high", "high"))}
    return _score(found, sign="+")


def _limits(evidence: dict[str, Any]) -> list[str]:
    test, told = evidence["test"], []
    if evidence["simulated"]:
        told.append("The test rows are simulated: no number here is a result about patients, cells or drugs.")
    if test["groups"] < 30:
        told.append(f"Only {test['groups']} test groups: the intervals are wide, and may be too narrow all the same.")
    if evidence["budget"] == "quick":
        told.append("Tuned with the quick budget: a few trials, which show that the pipeline works.")
    if not evidence.get("cohorts"):
        told.append("Not tested on data from another source.")
    return told


def _cost(evidence: dict[str, Any]) -> list[Block]:
    rows = [
        [name.removeprefix("cost_").replace("_", " "), cost(value, 4)]
        for name, value in evidence["cost"].items()
        if value is not None
    ]
    return [text("Measured on the machine of the fit; latency is of one call in process."), table(["", ""], rows)]


def _again(evidence: dict[str, Any]) -> list[Block]:
    hashes, task, architecture = evidence["hashes"], evidence["task"], evidence["architecture"]
    lines = [
        f"git checkout {hashes['git.commit']}",
        "dvc pull data.dvc",
        f"make train TASK={task} ARCH={architecture} BUDGET={evidence['budget']}",
        f"python -m evaluation.candidate --task {task} --architecture {architecture}",
    ]
    lines[-1] += "".join(f" --cohort {each['name']}=DIR" for each in evidence.get("cohorts", []))
    blocks = [code("\n".join(re.sub(r"[^\w\-./=@ ]", "?", line) for line in lines))]
    if hashes.get("git.dirty") == "true":
        blocks.append(text("The working tree had uncommitted changes: the commit alone may not reproduce the model."))
    return blocks


def _provenance(evidence: dict[str, Any]) -> list[Block]:
    rows = [["run of the fit", evidence["run_id"]], ["logged model", evidence["model_uri"]]]
    rows += [[name, str(value)] for name, value in evidence["hashes"].items()]
    return [table(["", ""], [*rows, ["evidence.sha256", evidence["sha256"]]])]
