"""What would make the endpoint answer nonsense, or a 500: profiles that are not what the model was fitted on."""

from __future__ import annotations

import functools
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mlflow.exceptions import MlflowException
from mlflow.models.utils import _enforce_schema
from mlflow.types.schema import Schema

from pipelines.modalities.profiles import ProfilesTask
from pipelines.params import read_params, task_text
from pipelines.samples.expression import ExpressionSamples
from tests.training.profile_samples import CLASSES, gene_samples, labels_samples, reordered
from tests.training.tiny import ROOT
from training.architectures import get_architecture
from training.contract import EXPLAINED_FEATURES, PayloadError, contract_class, contract_from, contract_text
from training.estimator import Estimator
from training.modalities.profiles import MAX_ROWS, used_genes
from training.model.calibration import apply_temperature
from training.model.cross_fit import CrossFitted
from training.model.predictor import Predictor
from training.model.track import save_model, signature

Profile = dict[str, Any]
TASKS = {"profiles classification": "tumor_type", "profiles multi_target": "gene_expression"}
KINDS = list(TASKS)
ALLOWED = 0.1  # of 30 genes, 3 may be missing
HALF_WIDTHS = [0.5, 1.0, 1.5, 2.0]
GENE = "GENE7|1007"


@dataclass(frozen=True)
class Asked:
    """A fitted model, its contract, and samples to ask it about."""

    contract: Any
    estimator: Estimator
    train: ExpressionSamples
    unseen: ExpressionSamples
    predictor: Predictor


