"""Stage ``tune``: an Optuna study of one architecture, tracked trial by trial, that survives being killed."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import optuna
import psutil
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.trial import TrialState
from tqdm import tqdm

from pipelines import tracking
from pipelines.command import architecture_parser, run_command
from pipelines.faults import UserError
from pipelines.files import write_json
from pipelines.params import Params, ResponseTask, Task, TuneProfiles, TuneTransfer, read_params
from pipelines.prepare import Prepared, read_prepared
from training.architectures import Architecture, get_architecture
from training.estimator import FitContext
from training.features.cell_line_choices import imputations
from training.scores import HIGHER_IS_BETTER, SCORES

CHECKPOINTS = Path("checkpoints")
MODELS = Path("models")
_HEARTBEAT_SECONDS = 30
_WATCHED = ("validation_rmse", "validation_log_loss")  # what a fit reports and is pruned by: lower is better
_RUN_ID, _WORKER, _ORIGIN = "mlflow_run_id", "worker", "origin"

optuna.logging.set_verbosity(optuna.logging.ERROR)  # a failed trial is told by the error that ends the study
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)  # the heartbeat, which is meant


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


def fit_settings(params: Params, task: Task) -> dict[str, Any]:
    """Return what a fit is given besides hyperparameters: limits of the budget, seed and device."""
    settings = {
        "rounds": task.tune.rounds.of(params.budget),
        "epochs": task.tune.epochs.of(params.budget),
        "seed": params.seed,
        "device": params.device,
    }
    if isinstance(task.tune, TuneTransfer):
        settings |= {"weights": task.tune.weights, "modes": task.tune.modes}
    if isinstance(task.tune, TuneProfiles):
        settings |= {"layouts": task.tune.layouts, "image_size": task.tune.image_size}
    return settings


def search_settings(params: Params, task: Task, prepared: Prepared) -> dict[str, Any]:
    """Return `fit_settings` with what the data allows to be tried.

    No layout along a genome that nobody has given, no imputation of what is not missing.
    """
    settings = fit_settings(params, task)
    if "layouts" in settings and not prepared.samples.has_positions:
        settings["layouts"] = tuple(layout for layout in settings["layouts"] if layout != "chromosome")
        if not settings["layouts"]:
            raise UserError("tune.layouts names chromosome alone, and genes.csv has no chromosome and start; add them")
    if isinstance(task, ResponseTask):
        settings["imputations"] = imputations(prepared.side("train"))
    return settings


def storage_url() -> str:
    """Return the URL of the study storage: ``OPTUNA_STORAGE``, or an SQLite file beside the repository's work."""
    return os.environ.get("OPTUNA_STORAGE", "sqlite:///optuna.db")


def study_name(name: str, architecture: Architecture, prepared: Prepared, params: Params) -> str:
    """Return a name that changes with all that decides the study's outcome, so that no study mixes two questions.

    That is: data and split, what is predicted from what, the task's tuning parameters, seed and budget, and the code of
    the room (other architectures' files left out).
    """
    task = params.task(name)
    here = Path(__file__).parent
    own = ("__init__", architecture.name)
    code = [path for path in here.rglob("*.py") if path.parent.name != "architectures" or path.stem in own]
    decided = {
        "split": prepared.sha256,
        "data": tracking.lineage(name).get("data.sha256"),
        "question": [task.family, task.problem, asdict(task.data)],
        "tune": asdict(task.tune),
        "seed": params.seed,
        "code": [hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(code)],
    }
    fingerprint = hashlib.sha256(json.dumps(decided).encode()).hexdigest()[:12]
    return f"{name}-{architecture.name}-{params.budget}-{fingerprint}"


