"""The contract of every architecture: a new file in `training.architectures` passes this suite or does not land."""

from __future__ import annotations

import json
import pickle
import random
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
import torch
from safetensors.numpy import load_file
from sklearn.base import clone

from pipelines.prepared import Prepared
from pipelines.samples.response import UNKNOWN, ResponseSamples
from tests.training.tiny import FittedModel, build, changed, question, rmse, with_omics
from training.architectures import Architecture, get_architecture, names
from training.estimator import Estimator, FitContext
from training.model.final import CrossFitted
from training.model.track import alone
from training.networks.response_network import ResponseNetwork

NETWORKS = [
    name
    for name in names("pairs", "regression")
    if issubclass(get_architecture(name, "pairs", "regression").estimator, ResponseNetwork)
]
ROUNDING = 1e-4  # two runs of one model on different batches differ by the rounding of sums, no more


@pytest.fixture(params=names("pairs", "regression"))
def architecture(request: pytest.FixtureRequest) -> Architecture:
    return get_architecture(request.param, "pairs", "regression")


@pytest.fixture
def model(architecture: Architecture, fitted: FittedModel) -> Estimator:
    return fitted(architecture.name)


@pytest.fixture
def unseen(prepared: Prepared) -> ResponseSamples:
    return prepared.side("test")


def _two_folds(prepared: Prepared, architecture: Architecture) -> CrossFitted:
    rows = prepared.rows("train", "validation")
    folds = prepared.table["fold"].to_numpy()[rows] % 2
    every = build(architecture).get_params(deep=False)
    return CrossFitted(architecture.name, every, modality="pairs", problem="regression").fit(
        prepared.samples.take(rows), folds=folds
    )


def _content(samples: ResponseSamples) -> list[Any]:
    tables = [samples.pairs, samples.cell_lines, samples.drugs, *samples.omics.values()]
    return [pd.util.hash_pandas_object(table).sum() for table in tables] + [samples.cell.sum(), samples.drug.sum()]


# Predicting


def test_a_prediction_is_a_finite_float64_for_each_sample(model: Estimator, prepared: Prepared) -> None:
    prediction = model.predict(prepared.samples)
    assert prediction.shape == (len(prepared.samples),)
    assert prediction.dtype == np.float64
    assert np.isfinite(prediction).all()


def test_no_sample_gives_no_prediction(model: Estimator, unseen: ResponseSamples) -> None:
    assert model.predict(unseen.take(np.array([], dtype=int))).shape == (0,)


def test_a_prediction_does_not_depend_on_the_other_rows(model: Estimator, unseen: ResponseSamples) -> None:
    rows = np.random.default_rng(0).permutation(len(unseen))[:17]
    np.testing.assert_allclose(model.predict(unseen.take(rows)), model.predict(unseen)[rows], rtol=0, atol=ROUNDING)


def test_one_row_alone_is_predicted_as_among_others(model: Estimator, unseen: ResponseSamples) -> None:
    one = alone(unseen, 1)
    assert (len(one.cell_lines), len(one.drugs)) == (1, 1)
    np.testing.assert_allclose(model.predict(one), model.predict(unseen)[:1], rtol=0, atol=ROUNDING)


def test_the_order_of_genes_in_a_table_does_not_matter(model: Estimator, unseen: ResponseSamples) -> None:
    rng = np.random.default_rng(1)
    shuffled = {name: table.iloc[:, rng.permutation(table.shape[1])] for name, table in unseen.omics.items()}
    assert any(list(shuffled[name]) != list(unseen.omics[name]) for name in shuffled)
    np.testing.assert_array_equal(model.predict(with_omics(unseen, shuffled)), model.predict(unseen))


@pytest.mark.parametrize("smiles", ["CC(=O)Oc1ccccc1C(=O)O", None])
def test_an_unseen_drug_is_predicted(model: Estimator, prepared: Prepared, smiles: str | None) -> None:
    known = prepared.samples.cell_lines.index[0]
    _assert_sane(model, prepared, question(prepared.samples, line=known, drug="NEW", smiles=smiles))


