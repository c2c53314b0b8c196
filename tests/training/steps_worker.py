"""A worker on a study of an architecture that only counts: ``python -m tests.training.steps_worker FOLDER``.

A fit makes eight steps, writes each down in ``steps.jsonl`` with its process, and a checkpoint after each.
"""

import argparse
import json
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
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
from training.studies.study import follow, tune
from training.studies.trial_queue import DONE
from training.studies.workers import add_worker_arguments

STEPS = 8
MODULE = "tests.training.steps_worker"


class Steps(Estimator):
    """Its error is its ``level``."""

    def __init__(self, level: float = 0.5, seconds: float = 0.05) -> None:
        self.level, self.seconds = level, seconds

    def fit(self, train: Any, validation: Any = None, context: FitContext | None = None) -> Self:
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


def architecture(seconds: float = 0.05) -> Architecture:
    def build_space(trial: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
        return {"level": trial.suggest_float("level", 0.1, 1), "seconds": seconds}

    return Architecture("steps", "pairs", "regression", Steps, build_space)


def question(budget: int) -> tuple[Prepared, Params]:
    folder, params = Path("data") / NAME, tiny_params(trials=budget)
    if not folder.is_dir():  # the first process makes the samples, the workers read them
        return tiny_prepared(folder), params
    task = params.task(NAME)
    task = replace(task, split=replace(task.split, mode="cell_blind"))
    return prepare(task.read(folder), task, params.seed), params


def counted(trials: Sequence[Any], budget: int) -> Counter[str]:
    """Count the trials that are done, lost and run twice."""
    done = Counter(trial.user_attrs["origin"] for trial in trials if trial.state in DONE)
    begun = {trial.user_attrs["origin"] for trial in trials if "origin" in trial.user_attrs}
    return Counter(
        done=len(done),
        lost=max(0, budget - len(done)) + len(begun - set(done)),
        doubled=sum(done.values()) - len(done) + max(0, len(done) - budget),
    )


def count(study: str, url: str, budget: int, parent: str) -> Counter[str]:
    """Count the trials that are done, and the faults of the study and its MLflow runs: a good study has none."""
    trials = optuna.load_study(study_name=study, storage=url).get_trials(deepcopy=False)
    assert [trial.number for trial in trials] == list(range(len(trials)))
    done = {trial.user_attrs["origin"] for trial in trials if trial.state in DONE}
    condition = f"tags.mlflow.parentRunId = '{parent}'"
    runs: Any = mlflow.search_runs(experiment_names=[NAME], filter_string=condition, output_format="list")
    of_runs = Counter(int(run.data.tags["trial.origin"]) for run in runs)
    found = counted(trials, budget) + Counter(
        running=sum(trial.state == TrialState.RUNNING for trial in trials),
        runs_doubled=sum(of_runs.values()) - len(of_runs),
        runs_missing=len(done - set(of_runs)),
        runs_open=sum(run.info.status != "FINISHED" for run in runs),
    )
    for run in runs:
        steps = [metric.step for metric in mlflow.MlflowClient().get_metric_history(run.info.run_id, "step/train_loss")]
        found += Counter(metrics_lost=len({*range(STEPS)} - {*steps}), metrics_doubled=len(steps) - len({*steps}))
    return +found


def steps_made(folder: Path) -> list[tuple[str, int, int]]:
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
    asked = (NAME, architecture(arguments.seconds), prepared, params)
    if arguments.worker_of:
        follow(*asked, parent=arguments.worker_of, number=arguments.number)
        return 0
    command = (MODULE, "--budget", str(arguments.budget), "--seconds", str(arguments.seconds))
    together: dict[str, Any] = {"workers": arguments.workers, "cluster": arguments.cluster}
    Path("tuned.json").write_text(json.dumps(asdict(tune(*asked, **together, command=command, progress=False))))
    return 0


if __name__ == "__main__":
    run_command(main)
