"""What would waste or falsify a study: trials lost with a process, two questions in one study, a broken trial."""

import json
import os
import re
import shlex
import signal
import socket
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, Self
from unittest.mock import Mock

import mlflow
import numpy as np
import optuna
import pandas as pd
import psutil
import pytest
import timm
import yaml
from optuna.trial import TrialState
from torch import nn

import pipelines.datasets
from pipelines import tracking
from pipelines.datasets import Prepared
from pipelines.errors import UserError
from pipelines.params import Params
from pipelines.samples.response import ResponseSamples
from tests.training import steps_worker
from tests.training.forked import begin, until
from tests.training.steps_worker import STEPS, count, steps_made
from tests.training.tiny import NAME, ROOT, tiny_params, with_task
from training import architectures
from training import tune as command
from training.architectures import Architecture, get_architecture
from training.backbone import Backbone
from training.estimator import Estimator, FitContext
from training.networks import cell_network
from training.search import allowed
from training.studies import study, trial_queue
from training.studies.storage import open_storage, storage_url
from training.studies.study import Tuned, study_name, tune
from training.studies.trials import TRIAL_ORIGIN, Objective, fit_settings, settle_runs

COMMAND = yaml.safe_load((ROOT / "MLproject").read_text())["entry_points"]["tune"]["command"]
PAGE = "docs/extend/architecture.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", (ROOT / PAGE).read_text(), re.DOTALL)


class Planned(Estimator):
    """Does as ``Planned.plan`` says in each trial, and records the samples that it was given."""

    plan: Callable[[int, FitContext], float]
    given: list[tuple[ResponseSamples, ResponseSamples]]

    def __init__(self, level: float = 0.5) -> None:
        self.level = level

    def fit(self, train: Any, validation: Any = None, context: FitContext | None = None) -> Self:
        assert validation is not None and context is not None
        self.given.append((train, validation))
        self.error_ = type(self).plan(len(self.given) - 1, context)
        return self

    def predict(self, samples: ResponseSamples) -> np.ndarray:
        return samples.target + self.error_


@pytest.fixture
def planned(prepared: Prepared, store: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Tuned]:
    """Return a function that tunes with fits that do as a plan says; else the error is the trial's number, from 1."""
    Planned.given = []
    space: Any = lambda trial, settings: {"level": trial.suggest_float("level", 0, 1)}  # noqa: E731
    architecture = Architecture("planned", "pairs", "regression", Planned, space)

    def run(plan: Any = lambda trial, context: 1.0 + trial, **tuning: Any) -> Tuned:
        monkeypatch.setattr(Planned, "plan", staticmethod(plan), raising=False)
        return tune(NAME, architecture, prepared, tiny_params(**tuning), progress=False)

    return run


def _trials(url: str) -> list[optuna.trial.FrozenTrial]:
    (summary,) = optuna.get_all_study_summaries(url)
    return optuna.load_study(study_name=summary.study_name, storage=url).get_trials(deepcopy=True)


def _runs() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the parent runs and the child runs of the task's experiment."""
    runs = mlflow.search_runs(experiment_names=[NAME], output_format="pandas")
    assert isinstance(runs, pd.DataFrame)
    child = runs["tags.mlflow.parentRunId"].notna()
    return runs[~child], runs[child]


# A process that is killed