def _named(samples: ExpressionSamples) -> ExpressionSamples:
    """Return the samples with genes named as ``SYMBOL|ENTREZ``, and nothing below 0."""

    def named(genes: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(f"{gene}|{1000 + int(gene.removeprefix('GENE'))}" for gene in genes)

    genes = named(samples.genes)
    about = pd.DataFrame(index=pd.Index(genes))
    targets, predictors = named(samples.targets), named(samples.predictors)
    values = samples.values.clip(0)
    return replace(samples, values=values, genes=genes, about_genes=about, targets=targets, predictors=predictors)


@functools.cache
def _task(kind: str, scale: Any) -> ProfilesTask:
    task = read_params(ROOT / "params.yaml").task(TASKS[kind])
    assert isinstance(task, ProfilesTask)
    return replace(task, data=replace(task.data, scale=scale, missing_genes=ALLOWED))


def _asked(kind: str, folder: Path) -> Asked:
    """Fit a linear model that looks at 30 of 40 genes."""
    make, name, baseline = {
        "profiles classification": (labels_samples, "logistic_regression", "majority_class"),
        "profiles multi_target": (gene_samples, "ridge", "mean_expression"),
    }[kind]
    train, unseen = _named(make(90)), _named(make(12, seed=1))
    chosen = {"selection": "top_30"} | ({"kernel": "linear"} if name == "ridge" else {})
    estimator = get_architecture(name, *kind.split()).build(chosen).fit(train)
    common: dict[str, Any] = {
        "task": TASKS[kind],
        "architecture": name,
        "baseline": baseline,
        "task_text": task_text(_task(kind, train.scale)),
        "coverage": 0.9,
        "genes": used_genes(estimator, train),
        "known": list(train.genes),
    }
    contract: Any
    if kind == "profiles classification":
        contract = contract_class("profiles", "classification")(
            **common, classes=list(CLASSES), temperature=1.5, threshold=0.8
        )
    else:
        targets = list(train.targets)
        spreads = [1.0] * len(targets)
        contract = contract_class("profiles", "multi_target")(
            **common, targets=targets, spreads=spreads, half_widths=list(HALF_WIDTHS)
        )
    save_model(estimator, get_architecture(baseline, *kind.split()).build({}).fit(train), contract, folder)
    return Asked(contract, estimator, train, unseen, Predictor().read(folder))


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Asked:
    return _asked("profiles classification", tmp_path_factory.mktemp("labels"))


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> Asked:
    return _asked("profiles multi_target", tmp_path_factory.mktemp("targets"))


@pytest.fixture(scope="module", params=KINDS)
def asked(request: pytest.FixtureRequest) -> Asked:
    return request.getfixturevalue("labels" if request.param == "profiles classification" else "targets")


@pytest.fixture
def profiles(asked: Asked) -> list[Profile]:
    """Return three good profiles of the genes that the model looks at."""
    return _profiles(asked)


def _profiles(asked: Asked) -> list[Profile]:
    return asked.contract.request(asked.unseen)["expression"].tolist()[:3]


def _frame(profiles: list[Any]) -> pd.DataFrame:
    return pd.DataFrame({"expression": pd.Series(profiles, dtype=object)})


def _small(profiles: list[Profile]) -> list[Profile]:
    """Return profiles whose values are possible on every scale."""
    return [{gene: min(value, 16.0) for gene, value in profile.items()} for profile in profiles]


def _refusal(frame: pd.DataFrame | list[Any], contract: Any) -> str:
    with pytest.raises(PayloadError) as caught:
        contract.read(frame if isinstance(frame, pd.DataFrame) else _frame(frame))
    return str(caught.value)


def _on_scale(contract: Any, scale: str) -> Any:
    return replace(contract, task_text=task_text(_task(f"{contract.modality} {contract.problem}", scale)))


def test_the_model_looks_at_some_of_the_genes_that_are_known(asked: Asked) -> None:
    assert len(asked.contract.genes) == 30
    assert len(asked.contract.known) == 40
    assert GENE in asked.contract.genes
    assert set(asked.contract.genes) < set(asked.contract.known)


# What is taken


def test_good_profiles_are_read_as_they_stand(asked: Asked, profiles: list[Profile]) -> None:
    samples = asked.contract.read(_frame(profiles))
    assert samples.genes == tuple(asked.contract.genes)
    assert samples.scale == asked.train.scale
    for values, profile in zip(samples.values[samples.index], profiles, strict=True):
        assert dict(zip(samples.genes, values.tolist(), strict=True)) == profile
    assert samples.table["imputed"].tolist() == [[], [], []]


def test_a_request_made_of_samples_asks_for_the_same_values(asked: Asked) -> None:
    columns = [asked.unseen.genes.index(gene) for gene in asked.contract.genes]
    values = asked.unseen.values.copy()
    values[4, columns[5]] = np.nan
    rows = np.array([9, 4, 0])
    frame = asked.contract.request(replace(asked.unseen, values=values).take(rows))
    again = asked.contract.read(pd.DataFrame(json.loads(json.dumps(frame.to_dict("records"), allow_nan=False))))
    np.testing.assert_array_equal(again.values[again.index], values[rows][:, columns])
    assert again.table["imputed"].tolist() == [[], [asked.contract.genes[5]], []]
    assert again.targets == asked.unseen.targets
    np.testing.assert_array_equal(
        asked.estimator.outputs(again)[[0, 2]], asked.estimator.outputs(asked.unseen.take(rows))[[0, 2]]
    )


def test_the_order_of_genes_in_a_profile_does_not_matter(asked: Asked, profiles: list[Profile]) -> None:
    backwards = [dict(reversed(profile.items())) for profile in profiles]
    mixed = [profiles[0], backwards[1], profiles[2]]  # each profile may have an order of its own
    for other in (backwards, mixed):
        pd.testing.assert_frame_equal(
            asked.predictor.predict(None, _frame(other)), asked.predictor.predict(None, _frame(profiles))
        )


@pytest.mark.parametrize(
    "named",
    [
        lambda gene: gene.split("|")[0],
        lambda gene: gene.split("|")[1],
        lambda gene: gene.split("|")[0] if gene < "GENE3" else gene.split("|")[1] if gene < "GENE5" else gene,
        lambda gene: f"?|{gene.split('|')[1]}",
    ],
    ids=["symbol", "Entrez", "each in turn", "Entrez without symbol"],
)
def test_a_gene_goes_by_symbol_and_by_number(
    asked: Asked, profiles: list[Profile], named: Callable[[str], str]
) -> None:
    other = [{named(gene): value for gene, value in profile.items()} for profile in profiles]
    found, expected = asked.contract.read(_frame(other)), asked.contract.read(_frame(profiles))
    np.testing.assert_array_equal(found.values, expected.values)
    assert found.table["imputed"].tolist() == [[], [], []]


def test_numbers_of_genes_may_be_integers(asked: Asked, profiles: list[Profile]) -> None:
    other: Any = [{int(gene.split("|")[1]): value for gene, value in profile.items()} for profile in profiles]
    np.testing.assert_array_equal(
        asked.contract.read(_frame(other)).values, asked.contract.read(_frame(profiles)).values
    )


def test_a_symbol_of_two_known_genes_is_not_taken_for_the_one_that_is_looked_at(
    asked: Asked, profiles: list[Profile]
) -> None:
    other = replace(asked.contract, known=[*asked.contract.known, "GENE7|99"])
    profiles[1]["GENE7"] = profiles[1].pop(GENE)
    profiles[2]["1007"] = profiles[2].pop(GENE)
    samples = other.read(_frame(profiles))
    assert samples.table["imputed"].tolist() == [[], [GENE], []]
    assert asked.contract.read(_frame(profiles)).table["imputed"].tolist() == [[], [], []]


def test_known_genes_that_are_not_looked_at_change_nothing(asked: Asked) -> None:
    columns = asked.unseen.values[:3]
    whole = [dict(zip(asked.unseen.genes, map(float, row), strict=True)) for row in columns]
    symbols = [{gene.split("|")[0]: value for gene, value in profile.items()} for profile in whole]
    expected = asked.predictor.predict(None, _frame(_profiles(asked)))
    for profiles in (whole, symbols):
        assert len(profiles[0]) == 40
        pd.testing.assert_frame_equal(asked.predictor.predict(None, _frame(profiles)), expected)


@pytest.mark.parametrize("null", [True, False])
def test_a_few_missing_genes_are_imputed_by_the_training_mean_and_listed(
    asked: Asked, profiles: list[Profile], null: bool
) -> None:
    lacking = [asked.contract.genes[column] for column in (20, 3, 11)]  # as many as are allowed
    mean = asked.train.logged(lacking).astype(np.float64).mean(axis=0)
    means = (2**mean - 1 if asked.train.scale == "linear" else mean).tolist()
    other = {gene: value for gene, value in profiles[1].items() if gene not in lacking}
    holes = other | dict.fromkeys(lacking) if null else other
    filled = other | dict(zip(lacking, means, strict=True))
    answer = asked.predictor.predict(None, _frame([profiles[0], holes, profiles[2]]))
    expected = asked.predictor.predict(None, _frame([profiles[0], filled, profiles[2]]))
    assert answer["imputed"].tolist() == [[], [asked.contract.genes[column] for column in (3, 11, 20)], []]
    said = "probabilities" if "probabilities" in answer else "prediction"
    for found, wanted in zip(answer[said], expected[said], strict=True):
        assert found == pytest.approx(wanted, abs=1e-5)
    assert answer[said][1] != asked.predictor.predict(None, _frame(profiles))[said][1]


def test_a_few_unknown_genes_are_left_out_and_named(asked: Asked, profiles: list[Profile]) -> None:
    expected = asked.predictor.predict(None, _frame(profiles))
    assert expected["ignored"].tolist() == [[], [], []]
    profiles[1] |= {"NOT_A_GENE": 1.0, "NOR_THIS": "not even looked at"}
    answer = asked.predictor.predict(None, _frame(profiles))
    assert answer["ignored"].tolist() == [[], ["NOT_A_GENE", "NOR_THIS"], []]
    pd.testing.assert_frame_equal(answer.drop(columns="ignored"), expected.drop(columns="ignored"))
    declared = {column.name: column.required for column in signature(asked.contract).outputs.inputs}
    assert declared["ignored"] and declared["imputed"]


def test_known_genes_that_are_not_looked_at_are_not_called_ignored(asked: Asked) -> None:
    whole = [dict(zip(asked.unseen.genes, map(float, row), strict=True)) for row in asked.unseen.values[:2]]
    assert asked.predictor.predict(None, _frame(whole))["ignored"].tolist() == [[], []]
    assert asked.predictor.answer(asked.unseen)["ignored"].tolist() == [[]] * len(asked.unseen)


@pytest.mark.parametrize("number", [0, 3, np.float32(2.5), np.int64(2), -0.0, True + 0])
def test_every_kind_of_number_is_a_number(asked: Asked, profiles: list[Profile], number: Any) -> None:
    profiles[1][GENE] = number
    samples = asked.contract.read(_frame(profiles))
    assert samples.values[1, samples.genes.index(GENE)] == number


def test_a_standardized_value_may_be_negative(asked: Asked, profiles: list[Profile]) -> None:
    profiles[1][GENE] = -1.5
    samples = _on_scale(asked.contract, "as_is").read(_frame(profiles))
    assert samples.values[1, samples.genes.index(GENE)] == -1.5
    assert samples.scale == "as_is"


def test_the_signature_lets_through_what_the_contract_takes(asked: Asked, profiles: list[Profile]) -> None:
    profiles[1][GENE] = None
    profiles[2][GENE] = 3
    records = json.loads(json.dumps([{"expression": profile} for profile in profiles]))
    enforced = _enforce_schema(pd.DataFrame(records), Schema(signature(asked.contract).inputs.inputs))
    answer = asked.predictor.predict(None, enforced)
    assert answer["imputed"].tolist() == [[], [GENE], []]


def test_a_model_that_looks_at_no_gene_takes_any_known_profile(asked: Asked, profiles: list[Profile]) -> None:
    blind = replace(asked.contract, genes=[])
    frame = blind.request(asked.unseen)
    assert frame["expression"].tolist() == [{}] * len(asked.unseen)
    assert blind.read(frame).values.shape == (len(asked.unseen), 0)
    assert blind.read(_frame(profiles)).table["imputed"].tolist() == [[], [], []]
    assert "unknown" in _refusal([{"NOT_A_GENE": 1.0}], blind)


# What is refused


def _set(value: Any, gene: str = GENE) -> Callable[[Profile], Any]:
    return lambda profile: profile | {gene: value}


@pytest.mark.parametrize(
    ("damage", "field", "told"),
    [
        (lambda profile: None, "expression", "map of gene to value, it is null"),
        (lambda profile: math.nan, "expression", "map of gene to value, it is null"),
        (lambda profile: 5, "expression", "map of gene to value, it is int"),
        (lambda profile: "high", "expression", "map of gene to value, it is str"),
        (lambda profile: list(profile.values()), "expression", "map of gene to value, it is list"),
        (lambda profile: {}, "expression", "lacks 30 of the model's 30 genes"),
        (_set("high"), f"expression.{GENE}", "must be a number, it is str"),
        (_set("1.5"), f"expression.{GENE}", "must be a number, it is str"),
        (_set(True), f"expression.{GENE}", "must be a number, it is bool"),
        (_set([1.0]), f"expression.{GENE}", "must be a number, it is list"),
        (_set({"value": 1.0}), f"expression.{GENE}", "must be a number, it is dict"),
        (_set(math.nan), f"expression.{GENE}", "must be finite, it is nan"),
        (_set(math.inf), f"expression.{GENE}", "must be finite, it is inf"),
        (_set(-math.inf), f"expression.{GENE}", "must be finite, it is -inf"),
        (_set(1e39), f"expression.{GENE}", "must be finite"),
        (_set(10**400), f"expression.{GENE}", "must be finite"),
        (_set(-(10**5000)), f"expression.{GENE}", "must be finite"),
        (_set(-0.5), f"expression.{GENE}", "-0.5 is below 0"),
    ],
    ids=(
        *("null map", "NaN map", "number", "text", "list", "empty map", "text value", "number as text", "bool value"),
        *("list value", "map value", "NaN", "infinite", "minus infinite", "too large", "huge integer"),
        *("huge negative integer", "negative"),
    ),  # an address in an id would differ from worker to worker
)
def test_a_fault_is_told_by_row_and_field(
    asked: Asked, profiles: list[Profile], damage: Callable[[Profile], Any], field: str, told: str
) -> None:
    profiles[1] = damage(profiles[1])
    message = _refusal(profiles, asked.contract)
    assert message.startswith(f"row 1, field {field}: ")
    assert told in message
    assert len(message) < 500


def test_a_row_without_its_map_is_told(asked: Asked, profiles: list[Profile]) -> None:
    frame = pd.DataFrame([{"expression": profiles[0]}, {}])  # as the server reads it
    assert "row 1, field expression: must be a map of gene to value, it is null" in _refusal(frame, asked.contract)


@pytest.mark.parametrize("scale", ["linear", "log2"])
def test_a_negative_value_is_refused_where_the_scale_has_none(
    asked: Asked, profiles: list[Profile], scale: str
) -> None:
    profiles[2][GENE] = -0.01
    message = _refusal(_small(profiles), _on_scale(asked.contract, scale))
    assert message.startswith(f"row 2, field expression.{GENE}: -0.01 is below 0")
    assert scale in message


@pytest.mark.parametrize(("scale", "value"), [("log2", 129), ("as_is", 1e31), ("as_is", -1e31)])
def test_a_value_that_no_profile_has_is_refused_before_it_overflows(
    asked: Asked, profiles: list[Profile], scale: str, value: float
) -> None:
    profiles = _small(profiles)
    profiles[2][GENE] = value
    message = _refusal(profiles, _on_scale(asked.contract, scale))
    assert message.startswith(f"row 2, field expression.{GENE}: ")
    assert f"{scale} expression never is" in message


def test_a_fault_is_told_by_the_name_that_was_given(asked: Asked, profiles: list[Profile]) -> None:
    profiles[1] = {gene.split("|")[0]: value for gene, value in profiles[1].items()} | {"GENE7": "high"}
    assert _refusal(profiles, asked.contract).startswith("row 1, field expression.GENE7: must be a number")


@pytest.mark.parametrize("null", [True, False])
def test_more_missing_genes_than_are_allowed_are_listed(asked: Asked, profiles: list[Profile], null: bool) -> None:
    lacking = asked.contract.genes[5:9]
    for gene in lacking:
        profiles[1].pop(gene)
    profiles[1] |= dict.fromkeys(lacking) if null else {}
    message = _refusal(profiles, asked.contract)
    assert message.startswith("row 1, field expression: lacks 4 of the model's 30 genes, 10.0% may be missing: ")
    assert all(gene in message for gene in lacking)
    assert asked.contract.genes[4] not in message


def test_more_unknown_genes_than_are_allowed_are_listed(asked: Asked, profiles: list[Profile]) -> None:
    unknown = [f"NOT_A_GENE_{number}" for number in range(4)]
    profiles[1] |= dict.fromkeys(unknown, 1.0)
    message = _refusal(profiles, asked.contract)
    assert message.startswith("row 1, field expression: 4 of 34 genes are unknown, 10.0% may be: ")
    assert all(gene in message for gene in unknown)
    assert GENE not in message


def test_a_profile_of_other_genes_is_told_without_giving_it_back(asked: Asked, profiles: list[Profile]) -> None:
    other = {f"ENSG{number:011d}" + "X" * 1000: 1.0 for number in range(3000)}
    message = _refusal([profiles[0], other], asked.contract)
    assert "row 1, field expression: 3000 of 3000 genes are unknown" in message
    assert "and 2800 more" in message
    assert len(message) < 200 * 70  # 200 names, cut


def test_every_missing_gene_is_listed_up_to_two_hundred(labels: Asked) -> None:
    genes = [f"M{number:03}" for number in range(250)]
    wide = replace(labels.contract, genes=genes, known=genes)
    message = _refusal([dict.fromkeys(genes[150:], 1.0)], wide)
    assert all(gene in message for gene in genes[:150])
    assert "more" not in message.split("missing: ")[1]
    beyond = _refusal([{}], wide)
    assert genes[199] in beyond and genes[200] not in beyond
    assert beyond.endswith("and 50 more")


def test_a_missing_and_an_unknown_gene_do_not_make_up_for_each_other(asked: Asked, profiles: list[Profile]) -> None:
    profiles[1]["NOT_A_GENE"] = profiles[1].pop(GENE)
    assert asked.contract.read(_frame(profiles)).table["imputed"].tolist() == [[], [GENE], []]
    strict = replace(
        asked.contract, task_text=asked.contract.task_text.replace(f'"missing_genes": {ALLOWED}', '"missing_genes": 0')
    )
    assert strict.task_text != asked.contract.task_text
    assert "row 1, field expression:" in _refusal(profiles, strict)


def test_an_empty_request_is_refused(asked: Asked) -> None:
    assert "no rows" in _refusal([], asked.contract)


def test_an_endless_request_is_refused_before_it_is_read(asked: Asked) -> None:
    message = _refusal([None] * (MAX_ROWS + 1), asked.contract)
    assert str(MAX_ROWS) in message
    assert "row 0" not in message


def test_an_unknown_column_is_named_with_the_one_there_is(asked: Asked, profiles: list[Profile]) -> None:
    message = _refusal(_frame(profiles).assign(smiles="CCO"), asked.contract)
    assert "unknown field smiles" in message
    assert "the field is expression" in message


def test_a_missing_column_is_named(asked: Asked, profiles: list[Profile]) -> None:
    assert "the field expression is missing" in _refusal(_frame(profiles)[[]], asked.contract)


def test_a_column_that_stands_twice_is_refused(asked: Asked, profiles: list[Profile]) -> None:
    frame = _frame(profiles)
    assert "stands 2 times" in _refusal(pd.concat([frame, frame], axis=1), asked.contract)


def test_a_bad_request_is_the_caller_s_fault_and_not_the_server_s(asked: Asked, profiles: list[Profile]) -> None:
    profiles[1][GENE] = "high"
    with pytest.raises(MlflowException, match="row 1, field expression") as caught:
        asked.predictor.predict(None, _frame(profiles))
    assert caught.value.get_http_status_code() == 400


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(width=64) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
NUMBERS = st.one_of(st.floats(min_value=0, max_value=3e38), st.integers(0, 2**140), st.none(), JSON)
NAMES = st.sampled_from([f"GENE{n}|{1000 + n}" for n in range(40)] + ["GENE7", "1007", "?|1007", "GENE7|", "|", ""])


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    scale=st.sampled_from(["linear", "log2", "as_is"]),
    changes=st.dictionaries(NAMES | st.text(max_size=5), NUMBERS, max_size=4),
    whole=st.none() | JSON,
)
@pytest.mark.parametrize("kind", KINDS)
def test_no_json_ends_in_another_error_or_in_an_answer_without_numbers(
    kind: str, scale: str, labels: Asked, targets: Asked, changes: dict[str, Any], whole: Any
) -> None:
    asked = labels if kind == "profiles classification" else targets
    contract = _on_scale(asked.contract, scale)
    good = _small(_profiles(asked))[0]
    frame = _frame([good, good | changes if whole is None else whole])
    try:
        samples = contract.read(frame)
    except PayloadError as error:
        assert len(str(error)) < 2000
    else:
        answer = contract.answer(contract.calibrated(asked.estimator.outputs(samples)), samples)
        json.dumps(answer.to_dict("records"), allow_nan=False)


