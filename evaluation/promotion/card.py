"""The model card of a version (Mitchell et al., 2019, FAT*), made from its evidence, as Markdown and one HTML file."""

import re
from pathlib import Path
from typing import Any

from evaluation.problems import measures_of
from evaluation.promotion.card_parts import (
    SHOWN,
    as_table,
    decision_blocks,
    federated_blocks,
    limit_blocks,
    origin_blocks,
    score,
    strata_blocks,
    stress_blocks,
)
from evaluation.promotion.card_text import use_of
from evaluation.promotion.hub_header import header
from pipelines import report as reports
from pipelines.files import written_whole
from pipelines.formatting import FEW_DROPPED, cost, counted, interval, number, share
from pipelines.problems import get_problem
from pipelines.report import Block, as_html, as_markdown, code, figure, items, read_figures, section, text

__all__ = ["HTML", "HUB", "MARKDOWN", "as_html", "content", "read_figures", "write_card"]

MARKDOWN, HTML = "card.md", "card.html"
HUB = "README.md"  # the card with the header that the Hugging Face hub reads; MLflow's pages would show it as text
_CAPTIONS = {  # figures in the order of the card
    "measured_against_predicted": "Measured against predicted, test rows",
    "confusion_matrix": "Confusion of the classes, test rows",
    "roc_curves": "Receiver operating characteristic of each class",
    "precision_recall": "Precision and recall beside the baseline's and chance",
    "calibration": "Calibration: observed accuracy by predicted confidence",
    "worst_and_best_genes": "Genes that are predicted worst and best",
    "residuals_by_level": "Residuals by level",
    "error_by_cohort": "Error by cohort",
    "stress": "An image of each class under each stress test",
    "masks": "Outlines of cell and nucleus, and what the model sees, test images of each class",
    "grad_cam": "Image regions that support the prediction (Grad-CAM or occlusion)",
    "top_genes": "Genes that move the prediction most",
    "top_genes_by_drug": "Genes that move the prediction most, by drug",
    "contributions_by_omics": "What each omics table, the tissue and the drug add to the prediction",
    "sensitizing_genes": "Genes that make a line sensitive or resistant, drug by drug",
    "genes_by_class": "Most important genes of each class",
    "predictors_by_target": "Most important predictors of each target",
    "layout": "Where genes lie in the image",
    "learning_curves": "Learning curves",
    "molecule": "What each atom of a drug adds to the prediction",
}
_HOW_CHECKED = {
    "completeness": "how far attributions miss what they explain; near 0 is good",
    "random_weights": "likeness to explanations of a network with random weights; near 0 is good",
    "deletion": "how much more masking the named features changes than masking random ones; above 0 is good",
}
_KINDS = {"naive": "naive baseline", "simple": "simple model", "peer": "other model", "production": "in production"}


def write_card(evidence: dict[str, Any], folder: Path) -> None:
    """Write `MARKDOWN`, `HUB` and `HTML` of a candidate's evidence into ``folder``, which has its ``figures/``."""
    figures = read_figures(folder / "figures")
    card = content(evidence, list(figures))
    markdown = as_markdown(card, "figures/")
    for name, page in ((MARKDOWN, markdown), (HUB, header(evidence) + markdown), (HTML, as_html(card, figures))):
        with written_whole(folder / name) as temporary:
            temporary.write_text(page, encoding="utf-8")


def content(evidence: dict[str, Any], figures: list[str]) -> dict[str, Any]:
    """Return the card, see `pipelines.report`; ``figures`` are file names."""
    task, architecture = evidence["task"], evidence["architecture"]
    use = use_of(evidence["modality"], evidence["problem"])
    order = list(_CAPTIONS)
    drawn = sorted(figures, key=lambda name: order.index(_stem(name)) if _stem(name) in order else len(order))
    captions = {name: _CAPTIONS.get(_stem(name), _stem(name).replace("_", " ").capitalize()) for name in drawn}
    intended = [text("Intended:"), items(use.intended)] if use.intended else []
    known = {name: value for name, value in evidence["cost"].items() if value is not None}
    rows = [[name.removeprefix("cost_").replace("_", " "), cost(value, 4)] for name, value in known.items()]
    costs = [text("Measured on the machine of the fit; latency is of one call in process."), *as_table(["", ""], rows)]
    provenance = [["run of the fit", evidence["run_id"]], ["logged model", evidence["model_uri"]]]
    provenance += [[name, str(value)] for name, value in evidence["hashes"].items()]
    provenance.append(["evidence.sha256", evidence["sha256"]])
    sections = [
        section("Intended use", *intended, text("Not intended:"), items(use.not_intended)),
        section("Data", *_data(evidence)),
        section("Performance", *_metrics(evidence)),
        section("Weakest parts", *_worst(evidence)),
        section("Strata", *strata_blocks(evidence), *origin_blocks(evidence)),
        section("Stress tests", *stress_blocks(evidence)),
        section("Comparisons", *_comparisons(evidence)),
        section("External cohorts", *_cohorts(evidence)),
        section("Calibration and coverage", *_sure(evidence)),
        section("Audit of the data", *_found(evidence)),
        section("Isolation of the cell", *_isolation(evidence)),
        section("Explanation", *_explanation(evidence)),
        section("Limitations", items([*_limits(evidence), *use.limits])),
        section("Cost", *costs),
        section("Figures", *(figure(name, caption) for name, caption in captions.items())),
        section("Reproduction", *_again(evidence)),
        section("Provenance", *as_table(["", ""], provenance)),
    ]
    return reports.report(f"{task}: {architecture}", sections, lead=use.what, simulated=evidence["simulated"])


