"""Requests that are not what the model was fitted on must end in a clear refusal, never in a wrong answer or a 500."""

import functools
import importlib
import json
import math
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow.exceptions import MlflowException
from mlflow.models.utils import _enforce_schema
from mlflow.types.schema import Schema

from pipelines.params import read_params, task_text
from pipelines.samples.expression import ExpressionSamples
from pipelines.samples.response import UNKNOWN
from tests.serving.served import save_fitted, split
from tests.training.image_samples import image_task, in_memory
from tests.training.profile_samples import CLASSES, gene_samples, labels_samples, reordered
from tests.training.tiny import NAME, ROOT, response_task, tiny_params, tiny_prepared
from training.architectures import get_architecture
from training.contract import EXPLAINED_FEATURES, PayloadError, contract_from, contract_text
from training.estimator import Estimator
from training.modalities.images import as_png
from training.model.calibration import apply_temperature
from training.model.cost import alone
from training.model.cross_fit import CrossFitted
from training.model.predictor import Predictor
from training.model.track import copy_code, save_model, signature

Row = dict[str, Any]
ALLOWED = 0.1  # share of a profile's 30 genes that may be missing
GENE = "GENE7|1007"  # of profiles
PAIR_GENE = "SIMG0003"
KINDS = ["pairs regression", "profiles classification", "profiles multi_target", "images classification"]
PROFILES = KINDS[1:3]


@dataclass(frozen=True)
class Asked:
    """A fitted model as it is served, and samples that it was not fitted on."""

    predictor: Predictor
    train: Any
    unseen: Any
    folder: Path

    @property
    def contract(self) -> Any:
        return self.predictor.contract

    @property
    def estimator(self) -> Estimator:
        return self.predictor.estimator

    def rows(self) -> list[Row]:
        """Return three good rows; of pairs with every field, of two cell lines."""
        found = self.contract.request(self.unseen).to_dict("records")
        if self.contract.modality == "pairs":
            whole = [row for row in found if all(row[name] is not None for name in (*self.contract.features, "smiles"))]
            other = next(row for row in whole if row["expression"] != whole[0]["expression"])
            found = [whole[0], {**whole[0], "smiles": "CCO", "drug_id": "NEW"}, other]
        return json.loads(json.dumps(found[:3]))

    def ask(self, rows: Any, **params: bool) -> pd.DataFrame:
        return self.predictor.predict(None, _frame(rows), params)

    def read(self, rows: Any) -> Any:
        return self.contract.read(_frame(rows))


def test_the_code_that_is_logged_is_enough(asked: Asked, tmp_path: Path) -> None:
    code, answer = tmp_path / "code", tmp_path / "answer.json"
    assert copy_code(asked.contract, code) == [str(code / room) for room in ("pipelines", "training")]
    few = asked.contract.request(asked.unseen).head(2)
    if pid := os.fork():
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    else:  # what `mlflow models serve` does where there is no checkout
        try:
            for name in [name for name in sys.modules if name.split(".")[0] in ("pipelines", "training", "evaluation")]:
                del sys.modules[name]
            sys.path[:] = [str(code), *(place for place in sys.path if Path(place).resolve() != ROOT)]
            alone = importlib.import_module("training.model.predictor")
            assert Path(str(alone.__file__)).is_relative_to(code)
            found = alone.Predictor().read(asked.folder).predict(None, few, {"explain": True})
            answer.write_text(_json(found.drop(columns="model_version")), encoding="utf-8")
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    assert answer.read_text() == _json(asked.ask(few, explain=True).drop(columns="model_version"))


def _frame(rows: Any) -> pd.DataFrame:
    return rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(rows)


def _json(frame: pd.DataFrame) -> str:
    return json.dumps(frame.astype(object).where(frame.notna(), None).to_dict("records"), allow_nan=False)


def _refusal(contract: Any, rows: Any) -> str:
    with pytest.raises(PayloadError) as caught:
        contract.read(_frame(rows))
    return str(caught.value)