def test_many_profiles_are_read_in_less_time_than_they_take_to_send() -> None:
    genes = [f"G{number}|{number}" for number in range(2000)]
    contract = contract_class("profiles", "classification")(
        task="tumor_type",
        architecture="logistic_regression",
        baseline="majority_class",
        task_text=task_text(_task("profiles classification", "linear")),
        classes=list(CLASSES),
        temperature=1.0,
        threshold=0.1,
        coverage=0.9,
        genes=genes,
        known=[*genes, *(f"U{number}|{number}" for number in range(2000, 20_000))],
    )
    values = np.random.default_rng(0).uniform(0, 100, (64, 2000)).astype(np.float32)
    frame = _frame([{gene.split("|")[0]: value for gene, value in zip(genes, row, strict=True)} for row in values])
    began = time.perf_counter()
    samples = contract.read(frame)
    seconds = time.perf_counter() - began
    np.testing.assert_array_equal(samples.values, values)
    assert seconds < 5


# What is answered


def test_a_contract_reads_back_from_json(asked: Asked) -> None:
    content = contract_text(asked.contract)
    assert (content["modality"], content["problem"]) == (asked.contract.modality, asked.contract.problem)
    assert contract_from(json.loads(json.dumps(content, allow_nan=False))) == asked.contract
    assert asked.predictor.contract == asked.contract


