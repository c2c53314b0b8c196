"""A task is a modality and a problem, and nothing but their own modules decides by which it is: a walk of all code."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.problems import problem_names
from pipelines.tasks import task_types

ROOT = Path(__file__).parents[1]
ROOMS = ("pipelines", "training", "evaluation", "serving")
# Where a modality or a problem speaks for itself: a module of its name.
MODALITIES = {modality for modality, _ in task_types()}
KINDS = MODALITIES | set(problem_names()) | {"_".join(kind) for kind in task_types()}


def own(path: Path) -> bool:
    """Whether a file is a module of a modality, a problem, or both."""
    return any(path.stem == kind or path.stem.startswith(f"{kind}_") for kind in KINDS)


def is_of_a_kind(name: str) -> bool:
    """Whether a class is one of tasks, contracts or samples."""
    parts = ("Task", "Contract", "Samples", "Classification", "Regression", "MultiTarget")
    return name.endswith(parts) and name not in ("Task", "Contract")


def decisions(source: str) -> Iterator[tuple[int, str]]:
    """Return line and text of what decides by a modality, a problem or a class of either."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("isinstance", "type"):
            names = [each.id for part in node.args[1:] for each in ast.walk(part) if isinstance(each, ast.Name)]
            told = ast.unparse(node)
            if any(map(is_of_a_kind, names)) or (node.func.id == "type" and told in _TYPES):
                yield node.lineno, told
        elif isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            asked = [each for each in sides if isinstance(each, ast.Attribute) and each.attr in ("modality", "problem")]
            if asked and any(isinstance(each, (ast.Constant, ast.Tuple, ast.Set, ast.List)) for each in sides):
                yield node.lineno, ast.unparse(node)
        elif isinstance(node, ast.Dict):
            keys = {each.value for each in node.keys if isinstance(each, ast.Constant)}
            if len(keys & KINDS) > 1 or (keys & MODALITIES and keys <= KINDS):
                yield node.lineno, ast.unparse(node)[:80]


_TYPES = ("type(task)", "type(contract)", "type(samples)")


def test_only_the_modules_of_a_modality_or_a_problem_decide_by_it() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {told}"
        for room in ROOMS
        for path in sorted((ROOT / room).rglob("*.py"))
        if not own(path)
        for line, told in decisions(path.read_text(encoding="utf-8"))
    ]
    assert found == []


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("if isinstance(task, ProfilesTask): pass", 1),
        ("assert isinstance(samples, (ImageSamples, ResponseSamples))", 1),
        ("x = isinstance(task, PairsClassification)", 1),
        ("made = {'images': 1, 'pairs': 2}", 1),
        ("if type(task) is PairsTask: pass", 1),
        ("if task.problem == 'classification': pass", 1),
        ("if task.modality in ('images', 'pairs'): pass", 1),
        ("isinstance(error, DataError), task.modality == samples.modality, {'images': 1, 'rows': 2}", 0),
    ],
)
def test_a_decision_elsewhere_is_found(source: str, count: int) -> None:
    assert len(list(decisions(source))) == count