def tune(name: str, architecture: Architecture, prepared: Prepared, params: Params, *, progress: bool = True) -> Tuned:
    """Tune ``architecture`` for the task ``name``, going on with the study if it was broken off.

    Finished trials are kept, a trial that was running when its process died is run again under the same MLflow run,
    and the first trial of every study is the architecture's defaults.
    """
    task = params.task(name)
    budget = task.tune.trials.of(params.budget) if architecture.space else 1
    storage = RDBStorage(
        storage_url(),
        heartbeat_interval=_HEARTBEAT_SECONDS,
        heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(max_retry=3, inherit_intermediate_values=False),
    )
    study = optuna.create_study(
        study_name=study_name(name, architecture, prepared, params),
        storage=storage,
        load_if_exists=True,
        direction="maximize" if task.tune.metric in HIGHER_IS_BETTER else "minimize",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=8),
    )
    _requeue_orphans(study)
    if architecture.space and all(trial.state == TrialState.FAIL for trial in study.trials):
        study.enqueue_trial(architecture.first_trial(search_settings(params, task, prepared)))
    # A sampler that started anew with the same seed would draw the same points again.
    study.sampler = optuna.samplers.TPESampler(seed=params.seed + len(study.trials), n_startup_trials=5)
    tags = {
        "architecture": architecture.name,
        "budget": params.budget,
        "seed": params.seed,
        "split.sha256": prepared.sha256,
        "study": study.study_name,
        **architecture.estimator.origin(architecture.defaults, fit_settings(params, task)),
    }
    parent_id = study.user_attrs.get(_RUN_ID)
    with tracking.run(name, "tune", f"tune {architecture.name}", tags=tags, run_id=_existing(parent_id)) as parent:
        if parent_id != parent.info.run_id:
            study.set_user_attr(_RUN_ID, parent.info.run_id)
            mlflow.log_params({"trials": budget, "metric": task.tune.metric, "objective": task.tune.objective})
        memory: dict[Any, Any] = {}
        ended = _ended(study)
        with tqdm(total=budget, initial=ended, desc=f"{name} {architecture.name}", disable=not progress) as bar:

            def after(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
                bar.update()
                if trial.state == TrialState.COMPLETE:
                    bar.set_postfix({f"best {task.tune.metric}": f"{study.best_value:.4f}"})
                    mlflow.log_metric(
                        f"best_{task.tune.metric}",
                        study.best_value,
                        step=trial.number,
                        run_id=parent.info.run_id,
                    )

            objective = _objective(name, architecture, prepared, params, tags, parent.info.run_id, memory)
            if ended < budget:
                study.optimize(objective, n_trials=budget - ended, callbacks=[after])
        if not study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            raise UserError(
                f"{name} {architecture.name}: none of {budget} trials gave finite predictions; look at run "
                f"{parent.info.run_id} and narrow the search space, the learning rate first"
            )
        mlflow.set_tag("best_trial", study.best_trial.number)
    return Tuned(
        name,
        architecture.name,
        params.budget,
        task.tune.metric,
        task.tune.objective,
        study.best_value,
        dict(study.best_trial.user_attrs["hyperparameters"]),
        _ended(study),
        study.study_name,
        parent.info.run_id,
    )


def _objective(
    name: str,
    architecture: Architecture,
    prepared: Prepared,
    params: Params,
    tags: dict[str, Any],
    parent: str,
    memory: dict[Any, Any],
) -> Callable[[optuna.Trial], float]:
    task = params.task(name)
    settings = search_settings(params, task, prepared)
    parts = _parts(prepared, task)

    def checkpoint(origin: int, number: int) -> Path:
        return CHECKPOINTS / tags["study"] / f"{origin}.{number}.pt"

    def judge(trial: optuna.Trial, hyperparameters: dict[str, Any], origin: int) -> float:
        values = []
        for number, (train, held_out) in enumerate(parts):
            reported: set[int] = set()

            def on_step(step: int, metrics: dict[str, float], number: int = number, seen: set = reported) -> None:
                mlflow.log_metrics(step_metrics(metrics, "" if len(parts) == 1 else f"_fold_{number}"), step=step)
                watched = next((metrics[key] for key in _WATCHED if key in metrics), None)
                # Pruning compares like with like: reports of one model, in the study's direction.
                if len(parts) > 1 or watched is None or step in seen:
                    return
                trial.report(-watched if task.tune.metric in HIGHER_IS_BETTER else watched, len(seen))
                seen.add(step)
                if trial.should_prune():
                    raise optuna.TrialPruned

            context = FitContext(on_step, checkpoint(origin, number), memory)
            predicted = architecture.build(hyperparameters, **settings).fit(train, held_out, context).outputs(held_out)
            if not np.isfinite(predicted).all():
                mlflow.set_tag("diverged", "true")
                raise optuna.TrialPruned  # a point that is no good, which is no reason to end the study
            values.append(SCORES[task.tune.metric](held_out.target, predicted))
            if len(parts) > 1:
                trial.report(float(np.mean(values)), number)
                if number + 1 < len(parts) and trial.should_prune():
                    raise optuna.TrialPruned
        return float(np.mean(values))

    def objective(trial: optuna.Trial) -> float:
        trial.set_user_attr(_WORKER, worker())
        origin = trial.user_attrs.get(_ORIGIN, trial.number)
        trial.set_user_attr(_ORIGIN, origin)
        hyperparameters = architecture.space(trial, settings) if architecture.space else {}
        trial.set_user_attr("hyperparameters", hyperparameters)
        trial_tags = {**tags, "trial": trial.number}
        run_id = _existing(trial.user_attrs.get(_RUN_ID))
        label = f"{architecture.name} trial {origin}"
        value = None
        with tracking.run(name, "tune", label, tags=trial_tags, run_id=run_id, parent=parent) as child:
            trial.set_user_attr(_RUN_ID, child.info.run_id)
            mlflow.log_params(hyperparameters)
            try:
                value = judge(trial, hyperparameters, origin)
                mlflow.log_metric(f"validation_{task.tune.metric}", value)
            except optuna.TrialPruned:  # caught while the run is open, which an exception would end as failed
                mlflow.set_tag("pruned", "true")
        for number in range(len(parts)):
            checkpoint(origin, number).unlink(missing_ok=True)
        if value is None:
            raise optuna.TrialPruned
        return value

    return objective


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


def _ended(study: optuna.Study) -> int:
    return len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED)))


