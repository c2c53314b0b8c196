"""What a model does not know, or what is in another unit, must not be answered as if it were known."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.exceptions import MlflowException

from pipelines.datasets import Prepared
from pipelines.params import Params
from pipelines.samples.molecules import parent, stereochemistry
from tests.training.tiny import NAME, build, response_task
from training.architectures import get_architecture
from training.contract import make_contract
from training.features.units import outside, unit_of
from training.model.cross_fit import FinalFit, fit_final
from training.model.predictor import UNLIKE, Predictor
from training.model.reference import make_reference
from training.model.track import save_model
from training.model.unseen_drugs import unseen_half_width

Row = dict[str, Any]
UNSEEN = 9.0  # half width for drugs that are not known; nothing measured


@pytest.fixture(scope="module")
def final(prepared: Prepared) -> FinalFit:
    architecture = get_architecture("xgboost", "pairs", "regression")
    settings = {"rounds": 40, "epochs": 10, "seed": 3, "device": "cpu"}
    return fit_final(architecture, architecture.defaults, prepared, members=1, settings=settings)


@pytest.fixture(scope="module")
def predictor(
    prepared: Prepared, params: Params, final: FinalFit, tmp_path_factory: pytest.TempPathFactory
) -> Predictor:
    made: Any = make_contract(NAME, "xgboost", response_task(params), prepared=prepared, final=final)
    contract = replace(made, unseen_half_width=UNSEEN)
    folder = tmp_path_factory.mktemp("model")
    baseline = build(get_architecture("mean_effects", "pairs", "regression")).fit(prepared.side("train"))
    reference = make_reference(contract, prepared, final)
    save_model(final.estimator, baseline, contract, folder, reference)
    return Predictor().read(folder)


@pytest.fixture
def contract(predictor: Predictor) -> Any:
    return predictor.contract


@pytest.fixture
def row(prepared: Prepared, predictor: Predictor, contract: Any) -> Row:
    """Return a good row of an unseen line with all tables, like the training data, whose drug has a SMILES."""
    test = prepared.side("test")
    like = predictor.unlike(test)
    asked = contract.request(test)
    for place, found in enumerate(asked.to_dict("records")):
        whole = all(found[name] is not None for name in (*contract.features, "smiles", "tissue"))
        if whole and like is not None and not like[place]:
            return {str(key): value for key, value in found.items()}
    raise AssertionError("no such row")


def _answer(predictor: Predictor, row: Row, **other: Any) -> dict[str, Any]:
    found = predictor.predict(None, pd.DataFrame([{**row, **other}]))
    return {str(key): value for key, value in found.iloc[0].to_dict().items()}


def _refusal(predictor: Predictor, row: Row, **other: Any) -> str:
    with pytest.raises(MlflowException) as caught:
        _answer(predictor, row, **other)
    return str(caught.value)


# Drugs


def test_a_known_drug_has_the_interval_of_known_drugs_and_nothing_else_to_say(predictor: Predictor, row: Row) -> None:
    answer = _answer(predictor, row)
    assert answer["drug_known"] is True and answer["note"] is None and answer["coverage"] == 0.9
    assert answer["high"] - answer["low"] < 2 * UNSEEN


def test_a_known_id_brings_its_molecule_along(predictor: Predictor, row: Row, contract: Any) -> None:
    (alone,) = contract.read(pd.DataFrame([{**row, "smiles": None}])).drugs["smiles"]
    assert alone == contract.drugs[row["drug_id"]] is not None
    assert _answer(predictor, row, smiles=None)["prediction"] == _answer(predictor, row)["prediction"]


def test_features_that_differ_in_case_or_blanks_alone_are_named(predictor: Predictor, row: Row) -> None:
    first, *rest = row["expression"]
    for other in (f"{first} ", first.swapcase()):
        profile = {other: 1.0, **{name: row["expression"][name] for name in rest}}
        assert repr(other) in _refusal(predictor, row, expression=profile)


@pytest.mark.parametrize("change", [str.lower, "\u00a0{}\u200b".format])
def test_an_id_that_reads_like_a_known_one_is_that_one(
    predictor: Predictor, row: Row, change: Callable[[str], str]
) -> None:
    given = change(row["drug_id"])
    answer, known = (_answer(predictor, row, drug_id=name, smiles=None) for name in (given, row["drug_id"]))
    assert answer["drug_known"] is True
    assert all(answer[name] == known[name] for name in ("prediction", "low", "high"))


@pytest.mark.parametrize("drug_id", [None, "NEW"])
def test_an_unseen_molecule_is_said_to_be_one_and_has_the_interval_of_unseen_drugs(
    predictor: Predictor, row: Row, drug_id: str | None
) -> None:
    answer = _answer(predictor, row, drug_id=drug_id, smiles="CCOC(=O)C1CCN(CC1)C(=O)NC")
    assert answer["drug_known"] is False and "not known" in answer["note"]
    if answer["coverage"] is not None:  # where it is unlike the training drugs, nothing is promised at all
        assert answer["high"] - answer["low"] == pytest.approx(2 * UNSEEN)


def test_without_a_measured_width_an_unseen_drug_has_no_interval(
    prepared: Prepared, params: Params, final: FinalFit
) -> None:
    contract = make_contract(NAME, "xgboost", response_task(params), prepared=prepared, final=final)
    samples = replace(prepared.samples, drugs=prepared.samples.drugs.assign(smiles="CCOC(=O)C1CCN(CC1)C(=O)NC"))
    samples.drugs.index = pd.Index([f"new {number}" for number in range(len(samples.drugs))])
    answer = contract.answer(np.zeros(len(samples)), samples)
    assert answer[["low", "high", "coverage"]].isna().all(axis=None) and not answer["drug_known"].any()


def test_a_salt_of_a_known_drug_is_answered_as_the_drug(predictor: Predictor, row: Row) -> None:
    for drug_id in (row["drug_id"], None, "NEW"):
        plain = _answer(predictor, row, drug_id=drug_id)
        answer = _answer(predictor, row, smiles=f"OS(=O)(=O)O.{row['smiles']}", drug_id=drug_id)
        assert answer["drug_known"] is True and answer["note"]
        assert answer["prediction"] == pytest.approx(plain["prediction"])


def test_a_known_id_with_another_molecule_is_told_and_not_called_known(
    predictor: Predictor, row: Row, contract: Any
) -> None:
    other = next(smiles for smiles in contract.drugs.values() if smiles and parent(smiles) != parent(row["smiles"]))
    answer = _answer(predictor, row, smiles=other)
    assert answer["drug_known"] is False and "another molecule" in answer["note"]


def test_two_tautomers_are_one_molecule_and_two_enantiomers_are_not() -> None:
    assert parent("Oc1ccccn1") == parent("O=c1cccc[nH]1") and parent("CC(=O)[O-].[Na+]") == parent("CC(=O)O")
    assert parent("C[C@H](N)C(=O)O") == parent("C[C@@H](N)C(=O)O")
    assert stereochemistry("C[C@H](N)C(=O)O") != stereochemistry("C[C@@H](N)C(=O)O")
    assert stereochemistry("CC(N)C(=O)O") is None


def test_an_unknown_tissue_is_told_and_one_in_another_case_is_known(predictor: Predictor, row: Row) -> None:
    assert "Mars" in _answer(predictor, row, tissue="Mars")["note"]
    assert _answer(predictor, row, tissue=f" {row['tissue'].upper()}")["note"] is None
    assert _answer(predictor, row, tissue="not reported")["note"] is None


def test_the_width_for_unseen_drugs_is_measured_on_drugs_that_the_fit_has_not_seen(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    architecture = get_architecture("mean_effects", "pairs", "regression")
    samples, seen = prepared.samples, []

    def fit(self: Any, train: Any, validation: Any = None, context: Any = None) -> Any:
        seen.append((set(np.unique(train.drug)), set(np.unique(validation.drug))))
        return original(self, train, validation, context)

    original = architecture.estimator.fit
    monkeypatch.setattr(architecture.estimator, "fit", fit)

    def refit(train: Any, validation: Any) -> Any:
        return architecture.build({}).fit(train, validation)

    assert unseen_half_width(prepared, refit, 0.9) is None  # too few drugs for 90 %
    width = unseen_half_width(prepared, refit, 0.5)
    (train, watched) = seen[-1]
    assert watched <= train and len(train) < len(np.unique(prepared.side("train").drug))
    held = np.setdiff1d(np.unique(prepared.side("validation").drug), list(train))
    assert len(held) and width is not None
    rows = prepared.side("validation")
    error = np.abs(rows.target - rows.target.mean())[np.isin(rows.drug, held)]
    assert 0.2 * error.max() < width < 5 * error.max()
    assert len(samples) == len(prepared.table)


# Units


@pytest.mark.parametrize(
    ("omics", "change"), [("expression", lambda x: x * math.log10(2)), ("copy_number", lambda x: 50 + 0 * x)]
)
def test_a_profile_in_another_unit_is_told_and_nothing_is_promised(
    predictor: Predictor, row: Row, omics: str, change: Callable[[float], float]
) -> None:
    answer = _answer(predictor, row, **{omics: {gene: change(value) for gene, value in row[omics].items()}})
    assert "unit" in answer["note"] and omics in answer["note"]
    assert answer["low"] is None and answer["high"] is None and answer["coverage"] is None


_CHANGES: dict[str, list[Callable[[np.ndarray], np.ndarray]]] = {
    "log2_tpm_plus_1": [lambda x: x * math.log(2), lambda x: x * math.log10(2), lambda x: np.exp2(x) - 1],
    "linear": [lambda x: np.log2(x + 1), lambda x: np.log(x + 1), lambda x: x / 1e6, lambda x: 1000 * x],
    "copy_number": [lambda x: 2 * x, lambda x: np.log2(np.maximum(x, 0.01)), lambda x: np.rint(2 * x)],
    "methylation": [lambda x: 100 * x],
}


@given(st.sampled_from(sorted(_CHANGES)), st.integers(0, 2**31), st.data())
def test_no_profile_of_the_training_distribution_is_called_foreign_and_every_changed_one_is(
    scale: str, seed: int, data: st.DataObject
) -> None:
    rng = np.random.default_rng(seed)
    shape = (60, 400)
    if scale == "copy_number":
        values = np.exp2(rng.normal(0, 0.3, shape))
    elif scale == "methylation":
        values = rng.beta(0.5, 0.5, shape)
    else:
        tpm = rng.lognormal(2, 2, (1, 400)) * rng.lognormal(0, 0.5, shape)
        tpm *= 1e6 / tpm.sum(axis=1, keepdims=True)
        values = np.log2(tpm + 1) if scale == "log2_tpm_plus_1" else tpm
    unit = unit_of(values[:50], scale)
    assert unit is not None
    genes = [f"G{number}" for number in range(400)]
    change = data.draw(st.sampled_from(range(len(_CHANGES[scale]))))
    assert all(outside(_CHANGES[scale][change](values[50:]), genes, unit, "x"))
    assert sum(said is not None for said in outside(values[:50], genes, unit, "x")) == 0


# Out of distribution


def test_a_row_beyond_the_threshold_is_told_in_words_and_promised_nothing(
    predictor: Predictor, row: Row, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert predictor.novelty is not None
    monkeypatch.setattr(predictor, "novelty", replace(predictor.novelty, threshold=-1.0))
    answer = _answer(predictor, row)
    assert UNLIKE in answer["note"] and answer["coverage"] is None and answer["low"] is None