def _named(samples: ExpressionSamples) -> ExpressionSamples:
    """Return the samples with genes named as ``SYMBOL|ENTREZ``, and nothing below 0."""
    about = pd.DataFrame(index=pd.Index([f"{gene}|{1000 + int(gene[4:])}" for gene in samples.genes]))
    named = dict(zip(samples.genes, about.index, strict=True))
    other: dict[str, Any] = {
        name: tuple(named[gene] for gene in getattr(samples, name)) for name in ("genes", "targets", "predictors")
    }
    return replace(samples, values=samples.values.clip(0), about_genes=about, **other)


@functools.cache
def _profiles_task(problem: str, scale: Any) -> Any:
    name = {"classification": "tumor_type", "multi_target": "gene_expression"}[problem]
    task: Any = read_params(ROOT / "params.yaml").task(name)
    return replace(task, data=replace(task.data, scale=scale, missing_genes=ALLOWED))


Models = Callable[[str], Asked]


def _made(kind: str, folder: Path) -> Asked:
    """Fit a model; one of profiles looks at 30 of 40 genes."""
    modality, problem = kind.split()
    task: Any
    unseen: Any
    if modality == "pairs":
        task, prepared, name = response_task(tiny_params()), tiny_prepared(folder / "raw"), "elastic_net"
        unseen, chosen = prepared.side("test"), {**get_architecture(name, modality, problem).defaults}
    elif modality == "images":
        task, prepared, name = image_task(48), split(in_memory(30, 48)), "efficientnet_lite0"
        unseen, chosen = in_memory(5, 48, first=100), {"weights": "imagenet", "views": 2}
    else:
        labels = problem == "classification"
        make, name = (labels_samples, "logistic_regression") if labels else (gene_samples, "ridge")
        prepared, unseen = split(_named(make(150))), reordered(_named(make(12, seed=1)))
        task = _profiles_task(problem, prepared.samples.scale)
        chosen = {"selection": "top_30"} | ({} if labels else {"kernel": "linear"})
    save_fitted(NAME, name, task, prepared, folder, **chosen)
    return Asked(Predictor().read(folder), prepared.side("train"), unseen, folder)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return functools.cache(lambda kind: _made(kind, tmp_path_factory.mktemp("model")))


@pytest.fixture(params=KINDS)
def asked(request: pytest.FixtureRequest, models: Models) -> Asked:
    return models(request.param)


@pytest.fixture
def pairs(models: Models) -> Asked:
    return models(KINDS[0])


@pytest.fixture(params=PROFILES)
def profiles(request: pytest.FixtureRequest, models: Models) -> Asked:
    return models(request.param)


# Of every modality and problem


def test_a_request_made_of_samples_is_answered_as_they_are(asked: Asked) -> None:
    sent = json.loads(_json(asked.contract.request(asked.unseen)))
    found, expected = (asked.estimator.outputs(samples) for samples in (asked.read(sent), asked.unseen))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def test_the_answer_has_the_columns_of_the_signature(asked: Asked) -> None:
    assert contract_from(json.loads(json.dumps(contract_text(asked.contract), allow_nan=False))) == asked.contract
    promised = {column.name: column.required for column in signature(asked.contract).outputs}
    plain, explained = asked.ask(asked.rows()), asked.ask(asked.rows(), explain=True)
    assert list(plain) == [name for name, required in promised.items() if required]
    assert [name for name in promised if name in explained] == list(explained) != list(plain)
    pd.testing.assert_frame_equal(explained[list(plain)], plain)
    json.dumps(explained.to_dict("records"), allow_nan=False)
    enforced = _enforce_schema(_frame(asked.rows()), Schema(signature(asked.contract).inputs.inputs))
    pd.testing.assert_frame_equal(asked.ask(enforced), plain)


