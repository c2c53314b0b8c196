"""An Optuna study of one architecture, with an MLflow run a trial, which continues after its process was killed."""

import hashlib
import json
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import mlflow
import optuna
from optuna.trial import TrialState
from tqdm import tqdm

from pipelines import tracking
from pipelines.code_closure import closure
from pipelines.datasets import Prepared
from pipelines.errors import UserError
from pipelines.params import Params
from pipelines.problems import higher_is_better
from training.architectures import Architecture
from training.studies.cluster import run_on_cluster
from training.studies.front import best_value, chosen_trial, log_front, report
from training.studies.methods import log_importance, pruner, sampler
from training.studies.storage import StudyLock, open_storage, refuse_what_many_workers_cannot_share, study_lock
from training.studies.trial_queue import DONE, RUN_ID, Beats, ended, locked, requeue_orphans, work
from training.studies.trials import Objective, Search, existing_run, forget, settle_runs, unrecorded_parent
from training.studies.workers import run_processes

_WORKER_SEEDS = 7919  # apart: a prime, so that no worker's seeds meet another's within a study

optuna.logging.set_verbosity(optuna.logging.ERROR)  # the error that ends a study says why
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)  # of constant_liar


@dataclass(frozen=True)
class Tuned:
    """The result of a study: its best or chosen trial, and how many trials ended, complete or pruned."""

    task: str
    architecture: str
    budget: str
    metric: str
    objective: str
    value: float | None  # None where no trial ran
    hyperparameters: dict[str, Any]
    trials: int
    study: str
    run_id: str  # parent of the trials' runs
    front: dict[str, Any] = field(default_factory=dict)  # with a cost: all trials, see `training.studies.front.report`


def study_name(name: str, architecture: Architecture, prepared: Prepared, params: Params) -> str:
    """Return a name that changes with all that decides the outcome: data, question, tuning, seed, budget, code."""
    task = params.task(name)
    decided = {
        "split": prepared.sha256,
        "data": tracking.lineage(name).get("data.sha256"),
        "question": [task.modality, task.problem, asdict(task.data)],
        "tune": task.tune.keys(),
        **({"given": architecture.given} if architecture.given else {}),
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
    command: Sequence[str] | None = None,
    progress: bool = True,
    why: str = "",
    rotation: int | None = None,
    parent: str | None = None,
) -> Tuned:
    """Tune ``architecture`` for the task ``name``, or continue its study if it was interrupted.

    The first trial is the architecture's defaults. ``workers`` processes share the study, on this machine or on a Ray
    ``cluster`` (``ray://host:port`` or ``local``), started by ``command``, a module that calls `follow` and its
    arguments; a single one works here. ``why`` the metric was chosen becomes a tag of the run. The study of a part of
    a ``rotation`` has its run below the run ``parent``.
    """
    refuse_what_many_workers_cannot_share(workers, cluster, mlflow.get_tracking_uri())
    search = Search(name=name, architecture=architecture, prepared=prepared, params=params, rotation=rotation)
    if search.task.tune.objective == "none":
        return _untuned(search, parent)
    tuning, study = search.task.tune, _open(search, wait=False, create=True)
    lock = study_lock(study.study_name)
    with locked(lock):
        requeue_orphans(study)
        if all(trial.state == TrialState.FAIL for trial in study.trials):
            for point in search.queue[: search.budget]:
                study.enqueue_trial(point)
    recorded = study.user_attrs.get(RUN_ID)
    # A process that was killed before it wrote the run's id down has left a run with the study's name.
    parent_id = existing_run(recorded) if recorded else unrecorded_parent(name, study.study_name)
    tags = search.tags(study.study_name) | ({"tune.metric_why": why} if why else {})
    with tracking.run(name, "tune", search.title, tags=tags, run_id=parent_id, parent=parent) as own:
        run_id = own.info.run_id
        if recorded != run_id:
            study.set_user_attr(RUN_ID, run_id)
            first = {"trials": search.budget, "metric": tuning.metric, "objective": tuning.objective}
            first |= {"sampler": tuning.sampler, "pruner": tuning.pruner}
            first |= {} if tuning.cost == "none" else {"cost": tuning.cost, "tolerance": tuning.tolerance}
            tracking.patiently(lambda: mlflow.log_params(first))
        how: dict[str, Any] = {"workers": workers, "cluster": cluster, "command": command, "progress": progress}
        _run_trials(search, study, run_id, lock=lock, **how)
        if not study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            raise UserError(
                f"{name} {architecture.name}: none of {search.budget} trials gave finite predictions; look at run "
                f"{run_id} and narrow the search space, the learning rate first"
            )
        settle_runs(study, name, run_id)
        for trial in study.get_trials(deepcopy=False):
            forget(study.study_name, trial)
        best, front = chosen_trial(study, tuning.tolerance), dict[str, Any]()
        tracking.patiently(lambda: mlflow.set_tag("best_trial", best.number))
        tracking.patiently(lambda: log_importance(study))
        if tuning.cost != "none":
            front = report(study, best, tuning)
            tracking.patiently(lambda: log_front(front, tuning.metric))
    found = {"value": best.values[0], "hyperparameters": dict(best.user_attrs["hyperparameters"]), "front": front}
    return _tuned(search, study.study_name, run_id, **found, trials=ended(study))