def test_an_unseen_line_of_an_unseen_tissue_is_predicted(model: Estimator, prepared: Prepared) -> None:
    drug = prepared.samples.drugs.index[0]
    asked = question(prepared.samples, line="NEW", drug=drug, smiles=prepared.samples.drugs["smiles"].iloc[0])
    for tissue in ("a tissue nobody has seen", UNKNOWN):
        _assert_sane(model, prepared, replace(asked, cell_lines=asked.cell_lines.assign(tissue=tissue)))


def test_a_line_without_any_measurement_is_predicted(model: Estimator, prepared: Prepared) -> None:
    asked = question(prepared.samples, line="NEW", drug="NEW", smiles=None)
    _assert_sane(model, prepared, with_omics(asked, {name: table * np.nan for name, table in asked.omics.items()}))


def _assert_sane(model: Estimator, prepared: Prepared, asked: ResponseSamples) -> None:
    prediction = model.predict(asked)
    target = prepared.side("train").target
    assert prediction.shape == (1,)
    assert abs(prediction[0] - target.mean()) < 5 * target.std()


# Fitting


def test_the_same_seed_gives_the_same_model(architecture: Architecture, model: Estimator, prepared: Prepared) -> None:
    random.seed(99)
    np.random.seed(99)  # noqa: NPY002  # a model that draws from the global state would show it
    torch.manual_seed(99)
    again = build(architecture).fit(prepared.side("train"), prepared.side("validation"))
    np.testing.assert_array_equal(again.predict(prepared.samples), model.predict(prepared.samples))


def test_a_model_learns_something(model: Estimator, prepared: Prepared) -> None:
    train, held_out = prepared.side("train"), prepared.side("validation", "test")
    mean = train.target.mean()
    assert rmse(model.predict(train), train.target) < 0.7 * rmse(mean, train.target)
    assert rmse(model.predict(held_out), held_out.target) < 0.9 * rmse(mean, held_out.target)


@pytest.mark.parametrize("split", ["prepared", "drug_blind"])
def test_test_rows_change_nothing_of_a_fit(
    architecture: Architecture, split: str, request: pytest.FixtureRequest
) -> None:
    prepared: Prepared = request.getfixturevalue(split)
    test, others = prepared.rows("test"), prepared.rows("train", "validation")
    other = changed(prepared.samples, test)
    assert _content(other) != _content(prepared.samples)
    predictions = []
    for samples in (prepared.samples, other):
        train, validation = (samples.take(prepared.rows(side)) for side in ("train", "validation"))
        predictions.append(build(architecture).fit(train, validation).predict(samples.take(others)))
    np.testing.assert_array_equal(predictions[1], predictions[0])


def test_fitting_and_predicting_leave_the_samples_as_they_are(architecture: Architecture, prepared: Prepared) -> None:
    before = _content(prepared.samples)
    estimator = build(architecture).fit(prepared.side("train"), prepared.side("validation"))
    estimator.predict(prepared.samples)
    estimator.attribute(prepared.side("validation"))
    assert _content(prepared.samples) == before


@pytest.mark.parametrize("every", [False, True], ids=["some lines", "no line measured"])
def test_missing_omics_do_not_break_a_fit(architecture: Architecture, prepared: Prepared, every: bool) -> None:
    omics = {}
    for number, (name, table) in enumerate(prepared.samples.omics.items()):
        values = table.to_numpy(copy=True)
        values[slice(None) if every and name != "expression" else slice(number, None, 3)] = np.nan
        values[number + 1, :5] = np.nan  # single values too
        omics[name] = pd.DataFrame(values, index=table.index, columns=table.columns)
    samples = with_omics(prepared.samples, omics)
    chosen = dict(architecture.defaults)
    if "omics" in chosen:
        chosen["omics"] = "all"
    train, validation = (samples.take(prepared.rows(side)) for side in ("train", "validation"))
    prediction = build(architecture, chosen).fit(train, validation).predict(samples)
    assert np.isfinite(prediction).all()
    assert rmse(prediction[prepared.rows("train")], train.target) < train.target.std()


