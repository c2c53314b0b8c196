"""What would make scores of new drugs lie: pilot rows that are scored or trained on, and measurements that get lost."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow.models.utils import _enforce_schema

from pipelines.datasets import Prepared
from pipelines.params import PILOT
from pipelines.samples.response import ResponseSamples, annotated
from pipelines.split import pilot_rows
from tests.pipelines.response_tables import make_tables, samples_of, shipped_task
from tests.training.tiny import NAME, build, response_task, rmse, tiny_params, tiny_prepared
from training.architectures import get_architecture
from training.contract import PayloadError, contract_class, make_contract
from training.features.mechanism import Mechanisms
from training.model.cross_fit import FinalFit, fit_final
from training.model.pilot import Piloted
from training.model.predictor import Predictor
from training.model.track import save_model, signature

KIND = contract_class("pairs", "regression")
PATHWAYS = ("EGFR signaling", "Mitosis", "Apoptosis regulation")


def made(lines: int = 40, drugs: int = 24) -> ResponseSamples:
    """Return responses that a line's sensitivity to the drug's pathway decides, and that of all drugs a little."""
    tables = make_tables(lines, drugs)
    pathway = [PATHWAYS[at % 3] for at in range(drugs)]
    table = tables.drugs.assign(pathway=pathway, target=[f"T{at % 6}, others" for at in range(drugs)])
    samples = samples_of(replace(tables, drugs=table), shipped_task())
    rng = np.random.default_rng(1)
    by_line, by_pathway = rng.normal(0, 0.5, lines), rng.normal(0, 2, (lines, 3))
    of_drug = np.array([PATHWAYS.index(each) for each in samples.drugs["pathway"]])[samples.drug]
    response = 3 + by_line[samples.cell] + by_pathway[samples.cell, of_drug] + rng.normal(0, 0.3, len(samples))
    level = rng.normal(0, 3, drugs)[samples.drug]
    return replace(samples, pairs=samples.pairs.assign(target=(response + level).astype(np.float32)))


def within(predicted: np.ndarray, samples: ResponseSamples) -> float:
    table = pd.DataFrame({"drug": samples.drug, "target": samples.target, "predicted": predicted})
    return float(np.mean([part["target"].corr(part["predicted"]) for _, part in table.groupby("drug")]))


def test_a_mechanism_is_read_of_the_drugs_of_the_fit_alone_and_shared_by_ids_of_one_drug() -> None:
    drugs = pd.DataFrame(
        {"target": ["EGFR, ERBB2", "egfr ", "others", None], "pathway": ["A", None, "unknown", "B"]}, index=list("abcd")
    )
    features = Mechanisms().fit(drugs.iloc[:3], fewest=2)
    assert features.names == ["mechanism:none", "pathway:a", "target:egfr"]
    np.testing.assert_array_equal(features.transform(drugs), [[0, 1, 1], [0, 0, 1], [1, 0, 0], [1, 0, 0]])
    bare = features.transform(drugs[[]])  # as of data whose drugs.csv has no such columns
    np.testing.assert_array_equal(bare, [[1, 0, 0]] * 4)

    structures = pd.Series([None, "CCO", "CCO", None], drugs.index, dtype=object)
    named = drugs.assign(smiles=structures, name=["x", "y", "z", "X"])
    told = annotated(named)
    assert told["pathway"].tolist() == ["A", None, None, "B"]
    assert told["target"].tolist() == ["EGFR, ERBB2", "egfr", "others", "EGFR, ERBB2"]


def test_effects_within_a_mechanism_order_lines_for_new_drugs() -> None:
    samples = made()
    new = samples.drug >= 18
    train, test = samples.take(~new), samples.take(new)
    both = [build(name).fit(train) for name in ("mean_effects", "mechanism_effects")]
    simple, ours = (within(model.predict(test), test) for model in both)
    assert ours > simple + 0.25
    unknown = replace(test, drugs=test.drugs.assign(target=None, pathway="unknown"))
    np.testing.assert_allclose(both[1].predict(unknown), both[0].predict(unknown))


@pytest.mark.parametrize("name", ["elastic_net", "random_forest", "mlp"])
def test_models_see_the_mechanism_where_it_is_chosen(name: str) -> None:
    samples = made(20, 12)
    for chosen in (False, True):
        model: Any = build(name, {"mechanism": chosen}, rounds=5, epochs=2).fit(samples)
        seen = (model.model_.features if name == "elastic_net" else model.features_).names
        assert ("pathway:mitosis" in seen) is chosen


# Pilot measurements


@pytest.fixture(scope="module")
def pilot(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return tiny_prepared(tmp_path_factory.mktemp("raw") / "pilot", "drug_pilot")


def final_of(name: str, prepared: Prepared, members: int = 1) -> FinalFit:
    architecture = get_architecture(name, "pairs", "regression")
    final = fit_final(architecture, {}, prepared, members=members, settings={})
    return KIND.adjusted(prepared, final, architecture.role)


def test_pilot_rows_are_on_no_side_and_chosen_whatever_was_measured(pilot: Prepared) -> None:
    table = pilot.table
    rows = [pilot.rows(side) for side in ("train", "validation", "test")]
    assert not table[PILOT].to_numpy()[np.concatenate(rows)].any()
    assert sum(map(len, rows)) + table[PILOT].sum() == len(table)
    lines = table[table[PILOT]].groupby("drug_id")["cell_line_id"].nunique()
    assert set(lines.index) == set(table["drug_id"]) and (lines == 10).all()
    other = table.assign(target=-table["target"]).sample(frac=1, random_state=1)
    again = pd.Series(pilot_rows(other, 10, tiny_params().seed), other.index)
    np.testing.assert_array_equal(again[table.index], table[PILOT])
    assert pilot.side("test").pilot is pilot.samples.pilot


@pytest.mark.parametrize(("name", "members"), [("mechanism_effects", 1), ("elastic_net", 5)])
def test_pilot_rows_adjust_new_drugs_and_scored_rows_never_do(name: str, members: int, pilot: Prepared) -> None:
    test, rows = pilot.side("test"), pilot.rows("test")
    final = final_of(name, pilot, members)
    adjusted = final.estimator.predict(test)
    assert isinstance(final.estimator, Piloted)
    assert rmse(adjusted, test.target) < rmse(final.estimator.inner.predict(test), test.target)
    pairs = pilot.samples.pairs.copy()
    pairs.loc[rows, "target"] += 7
    samples = replace(pilot.samples, pairs=pairs)
    other = final_of(name, replace(pilot, samples=samples), members)
    np.testing.assert_array_equal(other.estimator.predict(samples.take(rows)), adjusted)


def test_lines_that_answered_training_drugs_alike_adjust_one_another() -> None:
    samples = made(40, 40)
    held = [np.flatnonzero((samples.drug >= first) & (samples.drug < first + 10)) for first in (0, 10, 20, 30)]
    table = samples.pairs.assign(group=samples.pairs["drug_id"], split="train", fold=0)
    table.loc[held[2], "split"], table.loc[held[3], "split"] = "validation", "test"
    table[PILOT] = pilot_rows(table, 10, 0)
    unknown = samples.drugs.assign(target=None, pathway=None)
    samples = replace(samples, drugs=unknown)
    samples = replace(samples, pilot=samples.take(table[PILOT].to_numpy(bool)))
    prepared = Prepared(samples, table, "", {})
    test = prepared.side("test")
    level, ours = (final_of(name, prepared).estimator for name in ("mean_effects", "mechanism_effects"))
    assert level.pilot.kernel == "none" and ours.pilot.kernel in ("responses", "interactions")
    assert within(ours.predict(test), test) > within(level.predict(test), test) + 0.3


def test_a_served_model_takes_measured_rows_and_says_where_there_are_none(pilot: Prepared, tmp_path: Path) -> None:
    task = response_task(tiny_params())
    task = replace(task, split=replace(task.split, mode="drug_pilot"))
    final = final_of("elastic_net", pilot)
    contract = make_contract(NAME, "elastic_net", task, prepared=pilot, final=final)
    save_model(final.estimator, final_of("mean_effects", pilot).estimator, contract, tmp_path)
    model = Predictor().read(tmp_path)
    test = pilot.side("test")
    drug = test.drug[0]
    of_drug = test.take(test.drug == drug)
    measured = pilot.samples.pilot.take(pilot.samples.pilot.drug == drug)
    np.testing.assert_allclose(model.estimator.predict(of_drug), final.estimator.predict(of_drug))
    attribution: Any = model.estimator.attribute(of_drug)
    assert "drug:pilot_measurements" in attribution.names and attribution.relative_error < 1e-6

    questions, known = contract.request(of_drug), contract.request(measured)
    asked = pd.concat([known.assign(measured=measured.target), questions], ignore_index=True)
    answer: Any = model.predict(None, _enforce_schema(asked, signature(contract).inputs))
    found = answer["prediction"].to_numpy(float)[len(known) :]
    np.testing.assert_allclose(found, final.estimator.predict(of_drug), rtol=1e-4)
    assert not answer["note"].str.contains("no row of the drug").any()
    alone: Any = model.predict(None, questions)
    assert alone["low"].isna().all() and alone["note"].str.contains("no row of the drug is measured").all()
    with pytest.raises(PayloadError, match="row 0, field measured: must be a finite number"):
        contract.read(asked.assign(measured=np.inf))


def test_a_new_drug_may_be_asked_with_its_mechanism_and_a_known_one_has_its_own() -> None:
    samples = made(20, 12)
    table = samples.pairs.assign(group=samples.pairs["drug_id"], split="train", fold=0)
    table.loc[samples.drug >= 6, "split"] = "validation"
    prepared = Prepared(samples, table, "", {})
    final = final_of("mechanism_effects", prepared)
    contract = make_contract(NAME, "mechanism_effects", response_task(tiny_params()), prepared=prepared, final=final)
    row = contract.request(samples.take(np.arange(1))).iloc[0].to_dict()
    known = contract.read(pd.DataFrame([{**row, "target": None, "pathway": None, "cell_line_id": "L00"}]))
    assert known.drugs["pathway"].tolist() == [samples.drugs["pathway"].iloc[samples.drug[0]]]
    assert known.cell_lines.index.tolist() == ["L00"]
    new = contract.read(pd.DataFrame([{**row, "drug_id": "NEW", "smiles": "c1ccccc1CN", "pathway": "Mitosis"}]))
    assert new.drugs["pathway"].tolist() == ["Mitosis"] and new.pilot is None
    with pytest.raises(PayloadError, match="unknown field measured"):
        contract.read(pd.DataFrame([{**row, "measured": 1.0}]))
