"""What would let the page on threats name a guard or a test that is not there."""

from __future__ import annotations

import re

import pytest

from tests.training.tiny import ROOT

PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
STRIDE = (
    *("Spoofing", "Tampering", "Repudiation"),
    *("Information disclosure", "Denial of service", "Elevation of privilege"),
)


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`([a-z_]+/[a-z_/]*(?:\.[a-z]+)?)`", PAGE)) - {"infra/"}))
def test_what_it_names_is_there(path: str) -> None:
    assert (ROOT / path).exists()


@pytest.mark.parametrize("name", STRIDE)
def test_each_threat_has_a_guard_or_says_that_it_has_none(name: str) -> None:
    section = PAGE.partition(f"### {name}\n")[2].partition("\n#")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:2] == "| "]
    assert rows[0] == ["threat", "guard", "test"]
    assert len(rows) > 1
    for row in rows[1:]:
        assert len(row) == 3 and all(row), row
        assert re.search(r"`|–", row[2]) or row[2].startswith(("same", "with")), row
