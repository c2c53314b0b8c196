"""A page that hides a finding, or runs what a file's name says, is worse than none."""

from __future__ import annotations

import html
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from pipelines.audits.run import Audit, AuditFinding, write_audit
from pipelines.errors import ROWS_SHOWN, Finding
from pipelines.validate import Validation, write_validation
from pipelines.validation_page import PAGE, write_page

NASTY = "all/<script>alert('cell & \"blast\"')</script>.png"
SOUND = Validation("smear", (), {"rows": {"images": 24}})
PROBE = {
    "probe": "image_border",
    "metric": "roc_auc",
    "score": 0.914,
    "low": 0.871,
    "high": 0.952,
    "chance": 0.5,
    "finding": True,
}


class Page(HTMLParser):
    """Takes a page apart: its tags, what stands in table rows, and all its text; unclosed tags are a fault."""

    VOID = ("meta", "br", "link")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.rows: list[str] = []
        self.text = ""
        self.classes: list[tuple[str, str]] = []
        self.feed(text)
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append("")
        if self.open:
            self.classes += [(value or "", "") for name, value in attrs if name == "class"]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            return
        self.text += data
        if "tr" in self.open:
            self.rows[-1] += f" {data.strip()}"


def audit_of(*findings: AuditFinding, shortcuts: tuple[dict[str, Any], ...] = ()) -> Audit:
    groups = {"unit": "subject", "groups": 12, "largest": "SIM-01"}
    return Audit("smear", "images", 24, {"counts": {"pairs": 3}, "pairs": []}, shortcuts, groups, findings)


def page_of(folder: Path, validation: Validation, audit: Audit | None = None) -> Page:
    write_validation(validation, folder)
    if audit is not None:
        write_audit(audit, folder)
    path = write_page(folder, validation.task)
    assert path == folder / PAGE
    return Page(path.read_text(encoding="utf-8"))


def test_every_refusal_and_warning_stands_on_the_page_with_file_column_and_rows(tmp_path: Path) -> None:
    findings = (
        Finding.at_rows("subject", "images.csv", "subject_id", [3, 8], "names no subject"),
        Finding("image_readable", "images/all/cell_07.png", "cannot be decoded; copy it again"),
        Finding("extension", "images/hem/cell_01.png", "is a JPEG", severity="warning"),
    )
    page = page_of(tmp_path, Validation("smear", findings, {"rows": {}}))
    assert "refused" in page.text and "passed" not in page.text
    rows = [" ".join(row.split()) for row in page.rows]
    assert rows[1:] == [
        "error images.csv subject_id 4, 9 names no subject",
        "error images/all/cell_07.png cannot be decoded; copy it again",
        "warning images/hem/cell_01.png is a JPEG",
    ]
    assert "Nothing was found" not in page.text


def test_rows_beyond_the_first_are_counted_and_warnings_alone_pass(tmp_path: Path) -> None:
    many = Finding.at_rows("subject", "images.csv", "subject_id", range(700), "is a JPEG", severity="warning")
    page = page_of(tmp_path, Validation("smear", (many,), {"rows": {}}))
    assert f"19, 20 and {700 - ROWS_SHOWN} more" in " ".join(page.rows[1].split())
    assert "Checks: passed" in " ".join(page.text.split())
    assert "refused" not in page.text and "is a JPEG" in page.text


def test_sound_data_and_an_audit_that_has_not_run_are_shown_as_such(tmp_path: Path) -> None:
    page = page_of(tmp_path, SOUND, audit_of())
    assert "Nothing was found" in page.text and "No finding" in page.text and "images: 24" in page.text
    (tmp_path / "audit.json").unlink()
    page = page_of(tmp_path, SOUND)
    assert "It has not run yet" in page.text
    assert "No finding" not in page.text


def test_findings_of_the_audit_stand_on_the_page_with_the_probes_score_and_chance(tmp_path: Path) -> None:
    message = "image border alone reaches roc_auc 0.914"
    clean = PROBE | {"probe": "file_size", "score": 0.53, "low": 0.44, "high": 0.61, "finding": False}
    found = (AuditFinding("shortcut_image_border", message, score=0.914), AuditFinding("few_groups", "weigh as 3"))
    page = page_of(tmp_path, SOUND, audit_of(*found, shortcuts=(PROBE, clean)))
    assert f"shortcut_image_border: {message}" in page.text
    assert "few_groups: weigh as 3" in page.text
    assert "No finding" not in page.text
    rows = [" ".join(row.split()) for row in page.rows]
    assert "image_border roc_auc 0.914 [0.871, 0.952] 0.500 yes" in rows
    assert "file_size roc_auc 0.530 [0.440, 0.610] 0.500 no" in rows
    assert "pairs: 3" in page.text and "largest: SIM-01" in page.text


def test_a_probe_without_a_score_is_shown_without_a_number(tmp_path: Path) -> None:
    undefined = PROBE | {"score": None, "low": float("nan"), "high": None, "finding": False}
    page = page_of(tmp_path, SOUND, audit_of(shortcuts=(undefined,)))
    assert "image_border roc_auc – [–, –] 0.500 no" in [" ".join(row.split()) for row in page.rows]


@pytest.mark.parametrize("where", ["file", "column", "message", "audit", "counts", "groups", "task"])
def test_a_name_is_text_on_the_page_and_never_markup(where: str, tmp_path: Path) -> None:
    finding = Finding(
        "image_readable",
        NASTY if where == "file" else "images/all/cell.png",
        NASTY if where == "message" else "cannot be decoded",
        NASTY if where == "column" else None,
    )
    counts = {"rows": {NASTY if where == "counts" else "images": 3}}
    validation = Validation(NASTY if where == "task" else "smear", (finding,), counts)
    audit = audit_of(AuditFinding("copies", NASTY if where == "audit" else "2 pairs"))
    if where == "groups":
        audit.groups["largest"] = NASTY
    page = page_of(tmp_path, validation, audit)
    assert "script" not in page.tags
    raw = (tmp_path / PAGE).read_text(encoding="utf-8")
    assert "<script>" not in raw
    # YAML may quote or fold the text; its beginning is told all the same.
    assert "all/<script>alert(" in page.text
    assert html.escape("all/<script>alert(", quote=False) in raw
