"""What would waste or fake a study: trials lost with a killed process, two questions in one study, a broken trial."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partialmethod
from pathlib import Path
from typing import Any, Self

import mlflow
import numpy as np
import optuna
import pandas as pd
import psutil
import pytest
from optuna.trial import TrialState

from pipelines import code_closure, tracking
from pipelines.datasets import Prepared
from pipelines.errors import UserError
from pipelines.params import Params
from pipelines.samples.response import ResponseSamples
from tests.training.tiny import NAME, ROOT, tiny_params, with_task
from training.architectures import Architecture, get_architecture
from training.estimator import Estimator, FitContext
from training.studies import trial_queue
from training.studies.storage import storage_url
from training.studies.study import Tuned, study_name, tune
from training.studies.trials import TRIAL_ORIGIN, settle_runs

# A network whose third trial hangs after its second epoch, until it is killed.
SCRIPT = """
import dataclasses, json, os, sys, time
from pathlib import Path

from tests.training.tiny import NAME, tiny_params, tiny_prepared
from training.architectures import Architecture
from training.architectures.mlp import MLP
from training.studies.study import tune


@dataclasses.dataclass(eq=False, repr=False, kw_only=True)
class Slow(MLP):
    dropout: float = 0.25
    learning_rate: float = 1e-3
    units: int = 8

    def fit(self, train, validation=None, context=None):
        inner = context.on_step

        def on_step(step, metrics):
            with open("steps.jsonl", "a") as file:
                print(json.dumps([self.dropout, step]), file=file)
            started = {json.loads(line)[0] for line in Path("steps.jsonl").read_text().splitlines()}
            inner(step, metrics)
            if "hang" in sys.argv and len(started) == 3 and step == 1:
                Path("hanging").touch()
                time.sleep(600)

        return super().fit(train, validation, dataclasses.replace(context, on_step=on_step))


def space(trial, settings):
    return {
        "dropout": trial.suggest_float("dropout", 0.0, 0.5),
        "learning_rate": trial.suggest_float("learning_rate", 1e-4, 5e-3, log=True),
        "units": trial.suggest_categorical("units", [8, 16]),
    }


slow = Architecture("slow", "pairs", "regression", Slow, space)
prepared = tiny_prepared(Path("data") / NAME)
tuned = tune(NAME, slow, prepared, tiny_params(trials=5, epochs=4), progress=False)
Path("tuned.json").write_text(json.dumps(dataclasses.asdict(tuned)))
"""


class Told(Estimator):
    """Does as ``Told.plan`` says in each trial, and remembers what it was given."""

    plan: Callable[[int, FitContext], float] = staticmethod(lambda trial, context: 0.0)
    given: list[tuple[ResponseSamples, ResponseSamples]]

    def __init__(self, level: float = 0.5) -> None:
        self.level = level

    def fit(
        self,
        train: ResponseSamples,
        validation: ResponseSamples | None = None,
        context: FitContext | None = None,
    ) -> Self:
        assert validation is not None
        assert context is not None
        self.given.append((train, validation))
        self.error_ = type(self).plan(len(self.given) - 1, context)
        return self

    def predict(self, samples: ResponseSamples) -> np.ndarray:
        return samples.target + self.error_

    def state(self) -> dict[str, Any]:
        return {}

    def restore(self, state: dict[str, Any]) -> Self:
        return self


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Architecture:
    Told.given = []
    monkeypatch.setattr(Told, "plan", staticmethod(lambda trial, context: 1.0 + trial))
    return Architecture(
        "told",
        "pairs",
        "regression",
        Told,
        lambda trial, settings: {"level": trial.suggest_float("level", 0, 1)},
    )


def _trials(url: str) -> list[optuna.trial.FrozenTrial]:
    (summary,) = optuna.get_all_study_summaries(url)
    return optuna.load_study(study_name=summary.study_name, storage=url).get_trials(deepcopy=True)


def _runs() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the parent runs and the child runs of the task's experiment."""
    runs = mlflow.search_runs(experiment_names=[NAME], output_format="pandas")
    assert isinstance(runs, pd.DataFrame)
    if "tags.mlflow.parentRunId" not in runs:
        runs["tags.mlflow.parentRunId"] = None
    child = runs["tags.mlflow.parentRunId"].notna()
    return runs[~child], runs[child]


# A process that is killed


