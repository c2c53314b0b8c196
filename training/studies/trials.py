"""One trial of a study: its objective, its MLflow run, and its checkpoints."""

import contextlib
from dataclasses import dataclass, field, fields
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

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
from training.estimator import FitContext, OnStep
from training.model.stress import Scored, answered, score, under_stress
from training.search import allowed
from training.studies.front import COSTS, Cost
from training.studies.methods import grid
from training.studies.trial_queue import ORIGIN, RUN_ID

CHECKPOINTS = Path("checkpoints")
TRIAL_ORIGIN = "trial.origin"  # number of the trial that a run began as; the run keeps it when the trial is run again


def fit_settings(params: Params, task: Task) -> dict[str, Any]:
    """Return the settings of a fit besides hyperparameters: limits of the budget, seed and device."""
    limits = {"rounds": task.tune.rounds.of(params.budget), "epochs": task.tune.epochs.of(params.budget)}
    own = {each.name for each in fields(task.tune)} - {each.name for each in fields(Tune)}
    others = {name: getattr(task.tune, name) for name in sorted(own)}
    return {**limits, "seed": params.seed, "device": params.device, **others}


def run_tags(architecture: Architecture, params: Params, *, split: str, study: str) -> dict[str, Any]:
    """Return the tags of runs of studies and fits."""
    settings = {"budget": params.budget, "seed": params.seed}
    return {"architecture": architecture.name, **settings, "split.sha256": split, "study": study}


@dataclass(frozen=True, kw_only=True)
class Search:
    """The question of a study: hyperparameters of an architecture, for the task ``name``."""

    name: str
    architecture: Architecture
    prepared: Prepared
    params: Params
    rotation: int | None = None  # the part without which ``prepared`` was made, see `training.model.rotation`

    @property
    def task(self) -> Task:
        """Return the task."""
        return self.params.task(self.name)

    @property
    def title(self) -> str:
        """Return the name of the study's run."""
        return f"tune {self.architecture.name}" + ("" if self.rotation is None else f" without part {self.rotation}")

    @property
    def budget(self) -> int:
        """Return the number of trials: of a grid at most as many as it has points."""
        asked = self.task.tune.trials.of(self.params.budget) if self.architecture.space else 1
        return min(asked, len(self.queue)) if self.task.tune.sampler == "grid" else asked

    @cached_property
    def queue(self) -> list[dict[str, Any]]:
        """Return the points that are tried first: the defaults, and of a grid all others."""
        architecture, tuning = self.architecture, self.task.tune
        if architecture.space is None:
            return []
        first = architecture.first_trial(self.settings)
        if tuning.sampler != "grid":
            return [first]
        points = grid(architecture.space, self.settings, tuning.trials.of(self.params.budget), self.params.seed)
        return [first, *(point for point in points if not point.items() <= first.items())]

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Return `fit_settings` with the limits that the data sets to the search space."""
        return allowed(fit_settings(self.params, self.task), self.task.modality, self.prepared)

    def tags(self, study: str) -> dict[str, Any]:
        """Return the tags of the study's runs."""
        weights = self.architecture.origin(self.architecture.defaults, fit_settings(self.params, self.task))
        part = {} if self.rotation is None else {"rotation": self.rotation}
        return run_tags(self.architecture, self.params, split=self.prepared.sha256, study=study) | weights | part