def _stem(name: str) -> str:
    """Return the name of a figure without its ending, and without the number of a molecule."""
    return re.sub(r"_\d+$", "", Path(name).stem)


def _data(evidence: dict[str, Any]) -> list[Block]:
    data, test = evidence["data"], evidence["test"]
    sides = [side for side in ("train", "validation", "test") if side in data.get("samples", {})]
    rows = [[side, f"{data['samples'][side]:,}", f"{data['groups'][side]:,}"] for side in sides]
    said = (
        f"Raw data in data/{evidence['task']}, with the hash "
        f"{evidence['hashes'].get('data.sha256', 'unknown')[:12]}. The split is {test['mode']}: no group is on two "
        f"sides of it. {_tested(evidence)}"
    )
    blocks = [text(said), *as_table(["side", "samples", "groups"], rows)]
    if dropped := data.get("dropped"):
        told = ", ".join(f"{count:,} {rule.replace('_', ' ')}" for rule, count in dropped.items())
        blocks.append(text(f"Excluded: {told}."))
    blocks += decision_blocks(data.get("label_decisions"))
    blocks += federated_blocks(evidence.get("federated"))
    blocks += _trained_before(evidence.get("pretraining"))
    checked = data["validation"]
    outcomes = {None: "Validation of the raw data is not recorded.", True: "The raw data passed validation."}
    blocks.append(text(outcomes.get(checked["passed"], "The raw data did NOT pass validation.")))
    return [*blocks, *([items(str(one["message"]) for one in checked["warnings"])] if checked["warnings"] else [])]


def _tested(evidence: dict[str, Any]) -> str:
    if (rotation := evidence.get("rotation")) is None:
        return "Every figure here is of the test rows, and nothing was chosen by them."
    return (
        f"Evidence from nested cross-validation over {rotation['groups']} groups in {len(rotation['parts'])} parts; "
        "the registered model is a refit on all groups. Every figure here is of all groups: each was predicted once, "
        "by a model whose tuning, training, early stopping and calibration never saw it. Cost is of the refit."
    )


def _trained_before(known: dict[str, Any] | None) -> list[Block]:
    """Return what the weights that the fit started from were trained on, nothing where it started from none."""
    if known is None or known["pretrained_on"] == []:
        return []
    what = "The network"
    if known["encoder"]:
        what = f"The encoder {known['encoder']} (license: {known['license'] or 'not declared'})"
    told = ", ".join(known["pretrained_on"] or ["collections that nobody declared"])
    own = ", ".join(known["collections"]) or "no named collection"
    return [text(f"{what} was trained on {told}, before it saw this data, which is of {own}.")]


def _metrics(evidence: dict[str, Any]) -> list[Block]:
    test = evidence["test"]
    known, baseline = {each.name: each for each in get_problem(evidence["problem"]).metrics}, evidence["baseline"]
    whole = {name: found for name, found in test["metrics"].items() if name in known}
    rows = [[name, score(found), known[name].meaning.format(baseline=baseline)] for name, found in whole.items()]
    unit = test.get("unit", "group")
    said = (
        f"On {test['samples']:,} test rows of {counted(test['groups'], unit)}; intervals of "
        f"{test['confidence']:.0%} by resampling {unit}s."
    )
    if (apart := evidence["data"].get("groups", {}).get("test", 0)) and apart < test["groups"]:
        said += (
            f" They are of other {unit}s of the {apart:,} test groups of the split; other groups would differ by more."
        )
    if any((found.get("dropped") or 0) > FEW_DROPPED for found in whole.values()):
        said += " A resample without a row of some class leaves metrics undefined; their intervals leave it out."
    return [text(said), *as_table(["metric", "value", "meaning"], rows)]


