"""What would let DVC call a result up to date although the code that made it is another now."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.code_closure import WITHOUT_RESULT, closure
from pipelines.params import read_params
from training.architectures import names

ROOT = Path(__file__).parents[1]
ROOMS = ("pipelines", "training", "evaluation", "serving")
BASELINES = sorted({task.evaluate.baseline for task in read_params(ROOT / "params.yaml").tasks.values()})
STAGES: dict[str, dict[str, Any]] = {
    name: stage["do"] for name, stage in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].items()
}
# What else a stage runs: modules that it imports by a name that is made at run time.
BY_NAME = {
    "validate": [f"pipelines.expectations.{kind}" for kind in ("expression", "images", "response")],
    "tune": ["training.architectures.{}"],
    "fit": [f"training.architectures.{name}" for name in ("{}", *BASELINES)],
    "evaluate": ["training.architectures.{}"],
}
# Where stages do so. The contracts are imported by others too; Ray's workers import the command that they are part of.
IMPORTS_BY_NAME = {
    "pipelines/validate.py",
    "training/architectures/__init__.py",
    "training/contracts/__init__.py",
    "training/studies/cluster.py",
}
# Stages before one that leave another receipt, an MLflow run's id, whenever they run; it need not list what they do.
RUNS_BEFORE = {"evaluate": ["fit"], "leaderboard": ["fit", "evaluate"]}


def entries(stage: str, architecture: str) -> dict[str, set[str]]:
    """Return the code that the stage of an architecture lists: entry to files."""
    found = {}
    for written in STAGES[stage]["deps"]:
        path = ROOT / written.replace("${item.architecture}", architecture)
        if path.relative_to(ROOT).parts[0] in ROOMS:
            assert path.exists(), f"{stage} depends on {written}, which is not there"
            files = path.rglob("*") if path.is_dir() else [path]
            found[written] = {file.relative_to(ROOT).as_posix() for file in files}
    return found


def listed(stage: str, architecture: str) -> set[str]:
    return set().union(*entries(stage, architecture).values())


def run(stage: str, architecture: str) -> set[str]:
    """Return the files that the stage of an architecture runs."""
    _, _, module, *_ = STAGES[stage]["cmd"].split()
    return set(closure(module, *(name.format(architecture) for name in BY_NAME.get(stage, []))))


def missing(stage: str, architecture: str, *, leave_out: str = "nothing") -> set[str]:
    """Return what a stage runs and could change without a new run of the stage."""
    watched = listed(stage, architecture).union(*(listed(name, architecture) for name in RUNS_BEFORE.get(stage, [])))
    watched = {file for file in watched if not file.startswith(leave_out)}
    if stage == "fit" or stage in RUNS_BEFORE:  # what `tune` leaves for them changes with the name of its study
        watched |= set(closure("training.studies.study", f"training.architectures.{architecture}"))
    return run(stage, architecture) - watched


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_runs_again_when_code_that_it_runs_is_another(stage: str) -> None:
    architectures = names() if "architecture" in STAGES[stage]["cmd"] else ["mlp"]
    assert {name: found for name in architectures if (found := missing(stage, name))} == {}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_lists_nothing_that_it_does_not_run(stage: str) -> None:
    architectures = names() if "architecture" in STAGES[stage]["cmd"] else ["mlp"]
    needed = set().union(*(run(stage, name) for name in architectures))
    assert [entry for entry, files in entries(stage, "mlp").items() if not files & needed] == []


@pytest.mark.parametrize(
    ("stage", "left_out"),
    [
        ("prepare", "pipelines/split.py"),
        ("audit", "pipelines/samples"),
        ("tune", "training/memory.py"),
        ("tune", "training/features"),
        ("fit", "training/model/novelty.py"),
        ("fit", "training/architectures/mean_effects.py"),
        ("evaluate", "evaluation/explain"),
        ("evaluate", "pipelines/nuisances"),
    ],
)
def test_what_is_left_out_is_found(stage: str, left_out: str) -> None:
    found = missing(stage, "mlp", leave_out=left_out)
    assert found and all(name.startswith(left_out) for name in found)


def test_what_stages_import_by_name_is_known_here() -> None:
    """No closure holds it: add it to `BY_NAME`, and to the entries of the closures in the code."""
    every = set().union(*(run(stage, name) for stage in STAGES for name in names()))
    assert {name for name in every if "import_module(" in (ROOT / name).read_text(encoding="utf-8")} == IMPORTS_BY_NAME


def test_what_is_said_to_have_no_result_is_there() -> None:
    files = {name: ROOT.joinpath(*name.split(".")) for name in WITHOUT_RESULT}
    assert [name for name, path in files.items() if not path.with_suffix(".py").is_file() and not path.is_dir()] == []
