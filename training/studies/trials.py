"""One trial of a study: what it is judged on, what it tells MLflow, and what it leaves to be gone on from."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import optuna
from optuna.trial import TrialState

from pipelines import tracking
from pipelines.datasets import Prepared
from pipelines.params import Params, Task, Tune
from pipelines.problems import get_problem, higher_is_better
from pipelines.step_metrics import StepMetrics, sending
from training.architectures import Architecture
from training.estimator import FitContext
from training.search import allowed
from training.studies.trial_queue import ORIGIN, RUN_ID

CHECKPOINTS = Path("checkpoints")
TRIAL_ORIGIN = "trial.origin"  # number of the trial that a run began as; it keeps the run when it is run again


def fit_settings(params: Params, task: Task) -> dict[str, Any]:
    """Return what a fit is given besides hyperparameters: limits of the budget, seed and device."""
    settings = {
        "rounds": task.tune.rounds.of(params.budget),
        "epochs": task.tune.epochs.of(params.budget),
        "seed": params.seed,
        "device": params.device,
    }
    own = {each.name for each in fields(task.tune)} - {each.name for each in fields(Tune)}
    return settings | {name: getattr(task.tune, name) for name in sorted(own)}


def search_settings(params: Params, task: Task, prepared: Prepared) -> dict[str, Any]:
    """Return `fit_settings` with what the data allows to be tried.

    No layout along a genome that nobody has given, no imputation of what is not missing.
    """
    return allowed(fit_settings(params, task), task.modality, prepared)


def objective_of(
    name: str,
    architecture: Architecture,
    prepared: Prepared,
    params: Params,
    tags: dict[str, Any],
    parent: str,
    memory: dict[Any, Any],
) -> Callable[[optuna.Trial], float]:
    """Return what a worker runs for each trial of the study that ``tags`` names, under the MLflow run ``parent``.

    ``memory`` is kept from trial to trial, for what all of them compute alike.
    """
    task = params.task(name)
    settings = search_settings(params, task, prepared)
    parts, problem = _parts(prepared, task), get_problem(task.problem)

    folder = CHECKPOINTS / tags["study"]

    def judge(trial: optuna.Trial, hyperparameters: dict[str, Any], origin: int, steps: StepMetrics) -> float:
        values = []
        for number, (train, held_out) in enumerate(parts):
            reported: list[int] = []

            def on_step(step: int, metrics: dict[str, float], number: int = number, seen: list = reported) -> None:
                steps.log(step_metrics(metrics, "" if len(parts) == 1 else f"_fold_{number}"), step)
                watched = next((metrics[key] for key in problem.losses if key in metrics), None)
                # Pruning compares like with like: reports of one model, in the study's direction.
                if len(parts) > 1 or watched is None or step in seen:
                    return
                seen.append(step)
                # A trial that goes on after its process died is compared with others at the same age.
                report = seen[0] + len(seen) - 1
                trial.report(-watched if higher_is_better(task.tune.metric) else watched, report)
                if trial.should_prune():
                    raise optuna.TrialPruned

            context = FitContext(on_step, folder / f"{origin}.{number}.pt", memory)
            predicted = architecture.build(hyperparameters, **settings).fit(train, held_out, context).outputs(held_out)
            if not np.isfinite(predicted).all():
                tracking.patiently(lambda: mlflow.set_tag("diverged", "true"))
                raise optuna.TrialPruned  # a point that is no good, which is no reason to end the study
            values.append(problem.score(task.tune.metric, held_out.target, predicted))
            if len(parts) > 1:
                trial.report(float(np.mean(values)), number)
                if number + 1 < len(parts) and trial.should_prune():
                    raise optuna.TrialPruned
        return float(np.mean(values))

    def objective(trial: optuna.Trial) -> float:
        origin = trial.user_attrs[ORIGIN]
        hyperparameters = architecture.space(trial, settings) if architecture.space else {}
        trial.set_user_attr("hyperparameters", hyperparameters)
        trial_tags = {**tags, "trial": trial.number, TRIAL_ORIGIN: origin}
        run_id = existing_run(trial.user_attrs.get(RUN_ID))
        label = f"{architecture.name} trial {origin}"
        value = None
        with tracking.run(name, "tune", label, tags=trial_tags, run_id=run_id, parent=parent) as child:
            trial.set_user_attr(RUN_ID, child.info.run_id)
            tracking.patiently(lambda: mlflow.log_params(hyperparameters))
            with (
                sending(child.info.run_id, folder / f"{origin}.metrics.jsonl") as steps,
                # caught while the run is open, which an exception would end as failed
                contextlib.suppress(optuna.TrialPruned),
            ):
                value = judge(trial, hyperparameters, origin, steps)
            if value is None:
                tracking.patiently(lambda: mlflow.set_tag("pruned", "true"))
            else:
                found = value
                tracking.patiently(lambda: mlflow.log_metric(f"validation_{task.tune.metric}", found))
        if value is None:
            raise optuna.TrialPruned
        return value

    return objective


def forget(study: str, trial: optuna.trial.FrozenTrial) -> None:
    """Delete what a trial that has ended was to be gone on from."""
    folder, origin = CHECKPOINTS / study, trial.user_attrs.get(ORIGIN, trial.number)
    for path in (*folder.glob(f"{origin}.*.pt"), folder / f"{origin}.metrics.jsonl"):
        path.unlink(missing_ok=True)


def _parts(prepared: Prepared, task: Task) -> list[tuple[Any, Any]]:
    """Return the pairs of training and held-out samples that a trial is judged on."""
    if task.tune.objective == "validation":
        return [(prepared.side("train"), prepared.side("validation"))]
    fold = prepared.table["fold"].to_numpy()
    rows = prepared.rows("train", "validation")
    return [
        (prepared.samples.take(rows[fold[rows] != k]), prepared.samples.take(rows[fold[rows] == k]))
        for k in range(task.split.folds)
    ]


def step_metrics(metrics: dict[str, float], suffix: str = "") -> dict[str, float]:
    """Return the metrics of one step under names of their own.

    MLflow shows a metric's value at its last step: under one name, the last epoch's error would stand where the kept
    epoch's is logged.
    """
    return {f"step_{key}{suffix}": value for key, value in metrics.items()}


def existing_run(run_id: str | None) -> str | None:
    """Return ``run_id`` if the tracking store still has that run."""
    if run_id is None:
        return None
    try:
        tracking.patiently(lambda: mlflow.get_run(run_id))
    except mlflow.exceptions.MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None
    return run_id


def unrecorded_parent(task: str, study: str) -> str | None:
    """Return the run of a study whose process was killed before it wrote the run's id down."""
    runs = tracking.patiently(
        lambda: mlflow.MlflowClient().search_runs(
            [tracking.experiment(task)], f"tags.study = '{study}' and tags.stage = 'tune'", max_results=100
        )
    )
    return next((run.info.run_id for run in runs if "mlflow.parentRunId" not in run.data.tags), None)


