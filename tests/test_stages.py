"""What would let DVC call a result up to date although its code is another, or a demo leave a task out or download."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.code_closure import closure
from pipelines.errors import UserError
from pipelines.params import TuneTransfer, read_params
from serving import demo

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


def test_no_model_of_the_demo_has_to_download_its_weights() -> None:
    packaged = {"random_forest", "xgboost", "majority_class", "efficientnet_lite0"}
    for key, model in PARAMS.models.items():
        tune = PARAMS.tasks[model.task].tune
        if model.demo and isinstance(tune, TuneTransfer) and tune.weights != "none":
            assert model.architecture in packaged, key
        assert (key in demo.models(PARAMS)) == model.demo


def test_the_demo_runs_every_stage_of_each_task_after_those_that_it_needs() -> None:
    ran: list[str] = []
    demo.run_all(PARAMS, lambda name, stages: ran.extend(stages) or True)
    keys = {"${tasks}": PARAMS.tasks, "${models}": demo.models(PARAMS)}
    needed = {f"{name}@{key}" for name, stage in LOOPS.items() for key in keys[stage["foreach"]]}
    assert set(ran) == {"budget", *needed} and len(ran) == len(set(ran))
    place = {stage: at for at, stage in enumerate(ran)}
    for task, decided in PARAMS.tasks.items():
        own = [f"{task}-{name}" for name in PARAMS.architectures(task) if f"{task}-{name}" in demo.models(PARAMS)]
        assert f"{task}-{decided.evaluate.baseline}" in own and len(own) > 1, task
        for key in own:
            chain = ["budget", *(f"{stage}@{task}" for stage in ("validate", "audit", "prepare"))]
            chain += [*(f"{stage}@{key}" for stage in ("tune", "fit", "evaluate")), f"leaderboard@{task}"]
            assert sorted(chain, key=place.__getitem__) == chain


def test_a_chain_of_the_demo_that_fails_leaves_out_what_follows_and_is_named() -> None:
    ran: list[str] = []
    with pytest.raises(UserError, match=r"above: tumor_type, drug_response-mlp$"):
        demo.run_all(PARAMS, lambda name, _: ran.append(name) or name not in ("tumor_type", "drug_response-mlp"))
    left_out = {"tumor_type-resnet50", "leaderboard of tumor_type", "leaderboard of drug_response"}
    assert not left_out & set(ran) and {"drug_response-mean_effects", "leaderboard of blood_cell"} <= set(ran)