def test_a_killed_study_goes_on_where_it_was(tmp_path: Path, store: str) -> None:
    process = begin(steps_worker.main, ["--budget", "5", "--seconds", "0.1"])
    until(lambda: [step for trial, step, _ in steps_made(tmp_path) if trial == "2"][1:], 120)
    process.kill()
    process.join(10)
    assert process.exitcode == -signal.SIGKILL
    before = _trials(storage_url())
    assert [trial.state for trial in before] == [TrialState.COMPLETE, TrialState.COMPLETE, TrialState.RUNNING]
    assert before[0].params == {"level": 0.5}, "the defaults come first"
    assert steps_worker.main(["--budget", "5", "--seconds", "0.1"]) == 0
    tuned, after = json.loads((tmp_path / "tuned.json").read_text()), _trials(storage_url())
    assert count(tuned["study"], storage_url(), 5, tuned["run_id"]) == {"done": 5}
    assert after[:2] == before[:2]
    broken, again = after[2:4]
    assert (broken.state, again.params) == (TrialState.FAIL, broken.params)
    assert again.user_attrs["mlflow_run_id"] == broken.user_attrs["mlflow_run_id"]
    complete = [trial for trial in after if trial.state == TrialState.COMPLETE]
    assert len({json.dumps(trial.params) for trial in complete}) == 5, "a sampler that starts anew draws anew"
    # One step at most is made again: the one whose checkpoint the kill came before.
    again_made = [step for trial, step, _ in steps_made(tmp_path) if trial == "2"]
    assert set(again_made) == set(range(STEPS)) and len(again_made) <= STEPS + 1
    assert not list((tmp_path / "checkpoints").rglob("*.pt"))

    parents, children = _runs()
    assert parents["status"].tolist() == ["FINISHED"] and len(children) == 5
    logged = children.set_index("run_id")["metrics.validation/rmse"].to_dict()
    assert logged == {trial.user_attrs["mlflow_run_id"]: pytest.approx(trial.value) for trial in complete}
    best = min(complete, key=lambda trial: trial.value or np.inf)
    assert (tuned["trials"], tuned["value"], tuned["run_id"]) == (5, best.value, parents["run_id"].iloc[0])
    assert tuned["hyperparameters"]["level"] == best.params["level"]


def test_a_finished_study_is_not_run_again(planned: Callable[..., Tuned]) -> None:
    first, second = planned(), planned()
    assert second == first == Tuned(**json.loads(json.dumps(asdict(first))))
    assert len(Planned.given) == first.trials == 3
    parents, children = _runs()
    assert (parents["status"].tolist(), len(children)) == (["FINISHED"], 3)


def test_only_the_trials_of_dead_workers_are_run_again() -> None:
    study = optuna.create_study(storage=open_storage(wait=False))
    mine, host, no_process = trial_queue.worker(), socket.gethostname(), 2**22 + 1
    workers = {
        "alive": mine,
        "dead": f"{host}|{no_process}|1",
        "another process of that number": f"{host}|{os.getpid()}|{psutil.Process().create_time() - 1000:.0f}",
        "on another machine": f"another-{host}|{no_process}|1",
        "claimed by nobody": None,
    }
    for name, who in workers.items():
        trial = study.ask({"level": optuna.distributions.FloatDistribution(0, 1)})
        trial.set_user_attr("mlflow_run_id", f"run of {name}")
        if who is not None:
            trial.set_user_attr("worker", who)
    trial_queue.requeue_orphans(study)
    # Under the lock a trial without a name is one whose worker died while it claimed it.
    running, fail = TrialState.RUNNING, TrialState.FAIL
    assert [trial.state for trial in study.trials[:5]] == [running, fail, fail, running, fail]
    for broken in study.trials[1:3]:
        again = study.ask()
        again.set_user_attr("worker", mine)
        assert again.suggest_float("level", 0, 1) == broken.params["level"]
        assert again.user_attrs["mlflow_run_id"] == broken.user_attrs["mlflow_run_id"]
        assert again.user_attrs["origin"] == broken.number, "checkpoints are kept under the first number"
    trial_queue.requeue_orphans(study)
    assert len(study.trials) == len(workers) + 2, "what nobody began is drawn anew, and nothing twice"


# What a trial is judged on