@dataclass(frozen=True, kw_only=True)
class Objective:
    """Runs a trial of ``study`` under the MLflow run ``parent``; trials of one worker share ``memory``."""

    search: Search
    study: str
    parent: str
    memory: dict[Any, Any] = field(default_factory=dict)

    def __call__(self, trial: optuna.Trial) -> tuple[float, ...]:
        """Return the value of the trial, and its cost where the study has one.

        Raises ``optuna.TrialPruned`` where it was pruned or diverged.
        """
        origin, architecture = trial.user_attrs[ORIGIN], self.search.architecture
        hyperparameters = architecture.space(trial, self.search.settings) if architecture.space else {}
        trial.set_user_attr("hyperparameters", hyperparameters)
        tags = {**self.search.tags(self.study), "trial": trial.number, TRIAL_ORIGIN: origin}
        run_id = existing_run(trial.user_attrs.get(RUN_ID))
        label = f"{architecture.name} trial {origin}"
        found: dict[str, float] = {}
        with tracking.run(self.search.name, "tune", label, tags=tags, run_id=run_id, parent=self.parent) as child:
            trial.set_user_attr(RUN_ID, child.info.run_id)
            tracking.patiently(lambda: mlflow.log_params(hyperparameters))
            with (
                sending(child.info.run_id, CHECKPOINTS / self.study / f"{origin}.metrics.jsonl") as steps,
                contextlib.suppress(optuna.TrialPruned),  # which would mark the run as failed
            ):
                found = self._measured(trial, hyperparameters, origin, steps)
            if found:
                tracking.patiently(lambda: mlflow.log_metrics(found))
            else:
                tracking.patiently(lambda: mlflow.set_tag("pruned", "true"))
        if not found:
            raise optuna.TrialPruned
        return tuple(found.values())

    @property
    def _cost(self) -> Cost | None:
        """Return what is minimized beside the metric."""
        return COSTS.get(self.search.task.tune.cost)

    @cached_property
    def _parts(self) -> list[tuple[Any, Any]]:
        """Return the pairs of training and held-out samples that a trial is scored on."""
        task, prepared = self.search.task, self.search.prepared
        if task.tune.objective == "validation":
            return [(prepared.side("train"), prepared.side("validation"))]
        rows = prepared.rows("train", "validation")
        fold = prepared.table["fold"].to_numpy()[rows]
        take = prepared.samples.take
        return [(take(rows[fold != k]), take(rows[fold == k])) for k in range(task.split.folds)]

    @cached_property
    def _stressed(self) -> list[dict[str, Any]]:
        """Return the held-out samples of each part under stress, where trials are scored by it."""
        task, how = self.search.task, {"seed": self.search.params.seed, "parts": len(self._parts)}
        return [under_stress(task, task.tune.metric, held_out, train, **how) for train, held_out in self._parts]

    def _measured(
        self, trial: optuna.Trial, hyperparameters: dict[str, Any], origin: int, steps: StepMetrics
    ) -> dict[str, float]:
        """Return the objectives of a trial, by the names of the run's metrics."""
        task, values, costs, stressed = self.search.task, list[float](), list[float](), list[dict[str, Scored]]()
        scored = partial(score, get_problem(task.problem), task.tune.metric)
        for number, (train, held_out) in enumerate(self._parts):
            checkpoint = CHECKPOINTS / self.study / f"{origin}.{number}.pt"
            context = FitContext(self._reporter(trial, steps, number), checkpoint, self.memory)
            estimator = self.search.architecture.build(hyperparameters, **self.search.settings)
            predicted = estimator.fit(train, held_out, context).outputs(held_out)
            stressed.append(answered(estimator, self._stressed[number]))
            if not all(np.isfinite(each).all() for each in (predicted, *(each for _, each in stressed[-1].values()))):
                tracking.patiently(lambda: mlflow.set_tag("diverged", "true"))
                raise optuna.TrialPruned  # the study continues
            home = held_out.target, predicted
            values.append(scored(home, stressed[-1:]))
            if self._cost:
                costs.append(self._cost.measure(estimator, held_out))
            elif len(self._parts) > 1:
                trial.report(float(np.mean(values)), number)
                if number + 1 < len(self._parts) and trial.should_prune():
                    raise optuna.TrialPruned
        value = scored(home, stressed) if stressed[-1] else float(np.mean(values))  # a fold has few rows of a kind
        found = {f"validation/{task.tune.metric}": value}
        return found | ({self._cost.metric: self._cost.mean(costs)} if self._cost else {})

    def _reporter(self, trial: optuna.Trial, steps: StepMetrics, number: int) -> OnStep:
        """Return the function that logs the steps of part ``number``, and prunes by them where it is the only part."""
        several, seen = len(self._parts) > 1, list[int]()
        problem = get_problem(self.search.task.problem)
        sign = -1.0 if higher_is_better(self.search.task.tune.metric) else 1.0  # of losses, in the study's direction

        def on_step(step: int, metrics: dict[str, float]) -> None:
            steps.log(step_metrics(metrics, f"_fold_{number}" if several else ""), step)
            watched = next((metrics[key] for key in problem.losses if key in metrics), None)
            if several or watched is None or step in seen or self._cost:  # Optuna ends no trial of two objectives
                return
            seen.append(step)
            # A trial that was resumed is compared with others at the same age.
            trial.report(sign * watched, seen[0] + len(seen) - 1)
            if trial.should_prune():
                raise optuna.TrialPruned

        return on_step


def forget(study: str, trial: optuna.trial.FrozenTrial) -> None:
    """Delete the checkpoints of a trial that has ended."""
    folder, origin = CHECKPOINTS / study, trial.user_attrs.get(ORIGIN, trial.number)
    for path in (*folder.glob(f"{origin}.*.pt"), folder / f"{origin}.metrics.jsonl"):
        path.unlink(missing_ok=True)


def step_metrics(metrics: dict[str, float], suffix: str = "") -> dict[str, float]:
    """Return metrics of a step under other names: MLflow shows the last step's, which is not the one that is kept."""
    return {f"step/{key}{suffix}": value for key, value in metrics.items()}


def existing_run(run_id: str | None) -> str | None:
    """Return ``run_id`` if the tracking store has that run."""
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
    runs = runs_of(task, f"tags.study = '{study}' and tags.stage = 'tune'")
    return next((run.info.run_id for run in runs if TRIAL_ORIGIN not in run.data.tags), None)


def settle_runs(study: optuna.Study, task: str, parent: str) -> None:
    """Give the runs of an ended study the status of their trials, and delete doubles made by lost answers."""
    client = mlflow.MlflowClient()
    last = {trial.user_attrs.get(ORIGIN, trial.number): trial for trial in study.get_trials(deepcopy=False)}
    for run in runs_of(task, f"tags.mlflow.parentRunId = '{parent}'"):
        trial, run_id = last.get(int(run.data.tags.get(TRIAL_ORIGIN, -1))), run.info.run_id
        if trial is None:
            continue
        status = "FAILED" if trial.state == TrialState.FAIL else "FINISHED"
        if trial.user_attrs.get(RUN_ID) not in (None, run_id):
            tracking.patiently(partial(client.delete_run, run_id))
        elif run.info.status != status:
            tracking.patiently(partial(client.set_terminated, run_id, status))


def runs_of(task: str, condition: str, order: Literal["ASC", "DESC"] = "DESC") -> list[mlflow.entities.Run]:
    """Return all runs of the task under a condition, by their start."""
    how = {"order_by": [f"attributes.start_time {order}"], "output_format": "list"}
    return tracking.patiently(lambda: mlflow.search_runs([tracking.experiment(task)], condition, **how))