def test_the_answer_has_the_columns_of_the_signature(asked: Asked) -> None:
    promised = {column.name: column.required for column in signature(asked.contract).outputs}
    frame = asked.contract.request(asked.unseen)
    plain = asked.predictor.predict(None, frame)
    explained = asked.predictor.predict(None, frame, {"explain": True})
    assert list(explained) == list(promised)
    assert list(plain) == [name for name, required in promised.items() if required]
    pd.testing.assert_frame_equal(explained[list(plain)], plain)
    assert len(plain) == len(explained) == len(asked.unseen)
    json.dumps(explained.to_dict("records"), allow_nan=False)
    assert (plain["coverage"] == 0.9).all()


@pytest.mark.parametrize("change", [str.lower, " {}".format, "{}\u00a0".format])
def test_genes_in_another_case_or_with_blanks_are_the_models_and_that_is_told(
    asked: Asked, profiles: list[Profile], change: Callable[[str], str]
) -> None:
    other = [{change(gene.split("|")[0]): value for gene, value in profile.items()} for profile in profiles]
    plain, told = (asked.predictor.predict(None, pd.DataFrame({"expression": each})) for each in (profiles, other))
    assert all("matched but for case" in str(note) for note in told["note"])
    assert told["imputed"].tolist() == plain["imputed"].tolist()
    pd.testing.assert_frame_equal(told.drop(columns="note"), plain.drop(columns="note"))


