"""A model must not leave for another runtime where its answers are not those of the endpoint."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from pipelines.errors import UserError
from pipelines.files import read_json
from serving import export, exported
from tests.serving.served import IMAGES, PROFILES, images_prepared, profiles_prepared, save_fitted, split
from tests.training.survival_samples import follow_up_samples, real_task
from tests.training.tiny import NAME, response_task, tiny_params, tiny_prepared
from training.model.cross_fit import CrossFitted
from training.model.predictor import Predictor

Makes = Callable[[Path], Any]


def trees(folder: Path) -> Any:
    task, prepared = profiles_prepared()
    save_fitted(PROFILES, "xgboost", task, prepared, folder / "model", selection="top_30")
    return prepared


def hazards(folder: Path) -> Any:
    task: Any = real_task()
    task = replace(task, data=replace(task.data, horizons=(40.0, 80.0), horizon=80.0))
    prepared = split(follow_up_samples(120))
    save_fitted("breast_survival", "cox_mlp", task, prepared, folder / "model", width=4)
    return prepared


def images(folder: Path) -> Any:
    task, prepared = images_prepared(30, 64)
    save_fitted(IMAGES, "alexnet", task, prepared, folder / "model", weights="none", mode="head", isolation="cell")
    return prepared


def molecules(folder: Path) -> Any:
    prepared, task = tiny_prepared(folder / "data"), response_task(tiny_params())
    save_fitted(NAME, "gnn", task, prepared, folder / "model", width=8, units=8, imputation="drop")
    return prepared


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Makes], tuple[Predictor, Any]]:
    def of(makes: Makes) -> tuple[Predictor, Any]:
        folder = tmp_path_factory.mktemp("made")
        prepared = makes(folder)
        return Predictor().read(folder / "model"), prepared

    return cache(of)


@pytest.fixture
def offered(made: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[Makes], Any]:
    """Return a function that makes a model the only one of the registry, and returns its test rows."""

    def of(makes: Makes) -> Any:
        model, prepared = made(makes)
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # as the command sets it; other tests get it back
        monkeypatch.setattr(exported, "load", lambda uri, served: model if served else None)
        monkeypatch.setattr(exported, "read_prepared", lambda name, task: prepared)
        return model, prepared.samples.take(prepared.tested)

    return of


@pytest.mark.parametrize("makes", [trees, hazards, images, molecules])
def test_the_file_answers_alone_as_the_endpoint_does(makes: Makes, offered: Any, tmp_path: Path) -> None:
    model, samples = offered(makes)
    assert export.main(["--model", "models:/one@staging", "--out", str(tmp_path / "out")]) == 0
    about = read_json(tmp_path / "out" / exported.ABOUT)
    assert about["rows_compared"] == len(samples) and about["largest_difference"] <= about["tolerance"] == 1e-5
    session = onnxruntime.InferenceSession(tmp_path / "out" / exported.MODEL, providers=["CPUExecutionProvider"])
    assert [each.name for each in session.get_inputs()] == list(about["inputs"])
    graph = model.estimator.graph(model.contract)
    for rows in (samples, samples.take(np.array([2]))):
        (found,) = session.run(None, graph.inputs(rows))
        np.testing.assert_allclose(found, model.outputs(rows), rtol=1e-5, atol=1e-5)


def test_models_of_several_folds_leave_as_their_mean(offered: Any, tmp_path: Path) -> None:
    model, _ = offered(molecules)
    one = model.estimator
    both = CrossFitted(of="gnn", hyperparameters=one.get_params(), modality="pairs", problem="regression")
    both.members_ = [one, one]
    model.estimator = both
    try:
        about = exported.export("models:/one@staging", tmp_path / "out")
    finally:
        model.estimator = one
    assert {name.rpartition("_")[2] for name in about["inputs"]} == {"0", "1"}


@pytest.mark.parametrize("fault", ["answers", "folder", "format"])
def test_what_cannot_be_vouched_for_is_refused_and_leaves_nothing(
    fault: str, offered: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, _ = offered(trees)
    out = tmp_path / "out"
    if fault == "answers":
        answers = model.outputs
        monkeypatch.setattr(model, "outputs", lambda samples: answers(samples) + 2e-5)
        wrong = "differs from the endpoint by 2.0e-05"
    elif fault == "folder":
        out.mkdir()
        wrong = "out exists"
    else:
        monkeypatch.setattr(model, "estimator", model.baseline)
        wrong = "majority_class cannot be exported"
    with pytest.raises(UserError, match=wrong):
        exported.export("models:/one@staging", out)
    assert [path.name for path in tmp_path.rglob("*")] == (["out"] if fault == "folder" else [])