def test_a_request_of_the_wrong_form_is_refused(asked: Asked) -> None:
    frame, (field, *_) = _frame(asked.rows()), asked.contract.inputs()
    for wrong, message in (
        (frame[:0], "no rows"),
        (pd.DataFrame({field.name: [None] * 20_000}), "20000 rows; send 1 to"),
        (frame.assign(proteomics=1), f"unknown field proteomics; the model takes .*{field.name}"),
        (frame.drop(columns=field.name), f"the field {field.name} is missing"),
        (pd.concat([frame, frame[[field.name]]], axis=1), f"the field {field.name} occurs 2 times"),
    ):
        with pytest.raises(PayloadError, match=message):
            asked.contract.read(wrong)
    rows = asked.rows()
    rows[1][field.name] = 5
    with pytest.raises(MlflowException, match=f"row 1, field {field.name}: ") as caught:
        asked.ask(rows)
    assert caught.value.get_http_status_code() == 400


def _set(field: str, value: Any) -> Callable[[Row], Any]:
    return lambda row: row.__setitem__(field, value)


def _value(value: Any, field: str = "expression", name: str = "") -> Callable[[Row], Any]:
    return lambda row: row[field].__setitem__(name or (GENE if GENE in row[field] else PAIR_GENE), value)


Fault = tuple[Callable[[Row], Any], str, str]  # damages a row; the field and the reason of the refusal
MAPS: dict[str, Fault] = {
    "a list": (_set("expression", [1.0, 2.0]), "expression", "list"),
    "nothing measured": (_set("expression", {}), "expression", "lacks"),
    "null": (_set("expression", None), "expression", ""),
    "NaN": (_value(math.nan), "expression.", "finite"),
    "too large": (_value(1e39), "expression.", "finite"),
    "huge integer": (_value(-(10**5000)), "expression.", "finite"),
    "text value": (_value("5.1"), "expression.", "str"),
    "bool": (_value(True), "expression.", "bool"),
    "negative": (_value(-0.001), "expression.", "-0.001"),
}
BAD_PAIRS: dict[str, Fault] = {
    "null value": (_value(None), f"expression.{PAIR_GENE}", "null"),
    "lacks a gene": (lambda row: row["mutation"].pop(PAIR_GENE), "mutation", PAIR_GENE),
    "unknown gene": (_value(1.0, name="NOT_A_GENE"), "expression", "NOT_A_GENE"),
    "half a mutation": (_value(0.5, "mutation"), f"mutation.{PAIR_GENE}", "0 or 1"),
    "log ratio": (_value(-1.5, "copy_number"), f"copy_number.{PAIR_GENE}", "below 0"),
    "percent": (lambda row: row["methylation"].update(dict.fromkeys(row["methylation"], 55)), "methylation.", "55"),
    "counts": (_value(71.0), f"expression.{PAIR_GENE}", "log2"),
    "broken ring": (_set("smiles", "C1CC"), "smiles", "C1CC"),
    "endless chain": (_set("smiles", "C" * 5000), "smiles", "SMILES"),
    "no drug": (lambda row: row.update(smiles=None, drug_id=None), "smiles", "missing"),
    "blank drug": (lambda row: row.update(smiles="  ", drug_id=""), "smiles", "missing"),
    "id is a number": (_set("drug_id", 17), "drug_id", "int"),
    "unknown id": (lambda row: row.update(smiles=None, drug_id="XYZ"), "drug_id", "'XYZ'"),
}


FAULTS = [(kind, fault, MAPS[fault]) for kind in KINDS[:3] for fault in MAPS]
FAULTS += [(KINDS[0], fault, BAD_PAIRS[fault]) for fault in BAD_PAIRS]


