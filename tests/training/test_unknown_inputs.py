"""What a model does not know, or what is in another unit, must not be answered as if it were known."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

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
from training.modalities.pairs import unseen_half_width
from training.model.cross_fit import FinalFit, fit_final
from training.model.predictor import UNLIKE, Predictor
from training.model.track import make_reference, save_model

Row = dict[str, Any]
Answer = Callable[..., dict[str, Any]]
UNSEEN = 9.0  # half width for drugs that are not known; nothing measured
NO_KNOWN_MOLECULE = "CCOC(=O)C1CCN(CC1)C(=O)NC"


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
    contract, folder = replace(made, unseen_half_width=UNSEEN), tmp_path_factory.mktemp("model")
    baseline = build(get_architecture("mean_effects", "pairs", "regression")).fit(prepared.side("train"))
    save_model(final.estimator, baseline, contract, folder, make_reference(contract, prepared, final))
    return Predictor().read(folder)


@pytest.fixture(scope="module")
def row(prepared: Prepared, predictor: Predictor) -> Row:
    """Return a good row of an unseen line with all tables, like the training data, whose drug has a SMILES."""
    test, contract = prepared.side("test"), cast(Any, predictor.contract)
    needed = (*contract.features, "smiles", "tissue")
    for found, unlike in zip(contract.request(test).to_dict("records"), cast(Any, predictor.unlike(test)), strict=True):
        if not unlike and all(found[name] is not None for name in needed):
            return {str(key): value for key, value in found.items()}
    raise AssertionError("no such row")


@pytest.fixture
def answer(predictor: Predictor, row: Row) -> Answer:
    """Return a function that gives the answer to the row with other values."""

    def of(**other: Any) -> dict[str, Any]:
        (found,) = predictor.predict(None, pd.DataFrame([{**row, **other}])).to_dict("records")
        return {str(column): value for column, value in found.items()}

    return of


def test_a_known_drug_has_the_interval_of_known_drugs_and_its_id_brings_its_molecule(
    answer: Answer, row: Row, predictor: Predictor
) -> None:
    known, contract = answer(), cast(Any, predictor.contract)
    assert known["drug_known"] is True and known["note"] is None and known["coverage"] == 0.9
    assert known["high"] - known["low"] < 2 * UNSEEN
    (alone,) = contract.read(pd.DataFrame([{**row, "smiles": None}])).drugs["smiles"]
    assert alone == contract.drugs[row["drug_id"]] is not None
    for change in (str.lower, "\u00a0{}\u200b".format, str):  # an id that reads like a known one is that one
        same = answer(drug_id=change(row["drug_id"]), smiles=None)
        assert all(same[name] == known[name] for name in ("drug_known", "prediction", "low", "high"))


def test_features_that_differ_in_case_or_blanks_alone_are_named(answer: Answer, row: Row) -> None:
    first, *rest = row["expression"]
    for other in (f"{first} ", first.swapcase()):
        with pytest.raises(MlflowException) as caught:
            answer(expression={other: 1.0, **{name: row["expression"][name] for name in rest}})
        assert repr(other) in str(caught.value)


@pytest.mark.parametrize("drug_id", [None, "NEW"])
def test_an_unseen_molecule_is_said_to_be_one_and_has_the_interval_of_unseen_drugs(
    answer: Answer, drug_id: str | None
) -> None:
    unseen = answer(drug_id=drug_id, smiles=NO_KNOWN_MOLECULE)
    assert unseen["drug_known"] is False and unseen["note"]
    if unseen["coverage"] is not None:  # where it is unlike the training drugs, nothing is promised at all
        assert unseen["high"] - unseen["low"] == pytest.approx(2 * UNSEEN)


def test_without_a_measured_width_an_unseen_drug_has_no_interval(
    prepared: Prepared, params: Params, final: FinalFit
) -> None:
    contract = make_contract(NAME, "xgboost", response_task(params), prepared=prepared, final=final)
    samples = replace(prepared.samples, drugs=prepared.samples.drugs.assign(smiles=NO_KNOWN_MOLECULE))
    samples.drugs.index = pd.Index([f"new {number}" for number in range(len(samples.drugs))])
    found = contract.answer(np.zeros(len(samples)), samples)
    assert found[["low", "high", "coverage"]].isna().all(axis=None) and not found["drug_known"].any()


def test_a_salt_of_a_known_drug_is_answered_as_the_drug_and_another_molecule_under_its_id_is_not(
    answer: Answer, row: Row, predictor: Predictor
) -> None:
    for drug_id in (row["drug_id"], None, "NEW"):
        salt = answer(smiles=f"OS(=O)(=O)O.{row['smiles']}", drug_id=drug_id)
        assert salt["drug_known"] is True and salt["note"]
        assert salt["prediction"] == pytest.approx(answer(drug_id=drug_id)["prediction"])
    drugs = cast(Any, predictor.contract).drugs.values()
    other = answer(smiles=next(smiles for smiles in drugs if smiles and parent(smiles) != parent(row["smiles"])))
    assert other["drug_known"] is False and "another molecule" in other["note"]


def test_two_tautomers_are_one_molecule_and_two_enantiomers_are_not() -> None:
    assert parent("Oc1ccccn1") == parent("O=c1cccc[nH]1") and parent("CC(=O)[O-].[Na+]") == parent("CC(=O)O")
    assert parent("C[C@H](N)C(=O)O") == parent("C[C@@H](N)C(=O)O")
    assert stereochemistry("C[C@H](N)C(=O)O") != stereochemistry("C[C@@H](N)C(=O)O")
    assert stereochemistry("CC(N)C(=O)O") is None


def test_an_unknown_tissue_is_told_and_one_in_another_case_is_known(answer: Answer, row: Row) -> None:
    assert "Mars" in answer(tissue="Mars")["note"]
    assert answer(tissue=f" {row['tissue'].upper()}")["note"] is answer(tissue="not reported")["note"] is None


def test_the_width_for_unseen_drugs_is_measured_on_drugs_that_the_fit_has_not_seen(prepared: Prepared) -> None:
    architecture = get_architecture("mean_effects", "pairs", "regression")
    rows, seen = prepared.side("validation"), []

    def refit(train: Any, validation: Any) -> Any:
        seen.append((set(np.unique(train.drug)), set(np.unique(validation.drug))))
        return architecture.build({}).fit(train, validation)

    assert unseen_half_width(prepared, refit, 0.9) is None  # too few drugs for 90 %
    width = unseen_half_width(prepared, refit, 0.5)
    train, watched = seen[-1]
    assert watched <= train and len(train) < len(np.unique(prepared.side("train").drug))
    held = ~np.isin(rows.drug, list(train))
    assert held.any() and width is not None
    most = np.abs(rows.target - rows.target.mean())[held].max()
    assert 0.2 * most < width < 5 * most


@pytest.mark.parametrize(
    ("omics", "change"), [("expression", lambda x: x * math.log10(2)), ("copy_number", lambda x: 50 + 0 * x)]
)
def test_a_profile_in_another_unit_is_told_and_nothing_is_promised(
    answer: Answer, row: Row, omics: str, change: Callable[[float], float]
) -> None:
    found = answer(**{omics: {gene: change(value) for gene, value in row[omics].items()}})
    assert "unit" in found["note"] and omics in found["note"]
    assert found["low"] is None and found["high"] is None and found["coverage"] is None


_CHANGES: dict[str, list[Callable[[np.ndarray], np.ndarray]]] = {
    "log2_tpm_plus_1": [lambda x: x * math.log(2), lambda x: x * math.log10(2), lambda x: np.exp2(x) - 1],
    "linear": [lambda x: np.log2(x + 1), lambda x: np.log(x + 1), lambda x: x / 1e6, lambda x: 1000 * x],
    "copy_number": [lambda x: 2 * x, lambda x: np.log2(np.maximum(x, 0.01)), lambda x: np.rint(2 * x)],
    "methylation": [lambda x: 100 * x],
}


@given(st.sampled_from([(scale, change) for scale in _CHANGES for change in _CHANGES[scale]]), st.integers(0, 2**31))
def test_no_profile_of_the_training_distribution_is_called_foreign_and_every_changed_one_is(
    drawn: tuple[str, Callable[[np.ndarray], np.ndarray]], seed: int
) -> None:
    scale, change = drawn
    rng, shape = np.random.default_rng(seed), (60, 400)
    if scale == "copy_number":
        values = np.exp2(rng.normal(0, 0.3, shape))
    elif scale == "methylation":
        values = rng.beta(0.5, 0.5, shape)
    else:
        tpm = rng.lognormal(2, 2, (1, 400)) * rng.lognormal(0, 0.5, shape)
        tpm *= 1e6 / tpm.sum(axis=1, keepdims=True)
        values = np.log2(tpm + 1) if scale == "log2_tpm_plus_1" else tpm
    unit, genes = unit_of(values[:50], scale), [f"G{number}" for number in range(400)]
    assert unit is not None
    assert all(outside(change(values[50:]), genes, unit, "x"))
    assert not any(outside(values[:50], genes, unit, "x"))


def test_a_row_beyond_the_threshold_is_told_in_words_and_promised_nothing(
    answer: Answer, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert predictor.novelty is not None
    monkeypatch.setattr(predictor, "novelty", replace(predictor.novelty, threshold=-1.0))
    found = answer()
    assert UNLIKE in found["note"] and found["coverage"] is None and found["low"] is None