def _untuned(search: Search, parent: str | None) -> Tuned:
    """Return the defaults, where no trial is to run, with a run that says so."""
    study = study_name(search.name, search.architecture, search.prepared, search.params)
    tags, run_id = search.tags(study), unrecorded_parent(search.name, study)
    with tracking.run(search.name, "tune", search.title, tags=tags, run_id=run_id, parent=parent) as run:
        tracking.patiently(lambda: mlflow.log_params({"trials": 0, "objective": "none"}))
    defaults = search.architecture.first_trial(search.settings)
    return _tuned(search, study, run.info.run_id, value=None, hyperparameters=defaults, trials=0)


def _tuned(search: Search, study: str, run_id: str, **found: Any) -> Tuned:
    tuning = search.task.tune
    return Tuned(
        task=search.name,
        architecture=search.architecture.name,
        budget=search.params.budget,
        metric=tuning.metric,
        objective=tuning.objective,
        study=study,
        run_id=run_id,
        **found,
    )


def _run_trials(
    search: Search,
    study: optuna.Study,
    parent: str,
    *,
    lock: StudyLock,
    workers: int,
    cluster: str,
    command: Sequence[str] | None,
    progress: bool,
) -> None:
    """Run the trials that are left, by workers or in this process, under a progress bar."""
    beats, title = Beats(), f"{search.name} {search.architecture.name}"
    with tqdm(total=search.budget, initial=ended(study), desc=title, disable=not progress) as bar:

        def show() -> int:
            done = study.get_trials(deepcopy=False, states=DONE)
            bar.update(len(done) - bar.n)
            if any(trial.state == TrialState.COMPLETE for trial in done):
                bar.set_postfix({f"best {search.task.tune.metric}": f"{best_value(study):.4f}"})
            return len(done)

        def watch() -> int:
            with locked(lock):
                requeue_orphans(study, beats)
            return show()

        if bar.n >= search.budget:
            return
        if command is None or (workers == 1 and not cluster):
            _work(search, study, parent, number=0, after=show)
            return
        command = [*command, "--worker-of", parent]
        if cluster:
            run_on_cluster(command, workers, cluster, watch)
        else:
            run_processes(command, workers, watch)


def follow(
    name: str, architecture: Architecture, prepared: Prepared, params: Params, *, parent: str, number: int
) -> None:
    """Work on a study that another process has begun, as worker ``number`` of those under the run ``parent``."""
    search = Search(name=name, architecture=architecture, prepared=prepared, params=params)
    try:
        study = _open(search, wait=True, create=False)
    except KeyError as error:
        raise UserError(
            f"{name} {architecture.name}: the study of run {parent} is not in the storage under the name that code, "
            "data and parameters give here; bring all workers to the same commit, data and params.yaml"
        ) from error
    _work(search, study, parent, number=number, after=lambda: None)


def _open(search: Search, *, wait: bool, create: bool) -> optuna.Study:
    name = study_name(search.name, search.architecture, search.prepared, search.params)
    storage = open_storage(wait=wait)
    how = {"study_name": name, "storage": storage, "pruner": pruner(search.task.tune.pruner)}
    if not create:
        return optuna.load_study(**how)
    directions = ["maximize" if higher_is_better(search.task.tune.metric) else "minimize"]
    directions += ["minimize"] * (search.task.tune.cost != "none")
    return optuna.create_study(load_if_exists=True, directions=directions, **how)


def _work(search: Search, study: optuna.Study, parent: str, *, number: int, after: Callable[[], object]) -> None:
    # A sampler with the same seed would draw the same points again after a restart, and in another worker.
    seed = search.params.seed + len(study.trials) + _WORKER_SEEDS * number
    study.sampler = sampler(search.task.tune.sampler, seed, alone=number == 0)

    def ran(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        if trial.state == TrialState.FAIL:
            return
        forget(study.study_name, trial)
        after()
        if trial.state == TrialState.COMPLETE:
            best, key = best_value(study), f"best/{search.task.tune.metric}"
            tracking.patiently(lambda: mlflow.log_metric(key, best, step=trial.number, run_id=parent))

    started_by = os.getppid()

    def goes_on() -> bool:
        return number == 0 or os.getppid() == started_by  # a worker whose parent died claims no more

    objective, lock = Objective(search=search, study=study.study_name, parent=parent), study_lock(study.study_name)
    work(study, objective, search.budget, lock, callbacks=[ran], goes_on=goes_on)