@pytest.mark.parametrize("objective", ["validation", "cross_validation"])
def test_a_trial_never_sees_the_test_split(
    planned: Callable[..., Tuned], prepared: Prepared, params: Params, objective: str
) -> None:
    tuned, table = planned(trials=2, objective=objective), prepared.table.set_index("sample_id")
    parts = 1 if objective == "validation" else params.task(NAME).split.folds
    assert len(Planned.given) == 2 * parts
    judged: list[str] = []
    for train, held_out in Planned.given[:parts]:
        one, other = table.loc[train.pairs["sample_id"]], table.loc[held_out.pairs["sample_id"]]
        assert not set(one["group"]) & set(other["group"])
        if objective == "validation":
            assert (set(one["split"]), set(other["split"])) == ({"train"}, {"validation"})
        else:
            assert "test" not in set(one["split"]) | set(other["split"])
            assert len(other["fold"].unique()) == 1
            assert len(one) + len(other) == (table["split"] != "test").sum()
        judged += list(held_out.pairs["sample_id"])
    sides = ["validation"] if objective == "validation" else ["train", "validation"]
    assert sorted(judged) == sorted(table.index[table["split"].isin(sides)])
    # The plan adds 1, 2, 3, ... to the target: the objective is the mean of the parts.
    assert tuned.value == pytest.approx(np.mean(np.arange(1, parts + 1)))


def test_the_best_trial_is_the_best_where_a_higher_metric_is_better(planned: Callable[..., Tuned]) -> None:
    tuned = planned(lambda trial, context: [3.0, 0.0, 2.0][trial], metric="r2")
    assert tuned.value == pytest.approx(1.0)
    assert tuned.hyperparameters == _trials(storage_url())[1].params


def test_an_architecture_with_nothing_to_tune_is_tried_once(prepared: Prepared, params: Params, store: str) -> None:
    tuned = tune(NAME, get_architecture("mean_effects", "pairs", "regression"), prepared, params, progress=False)
    assert (tuned.trials, tuned.hyperparameters) == (1, {})


