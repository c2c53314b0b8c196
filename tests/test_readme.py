"""What README and documentation tell people to type has to be there."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")))
}
MAKEFILE = (ROOT / "Makefile").read_text()
ENTRY_POINTS = yaml.safe_load((ROOT / "MLproject").read_text())["entry_points"]
INSTEAD = {"train": ("tune", "fit", "evaluate")}  # what MLflow has in the place of a verb that is DVC's
VARIABLE = r"([A-Z][A-Z0-9_]*)=(\"[^\"]*\"|[^\s\]]+)"


def ten_commands() -> list[tuple[str, dict[str, str]]]:
    """Return verb and variables of each line of the block of ten commands."""
    block = re.search(r"## In ten commands\n+```\n(.*?)```", PAGES["docs/lifecycle.md"], re.DOTALL)
    assert block is not None
    found = []
    for number, line in enumerate(block[1].splitlines(), start=1):
        match = re.fullmatch(r"make ([a-z]+)((?: [A-Z]+=(?:\"[^\"]*\"|\S+))*) +# +(\d+)  \S.*", line)
        assert match is not None, line
        assert int(match[3]) == number
        found.append((match[1], dict(re.findall(VARIABLE, match[2]))))
    return found


def code_of(page: str) -> str:
    """Return what stands in blocks and spans of code, which is what people copy."""
    blocks = re.findall(r"```\w*\n(.*?)```", page, re.DOTALL)
    prose = re.sub(r"```\w*\n.*?```", "", page, flags=re.DOTALL)
    return "\n".join([*blocks, *re.findall(r"`([^`]+)`", prose)])


def typed() -> list[tuple[str, str, tuple[str, ...]]]:
    """Return page, verb and names of variables of each ``make`` command that a page shows."""
    command = rf"\bmake (?:-C \S+ )?([a-z]+)((?:\s+\[?{VARIABLE}\]?)*)"
    return sorted(
        {
            (name, match[1], tuple(given for given, _ in re.findall(VARIABLE, match[2])))
            for name, page in PAGES.items()
            for match in re.finditer(command, code_of(page))
        }
    )


def told_of(verb: str) -> tuple[str, str]:
    """Return what ``make help`` says of a verb, and its recipe."""
    rule = re.search(rf"^{verb}: \$\(READY\) ## (.*)\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
    if verb == "help":
        return "", ""
    assert rule is not None, f"the Makefile has no {verb}"
    return rule[1], rule[2]


def test_each_command_is_a_verb_that_takes_these_variables() -> None:
    for page, verb, given in typed():
        told, recipe = told_of(verb)
        for name in given:
            assert f"{name}=" in told, f"{page}: make help does not tell of {name} for {verb}"
            assert re.search(rf"\$\$?[({{]?{name}\b|\$\(value {name}\)", recipe), f"{verb} makes nothing of {name}"


def test_each_module_that_is_run_is_there() -> None:
    named = {module for page in PAGES.values() for module in re.findall(r"python -m ([\w.]+)", code_of(page))}
    assert len(named) > 5
    assert not [each for each in sorted(named) if importlib.util.find_spec(each) is None]


def test_what_make_hands_to_a_verb_mlflow_can_hand_to_it_too() -> None:
    """Of both the words are read off: a variable of one that the other lacks was forgotten."""
    for verb, _ in ten_commands():
        assert set(INSTEAD.get(verb, (verb,))) <= set(ENTRY_POINTS)
    for verb in ("tune", "compare", "register", "promote", "rollback", "verify", "serve", "monitor", "reproduce"):
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


def test_the_readme_stays_a_front_page() -> None:
    assert len(PAGES["README.md"].split()) <= 1000


def test_each_page_that_a_message_or_a_comment_names_is_there() -> None:
    places = ("pipelines", "training", "evaluation", "serving", "infra", "tests", ".github")
    paths = [path for place in places for path in (ROOT / place).rglob("*.*")]
    paths += [ROOT / name for name in ("Makefile", "params.yaml", "dvc.yaml", "MLproject")]
    texts = [path.read_text(encoding="utf-8") for path in paths if path.suffix in {"", ".py", ".yml", ".yaml"}]
    named = set(re.findall(r"\bdocs/[\w/-]+\.md\b", "\n".join(texts)))
    assert len(named) > 3
    assert not [each for each in sorted(named) if not (ROOT / each).is_file()]
