"""What is counted after a study that many worked on: trials lost and doubled, and what MLflow shows of them."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import mlflow
import optuna
from optuna.trial import TrialState

from tests.training.steps_worker import STEPS
from tests.training.tiny import NAME

DONE = (TrialState.COMPLETE, TrialState.PRUNED)


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


def trials_of(study: str, url: str) -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name=study, storage=url).get_trials(deepcopy=False)


def count(study: str, url: str, budget: int, parent: str) -> Counted:
    """Count the study's trials and its MLflow runs; every trial is known by the number that it began with."""
    trials = trials_of(study, url)
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
