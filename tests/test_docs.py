"""What would let the documentation site break, call somebody else's server, or fall behind the code."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]


def build(folder: Path, config: Path = ROOT / "mkdocs.yml") -> subprocess.CompletedProcess[str]:
    """Build the site into ``folder`` as ``make docs`` does."""
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", str(config), "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the built site."""
    folder = tmp_path_factory.mktemp("site")
    done = build(folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_broken_links_fail_the_build(tmp_path: Path) -> None:
    pages = tmp_path / "docs"
    pages.mkdir()
    (pages / "other.md").write_text("# Other\n")
    config = tmp_path / "mkdocs.yml"
    config.write_text(f"INHERIT: {ROOT / 'mkdocs.yml'}\ndocs_dir: docs\nhooks: []\nnav: [index.md, other.md]\n")
    broken = ["gone.md", "#nowhere", "other.md#lost", "images/gone.png", "/away.md"]
    (pages / "index.md").write_text(
        "# Here\n\n[other](other.md#other)\n"
        + "".join(f"![a]({b})\n" if b.endswith("png") else f"[a]({b})\n" for b in broken)
    )
    done = build(tmp_path / "site", config)
    assert done.returncode != 0
    assert [link for link in broken if f"'{link}'" not in done.stderr] == [], done.stderr
    assert "'other.md#other'" not in done.stderr


def test_pages_fetch_nothing_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        tags = re.findall(r"<(?:script|link|img|iframe|source|video)\b[^>]*>", page.read_text(encoding="utf-8"))
        assert not [tag for tag in tags if re.search(r"(?:src|href)=[\"']?(?:https?:)?//", tag)], page.name
    sheets = [sheet.read_text(encoding="utf-8") for sheet in site.rglob("*.css")]
    assert sheets
    assert not [found for sheet in sheets for found in re.findall(r"(?:url\(|@import )[\"']?(?:https?:)?//", sheet)]


def codes(page: Path) -> set[str]:
    """Return what a page shows as code."""
    return {unescape(each) for each in re.findall(r"<code>(.*?)</code>", page.read_text(encoding="utf-8"))}


def test_the_reference_has_every_command_and_parameter(site: Path) -> None:
    told = subprocess.run(["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    verbs = re.findall(r"^  make ([a-z]+) ", told, re.MULTILINE)
    entry_points = yaml.safe_load((ROOT / "MLproject").read_text())["entry_points"]
    assert len(verbs) > 20
    assert {*(f"make {verb}" for verb in verbs), *entry_points} <= codes(site / "reference" / "commands.html")
    wanted = keys(yaml.safe_load((ROOT / "params.yaml").read_text()))
    assert len(wanted) > 60
    assert wanted <= codes(site / "reference" / "params.html")


def keys(node: Any, named: bool = False) -> set[str]:
    """Return the keys of ``params.yaml`` below a node, without the names of tasks, models, columns and endpoints."""
    if isinstance(node, list):
        return set().union(*(keys(each) for each in node))
    if not isinstance(node, dict):
        return set()
    below = (keys(value, key in ("tasks", "models", "exclude", "endpoints")) for key, value in node.items())
    return set().union(set() if named else set(node), *below)
