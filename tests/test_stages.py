"""What would let DVC call a result up to date although its code is another, or a demo leave a task out or download."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines import stage_names
from pipelines.code_closure import closure
from pipelines.params import TuneTransfer, read_params
from pipelines.stage_names import demo_targets

ROOT = Path(__file__).parents[1]
ROOMS = ("pipelines", "training", "evaluation", "serving")
PARAMS = read_params(ROOT / "params.yaml")
LOOPS = {name: each for name, each in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].items() if "do" in each}
STAGES: dict[str, dict[str, Any]] = {name: stage["do"] for name, stage in LOOPS.items()}
# Stages before one that leave another receipt, an MLflow run's id, whenever they run; it need not list what they do.
RUNS_BEFORE = {"evaluate": ["fit"], "leaderboard": ["fit", "evaluate"]}


@cache
def entries(stage: str, architecture: str) -> dict[str, set[str]]:
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


@cache
def closed(module: str, task: str, architectures: tuple[str, ...]) -> frozenset[str]:
    return frozenset(closure(module, task=PARAMS.task(task), architectures=architectures))


def code(module: str, key: str, *, baseline: bool = False) -> frozenset[str]:
    """Return the files that a module runs for a model in params.yaml; tasks of one kind run the same."""
    model, kinds = PARAMS.models[key], {name: (task.modality, task.problem) for name, task in PARAMS.tasks.items()}
    alike = next(name for name, kind in kinds.items() if kind == kinds[model.task])
    names = {model.architecture, *([PARAMS.task(model.task).evaluate.baseline] if baseline else [])}
    return closed(module, alike, () if module.startswith("pipelines.") else tuple(sorted(names)))


def run(stage: str, key: str) -> frozenset[str]:
    _, _, module, *_ = STAGES[stage]["cmd"].split()
    return code(module, key, baseline=stage == "fit")


def missing(stage: str, key: str, *, leave_out: str = "nothing") -> set[str]:
    """Return what a stage runs and could change without a new run of the stage."""
    stages, architecture = [stage, *RUNS_BEFORE.get(stage, [])], PARAMS.models[key].architecture
    watched = {file for each in stages for file in listed(each, architecture) if not file.startswith(leave_out)}
    if stage == "fit" or stage in RUNS_BEFORE:  # what `tune` leaves for them changes with the name of its study
        watched |= code("training.studies.study", key)
    return set(run(stage, key) - watched)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_runs_again_when_code_that_it_runs_is_another(stage: str) -> None:
    assert {key: found for key in PARAMS.models if (found := missing(stage, key))} == {}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_lists_nothing_that_it_does_not_run(stage: str) -> None:
    needed = set().union(*(run(stage, key) for key in PARAMS.models))
    assert [entry for entry, files in entries(stage, "mlp").items() if not files & needed] == []


@pytest.mark.parametrize(
    ("stage", "left_out"),
    [
        ("prepare", "pipelines/split.py"),
        ("audit", "pipelines/samples"),
        ("tune", "training/device.py"),
        ("tune", "training/features"),
        ("fit", "training/model/novelty.py"),
        ("fit", "training/architectures/mean_effects.py"),
        ("evaluate", "evaluation/explain"),
    ],
)
def test_what_is_left_out_is_found(stage: str, left_out: str) -> None:
    found = missing(stage, "drug_response-mlp", leave_out=left_out)
    assert found and all(name.startswith(left_out) for name in found)


def test_no_stage_imports_by_a_name_that_cannot_be_followed() -> None:
    """But for Ray's workers, which import the command that they are part of."""
    every = set().union(*(run(stage, key) for stage in STAGES for key in PARAMS.models))
    of_unknown = re.compile(r"import_module\((?!f?\"(\{__name__\}|[a-z])[\w.]*\.)")
    found = {name for name in every if of_unknown.search((ROOT / name).read_text(encoding="utf-8"))}
    assert found == {"training/studies/cluster.py"}


def test_every_target_of_the_makefile_is_a_stage(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {"${tasks}": list(PARAMS.tasks), "${models}": list(PARAMS.models)}
    stages = {f"{name}@{key}" for name, stage in LOOPS.items() for key in keys[stage["foreach"]]}
    monkeypatch.chdir(ROOT)
    for which in ("--demo", "--leaderboards"):
        assert f"python -m pipelines.stage_names {which})" in (ROOT / "Makefile").read_text()
        monkeypatch.setattr("sys.argv", ["stage_names", which])
        assert stage_names.main() == 0
        (line,) = capsys.readouterr().out.splitlines()  # a shell takes it as arguments
        names = line.split()
        assert names and set(names) <= stages and len(set(names)) == len(names)


def test_no_model_of_the_demo_has_to_download_its_weights() -> None:
    packaged = {"random_forest", "xgboost", "majority_class", "efficientnet_lite0"}
    for key, model in PARAMS.models.items():
        tune = PARAMS.tasks[model.task].tune
        if model.demo and isinstance(tune, TuneTransfer) and tune.weights != "none":
            assert model.architecture in packaged, key
        assert (f"evaluate@{key}" in demo_targets(PARAMS)) == model.demo


def test_the_demo_covers_every_task_from_its_checks_to_a_model_beside_the_baseline() -> None:
    names = demo_targets(PARAMS)
    for task, decided in PARAMS.tasks.items():
        assert f"validate@{task}" in names and f"audit@{task}" in names
        shown = {name for name in PARAMS.architectures(task) if f"evaluate@{task}-{name}" in names}
        assert decided.evaluate.baseline in shown and len(shown) > 1, task
        assert f"leaderboard@{task}" not in names  # it depends on all models, those that need a download too
