"""Studies with a cost: a trial that another beats, hyperparameters that the rule does not name, work that is lost."""

import io
from pathlib import Path
from typing import Any, Self

import mlflow
import numpy as np
import optuna
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import TrialState

from pipelines.datasets import Prepared
from pipelines.files import read_json
from pipelines.samples.response import ResponseSamples
from tests.training.tiny import NAME, tiny_params
from training import tune as command
from training.architectures import Architecture
from training.estimator import Estimator, FitContext
from training.model.cost import milliseconds, saved_megabytes
from training.studies.front import choose
from training.studies.storage import storage_url
from training.studies.study import tune

POINTS = st.lists(st.tuples(st.integers(-4, 4).map(float), st.integers(1, 5).map(float)), min_size=1, max_size=12)


@given(POINTS, st.sampled_from([0.0, 0.25, 1.0]), st.booleans())
def test_the_cheapest_of_the_good_ones_is_chosen_and_nothing_beats_it(
    points: list[tuple[float, float]], tolerance: float, higher: bool
) -> None:
    value, cost = points[choose(points, tolerance, higher=higher)]
    sign = -1 if higher else 1
    losses = [sign * each for each, _ in points]
    most = min(losses) + tolerance * abs(min(losses))
    assert sign * value <= most
    assert cost == min(each for loss, (_, each) in zip(losses, points, strict=True) if loss <= most)
    assert not [1 for loss, (_, each) in zip(losses, points, strict=True) if each <= cost and loss < sign * value]
    if tolerance == 0:
        assert sign * value == min(losses)


class Sized(Estimator):
    """The more it keeps, the smaller its error; the third fit is killed, the fourth diverges."""

    fitted = ("kept",)
    fits = 0

    def __init__(self, units: int = 3, waste: int = 0) -> None:
        self.units, self.waste = units, waste

    def fit(self, train: Any, validation: Any = None, context: FitContext | None = None) -> Self:
        type(self).fits += 1
        if self.fits == 3:
            raise KeyboardInterrupt  # Optuna fails the trial as if its process had died
        assert context is not None and context.on_step is not None
        context.on_step(0, {"validation_rmse": 1.0})
        self.kept_ = np.zeros(1000 * (self.units + self.waste))
        return self

    def predict(self, samples: ResponseSamples) -> np.ndarray:
        return samples.target + (np.nan if self.fits == 4 else 1.0 / self.units)


def test_a_study_with_a_cost_ends_with_its_front_and_goes_on_after_a_kill(
    prepared: Prepared, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Sized, "fits", 0)
    space: Any = lambda trial, settings: {  # noqa: E731
        "units": trial.suggest_int("units", 1, 60),
        "waste": trial.suggest_int("waste", 0, 3),
    }
    architecture = Architecture("sized", "pairs", "regression", Sized, space)
    params = tiny_params(trials=8, cost="size", tolerance=0.5, pruner="none")
    with pytest.raises(KeyboardInterrupt):
        tune(NAME, architecture, prepared, params, progress=False)
    tuned = tune(NAME, architecture, prepared, params, progress=False)
    assert tuned == tune(NAME, architecture, prepared, params, progress=False), "a finished study is not run again"

    (summary,) = optuna.get_all_study_summaries(storage_url())
    trials = optuna.load_study(study_name=summary.study_name, storage=storage_url()).trials
    assert [trial.state.name for trial in trials].count("COMPLETE") == 7
    assert [trial.state.name for trial in trials].count("PRUNED") == 1 and tuned.trials == 8
    assert trials[0].params == {"units": 3, "waste": 0}, "the defaults come first"
    killed = next(trial for trial in trials if trial.state == TrialState.FAIL)
    again = next(trial for trial in trials if trial.user_attrs.get("retry_of") == killed.number)
    assert again.user_attrs["mlflow_run_id"] == killed.user_attrs["mlflow_run_id"]

    points = tuned.front["points"]
    assert {point["trial"] for point in points} == {t.number for t in trials if t.state == TrialState.COMPLETE}
    beaten = {
        point["trial"]
        for point in points
        for other in points
        if other["value"] <= point["value"] and other["cost"] <= point["cost"]
        if other["value"] < point["value"] or other["cost"] < point["cost"]
    }
    assert beaten == {point["trial"] for point in points if point["place"] == "beaten"}
    (chosen,) = (point for point in points if point["place"] == "chosen")
    good = [point for point in points if point["value"] <= 1.5 * min(each["value"] for each in points)]
    assert chosen["cost"] == min(point["cost"] for point in good)
    assert (tuned.value, tuned.hyperparameters) == (chosen["value"], chosen["hyperparameters"])

    runs = {point["trial"]: mlflow.get_run(point["run_id"]).data.metrics for point in points}
    for point in points:
        logged = {"validation/rmse": point["value"], "cost/model_megabytes": point["cost"]}
        assert {key: runs[point["trial"]][key] for key in logged} == pytest.approx(logged)
    study = mlflow.get_run(tuned.run_id)
    assert (study.data.params["cost"], study.data.tags["best_trial"]) == ("size", str(chosen["trial"]))
    assert study.data.metrics["best/rmse"] == min(point["value"] for point in points)
    assert study.data.metrics["importance/units"] > study.data.metrics["importance/waste"]
    table = pd.read_csv(io.StringIO(mlflow.artifacts.load_text(f"runs:/{tuned.run_id}/tables/front.csv")))
    assert set(table["trial"]) == {point["trial"] for point in points} - beaten and "units" in table
    figures = [each.path for each in mlflow.MlflowClient().list_artifacts(tuned.run_id, "figures")]
    assert "figures/front.png" in figures


def test_models_of_every_kind_have_costs(prepared: Prepared, fitted: Any) -> None:
    held_out = prepared.side("validation")
    for name in ("mean_effects", "elastic_net", "xgboost", "mlp"):
        assert milliseconds(fitted(name), held_out) > 0 and saved_megabytes(fitted(name)) > 0, name


def test_the_command_leaves_a_front_for_people_and_none_of_a_study_without_a_cost(
    prepared: Prepared, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.datasets.read_prepared", lambda *_: prepared)
    arguments = ["--task", NAME, "--architecture", "elastic_net"]
    path = tmp_path / "reports" / NAME / "fronts" / "elastic_net.json"
    for cost in ("latency", "none"):
        params = tiny_params(trials=2, objective="cross_validation", cost=cost, pruner="none")
        monkeypatch.setattr(command, "read_params", lambda params=params: params)
        assert command.main(arguments) == 0
        assert path.exists() == (cost == "latency")
        if path.exists():
            found = read_json(path)
            (chosen,) = (point for point in found["points"] if point["place"] == "chosen")
            assert (found["cost"], len(found["points"])) == ("cost/latency_ms_batch_1", 2)
            assert found["hyperparameters"] == chosen["hyperparameters"]
    assert "front" not in read_json(tmp_path / "models" / NAME / "elastic_net" / "tuned.json")