@pytest.mark.parametrize(("kind", "fault", "expected"), FAULTS, ids=[f"{kind}, {fault}" for kind, fault, _ in FAULTS])
def test_a_fault_is_refused_by_row_and_field(kind: str, fault: str, expected: Fault, models: Models) -> None:
    asked, (damage, field, reason) = models(kind), expected
    rows = asked.rows()
    damage(rows[1])
    frame = pd.DataFrame({name: pd.Series([row[name] for row in rows], dtype=object) for name in rows[0]})
    message = _refusal(asked.contract, frame)
    assert message.startswith(f"row 1, field {field}") and reason in message
    assert len(message) < 2000 and "\n" not in message


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(width=64) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
NUMBERS = st.one_of(st.floats(min_value=0, max_value=3e38), st.integers(0, 2**140), st.none(), JSON)
NAMES = st.sampled_from([f"GENE{n}|{1000 + n}" for n in range(40)] + ["GENE7", "1007", "?|1007", "GENE7|", "|", ""])


@settings(deadline=None, max_examples=60)
@given(
    field=st.sampled_from(["expression", "mutation", "smiles", "drug_id", "tissue"]),  # profiles have the first alone
    scale=st.sampled_from(["linear", "log2", "as_is"]),
    changes=st.dictionaries(st.just(PAIR_GENE) | NAMES | st.text(max_size=5), NUMBERS, max_size=4),
    whole=st.none() | JSON,
)
@pytest.mark.parametrize("kind", KINDS[:3])
def test_no_json_crashes(kind: str, field: str, scale: str, models: Models, changes: Any, whole: Any) -> None:
    asked, contract, row = models(kind), models(kind).contract, models(kind).rows()[0]
    if kind in PROFILES:
        field, contract = "expression", _on_scale(contract, scale)
        row["expression"] = {gene: min(value, 16.0) for gene, value in row["expression"].items()}
    changed = row[field] | changes if whole is None and isinstance(row[field], dict) else whole
    frame = pd.DataFrame([row, row]).assign(**{field: pd.Series([row[field], changed], dtype=object)})
    try:
        samples = contract.read(frame)
    except PayloadError as error:
        assert len(str(error)) < 2000
    else:
        _json(pd.DataFrame(contract.answer(contract.calibrated(asked.estimator.outputs(samples)), samples)))


@pytest.mark.parametrize("kind", KINDS[:3])
def test_every_kind_of_number_is_a_number_and_the_order_of_genes_does_not_matter(kind: str, models: Models) -> None:
    asked, rows = models(kind), models(kind).rows()
    gene = PAIR_GENE if asked.contract.modality == "pairs" else GENE
    rows[1]["expression"] = dict(reversed(rows[1]["expression"].items()))
    pd.testing.assert_frame_equal(asked.ask(rows), asked.ask(asked.rows()))
    for number in (0, 3, np.float32(2.5), np.int64(2), -0.0):
        rows[0]["expression"][gene] = number
        samples = asked.read(rows)
        found = samples.omics["expression"][gene] if gene == PAIR_GENE else samples.values[:, samples.genes.index(gene)]
        assert np.asarray(found)[0] == number