def test_a_killed_study_goes_on_where_it_was(tmp_path: Path, store: str) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

    def run(*arguments: str) -> subprocess.Popen[bytes]:
        log = (tmp_path / "log.txt").open("ab")
        return subprocess.Popen(
            [sys.executable, "script.py", *arguments], cwd=tmp_path, env=environment, stdout=log, stderr=log
        )

    def log() -> str:
        return (tmp_path / "log.txt").read_text()[-3000:]

    process = run("hang")
    until = time.monotonic() + 120
    while not (tmp_path / "hanging").is_file() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    assert process.wait(10) == -signal.SIGKILL, log()
    before = _trials(storage_url())
    assert [trial.state for trial in before] == [TrialState.COMPLETE, TrialState.COMPLETE, TrialState.RUNNING]
    assert before[0].params == {"dropout": 0.25, "learning_rate": 1e-3, "units": 8}, "the defaults come first"
    broken = before[2]
    steps_before = (tmp_path / "steps.jsonl").read_text().splitlines()

    assert run().wait(120) == 0, log()
    after = _trials(storage_url())
    assert Counter(trial.state for trial in after) == {TrialState.COMPLETE: 5, TrialState.FAIL: 1}
    for kept, trial in zip(before[:2], after[:2], strict=True):
        assert (trial.params, trial.value, trial.datetime_complete) == (kept.params, kept.value, kept.datetime_complete)
    assert after[2].state == TrialState.FAIL
    again = after[3]
    assert again.params == broken.params
    assert again.user_attrs["mlflow_run_id"] == broken.user_attrs["mlflow_run_id"]
    complete = [trial for trial in after if trial.state == TrialState.COMPLETE]
    assert len({json.dumps(trial.params) for trial in complete}) == 5, "a sampler that starts anew draws anew"

    # Epoch 0 of the broken trial was not trained again, nor epoch 1, unless it was killed before that was saved.
    steps = [json.loads(line) for line in (tmp_path / "steps.jsonl").read_text().splitlines()[len(steps_before) :]]
    told = [step for dropout, step in steps if dropout == broken.params["dropout"]]
    assert told in ([2, 3], [1, 2, 3])
    assert sorted(again.intermediate_values) == told, "it is compared with others at the same age"
    assert not list((tmp_path / "checkpoints").rglob("*.pt"))

    parents, children = _runs()
    assert parents["status"].tolist() == ["FINISHED"]
    assert children["status"].tolist() == ["FINISHED"] * 5
    assert set(children["run_id"]) == {trial.user_attrs["mlflow_run_id"] for trial in complete}
    assert set(children["tags.mlflow.parentRunId"]) == set(parents["run_id"])
    logged = children.set_index("run_id")["metrics.validation_rmse"]
    for trial in complete:
        assert logged[trial.user_attrs["mlflow_run_id"]] == pytest.approx(trial.value)

    tuned = json.loads((tmp_path / "tuned.json").read_text())
    best = min(complete, key=lambda trial: trial.value or np.inf)
    assert (tuned["trials"], tuned["value"], tuned["hyperparameters"]) == (5, best.value, best.params)
    assert tuned["run_id"] == parents["run_id"].iloc[0]


def test_a_finished_study_is_not_run_again(told: Architecture, prepared: Prepared, params: Params, store: str) -> None:
    first = tune(NAME, told, prepared, params, progress=False)
    assert len(Told.given) == first.trials == 3
    second = tune(NAME, told, prepared, params, progress=False)
    assert second == first
    assert len(Told.given) == 3
    parents, children = _runs()
    assert (len(parents), len(children)) == (1, 3)
    assert set(parents["status"]) == {"FINISHED"}


def test_only_the_trials_of_dead_workers_are_run_again(told: Architecture, tmp_path: Path) -> None:
    study = optuna.create_study()
    dead = subprocess.Popen(["true"])
    dead.wait()
    mine, host = trial_queue.worker(), socket.gethostname()
    began = psutil.Process().create_time()
    workers = {
        "alive": mine,
        "dead": f"{host}|{dead.pid}|1",
        "another process of that number": f"{host}|{os.getpid()}|{began - 1000:.0f}",
        "on another machine": f"another-{host}|{dead.pid}|1",
        "claimed by nobody": None,
    }
    for name, who in workers.items():
        trial = study.ask({"level": optuna.distributions.FloatDistribution(0, 1)})
        trial.set_user_attr("name", name)
        trial.set_user_attr("mlflow_run_id", f"run of {name}")
        if who is not None:
            trial.set_user_attr("worker", who)
    trial_queue.requeue_orphans(study)
    states = {trial.user_attrs["name"]: trial.state for trial in study.trials[: len(workers)]}
    failed = [name for name, state in states.items() if state == TrialState.FAIL]
    # Under the lock a trial without a name is one whose worker died in the midst of claiming it.
    assert failed == ["dead", "another process of that number", "claimed by nobody"]
    failed.remove("claimed by nobody")
    assert {states["alive"], states["on another machine"]} == {TrialState.RUNNING}
    for broken, name in zip((study.trials[1], study.trials[2]), failed, strict=True):
        again = study.ask()
        again.set_user_attr("worker", mine)
        assert again.suggest_float("level", 0, 1) == broken.params["level"]
        assert again.user_attrs["mlflow_run_id"] == f"run of {name}"
        assert again.user_attrs["origin"] == broken.number, "checkpoints are kept under the first number"
    trial_queue.requeue_orphans(study)
    assert len(study.trials) == len(workers) + len(failed), "what nobody began is drawn anew, and nothing twice"


