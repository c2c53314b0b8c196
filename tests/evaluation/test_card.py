"""A card that leaves out what a reader must know, or lets a name in the data write into the page."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest

from evaluation.promotion.card import write_card
from tests.evaluation.made_evidence import made_cell_evidence as made_evidence

DRAWING = '<svg xmlns="http://www.w3.org/2000/svg"><title>imatinib</title></svg>'
HOSTILE = "<script>alert('x')</script>|`]( onerror=1 \n# no heading"


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, list[tuple[str, str | None]]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, attrs))

    def handle_data(self, data: str) -> None:
        self.text += data


def written(evidence: dict[str, Any], folder: Path) -> tuple[str, str]:
    (folder / "figures").mkdir()
    figure, _ = plt.subplots(figsize=(1, 1))
    figure.savefig(folder / "figures" / "confusion_matrix.png")
    plt.close(figure)
    (folder / "figures" / "molecule_1.svg").write_text(DRAWING)
    (folder / "figures" / "notes.txt").write_text("no figure")
    write_card(evidence, folder)
    return (folder / "card.md").read_text(), (folder / "card.html").read_text()


def comparison(**changed: Any) -> dict[str, Any]:
    numbers = {"metric": "roc_auc", "difference": 0.1, "low": 0.05, "high": 0.2, "p": 0.01, "rows": 40, "groups": 12}
    return {"with": "majority_class", "kind": "naive", "version": None, "run_id": None, **numbers, **changed}


def test_the_card_says_what_a_reader_must_know(tmp_path: Path) -> None:
    production = comparison(
        **{"with": "vgg16", "kind": "production", "version": "7", "note": "3 of 40 test rows are left out"}
    )
    evidence = made_evidence(comparisons=[comparison(), production], cohorts=[])
    markdown, html = written(evidence, tmp_path)
    plain = markdown.replace("\\", "")
    tags = Tags()
    tags.feed(html)
    for told in (plain, tags.text):
        for said in (
            *("The data is simulated", "medical device", "0.800 [0.700, 0.900]", "few_groups: few subjects"),
            *("vgg16 (version 7)", "3 of 40 test rows are left out", "+0.100 [+0.050, +0.200]", "93.0%"),
            *("subject_blind", "12 groups", "git checkout " + "1" * 40, evidence["sha256"]),
        ):
            assert said in told, said
    assert "![Confusion of the classes, test rows](figures/confusion_matrix.png)" in plain
    sources = [dict(attrs)["src"] or "" for tag, attrs in tags.found if tag == "img"]
    assert len(sources) == 2 and sources[0].startswith("data:image/png;base64,iVBOR")
    assert "![What each atom of a drug adds to the prediction](figures/molecule_1.svg)" in plain
    kind, _, drawing = sources[1].partition(";base64,")  # as it was drawn
    assert kind == "data:image/svg+xml" and base64.b64decode(drawing).decode() == DRAWING


def test_a_hostile_name_stays_text(tmp_path: Path) -> None:
    cohort = {"name": HOSTILE, "n": 3, "groups": 2, "metrics": {}, "data.sha256": "6" * 64}
    evidence = made_evidence(
        classes=(HOSTILE, "hem"), comparisons=[comparison(note=HOSTILE)], cohorts=[cohort], simulated=False
    )
    evidence["data"]["audit"]["findings"][0]["message"] = HOSTILE
    markdown, html = written(evidence, tmp_path)
    tags = Tags()
    tags.feed(html)
    assert {tag for tag, _ in tags.found}.isdisjoint({"script", "a", "iframe"})
    assert all(not name.startswith("on") for _, attrs in tags.found for name, _ in attrs)
    assert tags.text.count("<script>alert('x')</script>") >= 4
    # Markdown passes HTML through, ends a cell at a bar, and begins a heading at the line's start.
    assert not re.search(r"(?<!\\)<script", markdown)
    assert "\n# no heading" not in markdown
    (line,) = [line for line in markdown.splitlines() if "alert" in line and line.startswith("|") and " 20 " in line]
    assert len(re.findall(r"(?<!\\)\|", line)) == 4
    (command,) = [line for line in markdown.splitlines() if line.startswith("python -m evaluation.candidate")]
    assert re.fullmatch(r"[\w\-./=@? ]+", command)


@pytest.mark.parametrize("audit", [None, {"findings": [], "shortcuts": [], "groups": {}, "duplicates": {}}])
def test_no_audit_is_not_a_clean_audit(audit: dict[str, Any] | None, tmp_path: Path) -> None:
    data: dict[str, Any] = {"validation": {"passed": None, "warnings": []}, "audit": audit}
    markdown, _ = written(made_evidence(data=data, simulated=False), tmp_path)
    assert "imulated" not in markdown
    assert ("was not audited" in markdown) is (audit is None)
    assert ("has no finding" in markdown) is (audit is not None)
    assert "is not recorded" in markdown


def test_no_score_stands_in_the_card_without_its_interval(tmp_path: Path) -> None:
    bare = {"value": 0.777, "low": None, "high": None}
    evidence = made_evidence(
        comparisons=[comparison(difference=0.777, low=None, high=None)],
        cohorts=[{"name": "elsewhere", "n": 3, "groups": 1, "metrics": {"accuracy": bare}, "data.sha256": "6" * 64}],
        worst={"unit": "class", "metric": "recall", "rows": [{"name": "all", "n": 3, **bare}]},
        calibration={"temperature": 1.3, "ece_before": 0.777, "mean_set_size": 1.2},
    )
    evidence["test"]["metrics"] |= {"ece": {"value": 0.123, "low": 0.1, "high": 0.15}, "accuracy": bare}
    evidence["data"]["audit"]["shortcuts"] = [
        {"probe": "border", "metric": "roc_auc", "score": 0.666, "low": 0.6, "high": 0.7, "finding": False},
        {"probe": "color", "metric": "roc_auc", "score": 0.777, "low": None, "high": None, "finding": False},
    ]
    for text in written(evidence, tmp_path):
        plain = text.replace("\\", "")
        assert "0.777" not in plain
        assert plain.count("no interval: too few groups to resample") == 5
        assert "calibration error: 0.123 [0.100, 0.150]" in plain
        assert "0.666 [0.600, 0.700]" in plain
        assert "0.100 (over the explained rows, without resampling)" in plain  # a check that has none


def test_what_is_not_defined_is_no_number(tmp_path: Path) -> None:
    nothing = dict.fromkeys(("low", "high"))
    evidence = made_evidence(
        comparisons=[comparison(**nothing, difference=None, p=None, note="cannot answer")],
        cohorts=[],
        coverage={"declared": 0.9, "observed": None, "low": None, "high": None},
        explanation={"method": None, "checks": []},
        worst={"unit": "class", "metric": "recall", "rows": [{"name": "all", "n": 0, **nothing, "value": None}]},
    )
    for text in written(evidence, tmp_path):
        assert "None" not in text and not re.search(r"\bnan\b", text)
        assert "cannot answer" in text and "No prediction sets" in text
