"""What would let documentation break, call somebody else's server, or name what is not there."""

import importlib.util
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
    command = ["mkdocs", "build", "--strict", "--config-file", str(config), "--site-dir", str(folder)]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run([sys.executable, "-m", *command], cwd=ROOT, env=env, capture_output=True, text=True)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = build(folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_broken_links_fail_the_build(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "other.md").write_text("# Other\n")
    config = tmp_path / "mkdocs.yml"
    config.write_text(f"INHERIT: {ROOT / 'mkdocs.yml'}\ndocs_dir: docs\nhooks: []\nnav: [index.md, other.md]\n")
    broken = ["gone.md", "#nowhere", "other.md#lost", "images/gone.png", "/away.md"]
    links = "".join(f"![a]({each})\n" if each.endswith("png") else f"[a]({each})\n" for each in broken)
    (tmp_path / "docs" / "index.md").write_text(f"# Here\n\n[other](other.md#other)\n{links}")
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


def keys(node: Any, named: bool = False) -> set[str]:
    """Return the keys of ``params.yaml`` below a node, without the names of tasks, models, columns and endpoints."""
    if isinstance(node, list):
        return set().union(*map(keys, node))
    if not isinstance(node, dict):
        return set()
    named_here = ("tasks", "models", "exclude", "endpoints")
    # Below `budgets` are names, and keys of tasks again; below `first` hyperparameters by architecture.
    below = (keys(value, key in named_here) for key, value in node.items() if key not in ("budgets", "first"))
    return set().union(set() if named else set(node), *below)


def test_the_reference_has_every_command_and_parameter(site: Path) -> None:
    told = subprocess.run(["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    verbs = re.findall(r"^  make ([a-z]+) ", told, re.MULTILINE)
    shown = {path.stem: path.read_text(encoding="utf-8") for path in (site / "reference").glob("*.html")}
    codes = {name: set(map(unescape, re.findall(r"<code>(.*?)</code>", page))) for name, page in shown.items()}
    assert len(verbs) > 20
    assert {*(f"make {verb}" for verb in verbs), *ENTRY_POINTS} <= codes["commands"]
    wanted = keys(yaml.safe_load((ROOT / "params.yaml").read_text()))
    assert len(wanted) > 60 and wanted <= codes["params"]


# What README and documentation tell people to type has to be there.


PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")))
}
MAKEFILE = (ROOT / "Makefile").read_text()
ENTRY_POINTS = yaml.safe_load((ROOT / "MLproject").read_text())["entry_points"]
VARIABLE = r"([A-Z][A-Z0-9_]*)=(\"[^\"]*\"|[^\s\]]+)"


def code_of(page: str) -> str:
    """Return what stands in blocks and spans of code, which is what people copy."""
    prose, *rest = re.split(r"```\w*\n(.*?)```", page, flags=re.DOTALL)
    return "\n".join([*rest[::2], *re.findall(r"`([^`]+)`", "".join([prose, *rest[1::2]]))])


def told_of(verb: str) -> tuple[str, str]:
    if verb == "help":
        return "", ""
    rule = re.search(rf"^{verb}: \$\(READY\) ## (.*)\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
    assert rule is not None, f"the Makefile has no {verb}"
    return rule[1], rule[2]


def test_each_command_is_a_verb_that_takes_these_variables_or_a_module_that_is_there() -> None:
    command = rf"\bmake (?:-C \S+ )?([a-z]+)((?:\s+\[?{VARIABLE}\]?)*)"
    for page, text in PAGES.items():
        for _, verb, given, *_ in (match.group(0, 1, 2) for match in re.finditer(command, code_of(text))):
            told, recipe = told_of(verb)
            for name, _ in re.findall(VARIABLE, given):
                assert f"{name}=" in told, f"{page}: make help does not tell of {name} for {verb}"
                assert re.search(rf"\$\$?[({{]?{name}\b|\$\(value {name}\)", recipe), f"{verb} makes nothing of {name}"
    named = {module for page in PAGES.values() for module in re.findall(r"python -m ([\w.]+)", code_of(page))}
    assert len(named) > 5
    assert not [each for each in sorted(named) if importlib.util.find_spec(each) is None]


def test_what_make_hands_to_a_verb_mlflow_can_hand_to_it_too() -> None:
    """Of both the words are read off: a variable of one that the other lacks was forgotten."""
    verbs = "tune compare register promote rollback verify serve trial monitor predict reproduce"
    for verb in verbs.split():
        made = set(re.findall(r"--([a-z-]+)", told_of(verb)[1])) - {"sha256"}
        assert made == set(re.findall(r"--([a-z-]+)", ENTRY_POINTS[verb]["command"])), verb


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_each_link_outside_of_the_site_leads_somewhere(name: str) -> None:
    links = re.findall(r"\]\(([^)]+)\)", PAGES[name])
    assert links
    for link in links:
        path, _, anchor = link.partition("#")
        assert (ROOT / path).is_file(), link
        titles = re.findall(r"^#+ (.*)$", PAGES[path], re.MULTILINE) if anchor else []
        assert not anchor or anchor in {re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") for title in titles}, link


def test_the_readme_stays_short_and_each_page_that_a_message_or_a_comment_names_is_there() -> None:
    assert len(PAGES["README.md"].split()) <= 1000
    places = ("pipelines", "training", "evaluation", "serving", "infra", "tests", ".github")
    paths = [path for place in places for path in (ROOT / place).rglob("*.*")]
    paths += [ROOT / name for name in ("Makefile", "params.yaml", "dvc.yaml", "MLproject")]
    texts = [path.read_text(encoding="utf-8") for path in paths if path.suffix in {"", ".py", ".yml", ".yaml"}]
    named = set(re.findall(r"\bdocs/[\w/-]+\.md\b", "\n".join(texts)))
    assert len(named) > 3
    assert not [each for each in sorted(named) if not (ROOT / each).is_file()]


def test_the_page_on_threats_names_guards_and_tests_that_are_there() -> None:
    page = PAGES["docs/security.md"]
    paths = set(re.findall(r"`([a-z_]+/[a-z_/]*(?:\.[a-z]+)?)`", page)) - {"infra/"}
    assert len(paths) > 20 and [path for path in paths if not (ROOT / path).exists()] == []
    head = "| threat | guard | test |"
    threats = page.partition("\n## Threats\n")[2].partition("\n## Attacks\n")[0]
    lines = [line for line in threats.splitlines() if line[:2] == "| " and line != head]
    assert len(lines) > 20 and page.count(head) == 6
    for threat, _, test in ([cell.strip() for cell in line.strip("|").split("|")] for line in lines):
        assert re.search(r"`|–", test) or test.startswith(("same", "with")), threat


def test_each_attack_has_a_test_that_is_there() -> None:
    table = PAGES["docs/security.md"].partition("\n## Attacks\n")[2].partition("\n## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ")][1:]
    named = [re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row) for row in rows]
    assert len(named) > 25 and all(named)
    for path, name in (each for row in named for each in row):
        assert re.search(rf"^def {name}\(", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE), (path, name)