# What a trial is judged on


@pytest.mark.parametrize("objective", ["validation", "cross_validation"])
def test_a_trial_never_sees_the_test_split(told: Architecture, prepared: Prepared, store: str, objective: str) -> None:
    params = tiny_params(trials=2, objective=objective)
    tuned = tune(NAME, told, prepared, params, progress=False)
    table = prepared.table.set_index("sample_id")
    folds = params.task(NAME).split.folds
    parts = 1 if objective == "validation" else folds
    assert len(Told.given) == 2 * parts
    judged: list[str] = []
    for train, held_out in Told.given[:parts]:
        one, other = table.loc[train.pairs["sample_id"]], table.loc[held_out.pairs["sample_id"]]
        assert not set(one["group"]) & set(other["group"])
        if objective == "validation":
            assert set(one["split"]) == {"train"}
            assert set(other["split"]) == {"validation"}
        else:
            assert "test" not in set(one["split"]) | set(other["split"])
            assert len(other["fold"].unique()) == 1
            assert len(one) + len(other) == (table["split"] != "test").sum()
        judged += list(held_out.pairs["sample_id"])
    sides = ["validation"] if objective == "validation" else ["train", "validation"]
    assert sorted(judged) == sorted(table.index[table["split"].isin(sides)])
    # The plan adds 1, 2, 3, ... to the target: the objective is the mean of the parts.
    assert tuned.value == pytest.approx(np.mean(np.arange(1, parts + 1)))


@pytest.mark.parametrize(("metric", "value"), [("rmse", 1.0), ("r2", 1.0)])
def test_the_best_trial_is_the_best_by_the_task_s_metric(
    told: Architecture,
    prepared: Prepared,
    store: str,
    monkeypatch: pytest.MonkeyPatch,
    metric: str,
    value: float,
) -> None:
    errors = [3.0, 1.0, 2.0] if metric == "rmse" else [3.0, 0.0, 2.0]
    monkeypatch.setattr(Told, "plan", staticmethod(lambda trial, context: errors[trial]))
    tuned = tune(NAME, told, prepared, tiny_params(trials=3, metric=metric), progress=False)
    assert tuned.value == pytest.approx(value)
    assert tuned.hyperparameters == _trials(storage_url())[1].params


def test_an_architecture_with_nothing_to_tune_is_tried_once(prepared: Prepared, params: Params, store: str) -> None:
    tuned = tune(NAME, get_architecture("mean_effects", "pairs", "regression"), prepared, params, progress=False)
    assert (tuned.trials, tuned.hyperparameters) == (1, {})


# Trials that end early


