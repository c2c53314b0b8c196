"""A worker on a study of an architecture that only counts: ``python -m tests.training.steps_worker FOLDER``.

A fit makes eight steps, writes each down in ``steps.jsonl`` with its process, and a checkpoint after each.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

import mlflow
import numpy as np
import optuna
from optuna.trial import TrialState

from pipelines.command import run_command
from pipelines.datasets import Prepared, prepare
from pipelines.params import Params
from pipelines.samples.response import ResponseSamples
from tests.training.tiny import NAME, tiny_params, tiny_prepared
from training.architectures import Architecture
from training.estimator import Estimator, FitContext
from training.studies.study import Tuned, follow, tune
from training.studies.trial_queue import DONE
from training.studies.workers import WorkerCommand, add_worker_arguments

STEPS = 8
MODULE = "tests.training.steps_worker"


class Steps(Estimator):
    """Its error is its ``level``."""

    def __init__(self, level: float = 0.5, seconds: float = 0.05) -> None:
        self.level, self.seconds = level, seconds

    def fit(
        self, train: ResponseSamples, validation: ResponseSamples | None = None, context: FitContext | None = None
    ) -> Self:
        assert context is not None and context.checkpoint is not None and context.on_step is not None
        context.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        begun = int(context.checkpoint.read_text()) if context.checkpoint.is_file() else 0
        for step in range(begun, STEPS):
            time.sleep(self.seconds)
            context.on_step(step, {"train_loss": self.level + step})
            with Path("steps.jsonl").open("a") as file:
                print(json.dumps([context.checkpoint.name.split(".")[0], step, os.getpid()]), file=file)
            temporary = context.checkpoint.with_suffix(f".{os.getpid()}")
            temporary.write_text(str(step + 1))
            temporary.replace(context.checkpoint)
        return self

    def predict(self, samples: ResponseSamples) -> np.ndarray:
        return samples.target + self.level

    def state(self) -> dict[str, Any]:
        return {}

    def restore(self, state: dict[str, Any]) -> Self:
        return self


def architecture(seconds: float = 0.05) -> Architecture:
    def build_space(trial: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
        return {"level": trial.suggest_float("level", 0.1, 1), "seconds": seconds}

    return Architecture("steps", "pairs", "regression", Steps, build_space)


def question(budget: int) -> tuple[Prepared, Params]:
    """Return samples and parameters, the same in every process."""
    folder, params = Path("data") / NAME, tiny_params(trials=budget)
    if not folder.is_dir():  # the first process makes the samples, the workers read them
        return tiny_prepared(folder), params
    task = params.task(NAME)
    task = replace(task, split=replace(task.split, mode="cell_blind"))
    return prepare(task.read(folder), task, params.seed), params


@dataclass(frozen=True)
class Counted:
    """Trials of a study by what became of them; a good study has none but ``done``."""

    done: int
    lost: int
    doubled: int
    runs_doubled: int
    runs_missing: int
    runs_untrue: int
    metrics_lost: int
    metrics_doubled: int

    def faults(self) -> dict[str, int]:
        return {key: value for key, value in vars(self).items() if key != "done" and value}


def count(study: str, url: str, budget: int, parent: str) -> Counted:
    """Count the study's trials and its MLflow runs; every trial is known by the number that it began with."""
    trials = optuna.load_study(study_name=study, storage=url).get_trials(deepcopy=False)
    assert [trial.number for trial in trials] == list(range(len(trials)))
    done = Counter(trial.user_attrs["origin"] for trial in trials if trial.state in DONE)
    begun = {trial.user_attrs["origin"] for trial in trials if "origin" in trial.user_attrs}
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name(NAME)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], f"tags.mlflow.parentRunId = '{parent}'", max_results=50_000)
    by_origin = Counter(int(run.data.tags["trial.origin"]) for run in runs)
    lost_metrics = doubled_metrics = 0
    for run in runs:
        steps = [metric.step for metric in client.get_metric_history(run.info.run_id, "step_train_loss")]
        lost_metrics += len(set(range(STEPS)) - set(steps))
        doubled_metrics += len(steps) - len(set(steps))
    assert sum(trial.state == TrialState.RUNNING for trial in trials) == 0
    return Counted(
        done=len(done),
        lost=max(0, budget - len(done)) + len(begun - set(done)),
        doubled=sum(done.values()) - len(done) + max(0, len(done) - budget),
        runs_doubled=sum(by_origin.values()) - len(by_origin),
        runs_missing=len(set(done) - set(by_origin)),
        runs_untrue=sum(run.info.status != "FINISHED" for run in runs),
        metrics_lost=lost_metrics,
        metrics_doubled=doubled_metrics,
    )


def steps_made(folder: Path) -> list[tuple[str, int, int]]:
    """Return trial, step and process of every step in the order they were made."""
    path = folder / "steps.jsonl"
    lines = path.read_text().splitlines() if path.is_file() else []
    return [tuple(json.loads(line)) for line in lines]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--budget", type=int, required=True)
    parser.add_argument("--seconds", type=float, default=0.05)
    add_worker_arguments(parser)
    arguments = parser.parse_args(argv)
    prepared, params = question(arguments.budget)
    if arguments.worker_of:
        follow(
            NAME, architecture(arguments.seconds), prepared, params, parent=arguments.worker_of, number=arguments.number
        )
        return 0
    tuned: Tuned = tune(
        NAME,
        architecture(arguments.seconds),
        prepared,
        params,
        workers=arguments.workers,
        cluster=arguments.cluster,
        command=WorkerCommand(MODULE, ("--budget", str(arguments.budget), "--seconds", str(arguments.seconds))),
        progress=False,
    )
    Path("tuned.json").write_text(json.dumps(asdict(tuned)))
    return 0


if __name__ == "__main__":
    run_command(main)
