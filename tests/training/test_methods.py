"""Samplers, pruners, grids: a point that is tried twice or never, a name of params.yaml that means something else."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines import tracking
from pipelines.params import PerBudget, read_params
from tests.training.test_recipes import leaning
from tests.training.tiny import ROOT
from training.architectures import Range, draw, get_architecture, names
from training.studies.methods import grid, log_importance, pruner, sampler
from training.studies.study import tune


def tree(trial: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Draw a depth, and what depends on it."""
    drawn = draw(trial, rate=Range(1e-3, 1e-1, log=True), kind=["flat", "deep"])
    if drawn["kind"] == "deep":
        drawn |= draw(trial, layers=Range(1, 3))
    return drawn | {"derived": 1.0}


def test_a_grid_has_every_point_once_and_only_points_of_the_space() -> None:
    points = grid(tree, {}, 100, seed=0)
    rates = [1e-3, pytest.approx(1e-2), 1e-1]
    assert len(points) == 3 * (1 + 3) == len({tuple(point.items()) for point in points})
    assert sorted({point["rate"] for point in points}) == rates
    assert {point.get("layers") for point in points if point["kind"] == "deep"} == {1, 2, 3}
    assert all("layers" not in point for point in points if point["kind"] == "flat")
    assert grid(tree, {}, 100, seed=1) != points  # in another order
    assert grid(lambda trial, settings: draw(trial, one=["a"], few=Range(1, 2)), {}, 9, seed=0) in (
        [{"one": "a", "few": 1}, {"one": "a", "few": 2}],
        [{"one": "a", "few": 2}, {"one": "a", "few": 1}],
    )


@given(most=st.integers(1, 30), seed=st.integers(0, 3))
def test_a_grid_larger_than_the_budget_is_sampled_without_repetition(most: int, seed: int) -> None:
    points = grid(tree, {}, most, seed)
    assert len(points) == min(most, 12) == len({tuple(sorted(point.items())) for point in points})
    assert points == grid(tree, {}, most, seed)  # in every worker


@pytest.mark.parametrize("problem", [("pairs", "regression"), ("images", "classification"), ("profiles", "survival")])
def test_every_architecture_has_a_grid(problem: tuple[str, str]) -> None:
    task = next(t for t in read_params(ROOT / "params.yaml").tasks.values() if (t.modality, t.problem) == problem)
    settings = {"modes": ["head", "partial"], "weights": "none", "rounds": 10, "epochs": 2}
    for name in names(*problem):
        architecture = get_architecture(name, *problem)
        if architecture.space is not None:
            points = grid(architecture.space, settings, 20, seed=0)
            assert 1 < len(points) <= 20, name
            for point in points:  # Optuna takes each as it is
                trial = optuna.trial.FixedTrial(point)
                architecture.space(trial, settings)
                assert trial.params == point
    assert task.tune.sampler == "tpe" and task.tune.pruner == "median"


@pytest.mark.parametrize("name", ["tpe", "random", "cmaes", "grid"])
def test_a_study_by_each_sampler_ends_and_its_run_names_it(store: str, name: Any) -> None:
    params, architecture, prepared = leaning("validation")
    task: Any = params.task("blood_cell")
    task = replace(task, tune=replace(task.tune, sampler=name, pruner="none", trials=PerBudget(6, 6)))
    tuned = tune("blood_cell", architecture, prepared, replace(params, tasks={"blood_cell": task}), progress=False)
    assert tuned.trials == (3 if name == "grid" else 6)  # the space has three points
    assert mlflow.get_run(tuned.run_id).data.params["sampler"] == name
    assert tuned.hyperparameters["level"] == 1.0


def test_names_are_the_methods_of_optuna() -> None:
    kinds = {"tpe": "TPESampler", "random": "RandomSampler", "grid": "RandomSampler", "cmaes": "CmaEsSampler"}
    assert {name: type(sampler(name, 0)).__name__ for name in kinds} == kinds
    ends = {"median": "MedianPruner", "asha": "SuccessiveHalvingPruner", "hyperband": "HyperbandPruner"}
    assert {name: type(pruner(name)).__name__ for name in (*ends, "none")} == {**ends, "none": "NopPruner"}


@pytest.mark.parametrize("name", ["asha", "hyperband", "none"])
def test_hopeless_trials_end_early_unless_none_may(name: str) -> None:
    study = optuna.create_study(study_name="one", pruner=pruner(name), sampler=sampler("random", 0))
    steps: list[int] = []

    def objective(trial: optuna.Trial) -> float:
        level = float(trial.number)  # each is worse than the one before
        for step in range(1, 28):
            trial.report(level, step)
            if trial.should_prune():
                steps.append(step)
                raise optuna.TrialPruned
        steps.append(27)
        return level

    study.optimize(objective, n_trials=20)
    assert steps[0] == 27
    assert (np.mean(steps) < 20) if name != "none" else (steps == [27] * 20)


def test_importance_is_logged_of_what_matters(store: str, tmp_path: Path) -> None:
    study = optuna.create_study(sampler=sampler("random", 0))
    study.optimize(lambda trial: trial.suggest_float("much", 0, 1) + 0.01 * trial.suggest_float("little", 0, 1), 30)
    with tracking.run("blood_cell", "tune", "a study") as run:
        log_importance(study)
    found = mlflow.get_run(run.info.run_id).data.metrics
    assert found["importance/much"] > 0.8 > 0.2 > found["importance/little"]
    (figure,) = mlflow.MlflowClient().list_artifacts(run.info.run_id, "figures")
    assert figure.path == "figures/importance.png"
    short = optuna.create_study(sampler=sampler("random", 0))
    short.optimize(lambda trial: trial.suggest_float("much", 0, 1), 3)
    with tracking.run("blood_cell", "tune", "a study") as run:
        log_importance(short)
    assert mlflow.get_run(run.info.run_id).data.metrics == {}
