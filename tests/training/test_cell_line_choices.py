"""What would make a choice of features wrong: noise kept for signal, use of unseen lines, a map that is not saved."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.preprocessing import QuantileTransformer

from pipelines.datasets import Prepared
from pipelines.errors import UserError
from pipelines.params import Params
from pipelines.samples.response import UNKNOWN, ResponseSamples, make_samples
from tests.training.tiny import NAME, build, changed, response_task, with_omics
from training.architectures import get_architecture
from training.contract import make_contract
from training.estimator import load_state, save_state
from training.features.cell_line import (
    IMPUTATIONS,
    SCALINGS,
    SELECTIONS,
    SUPERVISED,
    CellLineChoices,
    CellLineFeatures,
    cell_line_space,
    imputations,
    selected,
)
from training.features.pair import DrugFeatures, PairFeatures, line_response, residual_matrix
from training.model.cross_fit import fit_final

OMICS = ("expression", "mutation", "copy_number", "methylation")
LEAVES_OUT = [name for name in SELECTIONS if name != "all"]
Tables = dict[str, pd.DataFrame]


@pytest.fixture(scope="module")
def train(prepared: Prepared) -> ResponseSamples:
    return prepared.side("train")


def _lines(count: int) -> pd.DataFrame:
    return pd.DataFrame({"tissue": ["lung", UNKNOWN, "skin"] * count}).iloc[:count]


def _table(values: Any) -> pd.DataFrame:
    return pd.DataFrame(np.asarray(values, np.float32)).add_prefix("G")


# Selection


def _screen(gene: np.ndarray, genes: np.ndarray, *, shuffled: int | None = None) -> ResponseSamples:
    """Return responses to two classes of drugs, which ``gene`` raises and lowers, so that their mean does not show it.

    ``shuffled`` is the seed by which all drugs' responses are permuted alike.
    """
    rng = np.random.default_rng(1)
    lines, drugs = len(genes), 12
    effect = np.where(np.arange(drugs) % 2, 1.0, -1.0)
    answered = gene if shuffled is None else np.random.default_rng(shuffled).permutation(gene)
    target = 3 + answered[:, None] * effect + rng.normal(0, 0.3, (lines, drugs))
    cell, drug = (each.ravel() for each in np.indices((lines, drugs)))
    names = pd.Index([f"L{index}" for index in range(lines)])
    return make_samples(
        pd.DataFrame({"cell_line_id": names[cell], "drug_id": [f"D{d}" for d in drug], "target": target.ravel()}),
        pd.DataFrame({"tissue": "lung"}, index=names),
        pd.DataFrame({"smiles": None}, index=[f"D{index}" for index in range(drugs)], dtype=object),
        {"expression": _table(genes).set_index(names)},
    )


def _noise(lines: int = 80, genes: int = 40) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 1, (lines, genes))


def _kept(samples: ResponseSamples, selection: str, share: float = 0.1) -> list[int]:
    cell_line = CellLineFeatures(("expression",), keep_share=share, selection=selection)
    return PairFeatures(cell_line, DrugFeatures(0, "none")).fit(samples).cell_line.tables["expression"].kept.tolist()


@pytest.mark.parametrize(
    ("selection", "form"),
    [*product(SUPERVISED, ["line", "mutation"]), ("mutual_information", "parabola")],  # through which a line is flat
)
def test_a_gene_that_tells_of_the_response_is_found_in_noise(selection: str, form: str) -> None:
    genes = _noise()
    genes[:, 17] *= 0.2  # the least variable of all
    if form == "mutation":
        genes[:, 10:20] = genes[:, 10:20] > 0
    gene = (genes[:, 17] - genes[:, 17].mean()) / genes[:, 17].std()
    kept = _kept(_screen(gene**2 - 1 if form == "parabola" else gene, genes), selection)
    assert 17 in kept and len(kept) == 4


@pytest.mark.parametrize("selection", SUPERVISED)
def test_no_gene_is_preferred_where_the_response_is_shuffled(selection: str) -> None:
    genes = _noise(60, 20)
    times = sum(17 in _kept(_screen(genes[:, 17], genes, shuffled=seed), selection) for seed in range(6))
    assert times <= 2, "of 6, where 0.6 is chance"
    assert 17 in _kept(_screen(genes[:, 17], genes), selection)


@pytest.mark.parametrize("selection", LEAVES_OUT)
def test_constant_features_are_never_selected_and_a_constant_response_selects_the_most_variable(selection: str) -> None:
    genes = _noise(20, 10)
    for response in (np.zeros((20, 2)), np.zeros((20, 0))):
        most = np.sort(np.argsort(genes.var(axis=0))[-3:])
        np.testing.assert_array_equal(selected(genes, selection, 0.3, response), most)
    if selection in SUPERVISED:
        with pytest.raises(ValueError, match="needs the response"):
            selected(genes, selection, 0.3)
    genes[:, 2:] = 7.0
    assert selected(genes, selection, 0.5, np.random.default_rng(0).normal(size=(20, 2))).tolist() == [0, 1]


def test_the_response_of_a_line_is_that_of_the_rows_given() -> None:
    rng = np.random.default_rng(0)
    samples = _screen(rng.normal(size=9), _noise(9, 3))
    residual = rng.normal(size=len(samples))
    rows = rng.permutation(len(samples))[:70]
    some, order = samples.take(rows), rng.permutation(70)
    found = line_response(some, residual[rows])
    assert found.shape == (9, 4)
    shuffled = line_response(some.take(order), residual[rows][order])
    np.testing.assert_allclose(np.abs(shuffled), np.abs(found), atol=1e-9)
    # Components: inner products of lines are kept as well as four numbers can.
    matrix = np.zeros((9, 12))
    matrix[some.cell, some.drug] = residual[rows]
    largest = np.sort(np.linalg.eigvalsh(matrix @ matrix.T))[::-1][:4]
    np.testing.assert_allclose(np.square(found).sum(axis=0), largest)
    twice: Any = SimpleNamespace(cell=np.array([2, 2, 4]), drug=np.array([3, 3, 1]))
    np.testing.assert_allclose(residual_matrix(twice, np.array([1.0, 3.0, 5.0])), [[0, 2], [5, 0]])


# Training rows only


@pytest.mark.parametrize(("selection", "imputation"), zip(SELECTIONS, ("mean", "knn", "drop", "knn"), strict=True))
def test_nothing_is_learnt_of_unseen_lines_and_drugs(prepared: Prepared, selection: str, imputation: str) -> None:
    states = []
    for samples in (prepared.samples, changed(prepared.samples, prepared.rows("validation", "test"))):
        cell_line = CellLineFeatures(OMICS, "quantile_normal", 0.3, 4, selection, imputation)
        drug = DrugFeatures(bits=32, components=4)
        states.append(PairFeatures(cell_line, drug).fit(samples.take(prepared.rows("train"))).state())
    np.testing.assert_equal(states[1], states[0])


# Scaling


@pytest.mark.parametrize("lines", [7, 250])
def test_quantiles_are_scikit_learn_s(lines: int) -> None:
    rng = np.random.default_rng(lines)
    values = rng.gamma(1, 1, (lines, 6)).astype(np.float32)
    values[:, 1], values[:, 2] = rng.integers(0, 2, lines), rng.integers(0, 5, lines)
    values[: lines // 2, 3], values[0, 4] = values[:, 3].min(), np.nan
    new = np.vstack([values, rng.normal(0, 2, (50, 6)), rng.integers(-1, 6, (50, 6))]).astype(np.float32)
    features = CellLineFeatures(("expression",), "quantile_normal")
    features.fit(_lines(lines), {"expression": _table(values)})
    theirs = QuantileTransformer(n_quantiles=min(100, lines), output_distribution="normal", subsample=None)
    theirs.fit(values.astype(np.float64))
    new[np.isnan(new)] = np.nanmean(values[:, 4].astype(np.float64))
    ours = features.tables["expression"].scaled(_table(new))
    np.testing.assert_allclose(ours, theirs.transform(new.astype(np.float64)), atol=1e-5)


# Imputation


def test_a_missing_table_is_that_of_the_nearest_lines() -> None:
    # 12 lines of two kinds, of which line 0 was not measured in the second table, and line 1 lacks a value.
    kind, rng, lines = np.arange(12)[:, None] % 2, np.random.default_rng(0), _lines(12)
    expression, mutation = rng.normal(4 * kind, 0.1, (12, 5)), rng.normal(10 * kind, 0.1, (12, 3))
    mutation[0], expression[1, 2] = np.nan, np.nan
    omics = {"expression": _table(expression), "mutation": _table(mutation)}
    features = CellLineFeatures(tuple(omics), "min_max", imputation="knn").fit(lines, omics)
    values = features.transform(lines, omics)
    mutation = values[:, [index for index, name in enumerate(features.names) if name.startswith("mutation:G")]]
    np.testing.assert_allclose(mutation[0], mutation[2:12:2].mean(axis=0), atol=1e-5)
    assert np.abs(mutation[0] - mutation[1::2].mean(axis=0)).min() > 0.5
    assert values[:, features.names.index("mutation:not_measured")].tolist() == [1.0] + [0.0] * 11
    assert values[1, 2] == pytest.approx(values[[3, 5, 7, 9, 11], 2].mean(), abs=1e-5)
    # A line of which nothing was measured is average.
    blank = features.transform(lines[:1], {name: table.iloc[:1] * np.nan for name, table in omics.items()})
    np.testing.assert_allclose(blank[0, 5:8], values[1:, 5:8].mean(axis=0), atol=1e-5)


def test_a_line_s_neighbors_do_not_depend_on_who_else_is_asked_for(train: ResponseSamples) -> None:
    features = PairFeatures(CellLineFeatures(OMICS, imputation="knn"), DrugFeatures(0)).fit(train).cell_line
    whole = features.transform(train.cell_lines, train.omics)
    incomplete = [row for row in range(len(whole)) if any(t.iloc[row].isna().any() for t in train.omics.values())]
    assert len(incomplete) > 2
    for row in incomplete:
        one = {name: table.iloc[[row]] for name, table in train.omics.items()}
        np.testing.assert_allclose(features.transform(train.cell_lines.iloc[[row]], one)[0], whole[row], atol=1e-5)


@pytest.fixture(scope="module")
def half_measured(prepared: Prepared) -> ResponseSamples:
    """Return the samples with every third line lacking mutations, and every line all else."""
    omics = {name: table.fillna(table.mean()) for name, table in prepared.samples.omics.items()}
    omics["mutation"].iloc[::3] = np.nan
    return with_omics(prepared.samples, omics)


@pytest.mark.parametrize("name", ["elastic_net", "mlp", "xgboost"])
def test_a_dropped_line_is_answered_without_its_features(
    name: str, prepared: Prepared, half_measured: ResponseSamples
) -> None:
    architecture = get_architecture(name, "pairs", "regression")
    chosen = {**architecture.defaults, "omics": "all", "imputation": "drop", "components": 4}
    chosen |= {"start": "drug_mean"} if name == "xgboost" else {}
    train, validation = prepared.rows("train"), prepared.rows("validation")
    model = build(architecture, chosen).fit(half_measured.take(train), half_measured.take(validation))
    predicted = model.predict(half_measured)
    lacking = half_measured.cell % 3 == 0
    average = DrugFeatures(0, "none").fit(half_measured.take(train)).offset(half_measured.drugs)
    average = average[half_measured.drug]
    np.testing.assert_allclose(predicted[lacking], average[lacking], rtol=1e-5)
    assert np.abs(predicted - average)[~lacking].max() > 0.02
    few = np.flatnonzero(lacking)[:5]
    attribution = model.attribute(half_measured.take(few))
    assert attribution is not None
    np.testing.assert_allclose(attribution.prediction, predicted[few], atol=1e-4)
    np.testing.assert_allclose(attribution.base + attribution.values.sum(axis=1), predicted[few], atol=1e-4)
    assert not attribution.values[:, np.array(attribution.names) != "drug:offset"].any()
    # Nor does the fit use such lines.
    table = half_measured.omics["expression"].copy()
    table.iloc[::3] = 50.0
    other = with_omics(half_measured, {**half_measured.omics, "expression": table})
    again = build(architecture, chosen).fit(other.take(train), other.take(validation))
    np.testing.assert_array_equal(again.predict(other), predicted)


# Any small table


def _small_table(lines: int) -> st.SearchStrategy[np.ndarray]:
    cell = st.one_of(st.sampled_from([0.0, 1.0, 5.0, np.nan]), st.floats(-100, 100, width=32))
    return st.integers(1, 4).flatmap(lambda width: arrays(np.float32, (lines, width), elements=cell))


@st.composite
def _small(draw: st.DrawFn) -> tuple[pd.DataFrame, Tables, np.ndarray]:
    lines = draw(st.integers(1, 7))
    omics = {}
    for name in OMICS[: draw(st.integers(1, 3))]:
        values = draw(_small_table(lines))
        values[draw(arrays(bool, lines))] = np.nan
        if draw(st.booleans()):
            values[:, 0] = 3.0
        omics[name] = _table(values)
    response = draw(arrays(np.float64, (lines, draw(st.integers(1, 2))), elements=st.floats(-5, 5)))
    return _lines(lines), omics, response


CHOICES = st.fixed_dictionaries(
    {
        **{"scaling": st.sampled_from(SCALINGS), "imputation": st.sampled_from(IMPUTATIONS)},
        **{"selection": st.sampled_from(SELECTIONS), "keep_share": st.sampled_from([0.1, 0.5, 1.0])},
        "components": st.sampled_from([0, 1, 3]),
    }
)


@settings(max_examples=80, deadline=None)
@given(small=_small(), choices=CHOICES)
def test_any_choice_takes_any_small_table(
    small: tuple[pd.DataFrame, Tables, np.ndarray], choices: dict[str, Any]
) -> None:
    lines, omics, response = small
    features = CellLineFeatures(tuple(omics), **choices)
    try:
        features.fit(lines, omics, response)
    except UserError:
        assert features.imputation == "drop"
        some = [table for table in omics.values() if table.notna().any(axis=None)]
        assert not np.all([table.notna().any(axis=1) for table in some], axis=0).any()
        return
    values = features.transform(lines, omics)
    assert values.shape == (len(lines), features.width)
    assert np.isfinite(values).all()
    assert len(set(features.names)) == len(features.names)
    for name, table in features.tables.items():
        most = max(1, round(features.keep_share * omics[name].shape[1]))
        assert features.selection == "all" or len(table.kept) <= most
    with TemporaryDirectory() as folder:
        save_state(features.state(), Path(folder))
        loaded = CellLineFeatures.from_state(load_state(Path(folder)))
    assert loaded.names == features.names
    np.testing.assert_array_equal(loaded.transform(lines, omics), values)
    np.testing.assert_array_equal(loaded.complete(lines, omics), features.complete(lines, omics))
    # What each raw feature adds to a linear function of the transformed ones is all of it.
    slope = np.random.default_rng(0).normal(size=(len(lines), features.width))
    shares = features.spread_gradient(slope, lines, omics, np.arange(len(lines)))
    assert shares.shape == (len(lines), len(features.names))
    np.testing.assert_allclose(shares.sum(axis=1), (values * slope).sum(axis=1), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(features.spread(slope).sum(axis=1), slope.sum(axis=1), atol=1e-9)


@pytest.mark.parametrize("field", ["selection", "scaling", "imputation"])
def test_an_unknown_choice_is_refused(field: str) -> None:
    with pytest.raises(UserError, match=f"{field}: 'median' is none of "):
        CellLineFeatures(("expression",), **{field: "median"})  # type: ignore[arg-type]


# The search space


def test_what_is_not_missing_is_not_imputed_in_a_study(train: ResponseSamples) -> None:
    lines = np.unique(train.cell)
    unseen = np.setdiff1d(np.arange(len(train.cell_lines)), lines)
    few, most = lines[: len(lines) // 4], lines[len(lines) // 4 :]
    for missing, expected in (
        *((lines[:0], ("mean",)), (few, IMPUTATIONS), (most, ("mean", "knn")), (unseen, ("mean",))),
    ):
        omics = {name: table.fillna(0.0) for name, table in train.omics.items()}
        omics["mutation"].iloc[missing] = np.nan
        assert imputations(with_omics(train, omics)) == expected


def test_a_space_draws_what_has_a_meaning(train: ResponseSamples) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = [cell_line_space(study.ask(), {}) for _ in range(200)]
    for each in drawn:
        assert ("keep_share" in each) == (each["selection"] != "all")
        assert ("imputation" in each) == (each["omics"] == "all")
        CellLineChoices(**each).cell_line_features(train, 3)
    alone = {"selection": "all", "scaling": "standard"}
    assert cell_line_space(optuna.trial.FixedTrial(alone), {"imputations": ("mean",)}, omics=("all",)) == alone


# At the endpoint


@pytest.mark.parametrize(("imputation", "members"), [("drop", 2), ("mean", 1)])
def test_an_answer_notes_that_a_baseline_answered(
    imputation: str, members: int, prepared: Prepared, half_measured: ResponseSamples, params: Params
) -> None:
    task, architecture = response_task(params), get_architecture("elastic_net", "pairs", "regression")
    given, chosen = replace(prepared, samples=half_measured), {"omics": "all", "imputation": imputation}
    final = fit_final(architecture, {**architecture.defaults, **chosen}, given, members=members, settings={"seed": 0})
    contract = make_contract(NAME, architecture.name, task, prepared=given, final=final)
    samples = given.samples.take(np.arange(40))
    note, lacking = contract.remarks(samples).column(), samples.cell % 3 == 0
    assert 0 < lacking.sum() < 40
    assert note.notna().tolist() == (lacking & (imputation == "drop")).tolist()
    assert all("lacks mutation" in each for each in note.dropna())
