"""The model card of a version: what its evidence says, for people, as Markdown and as one HTML file.

The content is made once (`content`), and two templates give it a form. All that comes from data (names of classes,
genes, drugs, cohorts, messages) is escaped by them.

References
----------
Mitchell M. et al. (2019). Model cards for model reporting. FAT*: the sections.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

from evaluation.problems import measures_of
from evaluation.promotion.card_text import HOW_CHECKED, Use, use_of
from pipelines.files import written_whole
from pipelines.problems import get_problem

MARKDOWN, HTML = "card.md", "card.html"
SHOWN = 10  # of the worst classes, drugs or genes
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~&$])")
_CAPTIONS = {  # figures in the order of the card
    "measured_against_predicted": "Measured against predicted, test rows",
    "confusion_matrix": "Confusion of the classes, test rows",
    "roc_curves": "Receiver operating characteristic of each class",
    "precision_recall": "Precision and recall beside the baseline's and chance",
    "calibration": "Calibration: how often a confidence is right",
    "worst_and_best_genes": "Genes that are predicted worst and best",
    "residuals_by_level": "Residuals by level",
    "error_by_cohort": "Error by cohort",
    "grad_cam": "Where the model looks (Grad-CAM)",
    "top_genes": "Genes that move the prediction most",
    "top_genes_by_drug": "Genes that move the prediction most, by drug",
    "contributions_by_omics": "What each omics table, the tissue and the drug add to the prediction",
    "sensitizing_genes": "Genes that make a line sensitive or resistant, drug by drug",
    "genes_by_class": "Genes that carry each class",
    "predictors_by_target": "Genes that each target is predicted from",
    "layout": "Where genes lie in the image",
    "attention": "What the network attends to",
    "learning_curves": "Learning curves",
}

_NUMBERED = {"molecule": "What each atom of a drug adds to the prediction"}
_MEDIA = {".png": "image/png", ".svg": "image/svg+xml"}

Block = dict[str, Any]


def write_card(evidence: dict[str, Any], folder: Path) -> None:
    """Write ``card.md`` and ``card.html`` into ``folder``, whose ``figures/`` the one links and the other holds.

    Parameters
    ----------
    evidence
        Of a candidate, see `evaluation.promotion.candidate_run`.
    folder
        Where the evidence is.
    """
    figures = read_figures(folder / "figures")
    card = content(evidence, list(figures))
    for name, text in ((MARKDOWN, as_markdown(card)), (HTML, as_html(card, figures))):
        with written_whole(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")


def read_figures(folder: Path) -> dict[str, bytes]:
    """Return the figures in ``folder``, PNG and SVG, by their file names."""
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*")) if path.suffix in _MEDIA}


def as_markdown(card: dict[str, Any]) -> str:
    """Return a card as Markdown with links to its figures."""
    return _environment(autoescape=False).get_template("card.md.jinja").render(card)


def as_html(card: dict[str, Any], figures: Mapping[str, bytes]) -> str:
    """Return a card as one HTML file; ``figures`` are PNG or SVG, by their file names."""
    pictures = {
        name: f"data:{_MEDIA[Path(name).suffix]};base64,{base64.b64encode(data).decode()}"
        for name, data in figures.items()
    }
    return _environment(autoescape=True).get_template("card.html.jinja").render(card, pictures=pictures)


def content(evidence: dict[str, Any], figures: list[str]) -> dict[str, Any]:
    """Return title, lead, notice and sections of the card; a section is a title and its blocks.

    ``figures`` are file names.
    """
    task, architecture = evidence["task"], evidence["architecture"]
    use = use_of(evidence["modality"], evidence["problem"])
    order = {stem: place for place, stem in enumerate(_CAPTIONS)}
    drawn = sorted(figures, key=lambda name: order.get(Path(name).stem, len(order)))
    sections = [
        ("What it is for", _intended(use)),
        ("Data", _data(evidence)),
        ("How good it is", _metrics(evidence)),
        ("Where it is worst", _worst(evidence)),
        ("Against others", _comparisons(evidence)),
        *([("Outside cohorts", _cohorts(evidence))] if evidence.get("cohorts") else []),
        ("How sure it is", _sure(evidence)),
        ("What the data may have given away", _found(evidence)),
        ("What it looks at", _explanation(evidence)),
        ("Limits", [_items([*_limits(evidence), *use.limits])]),
        ("Cost", _cost(evidence)),
        ("Figures", [{"kind": "figure", "name": name, "caption": _caption(Path(name).stem)} for name in drawn]),
        ("How to make it again", _again(evidence)),
        ("Where it comes from", _provenance(evidence)),
    ]
    return {
        "title": f"{task}: {architecture}",
        "lead": use.what,
        "simulated": evidence["simulated"],
        "sections": [{"title": title, "blocks": blocks} for title, blocks in sections if blocks],
    }


def _caption(stem: str) -> str:
    """Return what a figure shows; molecules are numbered, and each drawing names its drug."""
    kind = re.sub(r"_\d+$", "", stem)
    return _CAPTIONS.get(stem, _NUMBERED.get(kind, stem.replace("_", " ").capitalize()))


def _intended(use: Use) -> list[Block]:
    intended = [_text("Intended:"), _items(use.intended)] if use.intended else []
    return [*intended, _text("Not intended:"), _items(use.not_intended)]


def _data(evidence: dict[str, Any]) -> list[Block]:
    data, test = evidence["data"], evidence["test"]
    sides = [side for side in ("train", "validation", "test") if side in data.get("samples", {})]
    rows = [[side, _count(data["samples"][side]), _count(data["groups"][side])] for side in sides]
    blocks: list[Block] = [
        _text(
            f"Raw data of the task {evidence['task']}, as data/{evidence['task']} held it: its content has the hash "
            f"{_short(evidence['hashes'].get('data.sha256', 'unknown'))}. The split is {test['mode']}: no group stands "
            "on two sides of it, and what was measured was measured on test rows that nothing was chosen by."
        )
    ]
    if rows:
        blocks.append(_table(["side", "samples", "groups"], rows))
    if dropped := data.get("dropped"):
        told = ", ".join(f"{_count(count)} {rule.replace('_', ' ')}" for rule, count in dropped.items())
        blocks.append(_text(f"Left out before the split: {told}."))
    checked = data["validation"]
    if checked["passed"] is None:
        blocks.append(_text("Whether the raw data is valid is not recorded."))
    else:
        blocks.append(_text("The raw data passed validation." if checked["passed"] else "The raw data was REFUSED."))
        blocks += [_items([str(one.get("message", one)) for one in checked["warnings"]])] if checked["warnings"] else []
    return blocks


def _metrics(evidence: dict[str, Any]) -> list[Block]:
    test = evidence["test"]
    known, baseline = {each.name: each for each in get_problem(evidence["problem"]).metrics}, evidence["baseline"]
    whole = {name: found for name, found in test["metrics"].items() if name in known}
    rows = [[name, _interval(found), known[name].meaning.format(baseline=baseline)] for name, found in whole.items()]
    said = (
        f"On {_count(test['samples'])} test rows of {_count(test['groups'])} groups; intervals of "
        f"{test['confidence']:.0%} by resampling groups."
    )
    return [_text(said), _table(["metric", "value", "what it is"], rows)]


def _worst(evidence: dict[str, Any]) -> list[Block]:
    worst = evidence["worst"]
    rows = [
        [f"{row['label']} ({row['name']})" if row.get("label") else row["name"], _count(row["n"]), _interval(row)]
        for row in worst["rows"][:SHOWN]
    ]
    unit = worst["unit"]
    many = f"{unit}es" if unit.endswith("s") else f"{unit}s"
    said = f"The lowest {worst['metric']} of {len(worst['rows'])} {many}."
    return [_text(said), _table([unit, "test rows", worst["metric"]], rows)] if rows else []


def _comparisons(evidence: dict[str, Any]) -> list[Block]:
    rows, notes = [], []
    for one in evidence.get("comparisons", []):
        who = one["with"] if one["version"] is None else f"{one['with']} (version {one['version']})"
        rows.append([_KINDS[one["kind"]], who, one["metric"], _interval(one, "difference", "+"), _count(one["rows"])])
        notes += [f"{who}: {one['note']}"] if one.get("note") else []
    said = (
        "What this model is better by, on the same rows and the same resamples of their groups: above zero it is "
        "better, and an interval that holds zero does not tell the two apart."
    )
    head = ["", "other", "metric", "better by", "rows"]
    return [_text(said), _table(head, rows), *([_items(notes)] if notes else [])] if rows else []


_KINDS = {"naive": "naive baseline", "simple": "simple model", "peer": "other model", "production": "in production"}


def _cohorts(evidence: dict[str, Any]) -> list[Block]:
    known = [metric.name for metric in get_problem(evidence["problem"]).metrics]
    shown = [name for name in known if any(name in each["metrics"] for each in evidence["cohorts"])][:4]
    rows = [
        [each["name"], _count(each["n"]), _count(each["groups"])]
        + [_interval(each["metrics"][name]) if name in each["metrics"] else "–" for name in shown]
        for each in evidence["cohorts"]
    ]
    return [_table(["cohort", "samples", "groups", *shown], rows)]


def _sure(evidence: dict[str, Any]) -> list[Block]:
    covered, calibration = evidence["coverage"], evidence.get("calibration", {})
    what = measures_of(evidence["problem"]).promise
    if covered["observed"] is None:
        return [_text(f"It gives no {what}: too few rows were held out of the fit.")]
    ends = " (no interval: too few groups to resample)"
    if covered["low"] is not None:
        ends = f" [{_share(covered['low'])}, {_share(covered['high'])}]"
    blocks = [
        _text(
            f"Its {what} are declared to hold the true value in {_share(covered['declared'])} of rows; on the test "
            f"rows they hold it in {_share(covered['observed'])}{ends}."
        )
    ]
    if sides := covered.get("by_novelty"):
        told = [
            f"{_share(side['observed'])} of the {_count(side['rows'])} rows that are {word} the training data"
            for word, side in sides.items()
            if side["observed"] is not None
        ]
        blocks.append(_text(f"They hold it in {' and in '.join(told)}; of rows unlike it nothing is promised."))
    if (unseen := (evidence.get("interval") or {}).get("unseen_half_width")) is not None:
        blocks.append(
            _text(
                f"Drugs that stood in no training row get an interval of their own, ± {unseen:.2f} where others get ± "
                f"{evidence['interval']['half_width']:.2f}: it was measured on drugs held out of a fit."
            )
        )
    if "mean_set_size" in calibration:
        ece = _interval(evidence["test"]["metrics"]["ece"])
        blocks.append(
            _text(
                f"Probabilities are divided by a temperature of {calibration['temperature']:.2f}, found on rows held "
                f"out of the fit: the calibration error with it is {ece} (what it was before was measured without an "
                f"interval, and is not shown). A set holds {calibration['mean_set_size']:.2f} classes on average."
            )
        )
    elif (half := evidence.get("interval", {}).get("half_width")) is not None:
        blocks.append(_text(f"The interval reaches {_number(half)} to both sides (on average over targets)."))
    return blocks


def _found(evidence: dict[str, Any]) -> list[Block]:
    audit = evidence["data"]["audit"]
    if audit is None:
        return [_text("The data was not audited: nothing is known of copies, shortcuts and uneven groups.")]
    blocks: list[Block] = []
    if audit["findings"]:
        blocks.append(_text("The audit of the data found, and whoever promotes this model has to answer:"))
        blocks.append(_items([f"{one['name']}: {one['message']}" for one in audit["findings"]]))
    else:
        blocks.append(_text("The audit of the data found nothing."))
    if beside := [one["sentence"] for one in (evidence.get("audit") or {}).get("shortcuts", []) if "sentence" in one]:
        blocks += [_text("Beside what the model scores:"), _items(beside)]
    probes = [
        [one["probe"], one["metric"], _interval({"value": one["score"], **one}), "yes" if one["finding"] else "no"]
        for one in audit["shortcuts"]
    ]
    if probes:
        blocks.append(_text("Whether the label can be told from what should not tell it:"))
        blocks.append(_table(["probe", "metric", "score", "found"], probes))
    copies = audit["duplicates"].get("pairs")
    blocks += [_text(f"Pairs of copies or near copies in the data: {_count(copies)}.")] if copies is not None else []
    return blocks


def _explanation(evidence: dict[str, Any]) -> list[Block]:
    explained = evidence["explanation"]
    if not explained["checks"]:
        return [_text("It looks at no feature that could be shown, or has no explanation that could be checked.")]
    rows = [[one["name"].replace("_", " "), _checked(one), HOW_CHECKED[one["name"]]] for one in explained["checks"]]
    blocks = [
        _text(f"Explained by {str(explained['method']).replace('_', ' ')}; whether that can be believed:"),
        _table(["check", "value", "how it is read"], rows),
    ]
    if "attribution_on_the_cell" in explained:
        on, area = explained["attribution_on_the_cell"], explained["area_of_the_cell"]
        blocks.append(
            _text(f"{_share(on)} of the attribution lies on the cell, which takes {_share(area)} of the image.")
        )
    top = explained.get("top")
    if isinstance(top, dict):
        blocks.append(
            _table(["class", "genes that carry it"], [[label, ", ".join(genes)] for label, genes in top.items()])
        )
    elif top:
        blocks.append(_text("Features that move it most: " + ", ".join(str(one["gene"]) for one in top) + "."))
    return blocks + _biomarkers(explained.get("biomarkers"))


def _checked(check: dict[str, Any]) -> str:
    """Return what came of a check of the explanation; some are of the explained rows as they are, and resample none."""
    if check.get("low") is None and check["value"] is not None:
        return f"{_number(check['value'])} (of the rows that were explained; nothing is resampled)"
    return _interval(check)


def _biomarkers(known: dict[str, Any] | None) -> list[Block]:
    """Return which known biomarkers the model names, and whether the data shows them at all."""
    if not known:
        return []
    rows = [
        [
            str(one["drug_id"]) if one["drug_id"] == one["drug"] else f"{one['drug']} ({one['drug_id']})",
            f"{one['gene']} {one['omics'].replace('_', ' ')}: {one['makes']}",
            f"{one['status']}: {one['why']}",
            one["data"] if one["data_effect"] is None else f"{one['data']}: {_data_effect(one)}",
        ]
        for one in known["rows"]
        if one["status"] != "not in the data"
    ]
    told = "the model could see none"
    if known["looked_up"]:
        told = f"{known['found']} of the {known['looked_up']} that the model could see are found"
        told += f", which means {known['rule']}"
    outside = {
        "not looked at": "in tables that it does not look at",
        "not tested": "of drugs that too few tested lines met",
        "not in the data": "not in the data",
    }
    counts = [(known["status"].get(status, 0), words) for status, words in outside.items()]
    others = ", ".join(f"{_count(count)} are {words}" for count, words in counts if count)
    blocks = [_text(f"Known biomarkers, drug by drug: {told}" + (f"; {others}." if others else "."))]
    if rows:
        head = ["drug", "known", "in the model", "in the data: change of the measured response"]
        blocks.append(_table(head, rows))
    return blocks


def _data_effect(row: dict[str, Any]) -> str:
    return _interval({"value": row["data_effect"], "low": row["data_low"], "high": row["data_high"]}, sign="+")


def _limits(evidence: dict[str, Any]) -> list[str]:
    test, told = evidence["test"], []
    if evidence["simulated"]:
        told.append("Its test rows are simulated: no number here is a result about patients, cells or drugs.")
    if test["groups"] < 30:
        told.append(f"It was tested on {test['groups']} groups only: intervals are wide, and may be wider in truth.")
    if evidence["budget"] == "quick":
        told.append("It was tuned with the quick budget: a few trials, to show that everything works.")
    if not evidence.get("cohorts"):
        told.append("It was not tested on data from elsewhere.")
    return told


def _cost(evidence: dict[str, Any]) -> list[Block]:
    rows = [
        [name.removeprefix("cost_").replace("_", " "), f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"]
        for name, value in evidence["cost"].items()
        if value is not None
    ]
    return [_text("On the machine of the fit; latency is that of one call in its process."), _table(["", ""], rows)]


def _again(evidence: dict[str, Any]) -> list[Block]:
    hashes, task, architecture = evidence["hashes"], evidence["task"], evidence["architecture"]
    lines = [
        f"git checkout {hashes['git.commit']}",
        "dvc pull data.dvc",
        f"make train TASK={task} ARCH={architecture} BUDGET={evidence['budget']}",
        f"python -m evaluation.candidate --task {task} --architecture {architecture}",
    ]
    lines[-1] += "".join(f" --cohort {each['name']}=DIR" for each in evidence.get("cohorts", []))
    blocks: list[Block] = [{"kind": "code", "text": "\n".join(re.sub(r"[^\w\-./=@ ]", "?", line) for line in lines)}]
    if hashes.get("git.dirty") == "true":
        blocks.append(
            _text("The working tree had changes that the commit lacks: the commit alone may not give it again.")
        )
    return blocks


def _provenance(evidence: dict[str, Any]) -> list[Block]:
    rows = [["run of the fit", evidence["run_id"]], ["logged model", evidence["model_uri"]]]
    rows += [[name, str(value)] for name, value in evidence["hashes"].items()]
    return [_table(["", ""], [*rows, ["evidence.sha256", evidence["sha256"]]])]


def _text(text: str) -> Block:
    return {"kind": "text", "text": text}


def _items(items: list[str] | tuple[str, ...]) -> Block:
    return {"kind": "items", "items": list(items)}


def _table(head: list[str], rows: list[list[str]]) -> Block:
    return {"kind": "table", "head": head, "rows": rows}


def _number(value: float | None, sign: str = "") -> str:
    return "–" if value is None else f"{value:{sign}.3f}"


def _interval(found: dict[str, Any], key: str = "value", sign: str = "") -> str:
    """Return a score with its interval; a score that has none is not shown, and it is said why."""
    if found[key] is None:
        return _number(None)
    if found.get("low") is None or found.get("high") is None:
        return "– (no interval: too few groups to resample)"
    return f"{_number(found[key], sign)} [{_number(found['low'], sign)}, {_number(found['high'], sign)}]"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def _count(value: int) -> str:
    return f"{value:,}"


def _short(sha: str) -> str:
    return sha[:12]


def _plain(text: Any) -> str:
    """Return text in which Markdown sees nothing but text, on one line."""
    return _SPECIAL.sub(r"\\\1", " ".join(str(text).split()))


def _environment(*, autoescape: bool) -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=autoescape,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["plain"] = _plain
    return made
