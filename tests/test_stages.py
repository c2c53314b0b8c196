"""What would let DVC call a result up to date although the code that made it is another now."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.params import read_params
from training import code
from training.architectures import names

ROOT = Path(__file__).parents[1]
ROOMS = ("pipelines", "training", "evaluation", "serving")
_WRITTEN = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
STAGES: dict[str, dict[str, Any]] = {name: stage["do"] for name, stage in _WRITTEN.items()}
FOREACH: dict[str, str] = {name: stage["foreach"] for name, stage in _WRITTEN.items()}

# How a command is started, told and interrupted, and how its answers are read from params.yaml, whose values DVC
# watches one by one: another way to do that makes no other result.
NO_RESULT_OF_IT = {
    f"pipelines/{name}.py"
    for name in (
        "command",
        "environment",
        "faults",
        "files",
        "params",
        "params_checks",
        "retry",
        "places",
        "policy",
        "redaction",
        "report",
        "step_metrics",
        "store_errors",
        "tracking",
        "typed_yaml",
    )
}


@cache
def file_of(module: str) -> Path | None:
    """Return the file of a module of ours."""
    if module.split(".")[0] not in ROOMS:
        return None
    path = ROOT.joinpath(*module.split("."))
    files = path.with_suffix(".py"), path / "__init__.py"
    return next((file for file in files if file.is_file()), None)


@cache
def imported(file: Path) -> frozenset[Path]:
    """Return our files that one imports, wherever it does so, but for types alone."""
    found: set[Path | None] = set()
    nodes: list[ast.AST] = [ast.parse(file.read_text(encoding="utf-8"))]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        if isinstance(node, ast.Import):
            found |= {file_of(alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {file_of(node.module)} | {file_of(f"{node.module}.{alias.name}") for alias in node.names}
        nodes += ast.iter_child_nodes(node)
    return frozenset(path for path in found if path)


def reached(files: Iterable[Path]) -> set[Path]:
    """Return the files, and all of ours that they import, and those import."""
    found: set[Path] = set()
    left = set(files)
    while left:
        file = left.pop()
        found.add(file)
        left |= imported(file) - found
    return found


def listed(stage: str, architecture: str) -> set[Path]:
    """Return the files of our code that the stage of an architecture depends on."""
    found: set[Path] = set()
    for written in STAGES[stage]["deps"]:
        path = ROOT / written.replace("${item.architecture}", architecture)
        if path.relative_to(ROOT).parts[0] in ROOMS:
            assert path.exists(), f"{stage} depends on {written}, which is not there"
            found |= set(path.rglob("*.py")) if path.is_dir() else {path}
    return found


def before(stage: str) -> set[str]:
    """Return the stages that a stage waits for."""
    wanted = [path.strip('"') for path in STAGES[stage]["deps"]]
    makers = set()
    for name, other in STAGES.items():
        made = [next(iter(out)) if isinstance(out, dict) else out for out in other["outs"]]
        plain = [path.replace("item.task", "key") for path in made]
        for path in wanted:
            path = path.replace("item.task", "key")
            if name != stage and any(out == path or out.startswith(f"{path}/") for out in plain):
                makers.add(name)
    return makers.union(*(before(name) for name in makers))


def started(stage: str) -> Path:
    _, _, module, *_ = STAGES[stage]["cmd"].split()
    file = file_of(module)
    assert file is not None, module
    return file


def missing(stage: str, architecture: str = "mlp", *, leave_out: str = "") -> set[str]:
    """Return what a stage runs that neither it nor a stage before it depends on."""
    watched = listed(stage, architecture).union(*(listed(name, architecture) for name in before(stage)))
    watched = {file for file in watched if not leave_out or not file.is_relative_to(ROOT / leave_out)}
    names = {
        str(file.relative_to(ROOT))
        for file in reached({started(stage), *listed(stage, architecture)}) - watched
        if says(file)
    }
    return names - NO_RESULT_OF_IT


def says(file: Path) -> bool:
    """Whether there is more in a file than its docstring."""
    return len(ast.parse(file.read_text(encoding="utf-8")).body) > 1


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_runs_again_when_code_that_it_runs_is_another(stage: str) -> None:
    architectures = names() if "models" in FOREACH[stage] else ["mlp"]
    assert {name: found for name in architectures if (found := missing(stage, name))} == {}


def test_a_fit_runs_again_when_its_baseline_is_another() -> None:
    """Else its margin would stay that over the baseline of before, beside the new one's own row."""
    tasks = read_params(ROOT / "params.yaml").tasks.values()
    baselines = {ROOT / "training" / "architectures" / f"{task.evaluate.baseline}.py" for task in tasks}
    assert len(baselines) > 2 and baselines <= listed("fit", "mlp")


@pytest.mark.parametrize(
    ("stage", "left_out"),
    [
        ("prepare", "pipelines/split.py"),
        ("audit", "pipelines/samples"),
        ("tune", "training/memory.py"),
        ("tune", "training/features"),
        ("fit", "training/model/novelty.py"),
        ("evaluate", "evaluation/explain"),
    ],
)
def test_what_is_left_out_is_found(stage: str, left_out: str) -> None:
    found = missing(stage, leave_out=left_out)
    assert found and all(Path(name).is_relative_to(left_out) for name in found)


def test_what_is_said_to_have_no_result_is_there() -> None:
    assert {name for name in NO_RESULT_OF_IT if not (ROOT / name).is_file()} == set()


def test_all_that_a_trial_runs_is_watched_by_its_own_stage() -> None:
    """The split of a changed reader may be the one before, so that `prepare`, run again, changes nothing."""
    rooms = {
        path
        for room in ("features", "networks", "trees", "architectures")
        for path in (ROOT / "training" / room).rglob("*.py")
    }
    run = {path for path in reached(rooms) if path.is_relative_to(ROOT / "training") or "samples" in path.parts}
    watched: set[Path] = set().union(*(listed("tune", name) for name in names()))
    assert {str(path.relative_to(ROOT)) for path in run - watched if says(path)} == set()


@pytest.mark.parametrize("architecture", names())
def test_all_that_a_trial_runs_names_its_study(architecture: str) -> None:
    """Else a study that was broken off goes on with other code, and its trials are no longer of one kind."""
    own = file_of(f"training.architectures.{architecture}")
    assert own is not None
    run = {path for path in reached({own}) if path.is_relative_to(ROOT / "training") or "samples" in path.parts}
    assert {str(path.relative_to(ROOT)) for path in run.difference(code.of_study(architecture))} == set()


def test_stages_that_follow_are_known() -> None:
    assert before("leaderboard") == {"validate", "audit", "prepare", "tune", "fit", "evaluate"}
    assert before("validate") == set()
