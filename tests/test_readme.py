"""What the README tells people to type has to be there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
README, MAKEFILE = ((ROOT / name).read_text() for name in ("README.md", "Makefile"))
ENTRY_POINTS = yaml.safe_load((ROOT / "MLproject").read_text())["entry_points"]
INSTEAD = {"train": ("tune", "fit", "evaluate")}  # what MLflow has in the place of a verb that is DVC's


def ten_commands() -> list[tuple[str, dict[str, str]]]:
    """Return verb and variables of each line of the README's block."""
    block = re.search(r"in ten commands\n+```\n(.*?)```", README, re.DOTALL)
    assert block is not None
    found = []
    for number, line in enumerate(block[1].splitlines(), start=1):
        match = re.fullmatch(r"make ([a-z]+)((?: [A-Z]+=(?:\"[^\"]*\"|\S+))*) +# +(\d+)  \S.*", line)
        assert match is not None, line
        assert int(match[3]) == number
        found.append((match[1], dict(re.findall(r"([A-Z]+)=(\"[^\"]*\"|\S+)", match[2]))))
    return found


def test_there_are_ten() -> None:
    assert len(ten_commands()) == 10


@pytest.mark.parametrize(("verb", "given"), ten_commands())
def test_each_is_a_verb_that_takes_these_variables(verb: str, given: dict[str, str]) -> None:
    rule = re.search(rf"^{verb}: \$\(READY\) ## (.*)\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
    assert rule is not None, f"the Makefile has no {verb}"
    told, recipe = rule.groups()
    for name in given:
        assert f"{name}=" in told, f"make help does not tell of {name} for {verb}"
        assert re.search(rf"\$\$?[({{]?{name}\b|\$\(value {name}\)", recipe), f"{verb} makes nothing of {name}"


@pytest.mark.parametrize("verb", [verb for verb, _ in ten_commands()])
def test_each_is_an_entry_point_of_mlflow_too(verb: str) -> None:
    assert set(INSTEAD.get(verb, (verb,))) <= set(ENTRY_POINTS)
    assert "All are entry points of `mlflow run .`, too; `train` is `tune`, `fit` and `evaluate` there." in README


def test_what_make_hands_to_a_verb_mlflow_can_hand_to_it_too() -> None:
    """Of both the words are read off: a variable of one that the other lacks was forgotten."""
    for verb in ("tune", "compare", "register", "promote", "rollback", "verify", "serve", "monitor", "reproduce"):
        recipe = re.search(rf"^{verb}: .*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
        assert recipe is not None
        made = set(re.findall(r"--([a-z-]+)", recipe[1])) - {"sha256"}
        assert made == set(re.findall(r"--([a-z-]+)", ENTRY_POINTS[verb]["command"])), verb