@pytest.mark.parametrize("kind", KINDS[:3])
def test_a_cross_fitted_model_is_served_as_it_was_fitted(kind: str, models: Models, tmp_path: Path) -> None:
    asked = models(kind)
    every = asked.estimator.get_params(deep=False)
    every |= {"selection": "top_8"} if asked.contract.modality == "profiles" else {}
    own = {"modality": asked.contract.modality, "problem": asked.contract.problem}
    whole = CrossFitted(of=asked.contract.architecture, hyperparameters=every, **own)
    whole.fit(asked.train, folds=np.arange(len(asked.train)) // 3 % 2)
    contract = asked.contract
    if "genes" in vars(contract):
        members: list[Any] = whole.members_
        used = {gene for member in members for gene in member.features_.genes}
        assert len(used) > 8 or contract.problem == "multi_target", "the members look at the same genes"
        taken = contract.taken(contract.architecture, None, split(asked.train), whole)
        assert taken["genes"] == sorted(used, key=asked.train.genes.index)
        contract = replace(contract, **taken)
    save_model(whole, asked.predictor.baseline, contract, tmp_path / "model")
    served = Predictor().read(tmp_path / "model")
    samples = contract.read(contract.request(asked.unseen))
    np.testing.assert_allclose(served.estimator.outputs(samples), whole.outputs(asked.unseen), rtol=0, atol=1e-4)
    np.testing.assert_array_equal(served.baseline.outputs(asked.unseen), asked.predictor.baseline.outputs(asked.unseen))
    assert len(served.predict(None, contract.request(alone(asked.unseen, 3)), {"explain": True})) == 3


@pytest.mark.parametrize(("kind", "within"), zip(KINDS, (1e-3, 1e-4, 1e-5), strict=False))
def test_contributions_add_up_to_the_answer(kind: str, within: float, models: Models) -> None:
    asked, several = models(kind), kind == KINDS[2]
    answer = asked.ask(asked.contract.request(asked.unseen), explain=True)
    if kind == KINDS[1]:
        explained = asked.estimator.attribute(asked.unseen, answer["label"].map(CLASSES.index).to_numpy())
        assert explained is not None
        answer["prediction"] = explained.prediction  # the logit of the label
    for row, target in product(answer.to_dict("records"), asked.contract.targets if several else [""]):
        parts = [part for part in row["attributions"] if part.get("target", "") == target]
        base, prediction = (row[name][target] if several else row[name] for name in ("base", "prediction"))
        values = [part["value"] for part in parts]
        assert base + sum(values) == pytest.approx(prediction, abs=within)
        assert len(values) == (10 if several else EXPLAINED_FEATURES) + 1 and parts[-1]["feature"] == "all_others"
        assert values[:-1] == sorted(values[:-1], key=abs, reverse=True)
        assert kind == KINDS[0] or {part["feature"] for part in parts[:-1]} <= set(asked.contract.genes)


@pytest.mark.parametrize("kind", ["pairs regression", "profiles multi_target"])
def test_an_interval_lies_around_its_prediction(kind: str, models: Models) -> None:
    asked, of_targets = models(kind), kind != KINDS[0]
    outputs, name = asked.estimator.predict(asked.unseen), "half_widths" if of_targets else "half_width"
    widths: Any = [0.5, 1.0, 1.5, 2.0] if of_targets else 1.5
    columns = replace(asked.contract, **{name: widths}).answer(outputs, asked.unseen)
    answer, gone = pd.DataFrame(columns), asked.contract.withdrawn(columns, np.ones(len(outputs), dtype=bool))
    assert np.isnan(gone["coverage"]).all() and (gone["low"][0] is None) == of_targets, "NaN is not JSON"
    for column, sign in (("prediction", 0), ("low", -1), ("high", 1)):
        found = pd.DataFrame(answer[column].tolist())
        assert not of_targets or list(found) == asked.contract.targets
        np.testing.assert_allclose(found, outputs.reshape(len(outputs), -1) + sign * np.array(widths), atol=1e-9)
    assert (answer["coverage"] == 0.9).all()
    unmeasured = replace(asked.contract, **{name: [None] * 4 if of_targets else None})
    none = pd.DataFrame(unmeasured.answer(outputs, asked.unseen))
    assert none.reindex(columns=["low", "high"] if of_targets else ["low", "high", "coverage"]).isna().all(axis=None)


# Pairs


def test_equal_profiles_and_drugs_of_pairs_are_stored_once(pairs: Asked) -> None:
    rows = pairs.rows()
    samples = pairs.read([*rows, *rows])
    assert (len(samples), len(samples.cell_lines), samples.cell.tolist()) == (6, 2, [0, 0, 1, 0, 0, 1])
    assert samples.drugs.index[samples.drug].tolist() == [row["drug_id"] for row in rows] * 2
    assert samples.cell_lines["tissue"].iloc[samples.cell].tolist() == [row["tissue"] for row in rows] * 2
    assert "field methylation" in _refusal(pairs.contract, [{**rows[0], "methylation": rows[0]["expression"]}])
    other = {**rows[0], "tissue": "another"}  # one profile in two tissues is two lines
    assert pairs.read([rows[0], other]).cell_lines["tissue"].tolist() == [rows[0]["tissue"], "another"]


@pytest.mark.parametrize("value", [None, math.nan])
def test_omics_that_are_imputed_may_be_left_out(pairs: Asked, value: float | None) -> None:
    rows = pairs.rows()
    rows[1]["mutation"] = value
    samples = pairs.read(rows)
    assert samples.omics["mutation"].iloc[samples.cell[:2]].isna().all(axis=1).tolist() == [False, True]
    assert pairs.read(_frame(rows).drop(columns="mutation")).omics["mutation"].isna().all(axis=None)
    without = replace(pairs.unseen, omics={**pairs.unseen.omics, "mutation": pairs.unseen.omics["mutation"] * np.nan})
    assert "mutation" not in pairs.contract.request(alone(without, 5))


def test_a_drug_may_be_named_by_its_molecule_or_its_id_alone(pairs: Asked) -> None:
    row = pairs.rows()[0]
    bare = pairs.read([{key: row[key] for key in ("expression", "smiles")}, {**row, "tissue": None, "drug_id": " "}])
    assert {*bare.cell_lines["tissue"]} == {UNKNOWN} and row["drug_id"] not in bare.drugs.index
    by_id = {key: value for key, value in row.items() if key != "smiles"}
    assert pairs.ask([by_id])["prediction"][0] == pytest.approx(pairs.ask([row])["prediction"][0])
    strict = replace(pairs.contract, required=[*pairs.contract.required, "smiles"], drugs={})
    assert "row 0, field smiles:" in _refusal(strict, [{**row, "smiles": None}])


def test_drugs_are_told_apart_by_id_and_molecule(pairs: Asked) -> None:
    rows = pairs.rows()
    for row, smiles in zip(rows, ("OCC", "CCO", "C(O)C"), strict=True):
        row.update(smiles=smiles, drug_id="D")
    samples = pairs.read(rows)  # three spellings of one molecule
    assert samples.drug.tolist() == [0, 0, 0] and samples.drugs["smiles"].tolist() == ["OCC"]
    rows[2]["smiles"] = "CCN"
    assert "row 2, field drug_id: 'D'" in _refusal(pairs.contract, rows)
    rows[0].update(smiles="CCO", drug_id=None)
    rows[1].update(smiles="CCN", drug_id="row:0")  # as the reader names drugs without an id
    samples = pairs.read(rows[:2])
    assert samples.drugs["smiles"].to_numpy()[samples.drug].tolist() == ["CCO", "CCN"]


# Profiles


def _expressions(asked: Asked) -> list[Row]:
    return [row["expression"] for row in asked.rows()]


def _of(profiles: list[Any]) -> pd.DataFrame:
    return pd.DataFrame({"expression": pd.Series(profiles, dtype=object)})


def _on_scale(contract: Any, scale: str) -> Any:
    return replace(contract, task_text=task_text(_profiles_task(contract.problem, scale)))


def _mixed(gene: str) -> Any:
    symbol, number = gene.split("|")
    return {"3": symbol, "4": int(number), "5": f"?|{number}"}.get(gene[4], gene)


NAMED: list[tuple[Callable[[str], Any], bool]] = [
    *((lambda gene: gene.split("|")[0], False), (lambda gene: gene.split("|")[1], False), (_mixed, False)),
    *((lambda gene, of=of: of(gene.split("|")[0]), True) for of in (str.lower, " {}".format, "{}\u00a0".format)),
]


@pytest.mark.parametrize(("named", "noted"), NAMED)
def test_a_gene_goes_by_symbol_number_or_other_case(profiles: Asked, named: Callable[[str], Any], noted: bool) -> None:
    rows = _expressions(profiles)
    other = _of([{named(gene): value for gene, value in profile.items()} for profile in rows])
    plain, found = profiles.ask(_of(rows)), profiles.ask(other)
    np.testing.assert_array_equal(profiles.read(other).values, profiles.read(_of(rows)).values)
    pd.testing.assert_frame_equal(found.drop(columns="note"), plain.drop(columns="note"))
    assert ["matched but for case" in str(note) for note in found["note"]] == [noted] * 3


def test_a_symbol_of_two_known_genes_is_ambiguous(profiles: Asked) -> None:
    rows = _expressions(profiles)
    other = replace(profiles.contract, known=[*profiles.contract.known, "GENE7|99"])
    rows[1]["GENE7"] = rows[1].pop(GENE)
    rows[2]["1007"] = rows[2].pop(GENE)
    assert other.read(_of(rows)).table["imputed"].tolist() == [[], [GENE], []]
    assert profiles.contract.read(_of(rows)).table["imputed"].tolist() == [[], [], []]


def test_known_genes_that_the_model_does_not_use_change_nothing(profiles: Asked) -> None:
    whole = [dict(zip(profiles.unseen.genes, map(float, row), strict=True)) for row in profiles.unseen.values[:3]]
    symbols = [{gene.split("|")[0]: value for gene, value in profile.items()} for profile in whole]
    expected = profiles.ask(_of(_expressions(profiles)))
    assert expected["ignored"].tolist() == [[], [], []] and len(whole[0]) == 40
    for rows in (whole, symbols):
        pd.testing.assert_frame_equal(profiles.ask(_of(rows)), expected)
    blind = replace(profiles.contract, genes=[])
    assert blind.request(profiles.unseen)["expression"].tolist() == [{}] * len(profiles.unseen)
    assert blind.read(_of(whole)).values.shape == (3, 0)
    assert "unknown" in _refusal(blind, _of([{"NOT_A_GENE": 1.0}]))


def test_a_few_missing_genes_are_imputed_by_the_training_mean_and_listed(profiles: Asked) -> None:
    rows = _expressions(profiles)
    lacking = [profiles.contract.genes[column] for column in (20, 3, 11)]  # as many as are allowed
    mean = profiles.train.logged(lacking).astype(np.float64).mean(axis=0)
    means = (2**mean - 1 if profiles.train.scale == "linear" else mean).tolist()
    other = {gene: value for gene, value in rows[1].items() if gene not in lacking}
    answer = profiles.ask(_of([rows[0], other, rows[2]]))
    pd.testing.assert_frame_equal(profiles.ask(_of([rows[0], other | dict.fromkeys(lacking), rows[2]])), answer)
    expected = profiles.ask(_of([rows[0], other | dict(zip(lacking, means, strict=True)), rows[2]]))
    assert answer["imputed"].tolist() == [[], [profiles.contract.genes[column] for column in (3, 11, 20)], []]
    numbers = "probabilities" if "probabilities" in answer else "prediction"
    for found, wanted in zip(answer[numbers], expected[numbers], strict=True):
        assert found == pytest.approx(wanted, abs=1e-5)
    assert answer[numbers][1] != profiles.ask(_of(rows))[numbers][1]


def test_a_few_unknown_genes_are_left_out_and_named(profiles: Asked) -> None:
    rows = _expressions(profiles)
    expected = profiles.ask(_of(rows))
    rows[1] |= {"NOT_A_GENE": 1.0, "NOR_THIS": "not even looked at"}
    answer = profiles.ask(_of(rows))
    assert answer["ignored"].tolist() == [[], ["NOT_A_GENE", "NOR_THIS"], []]
    pd.testing.assert_frame_equal(answer.drop(columns="ignored"), expected.drop(columns="ignored"))
    rows[1]["NOR_THIS"] = rows[1].pop(GENE)  # an unknown gene does not stand for a missing one
    assert profiles.contract.read(_of(rows)).table["imputed"].tolist() == [[], [GENE], []]


@pytest.mark.parametrize(
    ("scale", "value"), [("linear", -0.01), ("log2", -0.01), ("log2", 129), ("as_is", 1e31), ("as_is", -1e31)]
)
def test_a_value_that_the_scale_does_not_have_is_refused(profiles: Asked, scale: str, value: float) -> None:
    rows = [{gene: min(known, 16.0) for gene, known in row.items()} for row in _expressions(profiles)]
    rows[2]["GENE7"] = rows[2].pop(GENE)
    contract = _on_scale(profiles.contract, scale)
    contract.read(_of(rows))
    rows[2]["GENE7"] = value
    assert _refusal(contract, _of(rows)).startswith("row 2, field expression.GENE7: ")
    rows[2]["GENE7"] = -1.5
    assert scale != "as_is" or contract.read(_of(rows)).values[2, contract.genes.index(GENE)] == -1.5


def test_too_many_missing_or_unknown_genes_are_listed_in_short(profiles: Asked) -> None:
    first, second, _ = _expressions(profiles)
    lacking, unknown = profiles.contract.genes[5:9], [f"NOT_A_GENE_{number}" for number in range(4)]
    holes = {gene: value for gene, value in second.items() if gene not in lacking}
    strange = {f"ENSG{number:011d}" + "X" * 1000: 1.0 for number in range(1000)}
    for other, named, unnamed in (
        (holes, ["lacks 4 of the model's 30", *lacking], profiles.contract.genes[4]),
        (holes | dict.fromkeys(lacking), lacking, profiles.contract.genes[4]),
        (second | dict.fromkeys(unknown, 1.0), ["4 of 34 genes are unknown", *unknown], GENE),
        (strange, ["1000 of 1000 genes are unknown"], "X" * 1000),
    ):
        message = _refusal(profiles.contract, _of([first, other]))
        assert message.startswith("row 1, field expression: ") and len(message) < 200 * 70  # 200 names, cut
        assert all(each in message for each in named) and unnamed not in message


def test_labels_come_with_calibrated_probabilities_and_a_set(models: Models) -> None:
    labels = models("profiles classification")
    contract = replace(labels.contract, temperature=1.5, threshold=0.8)
    answer = contract.answer(contract.calibrated(labels.estimator.outputs(labels.unseen)), labels.unseen)
    for row, probabilities in enumerate(apply_temperature(labels.estimator.outputs(labels.unseen), 1.5)):
        assert answer["probabilities"][row] == pytest.approx(dict(zip(CLASSES, probabilities, strict=True)), abs=1e-9)
        assert answer["label"][row] == CLASSES[probabilities.argmax()]
        assert answer["probability"][row] == pytest.approx(probabilities.max(), abs=1e-9)
        assert set(answer["labels"][row]) == {answer["label"][row], *np.array(CLASSES)[1 - probabilities <= 0.8]}
    assert {len(each) for each in answer["labels"]} > {1}, "no set has more than one class"


# Images


def test_an_explanation_of_an_image_is_a_png_of_its_size(models: Models) -> None:
    images = models("images classification")
    answer = images.ask(images.contract.request(images.unseen), explain=True)
    plain = images.ask([{"image": as_png(pixels)} for pixels in images.unseen.pixels])
    pd.testing.assert_frame_equal(answer.drop(columns="overlay"), plain)
    shown = [images.read([{"image": each}]).pixels[0] for each in answer["overlay"]]
    assert [each.shape for each in shown] == [(48, 48, 3)] * 5
    assert all((each != pixels).any() for each, pixels in zip(shown, images.unseen.pixels, strict=True))
    twice = images.read([{"image": as_png(images.unseen.pixels[0])}] * 2)  # equal images are two samples
    assert twice.table["sample_id"].tolist() == ["row:0", "row:1"] and twice.digests[0] == twice.digests[1]