def worker() -> str:
    """Return who runs a trial: host, process and the time the process began."""
    return f"{socket.gethostname()}|{os.getpid()}|{psutil.Process().create_time():.0f}"


def _is_alive(who: str) -> bool:
    """Whether the worker may still be running; one on another host is left to the heartbeat."""
    host, pid, began = who.split("|")
    if host != socket.gethostname():
        return True
    try:
        return f"{psutil.Process(int(pid)).create_time():.0f}" == began
    except psutil.NoSuchProcess:
        return False


def _requeue_orphans(study: optuna.Study) -> None:
    """Fail the trials whose process has died and queue them again, for the same MLflow run.

    The heartbeat would do so after a few minutes; on the same host the death of the process is known at once.
    """
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        who = trial.user_attrs.get(_WORKER)
        if who is None or _is_alive(who):
            continue  # one that never said who runs it is left to the heartbeat
        study.tell(trial.number, state=TrialState.FAIL)
        carried = {_ORIGIN: trial.user_attrs.get(_ORIGIN, trial.number)}
        if _RUN_ID in trial.user_attrs:
            carried[_RUN_ID] = trial.user_attrs[_RUN_ID]
        study.enqueue_trial(trial.params, user_attrs=carried)


def _existing(run_id: str | None) -> str | None:
    """Return ``run_id`` if the tracking store still has that run."""
    if run_id is None:
        return None
    try:
        mlflow.get_run(run_id)
    except mlflow.exceptions.MlflowException:
        return None
    return run_id


def main() -> int:
    """``python -m training.tune --task T --architecture A``."""
    arguments = architecture_parser(__doc__ or "").parse_args()
    params = read_params()
    task = params.task(arguments.task)
    architecture = get_architecture(arguments.architecture, task.family)
    prepared = read_prepared(arguments.task, task)
    tuned = tune(arguments.task, architecture, prepared, params)
    write_json(MODELS / arguments.task / architecture.name / "tuned.json", asdict(tuned))
    print(
        f"{arguments.task} {architecture.name}: best {tuned.metric} {tuned.value:.4f} on {tuned.objective} "
        f"after {tuned.trials} trials (run {tuned.run_id})"
    )
    return 0


if __name__ == "__main__":
    run_command(main)