def test_what_on_step_raises_ends_the_fit(architecture: Architecture, prepared: Prepared) -> None:
    class PrunedError(Exception):
        pass

    called = []

    def on_step(step: int, metrics: dict[str, float]) -> None:
        called.append(step)
        assert metrics
        assert all(isinstance(value, float) for value in metrics.values())
        raise PrunedError

    try:
        build(architecture).fit(prepared.side("train"), prepared.side("validation"), FitContext(on_step))
    except PrunedError:
        assert called == [0]
    else:
        assert not called, "the fit went on after on_step had raised"
        assert architecture.name not in (*NETWORKS, "xgboost"), "a study could not end a bad trial"


def test_a_study_s_memory_changes_no_result(architecture: Architecture, prepared: Prepared) -> None:
    train, validation = prepared.side("train"), prepared.side("validation")
    context = FitContext()
    points = [dict(architecture.defaults)]
    if "identity" in points[0]:
        points.append({**points[0], "identity": "none"})
    if "omics" in points[0]:
        points.append({**points[0], "omics": "all"})
    for point in [*points, points[0]]:
        shared = build(architecture, point).fit(train, validation, context).predict(validation)
        fresh = build(architecture, point).fit(train, validation).predict(validation)
        np.testing.assert_array_equal(shared, fresh)


# Saving


def test_a_loaded_model_predicts_the_same(
    model: Estimator, architecture: Architecture, prepared: Prepared, tmp_path: Path
) -> None:
    model.save(tmp_path / "model")
    loaded = architecture.estimator.load(tmp_path / "model")
    assert loaded.get_params() == model.get_params()
    np.testing.assert_array_equal(loaded.predict(prepared.samples), model.predict(prepared.samples))
    before, after = model.attribute(prepared.side("test")), loaded.attribute(prepared.side("test"))
    assert (before is None) == (after is None)
    if before is not None and after is not None:
        assert before.names == after.names
        np.testing.assert_allclose(after.values, before.values, rtol=0, atol=ROUNDING)


def test_a_loaded_cross_fitted_model_predicts_the_same(
    architecture: Architecture, prepared: Prepared, tmp_path: Path
) -> None:
    cross_fitted = _two_folds(prepared, architecture)
    cross_fitted.save(tmp_path / "model")
    loaded = CrossFitted.load(tmp_path / "model")
    assert len(loaded.members_) == 2
    np.testing.assert_array_equal(loaded.predict(prepared.samples), cross_fitted.predict(prepared.samples))


