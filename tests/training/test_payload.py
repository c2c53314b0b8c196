"""What would make the endpoint answer nonsense, or a 500: requests that are not what the model was fitted on."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException

from pipelines.datasets import Prepared
from pipelines.params import Params
from pipelines.samples.response import UNKNOWN, ResponseSamples
from tests.training.contract_builders import response_contract
from tests.training.tiny import NAME, FittedModel, build, response_task
from training.architectures import get_architecture, names
from training.contract import EXPLAINED_FEATURES, PayloadError, number_of
from training.modalities import pairs
from training.modalities.pairs import MAX_ROWS, read_payload
from training.model.cross_fit import CrossFitted
from training.model.predictor import Predictor
from training.model.track import alone, save_model

Row = dict[str, Any]
GENE = "SIMG0003"


@pytest.fixture(scope="module")
def contract(prepared: Prepared, params: Params) -> Any:
    return response_contract(NAME, "xgboost", response_task(params), prepared, 1.5, 0.9)


@pytest.fixture(scope="module")
def asked(prepared: Prepared) -> ResponseSamples:
    return prepared.side("test")


@pytest.fixture
def rows(asked: ResponseSamples, contract: Any) -> list[Row]:
    """Return three good rows, each with every field, of two cell lines."""
    whole = [
        row
        for row in contract.request(asked).to_dict("records")
        if all(row[name] is not None for name in (*contract.features, "smiles", "tissue"))
    ]
    first = whole[0]
    other = next(row for row in whole if row["expression"] != first["expression"])
    return json.loads(json.dumps([first, {**first, "smiles": "CCO", "drug_id": "NEW"}, other]))


@pytest.fixture(scope="module")
def predictor(
    prepared: Prepared, contract: Any, fitted: FittedModel, tmp_path_factory: pytest.TempPathFactory
) -> Predictor:
    folder = tmp_path_factory.mktemp("model")
    save_model(fitted("xgboost"), fitted("mean_effects"), contract, folder)
    return Predictor().read(folder)


def _through_json(frame: pd.DataFrame) -> pd.DataFrame:
    """Return what the server makes of the request that a client makes of ``frame``."""
    records = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return pd.DataFrame(json.loads(json.dumps(records)))


def _refusal(rows: list[Row] | pd.DataFrame, contract: Any) -> str:
    with pytest.raises(PayloadError) as caught:
        read_payload(pd.DataFrame(rows), contract)
    return str(caught.value)


# What is taken


def test_good_rows_are_read_as_they_stand(rows: list[Row], contract: Any) -> None:
    samples = read_payload(pd.DataFrame(rows), contract)
    assert len(samples) == 3
    for position, row in enumerate(rows):
        for name in contract.features:
            table = samples.omics[name]
            assert list(table) == contract.features[name]
            expected = np.array([row[name][feature] for feature in contract.features[name]], np.float32)
            np.testing.assert_array_equal(table.iloc[samples.cell[position]], expected)
        assert samples.cell_lines["tissue"].iloc[samples.cell[position]] == row["tissue"]
        assert samples.drugs["smiles"].iloc[samples.drug[position]] == row["smiles"]
        assert samples.drugs.index[samples.drug[position]] == row["drug_id"]


def test_equal_profiles_and_equal_drugs_are_stored_once(rows: list[Row], contract: Any) -> None:
    samples = read_payload(pd.DataFrame([*rows, *rows]), contract)
    assert len(samples) == 6
    assert len(samples.cell_lines) == 2
    assert len(samples.drugs) == len({row["drug_id"] for row in rows})
    assert samples.cell.tolist() == [0, 0, 1, 0, 0, 1]


def test_one_profile_in_two_tissues_is_two_lines(rows: list[Row], contract: Any) -> None:
    samples = read_payload(pd.DataFrame([rows[0], {**rows[0], "tissue": "another"}]), contract)
    assert samples.cell_lines["tissue"].tolist() == [rows[0]["tissue"], "another"]


def test_the_order_of_genes_in_a_row_does_not_matter(rows: list[Row], contract: Any, fitted: FittedModel) -> None:
    backwards = [{**row, "expression": dict(reversed(row["expression"].items()))} for row in rows]
    model = fitted("xgboost")
    np.testing.assert_array_equal(
        model.predict(read_payload(pd.DataFrame(backwards), contract)),
        model.predict(read_payload(pd.DataFrame(rows), contract)),
    )


@pytest.mark.parametrize("value", [None, math.nan])
@pytest.mark.parametrize("field", ["mutation", "copy_number", "methylation"])
def test_omics_that_are_imputed_may_be_left_out(
    rows: list[Row], contract: Any, field: str, value: float | None
) -> None:
    rows[1][field] = value
    samples = read_payload(pd.DataFrame(rows), contract)
    assert samples.omics[field].iloc[samples.cell[1]].isna().all()
    assert samples.omics[field].iloc[samples.cell[0]].notna().all()
    without = pd.DataFrame(rows).drop(columns=field)
    assert read_payload(without, contract).omics[field].isna().all(axis=None)


def test_a_row_without_tissue_and_id_is_taken(rows: list[Row], contract: Any) -> None:
    bare = [{key: row[key] for key in ("expression", "smiles")} for row in rows]
    samples = read_payload(pd.DataFrame(bare), contract)
    assert samples.cell_lines["tissue"].tolist() == [UNKNOWN, UNKNOWN]
    rows[0]["tissue"], rows[0]["drug_id"] = None, " "
    samples = read_payload(pd.DataFrame(rows), contract)
    assert samples.cell_lines["tissue"].tolist()[0] == UNKNOWN
    assert samples.drugs.index[0] not in {row["drug_id"] for row in rows}


def test_a_drug_may_be_named_by_its_id_alone(rows: list[Row], contract: Any, fitted: FittedModel) -> None:
    model = fitted("mean_effects")
    known = model.predict(read_payload(pd.DataFrame([rows[0]]), contract))
    by_id = [{key: value for key, value in rows[0].items() if key != "smiles"}]
    np.testing.assert_allclose(model.predict(read_payload(pd.DataFrame(by_id), contract)), known)


@pytest.mark.parametrize("number", [0, 3, np.float32(2.5), np.int64(2), -0.0])
def test_every_kind_of_number_is_a_number(rows: list[Row], contract: Any, number: Any) -> None:
    rows[0]["expression"][GENE] = number
    samples = read_payload(pd.DataFrame(rows), contract)
    assert samples.omics["expression"][GENE].iloc[0] == number


def test_a_negative_value_is_fine_where_the_scale_has_them(rows: list[Row], contract: Any) -> None:
    rows[0]["expression"][GENE] = -1.0
    other_scale = replace(contract, task_text=contract.task_text.replace("log2_tpm_plus_1", "any"))
    assert read_payload(pd.DataFrame(rows), other_scale).omics["expression"][GENE].iloc[0] == -1.0


# What is refused


def _set(field: str, value: Any) -> Callable[[Row], Any]:
    return lambda row: row.__setitem__(field, value)


def _gene(value: Any, omics: str = "expression", gene: str = GENE) -> Callable[[Row], Any]:
    return lambda row: row[omics].__setitem__(gene, value)


@pytest.mark.parametrize(
    ("damage", "field", "told"),
    [
        (lambda row: row["expression"].pop(GENE), "expression", GENE),
        (lambda row: row["mutation"].pop(GENE), "mutation", GENE),
        (_gene(1.0, gene="NOT_A_GENE"), "expression", "NOT_A_GENE"),
        (_gene(1.0, omics="methylation", gene="NOT_A_SITE"), "methylation", "NOT_A_SITE"),
        (_gene(math.nan), f"expression.{GENE}", "finite"),
        (_gene(math.inf), f"expression.{GENE}", "finite"),
        (_gene(-math.inf, omics="copy_number"), f"copy_number.{GENE}", "finite"),
        (_gene(1e39), f"expression.{GENE}", "finite"),
        (_gene(10**400), f"expression.{GENE}", "finite"),
        (_gene(10**5000), f"expression.{GENE}", "finite"),
        (_gene("5.1"), f"expression.{GENE}", "str"),
        (_gene(True), f"expression.{GENE}", "bool"),
        (_gene(None), f"expression.{GENE}", "null"),
        (_gene([1.0]), f"expression.{GENE}", "list"),
        (_gene(-0.001), f"expression.{GENE}", "below 0"),
        (_set("expression", [1.0, 2.0]), "expression", "list"),
        (_set("expression", "a profile"), "expression", "str"),
        (_set("expression", 3), "expression", "int"),
        (_set("expression", {}), "expression", "lacks"),
        (_set("expression", None), "expression", "missing"),
        (_set("expression", math.nan), "expression", "missing"),
        (_set("mutation", "none"), "mutation", "str"),
        (_set("smiles", "C1CC"), "smiles", "C1CC"),
        (_set("smiles", "not a molecule"), "smiles", "not a molecule"),
        (_set("smiles", "C" * 5000), "smiles", "SMILES"),
        (_set("smiles", 7), "smiles", "int"),
        (lambda row: row.update(smiles=None, drug_id=None), "smiles", "missing"),
        (lambda row: row.update(smiles="  ", drug_id=""), "smiles", "missing"),
        (_set("drug_id", 17), "drug_id", "int"),
        (_set("tissue", ["lung"]), "tissue", "list"),
    ],
    ids=lambda value: (
        "row" if callable(value) else str(value)
    ),  # an address in an id would differ from worker to worker
)
def test_a_fault_is_told_by_row_and_field(
    rows: list[Row], contract: Any, damage: Callable[[Row], Any], field: str, told: str
) -> None:
    damage(rows[1])
    message = _refusal(rows, contract)
    assert f"row 1, field {field}:" in message
    assert told in message
    assert len(message) < 500


@pytest.mark.parametrize(
    ("value", "told"),
    [(True, "it is bool"), (math.nan, "finite"), (None, "it is null"), ("1", "it is str"), (-1, "below 0")],
)
def test_a_profile_that_looks_like_the_one_above_is_looked_at_all_the_same(
    rows: list[Row], contract: Any, value: Any, told: str
) -> None:
    """Many drugs are asked about one line, and true is equal to 1."""
    rows[0]["expression"][GENE] = 1
    many = json.loads(json.dumps([{**rows[0], "drug_id": f"D{number}"} for number in range(6)]))
    assert len(read_payload(pd.DataFrame(many), contract)) == 6
    many[4]["expression"][GENE] = value
    message = _refusal(many, contract)
    assert f"row 4, field expression.{GENE}:" in message and told in message
    del many[4]["expression"][GENE]
    assert "row 4, field expression: lacks 1 of" in _refusal(many, contract)


def test_one_profile_is_checked_once_however_many_drugs_it_is_asked_about(
    rows: list[Row], contract: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[str] = []

    def looked_at(value: Any, where: str) -> float:
        checked.append(where)
        return number_of(value, where)

    monkeypatch.setattr(pairs, "number_of", looked_at)
    many = json.loads(json.dumps([{**rows[0], "drug_id": f"D{number}"} for number in range(50)]))
    found = read_payload(pd.DataFrame(many), contract)
    assert len(found) == 50 and len(checked) == len(set(checked)) == sum(map(len, contract.features.values()))


def test_a_missing_and_an_unknown_gene_do_not_make_up_for_each_other(rows: list[Row], contract: Any) -> None:
    rows[1]["expression"]["NOT_A_GENE"] = rows[1]["expression"].pop(GENE)
    assert "row 1, field expression:" in _refusal(rows, contract)


def test_one_drug_id_with_two_molecules_is_refused(rows: list[Row], contract: Any) -> None:
    rows[2]["drug_id"] = rows[0]["drug_id"]
    rows[2]["smiles"] = "CCO"
    message = _refusal(rows, contract)
    assert "row 2, field drug_id:" in message
    assert rows[0]["drug_id"] in message


def test_one_drug_id_with_two_spellings_of_a_molecule_is_one_drug(rows: list[Row], contract: Any) -> None:
    rows[0].update(smiles="OCC", drug_id="D")
    rows[1].update(smiles="CCO", drug_id="D")
    rows[2].update(smiles="C(O)C", drug_id="D")
    samples = read_payload(pd.DataFrame(rows), contract)
    assert samples.drug.tolist() == [0, 0, 0]
    assert samples.drugs["smiles"].tolist() == ["OCC"]


def test_an_id_that_looks_like_ours_is_not_mixed_up_with_a_nameless_drug(rows: list[Row], contract: Any) -> None:
    rows[0].update(smiles="CCO", drug_id=None)
    rows[1].update(smiles="CCN", drug_id="row:0")
    samples = read_payload(pd.DataFrame(rows), contract)
    assert samples.drugs["smiles"].to_numpy()[samples.drug][:2].tolist() == ["CCO", "CCN"]


def test_an_unknown_column_is_named_with_those_there_are(rows: list[Row], contract: Any) -> None:
    message = _refusal(pd.DataFrame(rows).assign(proteomics=1), contract)
    assert "proteomics" in message
    assert all(name in message for name in (*contract.features, "smiles", "drug_id", "tissue"))


@pytest.mark.parametrize("field", ["expression", "smiles"])
def test_a_missing_column_is_named(rows: list[Row], contract: Any, field: str) -> None:
    columns = [field, "drug_id"] if field == "smiles" else [field]
    assert f"the field {field} is missing" in _refusal(pd.DataFrame(rows).drop(columns=columns), contract)


def test_smiles_are_needed_where_the_task_drops_drugs_without(rows: list[Row], contract: Any) -> None:
    strict = replace(contract, required=[*contract.required, "smiles"])
    rows[1]["smiles"] = None
    assert "row 1, field smiles:" in _refusal(rows, strict)


def test_an_empty_request_is_refused(contract: Any) -> None:
    assert "no rows" in _refusal([], contract)


def test_an_endless_request_is_refused_before_it_is_read(rows: list[Row], contract: Any) -> None:
    broken: Row = {"expression": None}
    message = _refusal(pd.DataFrame([broken] * (MAX_ROWS + 1)), contract)
    assert str(MAX_ROWS) in message
    assert str(MAX_ROWS + 1) in message


# There and back


@pytest.mark.parametrize("name", names("pairs", "regression"))
def test_a_request_is_answered_as_the_samples_are_predicted(
    name: str, asked: ResponseSamples, contract: Any, fitted: FittedModel
) -> None:
    mutation = asked.omics["mutation"].copy()
    mutation.iloc[asked.cell[0]] = np.nan  # a line that was not sequenced is part of the question
    asked = replace(asked, omics={**asked.omics, "mutation": mutation})
    frame = contract.request(asked)
    assert 0 < frame["mutation"].isna().sum() < len(frame)
    samples = read_payload(_through_json(frame), contract)
    np.testing.assert_allclose(fitted(name).predict(samples), fitted(name).predict(asked), rtol=0, atol=1e-4)


def test_a_request_leaves_out_what_no_row_has(asked: ResponseSamples, contract: Any) -> None:
    without = replace(asked, omics={**asked.omics, "mutation": asked.omics["mutation"] * np.nan})
    frame = contract.request(alone(without, 5))
    assert "mutation" not in frame
    assert len(read_payload(frame, contract)) == 5


@pytest.mark.parametrize("cross_fitted", [False, True])
def test_the_logged_model_answers_as_the_fitted_one(
    prepared: Prepared,
    asked: ResponseSamples,
    contract: Any,
    fitted: FittedModel,
    tmp_path: Path,
    cross_fitted: bool,
) -> None:
    model = fitted("xgboost")
    if cross_fitted:
        train = prepared.side("train")
        every = build(get_architecture("xgboost", "pairs", "regression")).get_params(deep=False)
        model = CrossFitted("xgboost", every, modality="pairs", problem="regression").fit(train, folds=train.cell % 2)
    save_model(model, fitted("mean_effects"), contract, tmp_path)
    loaded = Predictor().read(tmp_path)
    answer = loaded.predict(None, _through_json(contract.request(asked)))
    expected = model.predict(asked)
    np.testing.assert_allclose(answer["prediction"], expected, rtol=0, atol=1e-4)
    np.testing.assert_allclose(answer["high"] - answer["prediction"], 1.5)
    np.testing.assert_allclose(answer["prediction"] - answer["low"], 1.5)
    assert (answer["coverage"] == 0.9).all()
    np.testing.assert_array_equal(loaded.baseline.predict(asked), fitted("mean_effects").predict(asked))


def test_an_explained_answer_adds_up(predictor: Predictor, rows: list[Row]) -> None:
    answer = predictor.predict(None, pd.DataFrame(rows), {"explain": True})
    for _, row in answer.iterrows():
        contributions = row["attributions"]
        assert len(contributions) == EXPLAINED_FEATURES + 1
        sizes = [abs(each["value"]) for each in contributions[:-1]]
        assert sizes == sorted(sizes, reverse=True)
        assert row["base"] + sum(each["value"] for each in contributions) == pytest.approx(row["prediction"], abs=1e-3)
    assert "attributions" not in predictor.predict(None, pd.DataFrame(rows))


def test_a_bad_request_is_the_caller_s_fault_and_not_the_server_s(predictor: Predictor, rows: list[Row]) -> None:
    rows[1]["expression"][GENE] = math.nan
    with pytest.raises(MlflowException) as caught:
        predictor.predict(None, pd.DataFrame(rows))
    assert caught.value.get_http_status_code() == 400
    assert f"row 1, field expression.{GENE}:" in str(caught.value)


def test_without_held_out_errors_there_is_no_interval(prepared: Prepared, params: Params) -> None:
    none = response_contract(NAME, "xgboost", response_task(params), prepared, math.nan, 0.9)
    assert none.half_width is None
    json.dumps({"half_width": none.half_width}, allow_nan=False)