def _worst(evidence: dict[str, Any]) -> list[Block]:
    worst = evidence["worst"]
    rows = [
        [f"{row['label']} ({row['name']})" if row.get("label") else row["name"], f"{row['n']:,}", score(row)]
        for row in worst["rows"][:SHOWN]
    ]
    unit = worst["unit"]
    said = f"The lowest {worst['metric']} of {len(worst['rows'])} {unit}{'es' if unit.endswith('s') else 's'}."
    return [text(said), *as_table([unit, "test rows", worst["metric"]], rows)] if rows else []


def _comparisons(evidence: dict[str, Any]) -> list[Block]:
    rows, notes = [], []
    for one in evidence.get("comparisons", []):
        who = one["with"] if one["version"] is None else f"{one['with']} (version {one['version']})"
        rows.append([_KINDS[one["kind"]], who, one["metric"], score(one, "difference", sign="+"), f"{one['rows']:,}"])
        notes += [f"{who}: {one['note']}"] if one.get("note") else []
    said = (
        "Paired differences on the same rows and the same resamples of their groups. Above zero this model is better; "
        "if the interval contains zero, the two cannot be distinguished."
    )
    head = ["", "other", "metric", "difference", "rows"]
    return [text(said), *as_table(head, rows), *([items(notes)] if notes else [])] if rows else []


def _cohorts(evidence: dict[str, Any]) -> list[Block]:
    cohorts = evidence.get("cohorts", [])
    known = [metric.name for metric in get_problem(evidence["problem"]).metrics]
    shown = [name for name in known if any(name in each["metrics"] for each in cohorts)][:4]
    rows = [
        [each["name"], f"{each['n']:,}", f"{each['groups']:,}"]
        + [score(each["metrics"][name]) if name in each["metrics"] else "–" for name in shown]
        for each in cohorts
    ]
    return as_table(["cohort", "samples", "groups", *shown], rows)


def _sure(evidence: dict[str, Any]) -> list[Block]:
    covered = evidence["coverage"]
    calibration, interval_ = (evidence.get(name) or {} for name in ("calibration", "interval"))
    what = measures_of(evidence["problem"]).promise
    if covered["observed"] is None:
        return [text(f"No {what}: too few rows were held out of the fit.")]
    observed = interval(covered, "observed", ".1%", alone="{} (no interval: too few groups to resample)")
    said = f"Declared coverage of {what}: {share(covered['declared'])} of rows contain the true value. "
    blocks = [text(f"{said}Observed on the test rows: {observed}.")]
    if sides := covered.get("by_novelty"):
        told = [
            f"{share(side['observed'])} of the {side['rows']:,} rows that are {word} the training data"
            for word, side in sides.items()
            if side["observed"] is not None
        ]
        blocks.append(text(f"Observed coverage is {' and '.join(told)}. No coverage is declared for rows unlike it."))
    if (unseen := interval_.get("unseen_half_width")) is not None:
        said = f"Drugs without a training row have a wider interval, ± {unseen:.2f} instead of ± "
        mean = interval_.get("mean_half_width", interval_["half_width"])
        blocks.append(text(f"{said}{mean:.2f} in the mean, measured on drugs held out of a fit."))
    if "mean_set_size" in calibration:
        said = f"Logits are divided by a temperature of {calibration['temperature']:.2f}, fitted on rows held out of "
        said += f"the fit. Expected calibration error: {score(evidence['test']['metrics']['ece'])}. Mean size of a "
        blocks.append(text(f"{said}prediction set: {calibration['mean_set_size']:.2f} classes."))
    elif (half := interval_.get("mean_half_width", interval_.get("half_width"))) is not None:
        blocks.append(text(f"Mean half width of the interval: {number(half)}."))
    return [*blocks, *limit_blocks({**calibration, **interval_}, what)]


