"""An Optuna study of one architecture, tracked trial by trial, that survives being killed."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import mlflow
import optuna
from optuna.trial import TrialState
from tqdm import tqdm

from pipelines import tracking
from pipelines.code_closure import closure
from pipelines.datasets import Prepared
from pipelines.errors import UserError
from pipelines.params import Params, Task
from pipelines.problems import higher_is_better
from training.architectures import Architecture
from training.studies.cluster import run_on_cluster
from training.studies.storage import open_storage, refuse_what_many_workers_cannot_share, study_lock
from training.studies.trial_queue import RUN_ID, Beats, ended, locked, requeue_orphans, work
from training.studies.trials import (
    existing_run,
    fit_settings,
    forget,
    objective_of,
    search_settings,
    settle_runs,
    unrecorded_parent,
)
from training.studies.workers import WorkerCommand, run_processes

_WORKER_SEEDS = 7919  # apart: a prime, so that no worker's seeds meet another's within a study

optuna.logging.set_verbosity(optuna.logging.ERROR)  # a failed trial is told by the error that ends the study
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)  # constant_liar, which is meant


@dataclass(frozen=True)
class Tuned:
    """What a study found.

    Attributes
    ----------
    hyperparameters
        Of the best trial.
    value
        Its objective.
    study, run_id
        Name of the study, and the MLflow run that is the parent of its trials.
    trials
        How many trials ended: complete or pruned.
    """

    task: str
    architecture: str
    budget: str
    metric: str
    objective: str
    value: float
    hyperparameters: dict[str, Any]
    trials: int
    study: str
    run_id: str


def study_name(name: str, architecture: Architecture, prepared: Prepared, params: Params) -> str:
    """Return a name that changes with all that decides the study's outcome, so that no study mixes two questions.

    That is: data and split, what is predicted from what, the task's tuning parameters, seed and budget, and the code
    that the study imports, see `pipelines.code_closure`.
    """
    task = params.task(name)
    decided = {
        "split": prepared.sha256,
        "data": tracking.lineage(name).get("data.sha256"),
        "question": [task.modality, task.problem, asdict(task.data)],
        "tune": asdict(task.tune),
        "seed": params.seed,
        "code": closure(__name__, task=task, architectures=[architecture.name]),
    }
    fingerprint = hashlib.sha256(json.dumps(decided).encode()).hexdigest()[:12]
    return f"{name}-{architecture.name}-{params.budget}-{fingerprint}"


def tune(
    name: str,
    architecture: Architecture,
    prepared: Prepared,
    params: Params,
    *,
    workers: int = 1,
    cluster: str = "",
    command: WorkerCommand | None = None,
    progress: bool = True,
) -> Tuned:
    """Tune ``architecture`` for the task ``name``, going on with the study if it was broken off.

    Finished trials are kept, a trial that was running when its process died is run again under the same MLflow run,
    and the first trial of every study is the architecture's defaults.

    Parameters
    ----------
    workers
        Processes that share the study and its budget. One works in this process.
    cluster
        Address of a Ray cluster (``ray://host:port``), or ``local``, that the workers are placed on.
    command
        What the workers run; `follow` is what it must come to.

    Raises
    ------
    UserError
        Several workers on a storage that only one can write to, or no trial gave finite predictions.
    """
    refuse_what_many_workers_cannot_share(workers, cluster, mlflow.get_tracking_uri())
    task = params.task(name)
    budget = _budget(architecture, task, params)
    study = _open(study_name(name, architecture, prepared, params), task, wait=False, create=True)
    lock = study_lock(study.study_name)
    with locked(lock):
        requeue_orphans(study)
        if architecture.space and all(trial.state == TrialState.FAIL for trial in study.trials):
            study.enqueue_trial(architecture.first_trial(search_settings(params, task, prepared)))
    tags = _tags(architecture, prepared, params, task, study.study_name)
    recorded = study.user_attrs.get(RUN_ID)
    # A process that was killed before it wrote the run's id down has left a run that bears the study's name.
    parent_id = existing_run(recorded) if recorded else unrecorded_parent(name, study.study_name)
    with tracking.run(name, "tune", f"tune {architecture.name}", tags=tags, run_id=parent_id) as parent:
        if recorded != parent.info.run_id:
            study.set_user_attr(RUN_ID, parent.info.run_id)
            first = {"trials": budget, "metric": task.tune.metric, "objective": task.tune.objective}
            tracking.patiently(lambda: mlflow.log_params(first))
        begun = ended(study)
        with tqdm(total=budget, initial=begun, desc=f"{name} {architecture.name}", disable=not progress) as bar:
            beats = Beats()

            def show() -> None:
                done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
                bar.update(len(done) - bar.n)
                if any(trial.state == TrialState.COMPLETE for trial in done):
                    bar.set_postfix({f"best {task.tune.metric}": f"{study.best_value:.4f}"})

            def watch() -> int:
                with locked(lock):
                    requeue_orphans(study, beats)
                show()
                return ended(study)

            if begun < budget and command is not None and (workers > 1 or cluster):
                place = [*command.arguments, "--worker-of", parent.info.run_id]
                placed = WorkerCommand(command.module, tuple(place))
                if cluster:
                    run_on_cluster(placed, workers, cluster, watch)
                else:
                    run_processes(placed, workers, watch)
            elif begun < budget:
                _work(name, architecture, prepared, params, study, parent.info.run_id, number=0, after=show)
        if not study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            raise UserError(
                f"{name} {architecture.name}: none of {budget} trials gave finite predictions; look at run "
                f"{parent.info.run_id} and narrow the search space, the learning rate first"
            )
        settle_runs(study, name, parent.info.run_id)
        for trial in study.get_trials(deepcopy=False):
            forget(study.study_name, trial)
        tracking.patiently(lambda: mlflow.set_tag("best_trial", study.best_trial.number))
    return Tuned(
        name,
        architecture.name,
        params.budget,
        task.tune.metric,
        task.tune.objective,
        study.best_value,
        dict(study.best_trial.user_attrs["hyperparameters"]),
        ended(study),
        study.study_name,
        parent.info.run_id,
    )


def follow(name: str, architecture: Architecture, prepared: Prepared, params: Params, parent: str, number: int) -> None:
    """Work on a study that another process has begun, as worker ``number`` of those under the run ``parent``.

    Raises
    ------
    UserError
        The study is not there: the code, data or parameters here are not those that it was begun with.
    """
    task = params.task(name)
    try:
        study = _open(study_name(name, architecture, prepared, params), task, wait=True, create=False)
    except KeyError as error:
        raise UserError(
            f"{name} {architecture.name}: the study of run {parent} is not in the storage under the name that code, "
            "data and parameters give here; bring all workers to the same commit, data and params.yaml"
        ) from error
    _work(name, architecture, prepared, params, study, parent, number=number, after=lambda: None)


def _budget(architecture: Architecture, task: Task, params: Params) -> int:
    return task.tune.trials.of(params.budget) if architecture.space else 1


def _open(name: str, task: Task, *, wait: bool, create: bool) -> optuna.Study:
    storage = open_storage(wait=wait)
    pruner = optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=8)
    if not create:
        return optuna.load_study(study_name=name, storage=storage, pruner=pruner)
    direction = "maximize" if higher_is_better(task.tune.metric) else "minimize"
    return optuna.create_study(
        study_name=name, storage=storage, load_if_exists=True, direction=direction, pruner=pruner
    )


def _tags(architecture: Architecture, prepared: Prepared, params: Params, task: Task, study: str) -> dict[str, Any]:
    return {
        "architecture": architecture.name,
        "budget": params.budget,
        "seed": params.seed,
        "split.sha256": prepared.sha256,
        "study": study,
        **architecture.estimator.origin(architecture.defaults, fit_settings(params, task)),
    }


def _work(
    name: str,
    architecture: Architecture,
    prepared: Prepared,
    params: Params,
    study: optuna.Study,
    parent: str,
    *,
    number: int,
    after: Callable[[], None],
) -> None:
    """Claim and run trials until the budget is spent."""
    task = params.task(name)
    # A sampler that started anew with the same seed would draw the same points again, and so would another worker's.
    study.sampler = optuna.samplers.TPESampler(
        seed=params.seed + len(study.trials) + _WORKER_SEEDS * number, n_startup_trials=5, constant_liar=number > 0
    )

    def ran(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        if trial.state == TrialState.FAIL:
            return
        forget(study.study_name, trial)
        after()
        if trial.state == TrialState.COMPLETE:
            best, key = study.best_value, f"best_{task.tune.metric}"
            tracking.patiently(lambda: mlflow.log_metric(key, best, step=trial.number, run_id=parent))

    tags = _tags(architecture, prepared, params, task, study.study_name)
    objective = objective_of(name, architecture, prepared, params, tags, parent, {})
    began = os.getppid()
    work(
        study,
        objective,
        _budget(architecture, task, params),
        study_lock(study.study_name),
        callbacks=[ran],
        goes_on=lambda: number == 0 or os.getppid() == began,  # a worker whose parent has died claims no more
    )