def test_the_order_of_the_file_s_genes_does_not_change_the_request(asked: Asked) -> None:
    pd.testing.assert_frame_equal(asked.contract.request(reordered(asked.unseen)), asked.contract.request(asked.unseen))


def test_labels_come_with_calibrated_probabilities_and_a_set(labels: Asked) -> None:
    answer = labels.predictor.predict(None, labels.contract.request(labels.unseen))
    wanted = apply_temperature(labels.estimator.outputs(labels.unseen), labels.contract.temperature)
    for row, probabilities in enumerate(wanted):
        assert answer["probabilities"][row] == pytest.approx(dict(zip(CLASSES, probabilities, strict=True)), abs=1e-9)
        assert answer["label"][row] == CLASSES[probabilities.argmax()]
        assert answer["probability"][row] == pytest.approx(probabilities.max(), abs=1e-9)
        kept = 1 - probabilities <= labels.contract.threshold
        assert set(answer["labels"][row]) == {answer["label"][row], *np.array(CLASSES)[kept]}
    assert {len(each) for each in answer["labels"]} > {1}, "no set has more than one class"


def test_contributions_to_the_label_add_up_to_its_logit(labels: Asked) -> None:
    answer = labels.predictor.predict(None, labels.contract.request(labels.unseen), {"explain": True})
    said = np.array([CLASSES.index(label) for label in answer["label"]])
    found = np.array([sum(part["value"] for part in parts) for parts in answer["attributions"]]) + answer["base"]
    logits = np.zeros((len(said), len(CLASSES)))
    for code in range(len(CLASSES)):
        explained = labels.estimator.attribute(labels.unseen, np.full(len(said), code))
        assert explained is not None
        logits[:, code] = explained.prediction
    np.testing.assert_allclose(found, logits[np.arange(len(said)), said], rtol=0, atol=1e-4)
    odds = np.exp(logits)
    expected = labels.estimator.outputs(labels.unseen)
    np.testing.assert_allclose(odds / odds.sum(axis=1, keepdims=True), expected, rtol=0, atol=1e-6)
    for parts in answer["attributions"]:
        assert len(parts) == EXPLAINED_FEATURES + 1 < len(labels.contract.genes)
        assert parts[-1]["feature"] == "all_others"
        assert {part["feature"] for part in parts[:-1]} <= set(labels.contract.genes)


