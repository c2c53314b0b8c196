"""The validation report as a page: findings of the checks and of the audit, and counts of the data."""

from pathlib import Path
from typing import Any

import yaml

from pipelines.files import read_json, written_whole
from pipelines.formatting import ends, number
from pipelines.paths import AUDIT_FILE, VALIDATION_FILE
from pipelines.report import Block, Link, Strong, as_html, code, report, section, table, text

PAGE = "validation.html"


def write_page(reports: Path, task: str) -> Path:
    """Write ``validation.html`` from ``validation.json`` and, if there is one, ``audit.json`` in ``reports``."""
    validation = read_json(reports / VALIDATION_FILE)
    audit = read_json(reports / AUDIT_FILE) if (reports / AUDIT_FILE).is_file() else None
    mark, outcome = ("good", "passed") if validation["passed"] else ("bad", "refused")
    expectations = text("Every expectation: ", Link("data_docs/index.html"), ".")
    sections = [
        section(f"Checks: {outcome}", _findings(validation["findings"]), expectations, mark=mark),
        section("Audit", *([text("It has not run yet.")] if audit is None else _audit(audit))),
        section("Counts", _plain(validation["counts"])),
    ]
    with written_whole(reports / PAGE) as temporary:
        temporary.write_text(as_html(report(f"{task}: validation report", sections)), encoding="utf-8")
    return reports / PAGE


def _findings(findings: list[dict[str, Any]]) -> Block:
    rows = []
    for one in findings:
        more = one["count"] - len(one["rows"])
        where = ", ".join(map(str, one["rows"])) + (f" and {more} more" if more > 0 else "")
        rows.append([one["severity"], one["file"], one["column"] or "", where, one["message"]])
    marks = ["bad" if one["severity"] == "error" else "warn" for one in findings]
    return table(["", "file", "column", "rows", "what"], rows, marks) if rows else text("Nothing was found.")


def _audit(audit: dict[str, Any]) -> list[Block]:
    found = [text(Strong(one["name"]), f": {one['message']}") for one in audit["findings"]]
    rows = []
    for one in audit["shortcuts"]:
        score = number(one["score"]), ends(one), number(one["chance"])
        rows.append([one["probe"], one["metric"], *score, "yes" if one["finding"] else "no"])
    marks = ["warn" if one["finding"] else "good" for one in audit["shortcuts"]]
    return [
        *(found or [text("No finding.")]),
        text("How well do confounders alone predict the label?"),
        table(["probe", "metric", "score", "95 % interval", "chance", "finding"], rows, marks),
        text("Groups and copies:"),
        _plain(audit["groups"]),
        _plain(audit["duplicates"]["counts"]),
    ]


def _plain(values: Any) -> Block:
    return code(yaml.safe_dump(values, sort_keys=False))