def test_saving_and_loading_need_no_pickle(
    model: Estimator, architecture: Architecture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise AssertionError("pickle was used")

    for name in ("load", "loads", "dump", "dumps", "Unpickler", "Pickler"):
        monkeypatch.setattr(pickle, name, refuse)
    monkeypatch.setattr(torch, "load", refuse)
    monkeypatch.setattr(torch, "save", refuse)
    model.save(tmp_path / "model")
    architecture.estimator.load(tmp_path / "model")
    assert {path.name for path in (tmp_path / "model").iterdir()} == {"state.json", "state.safetensors"}
    json.loads((tmp_path / "model" / "state.json").read_text())
    load_file(tmp_path / "model" / "state.safetensors")


# Explaining


def test_attributions_add_up_to_the_prediction(model: Estimator, unseen: ResponseSamples) -> None:
    attribution = model.attribute(unseen)
    assert attribution is not None, "an architecture must say what it looks at"
    assert attribution.values.shape == (len(unseen), len(attribution.names))
    assert len(set(attribution.names)) == len(attribution.names)
    assert attribution.base.shape == attribution.prediction.shape == (len(unseen),)
    np.testing.assert_allclose(attribution.prediction, model.predict(unseen), rtol=0, atol=ROUNDING)
    assert np.abs(attribution.prediction - attribution.base).mean() > 0.1
    assert attribution.relative_error < (0.05 if attribution.method == "integrated_gradients" else 1e-3)


@pytest.mark.parametrize("seed", range(2))
def test_attributions_add_up_anywhere_in_the_search_space(
    architecture: Architecture, prepared: Prepared, seed: int
) -> None:
    estimator = build(architecture, _drawn(architecture, seed)).fit(prepared.side("train"), prepared.side("validation"))
    attribution = estimator.attribute(prepared.side("test"))
    assert attribution is not None, "an architecture must say what it looks at"
    assert attribution.values.shape[1] == len(attribution.names)
    assert attribution.relative_error < (0.05 if attribution.method == "integrated_gradients" else 1e-3)


def test_the_cost_counts_parameters(model: Estimator) -> None:
    cost = model.cost()
    assert cost["parameters"] > 0
    json.dumps(cost)


# Hyperparameters


def test_an_estimator_can_be_cloned(architecture: Architecture, model: Estimator) -> None:
    estimator = build(architecture)
    copy = clone(estimator)
    assert copy is not estimator
    assert copy.get_params() == estimator.get_params()
    assert model.get_params() == estimator.get_params(), "fit changed a hyperparameter"
    assert not [name for name in vars(clone(model)) if name.endswith("_")], "a clone is not fitted"


@pytest.mark.parametrize("name", NETWORKS)
def test_depth_width_and_training_of_a_network_are_tuned(name: str) -> None:
    trial, space = optuna.create_study().ask(), get_architecture(name, "pairs", "regression").space
    assert space is not None
    drawn = space(trial, {})
    for tuned in ("layers", "units", "activation", "dropout", "batch_size", "learning_rate", "weight_decay"):
        assert tuned in drawn, f"{tuned} is not tuned"
        assert not trial.distributions[tuned].single(), f"{tuned} is given one value only"


def test_the_networks_are_the_five_that_there_are() -> None:
    assert NETWORKS == ["cnn1d", "gnn", "mlp", "multi_omics", "transformer"]


def test_defaults_are_a_point_of_the_search_space(architecture: Architecture) -> None:
    if architecture.space is None:
        assert not architecture.defaults
        return
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Optuna only warns of a value out of range
        drawn = architecture.space(optuna.trial.FixedTrial(dict(architecture.defaults)), {})
    assert drawn == dict(architecture.defaults)
    estimator = architecture.build(drawn, rounds=7, epochs=7, seed=11, device="cpu")
    assert drawn.items() <= estimator.get_params().items()
    assert estimator.get_params().get("seed", 11) == 11


@pytest.mark.parametrize(
    "name",
    [name for name in names("pairs", "regression") if get_architecture(name, "pairs", "regression").space is not None],
)
def test_the_first_trial_of_a_study_can_be_the_defaults(name: str) -> None:
    architecture = get_architecture(name, "pairs", "regression")
    assert architecture.space is not None
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.enqueue_trial(dict(architecture.defaults))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trial = study.ask()
        assert architecture.space(trial, {}) == dict(architecture.defaults)
    assert trial.params == dict(architecture.defaults)


@pytest.mark.parametrize("seed", range(3))
def test_every_point_of_the_search_space_can_be_fitted(
    architecture: Architecture, prepared: Prepared, seed: int
) -> None:
    point = _drawn(architecture, seed)
    json.dumps(point)  # what the study stores and the model is saved with
    estimator = build(architecture, point).fit(prepared.side("train"), prepared.side("validation"))
    assert point.keys() <= estimator.get_params().keys()
    assert np.isfinite(estimator.predict(prepared.samples)).all()


def _drawn(architecture: Architecture, seed: int) -> dict[str, Any]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    return architecture.space(study.ask(), {}) if architecture.space else {}