def test_each_target_has_an_interval_of_its_own_around_its_prediction(targets: Asked) -> None:
    answer = targets.predictor.predict(None, targets.contract.request(targets.unseen))
    expected = targets.estimator.predict(targets.unseen)
    names = targets.contract.targets
    tables = {column: pd.DataFrame(answer[column].tolist()) for column in ("prediction", "low", "high")}
    assert all(list(table) == names for table in tables.values())
    np.testing.assert_allclose(tables["prediction"], expected, rtol=0, atol=1e-9)
    assert (tables["low"] < tables["prediction"]).all(axis=None)
    assert (tables["prediction"] < tables["high"]).all(axis=None)
    for side, sign in (("low", -1), ("high", 1)):
        np.testing.assert_allclose(tables[side] - tables["prediction"], sign * np.tile(HALF_WIDTHS, (12, 1)), atol=1e-9)


def test_without_held_out_errors_there_is_no_interval(targets: Asked) -> None:
    none = replace(targets.contract, half_widths=[None] * 4)
    assert contract_from(json.loads(json.dumps(contract_text(none), allow_nan=False))) == none
    samples = none.read(none.request(targets.unseen))
    answer = none.answer(targets.estimator.outputs(samples), samples)
    assert "prediction" in answer
    assert "low" not in answer and "high" not in answer
    json.dumps(answer.to_dict("records"), allow_nan=False)


