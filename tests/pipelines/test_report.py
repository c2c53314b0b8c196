"""A number without its interval, a page that hides a finding, or a name from the data that writes markup."""

import html
import math
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.audit import Audit, write_audit
from pipelines.audits import AuditFinding
from pipelines.errors import ROWS_SHOWN, Finding
from pipelines.formatting import cost, ends, interval, lines, number, p_value, share
from pipelines.report import Code, Link, Strong, as_html, as_markdown, items, report, section, table, text
from pipelines.validate import Validation, write_validation
from pipelines.validation_page import PAGE, write_page

HOSTILE = ("<script>x</script>", "a|b", "[x](javascript:y)", "`a`", "**a**", "_a_", "x\n# head", "![i](u)", "$a$&amp;")
NASTY = "all/<script>alert('cell & \"blast\"')</script>.png"
SOUND = Validation("smear", (), {"rows": {"images": 24}})
PROBE = {"probe": "image_border", "metric": "roc_auc", "score": 0.914, "low": 0.871, "high": 0.952, "chance": 0.5}


def test_a_number_is_written_in_one_way_with_and_without_its_interval() -> None:
    found = {"value": 0.8, "low": 0.75, "high": 0.85}
    assert interval(found) == "0.800 [0.750, 0.850]"
    assert interval({**found, "low": None}) == "– (no interval)"
    assert interval({**found, "low": math.nan}, form=".3g", alone="{} (no interval)") == "0.8 (no interval)"
    assert interval({"value": None, "low": 0.1, "high": 0.2}, nothing="not defined") == "not defined"
    assert interval({"gain": -0.1, "low": -0.2, "high": 0.1}, "gain", sign="+") == "-0.100 [-0.200, +0.100]"
    assert ends({}) == "[–, –]" and number(True) == number(math.inf) == number("1") == "–"
    assert [p_value(p) for p in (None, math.nan, 1e-9, 0.0234, 0.5)] == ["–", "–", "< 0.001", "0.023", "0.50"]
    assert (share(0.875), share(None), cost(1234.5), cost(0.12345), cost(None)) == ("87.5%", "–", "1,234", "0.123", "–")
    assert lines(["name", "r2"], [["mlp", "0.9"], ["a", "-"]]) == "name   r2\n---------\nmlp   0.9\na       -"


@given(st.floats(-1e9, 1e9) | st.sampled_from([math.nan, math.inf, -math.inf]))
def test_no_number_becomes_nan_or_infinity_in_a_report(value: float) -> None:
    whole = interval({"value": value, "low": 0, "high": value})
    assert not re.search("nan|inf", " ".join([number(value), p_value(value), share(value), cost(value), whole]))


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_is_text_in_every_block(name: str) -> None:
    blocks = [
        text(name, Strong(name), Code(name), "\n"),
        items([name]),
        table([name, ""], [[name, Code(name)]], ["bad"]),
    ]
    made = report(name, [section(name, *blocks), section("empty")], lead=name, simulated=True)
    page = as_html(made)
    assert "<script" not in page and "http" not in page and page.count("<br>") == 1 and "empty" not in page
    shown = as_markdown(made)
    outside = re.sub(r"`[^`\n]*`", "", shown)  # in code Markdown sees nothing
    assert not re.search(r"(?<!\\)(<script|\]\(|\*\*a\*\*|\$)", outside) and "\n# head" not in shown
    rows = [line for line in shown.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in rows} == {3}


def test_pieces_keep_their_form() -> None:
    made = report("r", [section("s", text("see ", Code("a_b"), ", ", Strong("now"), " ", Link("x/index.html")))])
    assert "see `a_b`, **now** [x/index.html](x/index.html)" in as_markdown(made)
    assert '<code>a_b</code>, <b>now</b> <a href="x/index.html">x/index.html</a>' in as_html(made)


def audit_of(*findings: AuditFinding, shortcuts: tuple[dict[str, Any], ...] = (), largest: str = "SIM-01") -> Audit:
    groups = {"unit": "subject", "groups": 12, "largest": largest}
    return Audit("smear", "images", 24, {"counts": {"pairs": 3}, "pairs": []}, shortcuts, groups, findings)


def page_of(folder: Path, validation: Validation, audit: Audit | None = None) -> tuple[str, list[str]]:
    """Return the text of the page without its tags, and that of each row of its tables."""
    write_validation(validation, folder)
    if audit is not None:
        write_audit(audit, folder)
    page = write_page(folder, validation.task).read_text(encoding="utf-8")
    parts = (page, *re.findall(r"<tr.*?</tr>", page, re.DOTALL))
    shown, *rows = (" ".join(html.unescape(re.sub(r"<[^>]+>", " ", part)).split()) for part in parts)
    return shown, rows


def test_every_finding_of_the_checks_is_on_the_page_with_file_column_and_rows(tmp_path: Path) -> None:
    findings = (
        Finding.at_rows("subject", "images.csv", "subject_id", [3, 8], "names no subject"),
        Finding("image_readable", "images/all/cell_07.png", "cannot be decoded; copy it again"),
        Finding.at_rows("subject", "images.csv", "subject_id", range(700), "is a JPEG", severity="warning"),
    )
    shown, rows = page_of(tmp_path, Validation("smear", findings, {"rows": {}}))
    assert "Checks: refused" in shown and "It has not run yet" in shown and "Nothing was found" not in shown
    assert rows[1:3] == [
        "error images.csv subject_id 4, 9 names no subject",
        "error images/all/cell_07.png cannot be decoded; copy it again",
    ]
    assert f"19, 20 and {700 - ROWS_SHOWN} more is a JPEG" in rows[3]
    shown, _ = page_of(tmp_path, Validation("smear", findings[2:], {"rows": {}}))
    assert "Checks: passed" in shown and "refused" not in shown and "is a JPEG" in shown


def test_findings_of_the_audit_are_on_the_page_with_the_probes_score_and_chance(tmp_path: Path) -> None:
    sound, _ = page_of(tmp_path, SOUND, audit_of())
    assert "Nothing was found" in sound and "No finding" in sound and "images: 24" in sound
    message = "image border alone reaches roc_auc 0.914"
    shortcut = AuditFinding("shortcut_image_border", message, score=0.914)
    undefined = {"probe": "file_size", "score": None, "low": float("nan"), "high": None, "finding": False}
    shortcuts = PROBE | {"finding": True}, PROBE | undefined
    shown, rows = page_of(tmp_path, SOUND, audit_of(shortcut, shortcuts=shortcuts))
    assert f"shortcut_image_border : {message}" in shown and "No finding" not in shown
    assert rows[1:] == ["image_border roc_auc 0.914 [0.871, 0.952] 0.500 yes", "file_size roc_auc – [–, –] 0.500 no"]
    assert "pairs: 3" in shown and "largest: SIM-01" in shown


def test_a_name_is_text_on_the_page_and_never_markup(tmp_path: Path) -> None:
    validation = Validation(NASTY, (Finding("image_readable", NASTY, NASTY, NASTY),), {"rows": {NASTY: 3}})
    page_of(tmp_path, validation, audit_of(AuditFinding("copies", NASTY), largest=NASTY))
    page = (tmp_path / PAGE).read_text(encoding="utf-8")
    assert "<script" not in page
    # Title and heading, three cells of the finding, the audit, counts and groups.
    assert page.count(html.escape("all/<script>alert(", quote=False)) == 8