def test_a_pruned_trial_ends_its_run_and_leaves_no_checkpoint(
    told: Architecture, prepared: Prepared, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[int] = []

    def plan(trial: int, context: FitContext) -> float:
        assert context.checkpoint is not None
        context.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        context.checkpoint.touch()
        for step in range(20):
            steps.append(trial)
            assert context.on_step is not None
            context.on_step(step, {"validation_rmse": 1.0 if trial < 4 else 9.0, "train_loss": 0.5})
        return 1.0

    monkeypatch.setattr(Told, "plan", staticmethod(plan))
    tuned = tune(NAME, told, prepared, tiny_params(trials=6), progress=False)
    trials = _trials(storage_url())
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 4 + [TrialState.PRUNED] * 2
    assert Counter(steps) == {0: 20, 1: 20, 2: 20, 3: 20, 4: 9, 5: 9}
    assert tuned.trials == 6
    assert not list((Path.cwd() / "checkpoints").rglob("*.pt"))
    _, children = _runs()
    assert children["status"].tolist() == ["FINISHED"] * 6, "pruning is no failure"
    pruned = children.set_index("run_id")["tags.pruned"].notna()
    assert {run for run in pruned.index if pruned[run]} == {trial.user_attrs["mlflow_run_id"] for trial in trials[4:]}


@pytest.mark.parametrize("number", [0, 1])
def test_a_trial_that_diverges_does_not_end_the_study(
    told: Architecture, prepared: Prepared, params: Params, store: str, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(Told, "plan", staticmethod(lambda trial, context: np.nan if trial == number else 1.0 + trial))
    tuned = tune(NAME, told, prepared, params, progress=False)
    trials = _trials(storage_url())
    assert len(Told.given) == len(trials) == tuned.trials == 3
    assert trials[number].state == TrialState.PRUNED
    assert tuned.value == pytest.approx(2.0 if number == 0 else 1.0)
    _, children = _runs()
    assert children["status"].tolist() == ["FINISHED"] * 3


def test_a_study_without_a_single_good_trial_says_so(
    told: Architecture, prepared: Prepared, params: Params, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Told, "plan", staticmethod(lambda trial, context: np.nan))
    with pytest.raises(UserError, match="none of 3 trials gave finite predictions"):
        tune(NAME, told, prepared, params, progress=False)


def test_a_fault_in_the_code_is_not_swallowed(
    told: Architecture, prepared: Prepared, params: Params, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def plan(trial: int, context: FitContext) -> float:
        if trial == 1:
            raise ZeroDivisionError
        return 1.0

    monkeypatch.setattr(Told, "plan", staticmethod(plan))
    with pytest.raises(ZeroDivisionError):
        tune(NAME, told, prepared, params, progress=False)
    parents, children = _runs()
    assert sorted(children["status"]) == ["FAILED", "FINISHED"]
    assert parents["status"].tolist() == ["FAILED"]
    tuned = tune(NAME, told, prepared, params, progress=False)
    assert tuned.trials == 3
    parents, _ = _runs()
    assert parents["status"].tolist() == ["FINISHED"]


# The runs of a study that is over


def _open_run(parent: str, origin: int) -> str:
    """Start a run of the trial that began as number ``origin`` and leave it open, as a killed worker does."""
    tags = {"mlflow.parentRunId": parent, TRIAL_ORIGIN: str(origin)}
    return mlflow.MlflowClient().create_run(tracking.experiment(NAME), tags=tags).info.run_id


def _ended_trial(study: optuna.Study, run: str, state: TrialState, origin: int | None = None) -> None:
    trial = study.ask()
    trial.set_user_attr(trial_queue.ORIGIN, trial.number if origin is None else origin)
    trial.set_user_attr(trial_queue.RUN_ID, run)
    study.tell(trial, 1.0 if state == TrialState.COMPLETE else None, state=state)


@pytest.fixture
def settled(store: str) -> dict[str, mlflow.entities.Run]:
    """Return, by what became of its trial, each run that was left open under a study that has been settled."""
    client, study = mlflow.MlflowClient(), optuna.create_study()
    parent = client.create_run(tracking.experiment(NAME)).info.run_id
    runs = {name: _open_run(parent, origin) for origin, name in enumerate(("given up", "complete", "pruned"))}
    for name, state in zip(runs, (TrialState.FAIL, TrialState.COMPLETE, TrialState.PRUNED), strict=True):
        _ended_trial(study, runs[name], state)
    runs["killed, then complete"] = _open_run(parent, 3)
    for state in (TrialState.FAIL, TrialState.COMPLETE):
        _ended_trial(study, runs["killed, then complete"], state, origin=3)
    # The server opened a run, its answer was lost, and the worker asked for another.
    runs["doubled"] = _open_run(parent, 1)
    runs["of no trial"] = _open_run(parent, 99)
    runs["of another study"] = _open_run("another", 0)
    settle_runs(study, NAME, parent)
    return {name: client.get_run(run) for name, run in runs.items()}


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("given up", "FAILED"),
        ("complete", "FINISHED"),
        ("pruned", "FINISHED"),
        ("killed, then complete", "FINISHED"),
        ("of no trial", "RUNNING"),
        ("of another study", "RUNNING"),
    ],
)
def test_a_run_that_was_left_open_gets_the_status_of_its_trial(
    settled: dict[str, mlflow.entities.Run], name: str, status: str
) -> None:
    assert (settled[name].info.status, settled[name].info.lifecycle_stage) == (status, "active")


def test_a_run_that_a_lost_answer_doubled_is_deleted(settled: dict[str, mlflow.entities.Run]) -> None:
    assert {name for name, run in settled.items() if run.info.lifecycle_stage == "deleted"} == {"doubled"}


def test_runs_on_every_page_are_settled_though_deleted_ones_move_the_pages(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, study, whole = mlflow.MlflowClient(), optuna.create_study(), mlflow.MlflowClient.search_runs
    parent = client.create_run(tracking.experiment(NAME)).info.run_id
    runs = [_open_run(parent, origin) for origin in range(5)]
    doubled = [_open_run(parent, 4) for _ in range(2)]  # the latest run is found first
    for run in runs:
        _ended_trial(study, run, TrialState.FAIL)
    monkeypatch.setattr(mlflow.MlflowClient, "search_runs", partialmethod(whole, max_results=2))
    settle_runs(study, NAME, parent)
    assert {client.get_run(run).info.status for run in runs} == {"FAILED"}
    assert {client.get_run(run).info.lifecycle_stage for run in doubled} == {"deleted"}


# The study's name


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the room in a copy of the code that `study_name` looks at."""
    for name in ("pipelines", "training"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(code_closure, "ROOT", tmp_path)
    return tmp_path / "training"


def _name(prepared: Prepared, params: Params) -> str:
    return study_name(NAME, get_architecture("mlp", "pairs", "regression"), prepared, params)


def _append(path: Path) -> None:
    with path.open("a") as file:
        file.write("ANOTHER = 1\n")


def test_another_architecture_does_not_change_the_study(prepared: Prepared, params: Params, room: Path) -> None:
    before = _name(prepared, params)
    _append(room / "architectures" / "xgboost.py")
    (room / "architectures" / "a_new_one.py").write_text("")
    _append(room / "model" / "novelty.py")  # nor does what only comes after it
    _append(room / "modalities" / "pairs.py")
    assert _name(prepared, params) == before


@pytest.mark.parametrize(
    "file",
    [
        "architectures/mlp.py",
        "architectures/__init__.py",
        "networks/loop.py",
        "features/cell_line.py",
        "studies/study.py",
        "estimator.py",
        "../pipelines/samples/response.py",
        "../pipelines/datasets.py",
    ],
)
def test_the_code_that_a_study_runs_changes_it(prepared: Prepared, params: Params, room: Path, file: str) -> None:
    before = _name(prepared, params)
    _append(room / file)
    assert _name(prepared, params) != before


def test_what_is_asked_changes_the_study(prepared: Prepared, params: Params, tmp_path: Path) -> None:
    task = params.task(NAME)
    (tmp_path / "data" / NAME).mkdir(parents=True)
    (tmp_path / "data" / NAME / "response.parquet").write_bytes(b"data")
    found = {"first": _name(prepared, params)}
    found["seed"] = _name(prepared, replace(params, seed=params.seed + 1))
    found["budget"] = _name(prepared, replace(params, budget="full"))
    found["split"] = _name(replace(prepared, sha256="another"), params)
    found["architecture"] = study_name(NAME, get_architecture("xgboost", "pairs", "regression"), prepared, params)
    others = {
        "metric": replace(task, tune=replace(task.tune, metric="r2")),
        "objective": replace(task, tune=replace(task.tune, objective="cross_validation")),
        "omics": replace(task, data=replace(task.data, omics=task.data.omics[:2])),
        "target": replace(task, data=replace(task.data, target="auc")),
        "missing": replace(task, data=replace(task.data, missing=replace(task.data.missing, tissue="drop"))),
    }
    for name, other in others.items():
        found[name] = _name(prepared, with_task(params, other))
    (tmp_path / "data" / NAME / "response.parquet").write_bytes(b"other data")
    found["data"] = _name(prepared, params)
    assert len(set(found.values())) == len(found), found


def test_what_is_not_asked_does_not_change_the_study(prepared: Prepared, params: Params) -> None:
    task = params.task(NAME)
    other = replace(task, evaluate=replace(task.evaluate, resamples=123))
    assert _name(prepared, with_task(params, other)) == _name(prepared, params)
    assert _name(prepared, replace(params, models={})) == _name(prepared, params)


def test_what_a_study_found_is_json(told: Architecture, prepared: Prepared, params: Params, store: str) -> None:
    tuned = tune(NAME, told, prepared, params, progress=False)
    assert Tuned(**json.loads(json.dumps(asdict(tuned)))) == tuned