def test_contributions_to_each_target_add_up_to_what_it_differs_from_its_base(targets: Asked) -> None:
    answer = targets.predictor.predict(None, targets.contract.request(targets.unseen), {"explain": True})
    for position, target in enumerate(targets.contract.targets):
        explained = targets.estimator.attribute(targets.unseen, np.full(len(answer), position))
        assert explained is not None
        for row, parts in enumerate(answer["attributions"]):
            own = [part for part in parts if part["target"] == target]
            assert len(own) == 11
            assert {part["feature"] for part in own[:-1]} <= set(targets.contract.genes)
            total = sum(part["value"] for part in own)
            assert total + explained.base[row] == pytest.approx(answer["prediction"][row][target], abs=1e-5)


def test_a_cross_fitted_model_asks_for_what_any_member_looks_at(asked: Asked, tmp_path: Path) -> None:
    every = asked.estimator.get_params(deep=False) | {"selection": "top_8"}
    kind = {"modality": asked.contract.modality, "problem": asked.contract.problem}
    whole = CrossFitted(asked.contract.architecture, every, **kind)
    whole.fit(asked.train, folds=np.arange(len(asked.train)) // 3 % 2)
    genes = used_genes(whole, asked.train)
    members: list[Any] = whole.members_
    assert set(genes) == {gene for member in members for gene in member.features_.genes}
    assert len(genes) > 8, "the members look at the same genes"
    assert genes == sorted(genes, key=asked.train.genes.index)
    contract = replace(asked.contract, genes=genes)
    baseline = get_architecture(contract.baseline, **kind).build({}).fit(asked.train)
    save_model(whole, baseline, contract, tmp_path / "model")
    served = Predictor().read(tmp_path / "model")
    samples = contract.read(contract.request(asked.unseen))
    np.testing.assert_allclose(served.estimator.outputs(samples), whole.outputs(asked.unseen), rtol=0, atol=1e-6)
    assert len(served.predict(None, contract.request(asked.unseen), {"explain": True})) == len(asked.unseen)