def settle_runs(study: optuna.Study, task: str, parent: str) -> None:
    """Give the runs of a study that is over the status of their trials, and delete what a lost answer has doubled.

    A worker that is killed leaves its run open; it is gone on with, unless the trial was given up.
    """
    client = mlflow.MlflowClient()
    last = {trial.user_attrs.get(ORIGIN, trial.number): trial for trial in study.get_trials(deepcopy=False)}
    for run in _children(client, task, parent):
        trial = last.get(int(run.data.tags.get(TRIAL_ORIGIN, -1)))
        if trial is None:
            continue
        status = "FAILED" if trial.state == TrialState.FAIL else "FINISHED"
        if trial.user_attrs.get(RUN_ID) not in (None, run.info.run_id):
            tracking.patiently(lambda run=run: client.delete_run(run.info.run_id))  # type: ignore[misc]
        elif run.info.status != status:
            tracking.patiently(
                lambda run=run, status=status: client.set_terminated(run.info.run_id, status)  # type: ignore[misc]
            )


def _children(client: mlflow.MlflowClient, task: str, parent: str) -> list[mlflow.entities.Run]:
    """Return all runs under ``parent``, before any is changed: one that is deleted moves others to earlier pages."""
    runs: list[mlflow.entities.Run] = []
    token = None
    while True:
        page = tracking.patiently(
            lambda token=token: client.search_runs(  # type: ignore[misc]
                [tracking.experiment(task)], f"tags.mlflow.parentRunId = '{parent}'", page_token=token
            )
        )
        runs.extend(page)
        token = page.token
        if not token:
            return runs