def _found(evidence: dict[str, Any]) -> list[Block]:
    audit = evidence["data"]["audit"]
    if audit is None:
        return [text("The data was not audited: copies, shortcuts and uneven groups are unknown.")]
    blocks = [text("The audit has no finding.")]
    if audit["findings"]:
        blocks = [text("Findings that need an answer in params.yaml before this model is promoted:")]
        blocks.append(items(f"{one['name']}: {one['message']}" for one in audit["findings"]))
    if beside := [one["sentence"] for one in (evidence.get("audit") or {}).get("shortcuts", []) if "sentence" in one]:
        blocks += [text("Confounders beside the score of the model:"), items(beside)]
    probes, left = [], [one.get("isolated") for one in audit["shortcuts"]]
    for one, alone in zip(audit["shortcuts"], left, strict=True):
        row = [one["probe"], one["metric"], score({"value": one["score"], **one}), "yes" if one["finding"] else "no"]
        probes.append([*row, score({"value": alone["score"], **alone}) if alone else ""] if any(left) else row)
    if probes:
        blocks.append(text("How well confounders alone predict the label:"))
        head = ["confounder", "metric", "score", "finding"] + ["with the cell alone on black"] * any(left)
        blocks += as_table(head, probes)
    if (without := audit["groups"].get("without_cell")) is not None:
        blocks.append(text(f"Images in which no cell is found: {without:,}."))
    if (copies := audit["duplicates"].get("pairs")) is not None:
        blocks.append(text(f"Pairs of identical or nearly identical samples: {copies:,}."))
    return blocks


def _isolation(evidence: dict[str, Any]) -> list[Block]:
    found = evidence.get("isolation")
    if found is None:
        return []
    said = (
        f"The model sees the cell alone. No cell was found in {found['failed']:,} of {found['images']:,} test images "
    )
    return [text(f"{said}({share(found['failed_share'])}), which it saw whole.")]


def _explanation(evidence: dict[str, Any]) -> list[Block]:
    explained = evidence["explanation"]
    if not explained["checks"]:
        return [text("The model uses no feature, or it has no explanation that can be checked.")]
    rows = []
    for one in explained["checks"]:
        alone = one.get("low") is None and one["value"] is not None  # some checks resample no rows
        value = f"{number(one['value'])} (over the explained rows, without resampling)" if alone else score(one)
        rows.append([one["name"].replace("_", " "), value, _HOW_CHECKED[one["name"]]])
    blocks = [text(f"Method: {str(explained['method']).replace('_', ' ')}. Checks of the explanation:")]
    blocks += as_table(["check", "value", "interpretation"], rows)
    if any(one["name"] == "deletion" and not (one["low"] or 0) > 0 for one in explained["checks"]):
        said = "The deletion check fails: what the explanation names matters to the prediction no more than what it "
        blocks.append(text(f"{said}does not name, as far as these rows can tell. Do not read it as a reason."))
    if found := explained.get("on_the_cell"):
        said = f"{interval(found, form='.1%', alone='{}')} of the attribution lies on the cell, which covers "
        said += f"{share(found['area'])} of the image."
        if lost := found["without_a_cell"]:
            said += f" No cell was found in {lost:,} further images."
        blocks.append(text(said))
    top = explained.get("top")
    if isinstance(top, dict):
        blocks += as_table(["class", "most important genes"], [[name, ", ".join(genes)] for name, genes in top.items()])
    elif top:
        blocks.append(text("Most important features: " + ", ".join(str(one["gene"]) for one in top) + "."))
    return blocks + _biomarkers(explained.get("biomarkers"))


def _biomarkers(known: dict[str, Any] | None) -> list[Block]:
    """Return which known biomarkers are among the explanations, and whether the data shows them."""
    if not known:
        return []
    rows = []
    for one in (each for each in known["rows"] if each["status"] != "not in the data"):
        drug = str(one["drug_id"]) if one["drug_id"] == one["drug"] else f"{one['drug']} ({one['drug_id']})"
        marker = f"{one['gene']} {one['omics'].replace('_', ' ')}: {one['makes']}"
        ends = {"value": one["data_effect"], "low": one["data_low"], "high": one["data_high"]}
        effect = one["data"] if one["data_effect"] is None else f"{one['data']}: {score(ends, sign='+')}"
        rows.append([drug, marker, f"{one['status']}: {one['why']}", effect])
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
    head = ["drug", "known", "in the model", "in the data: change of the measured response"]
    return [text(f"Known biomarkers, drug by drug: {told}{f'; {others}' if others else ''}."), *as_table(head, rows)]


def _limits(evidence: dict[str, Any]) -> list[str]:
    test, told = evidence["test"], []
    unit = test.get("unit", "group")
    if evidence["simulated"]:
        told.append("The test rows are simulated: no number here is a result about patients, cells or drugs.")
    if test["groups"] < 30:
        told.append(f"Only {test['groups']} test {unit}s: the intervals are wide, and may be too narrow all the same.")
    if "rotation" in evidence:
        told.append(
            "The registered model itself has no test rows: the figures are of models that were fitted the same way on "
            "fewer groups. Which architecture is registered was chosen by cross-validation over the same groups."
        )
    if evidence["budget"] == "quick":
        told.append("Tuned with the quick budget: a few trials, which show that the pipeline works.")
    if not evidence.get("cohorts"):
        told.append("Not tested on data from another source.")
    return told


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
