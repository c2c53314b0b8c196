"""A probability that test rows, other units or a weak regressor bend, or a model of responses that is no classifier."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from sklearn.metrics import log_loss

from pipelines.datasets import Prepared, prepare
from pipelines.params import Params
from pipelines.samples import Kept
from pipelines.samples.sensitivity import SensitivitySamples, call_by_training_rows
from pipelines.tasks.pairs_classification import Threshold
from tests.training.tiny import build, question, response_task, sensitivity_task
from training.adapters.pairs_classification import Sensitivity, _fit_link
from training.architectures import get_architecture
from training.contract import contract_from, contract_text, make_contract
from training.estimator import Classifier
from training.model.cross_fit import fit_final

KIND = ("pairs", "classification")
RULE = Threshold("quantile", 2.0, 0.3)

Fitted = Callable[[str], Classifier]


@pytest.fixture(scope="module")
def called(prepared: Prepared, params: Params) -> Prepared:
    return prepare(Kept(prepared.samples, prepared.counts), sensitivity_task(response_task(params), RULE), params.seed)


@pytest.fixture(scope="module")
def model_of(called: Prepared) -> Fitted:
    """Return a function that gives the fitted classifier of an architecture, fitted once."""
    return cache(lambda name: fresh(name).fit(called.side("train"), called.side("validation")))


def fresh(name: str) -> Any:
    return build(get_architecture(name, *KIND))


def link_of(name: str) -> Sensitivity:
    """Return a classifier by a regressor and a link, of the baseline too."""
    return Sensitivity(of=name, hyperparameters={})


@pytest.mark.parametrize("name", ["mean_effects", "elastic_net", "mlp"])
def test_requests_without_calls_and_unseen_drugs_are_answered(name: str, model_of: Fitted, called: Prepared) -> None:
    test = called.side("test")
    np.testing.assert_array_equal(model_of(name).predict_proba(test.measured), model_of(name).predict_proba(test))
    probability = model_of(name).predict_proba(question(called.samples, line="NEW", drug="NEW", smiles=None))
    assert 0.01 < probability[0, 1] < 0.99


@pytest.mark.parametrize(("slope", "constant"), [(2.0, -0.4), (-1.0, 0.0)])
def test_the_link_is_found_again(slope: float, constant: float) -> None:
    rng = np.random.default_rng(0)
    odds, below = rng.normal(-1, 1, 20_000), rng.normal(0, 1, 20_000)
    found = _fit_link(odds, below, (rng.random(20_000) < expit(odds + slope * below + constant)).astype(int))
    assert found[0] == pytest.approx(max(slope, 0), abs=0.1)
    if slope >= 0:
        assert found[1] == pytest.approx(constant, abs=0.1)
    assert _fit_link(odds[:2], below[:2], np.array([1, 1]))[1] < 1, "a few rows move it little"


def test_the_baseline_is_the_drug_s_share_and_a_link_to_drugs_is_no_worse(model_of: Fitted, called: Prepared) -> None:
    train, test = called.side("train"), called.side("test")
    target = pd.Series(train.target)
    by_drug = target.groupby(train.drug).agg(["sum", "count"])
    share = (by_drug["sum"] + target.mean()) / (by_drug["count"] + 1)
    expected = np.clip(share.to_numpy()[np.searchsorted(by_drug.index, test.drug)], 0.001, 0.999)
    naive = model_of("mean_effects").predict_proba(test)
    np.testing.assert_allclose(naive[:, 1], expected, rtol=1e-9)
    knows_drugs = link_of("mean_effects").fit(train, called.side("validation"))
    assert log_loss(test.target, knows_drugs.predict_proba(test)) < log_loss(test.target, naive) + 0.03


@pytest.mark.parametrize(
    ("make", "name", "others", "atol"),
    [
        (fresh, "mean_effects", lambda target, test: np.where(test, target[::-1] + 50, target), 0),
        (fresh, "elastic_net", lambda target, test: np.where(test, target[::-1] + 50, target), 0),
        (link_of, "mean_effects", lambda target, test: target * 20, 1e-5),
    ],
)
def test_neither_test_rows_nor_units_matter(make: Any, name: str, others: Any, atol: float, prepared: Prepared) -> None:
    train, samples = prepared.rows("train"), prepared.samples
    test = np.isin(np.arange(len(samples)), prepared.rows("test"))
    found = []
    for response in (samples.target, others(samples.target, test)):
        every = call_by_training_rows(replace(samples, pairs=samples.pairs.assign(target=response)), RULE, train)
        found.append(make(name).fit(every.take(train), every.take(prepared.rows("validation"))).predict_proba(every))
    np.testing.assert_allclose(found[0], found[1], rtol=0, atol=atol)


def test_the_link_alone_is_fitted_on_validation_rows_of_both_classes_and_never_falls(called: Prepared) -> None:
    train, validation, every = called.side("train"), called.side("validation"), called.samples
    wrong = replace(validation, pairs=validation.pairs.assign(target=1 - validation.target))
    of_one_class = validation.take(validation.target == 1)
    usual, turned, single, without = (
        link_of("elastic_net").fit(train, shown) for shown in (validation, wrong, of_one_class, None)
    )
    np.testing.assert_array_equal(usual.regressor_.predict(every), without.regressor_.predict(every))
    assert usual.slope_ > 0 == turned.slope_
    assert (usual.slope_, usual.constant_) != (without.slope_, without.constant_)
    assert (single.slope_, single.constant_) == (without.slope_, without.constant_)
    resistant = link_of("mean_effects").fit(train.take(train.target == 0), None)
    assert (resistant.predict_proba(every)[:, 1] < 0.01).all()


def test_atoms_add_to_the_log_odds(model_of: Fitted, called: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    model, test = model_of("elastic_net"), called.side("test")
    assert isinstance(model, Sensitivity) and model.atom_attributions(test) is None
    atoms = [np.array([0.5, -2.0, row]) for row in range(len(test))]
    monkeypatch.setattr(model.regressor_, "atom_attributions", lambda samples: atoms)
    found = model.atom_attributions(test, np.ones(len(test), int))
    explained, inner = model.attribute(test, np.ones(len(test), int)), model.regressor_.attribute(test)
    assert found is not None and explained is not None
    column = int(np.abs(inner.values).sum(axis=0).argmax())
    ratio = explained.values[:, column] / inner.values[:, column]
    assert (ratio < 0).all(), "what raises the response is a sign of resistance"
    for row, each in enumerate(found):
        np.testing.assert_allclose(each, atoms[row] * ratio[row])


@pytest.fixture(scope="module")
def contract(called: Prepared, params: Params) -> Any:
    task = sensitivity_task(response_task(params), RULE)
    final = fit_final(get_architecture("elastic_net", *KIND), {}, called, members=1, settings={})
    made = make_contract("screen", "elastic_net", task, prepared=called, final=final)
    read = contract_from(json.loads(json.dumps(contract_text(made))))
    assert read == made
    return read


def test_an_answer_tells_class_probability_set_and_threshold(contract: Any, model_of: Fitted, called: Prepared) -> None:
    test: SensitivitySamples = called.side("test")
    asked = contract.read(contract.request(test))
    np.testing.assert_array_equal(asked.drugs.index[asked.drug], test.drugs.index[test.drug])
    probability = contract.calibrated(model_of("elastic_net").outputs(asked))
    answer = pd.DataFrame(contract.answer(probability, asked))
    assert list(answer) == [column.name for column in contract.outputs() if column.required]
    np.testing.assert_allclose(answer["threshold"], test.pairs["threshold"])
    np.testing.assert_allclose(answer["probability_sensitive"], probability[:, 1])
    np.testing.assert_array_equal(answer["label"] == "sensitive", probability[:, 1] > 0.5)
    assert set(answer["label"]) == {"sensitive", "resistant"}
    for label, row, held in zip(answer["label"], answer["probabilities"], answer["labels"], strict=True):
        assert label in held and set(row) == {"resistant", "sensitive"}
    held = [true in labels for true, labels in zip(np.array(test.classes)[test.target], answer["labels"], strict=True)]
    assert np.mean(held) > 0.75 and answer["coverage"].eq(0.9).all()


def test_an_unseen_drug_is_answered_with_the_threshold_over_all(contract: Any, called: Prepared) -> None:
    asked, known = question(called.samples, line="NEW", drug="NEW", smiles="CC(=O)Oc1ccccc1C(=O)O"), called.side("test")
    outputs = (np.tile([0.4, 0.6], (len(each), 1)) for each in (asked, known))
    answer, told = (pd.DataFrame(contract.answer(*each)) for each in zip(outputs, (asked, known), strict=True))
    assert answer["threshold"].tolist() == [called.samples.thresholds.overall]
    assert answer["coverage"].isna().all() and not answer["drug_known"].any(), "nothing is promised of it"
    assert told["coverage"].eq(0.9).all() and told["drug_known"].all()


def test_an_explanation_is_of_being_sensitive_for_any_answer(contract: Any, model_of: Fitted, called: Prepared) -> None:
    asked = contract.read(contract.request(called.side("test")))
    told = contract.explain(model_of("elastic_net"), asked)
    sums = [base + sum(each["value"] for each in row) for base, row in zip(*told.values(), strict=True)]
    np.testing.assert_allclose(expit(sums), model_of("elastic_net").predict_proba(asked)[:, 1], atol=1e-6)