def test_without_an_objective_the_defaults_are_taken_and_no_trial_runs(
    prepared: Prepared, params: Params, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> float:
        raise AssertionError("a trial ran")

    monkeypatch.setattr(Objective, "__call__", fails)
    task, mlp = params.task(NAME), get_architecture("mlp", "pairs", "regression")
    params = with_task(params, replace(task, tune=replace(task.tune, objective="none")))
    tuned, again = (tune(NAME, mlp, prepared, params, progress=False) for _ in range(2))
    assert tuned == again and (tuned.trials, tuned.value) == (0, None)
    settings = allowed(fit_settings(params, params.task(NAME)), mlp.modality, prepared)
    assert tuned.hyperparameters == mlp.first_trial(settings)
    run = mlflow.get_run(tuned.run_id)
    assert run.info.status == "FINISHED" and run.data.params == {"trials": "0", "objective": "none"}
    assert (run.data.tags["stage"], run.data.tags["study"]) == ("tune", tuned.study)
    for _ in range(2):  # a fit that rotates, and one that repeats it
        with tracking.run(NAME, "fit", "mlp") as fit:
            of_part = {"progress": False, "rotation": 0, "parent": fit.info.run_id}
            part = tune(NAME, mlp, prepared, replace(params, seed=1), **of_part)
        assert mlflow.get_run(part.run_id).data.tags["mlflow.parentRunId"] == fit.info.run_id


# Trials that end early


def test_a_pruned_trial_ends_its_run_and_leaves_no_checkpoint(planned: Callable[..., Tuned]) -> None:
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

    tuned, trials = planned(plan, trials=6), _trials(storage_url())
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 4 + [TrialState.PRUNED] * 2
    assert Counter(steps) == {0: 20, 1: 20, 2: 20, 3: 20, 4: 9, 5: 9}
    assert tuned.trials == 6
    assert not list((Path.cwd() / "checkpoints").rglob("*.pt"))
    _, children = _runs()
    assert children["status"].tolist() == ["FINISHED"] * 6, "pruning is no failure"
    pruned = children.set_index("run_id")["tags.pruned"].notna()
    assert {run for run in pruned.index if pruned[run]} == {trial.user_attrs["mlflow_run_id"] for trial in trials[4:]}


def test_trials_that_diverge_end_the_study_only_if_all_do(planned: Callable[..., Tuned]) -> None:
    diverging = partial(planned, lambda trial, context: np.nan if trial < 2 else 1.0)
    with pytest.raises(UserError, match="none of 1 trials gave finite predictions"):
        diverging(trials=1)
    tuned = diverging(trials=2)
    assert (tuned.trials, tuned.value) == (2, pytest.approx(1.0))
    assert set(_runs()[1]["status"]) == {"FINISHED"}


def test_a_fault_in_the_code_is_not_swallowed(planned: Callable[..., Tuned]) -> None:
    faulty = partial(planned, lambda trial, context: 1 / 0 if trial == 1 else 1.0)
    with pytest.raises(ZeroDivisionError):
        faulty()
    parents, children = _runs()
    assert (sorted(children["status"]), parents["status"].tolist()) == (["FAILED", "FINISHED"], ["FAILED"])
    assert faulty().trials == 3
    assert _runs()[0]["status"].tolist() == ["FINISHED"]


def test_a_run_that_was_left_open_gets_the_status_of_its_trial(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlflow.tracking.fluent.NUM_RUNS_PER_PAGE_PANDAS", 2)  # a run that is deleted moves the pages
    client, study = mlflow.MlflowClient(), optuna.create_study()
    parent = client.create_run(tracking.experiment(NAME)).info.run_id
    fail, complete, pruned = TrialState.FAIL, TrialState.COMPLETE, TrialState.PRUNED
    runs, expected = dict[str, Any](), dict[str, Any]()
    for name, of, origin, states, status in (
        ("given up", parent, 0, [fail], "FAILED"),
        ("complete", parent, 1, [complete], "FINISHED"),
        ("pruned", parent, 2, [pruned], "FINISHED"),
        ("killed, then complete", parent, 3, [fail, complete], "FINISHED"),
        # The server opened a run, its answer was lost, and the worker asked for another: it is deleted.
        ("doubled", parent, 1, [], None),
        ("of no trial", parent, 99, [], "RUNNING"),
        ("of another study", "another", 0, [], "RUNNING"),
    ):
        # A run of the trial that began as number ``origin``, left open as a killed worker does.
        tags = {"mlflow.parentRunId": of, TRIAL_ORIGIN: str(origin)}
        runs[name] = client.create_run(tracking.experiment(NAME), tags=tags).info.run_id
        expected |= {name: status} if status else {}
        for state in states:
            trial = study.ask()
            trial.set_user_attr(trial_queue.ORIGIN, origin)
            trial.set_user_attr(trial_queue.RUN_ID, runs[name])
            study.tell(trial, 1.0 if state == complete else None, state=state)
    settle_runs(study, NAME, parent)
    found = {name: client.get_run(run).info for name, run in runs.items()}
    assert {name: run.status for name, run in found.items() if run.lifecycle_stage == "active"} == expected


# The study's name


def _name(prepared: Prepared, params: Params, architecture: str = "mlp") -> str:
    return study_name(NAME, get_architecture(architecture, "pairs", "regression"), prepared, params)


def test_only_what_is_asked_changes_the_study(prepared: Prepared, params: Params, tmp_path: Path) -> None:
    def of_task(part: str, **change: Any) -> Params:
        return with_task(params, replace(task, **{part: replace(getattr(task, part), **change)}))

    task, raw = params.task(NAME), tmp_path / "data" / NAME / "response.parquet"
    raw.parent.mkdir(parents=True)
    raw.write_bytes(b"data")
    others = [
        *(params, replace(params, seed=params.seed + 1), replace(params, budget="full")),
        *(of_task("tune", metric="r2"), of_task("tune", objective="cross_validation"), of_task("data", target="auc")),
        of_task("data", omics=task.data.omics[:2]),
        of_task("data", missing=replace(task.data.missing, tissue="drop")),
        *(of_task("tune", cost="size", tolerance=share) for share in (0.1, 0.2)),
    ]
    found = [_name(prepared, other) for other in others]
    found += [_name(replace(prepared, sha256="another"), params), _name(prepared, params, "xgboost")]
    raw.write_bytes(b"other data")
    found.append(_name(prepared, params))
    assert len(set(found)) == len(found) == 13, found
    assert _name(prepared, of_task("tune", tolerance=0.3)) == found[-1], "without a cost it decides nothing"
    assert _name(prepared, replace(of_task("evaluate", resamples=123), models={})) == found[-1]


# The command


@pytest.mark.parametrize(("workers", "cluster"), [("1", ""), ("4", "ray://10.0.0.1:10001")])
def test_mlflows_entry_point_tunes(workers: str, cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    note = Mock(return_value=Tuned(NAME, "elastic_net", "quick", "rmse", "validation", 1.0, {}, 2, "a study", "a run"))
    monkeypatch.setattr(study, "tune", note)
    monkeypatch.setattr(study, "follow", note)
    monkeypatch.setattr(pipelines.datasets, "read_prepared", lambda name, task: f"samples of {name}")
    given = {"task": NAME, "architecture": "elastic_net", "workers": workers, "cluster": cluster}
    program, *arguments = shlex.split(COMMAND.format(**given))
    assert (program, arguments[:2]) == ("python", ["-m", "training.tune"])
    assert command.main(arguments[2:]) == 0
    ((name, architecture, prepared, _), named) = note.call_args
    assert (name, architecture.name, prepared) == (NAME, "elastic_net", f"samples of {NAME}")
    assert (named["workers"], named["cluster"]) == (int(workers), cluster)
    found = json.loads((tmp_path / "models" / NAME / "elastic_net" / "tuned.json").read_text())
    assert (found["study"], found["run_id"]) == ("a study", "a run")
    module, *of_worker = named["command"]
    assert command.main([*of_worker, "--worker-of", "a run", "--number", "2"]) == 0
    (following, named) = note.call_args
    assert (module, following[0], named["parent"], named["number"]) == ("training.tune", NAME, "a run", 2)


@pytest.mark.parametrize("workers", ["0", "-1", "two"])
def test_a_number_of_workers_that_is_none_is_refused(workers: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["--task", NAME, "--architecture", "elastic_net", f"--workers={workers}"])
    assert "--workers" in capsys.readouterr().err


# The examples of the guide, which are copied by those who add an architecture


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, str, str], Architecture]:
    monkeypatch.setattr(architectures, "_registry", {})
    return architectures._registry


def test_a_study_tunes_the_first_example(registered: Any, prepared: Prepared, params: Params, store: str) -> None:
    exec(compile(EXAMPLES[0], PAGE, "exec", dont_inherit=True), {"__name__": "my_model"})
    shown = registered["my_model", "pairs", "regression"]
    assert not getattr(shown.estimator, "__abstractmethods__", None), "nothing that the contract asks for is left out"
    base: Any = shown.estimator
    built: list[Estimator] = []

    class Filled(base):
        """The example with bodies in the place of its dots."""

        def fit(self, train: Any, validation: Any = None, context: FitContext | None = None) -> Self:
            built.append(self)
            return self

        def predict(self, samples: ResponseSamples) -> np.ndarray:
            return np.zeros(len(samples))

    tuned = tune(NAME, replace(shown, estimator=Filled), prepared, params, progress=False)
    assert tuned.trials == len(built) == 3 and set(tuned.hyperparameters) == set(shown.defaults) == {"depth"}


def test_the_example_of_a_backbone_is_registered_for_images(registered: Any) -> None:
    known = {"nn": nn, "timm": timm, "architecture": architectures.architecture, "Backbone": Backbone}
    of_images = {"space": cell_network.space, "CellNetwork": cell_network.CellNetwork}
    exec(compile(EXAMPLES[1], PAGE, "exec", dont_inherit=True), {"__name__": "resnet50", **known, **of_images})
    backbone: Any = vars(registered["resnet50", "images", "classification"].estimator)["backbone"]
    assert [len(list(stage.parameters())) > 0 for stage in backbone.stages(backbone.create(False))] == [True] * 5
