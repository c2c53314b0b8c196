"""What would make models of drug response lie: unseen inputs, test rows, orders, gaps, a start that saw its targets."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import r2_score

from pipelines.datasets import Prepared, prepare
from pipelines.params import Params
from pipelines.samples.response import UNKNOWN, ResponseSamples
from pipelines.simulate.response import Size, simulate_drug_response
from tests.training.tiny import SIZE, FittedModel, build, changed, question, response_contract, response_task, rmse
from training.architectures import names
from training.architectures.multi_omics import FusionModule, MultiOmics
from training.architectures.transformer import SmilesTokens, tokens_of
from training.bilinear import moments_of, out_of_fold, solve
from training.contract import PayloadError
from training.estimator import Attribution, add
from training.features.cell_line import CellLineFeatures
from training.features.gene_layout import correlation_order
from training.model.cost import alone
from training.model.predictor import Predictor
from training.model.track import save_model
from training.networks.ordered_response import OrderedResponseNetwork
from training.trees.responses import _ALPHA, PairTrees

ASPIRIN = "CC(=O)Oc1ccccc1C(=O)O"
TABLES = ("expression", "mutation", "copy_number", "methylation")


def _fitted(name: str, samples: ResponseSamples, **hyperparameters: Any) -> Any:
    return build(name, hyperparameters, epochs=2).fit(samples)


@pytest.fixture(scope="module")
def fusion(fitted: FittedModel) -> Any:
    return fitted("multi_omics")


# Every model


@pytest.mark.parametrize("name", names("pairs", "regression"))
def test_unseen_drugs_lines_tissues_and_gaps_are_answered(name: str, fitted: FittedModel, prepared: Prepared) -> None:
    samples, target = prepared.samples, prepared.side("train").target
    known = samples.drugs.index[0], samples.drugs["smiles"].iloc[0]
    new, bare = (question(samples, line="NEW", drug=drug, smiles=smiles) for drug, smiles in (known, ("NEW", None)))
    tissues = ("a tissue nobody has seen", UNKNOWN)
    for asked in (
        *(question(samples, line=samples.cell_lines.index[0], drug="NEW", smiles=each) for each in (ASPIRIN, None)),
        *(replace(new, cell_lines=new.cell_lines.assign(tissue=tissue)) for tissue in tissues),
        replace(bare, omics={each: table * np.nan for each, table in bare.omics.items()}),
    ):
        prediction = fitted(name).predict(asked)
        assert prediction.shape == (1,) and abs(prediction[0] - target.mean()) < 5 * target.std()


@pytest.mark.parametrize("name", names("pairs", "regression"))
@pytest.mark.parametrize("split", ["prepared", "drug_blind"])
def test_test_rows_change_nothing_of_a_fit(name: str, split: str, request: pytest.FixtureRequest) -> None:
    prepared: Prepared = request.getfixturevalue(split)
    other, predictions = changed(prepared.samples, prepared.rows("test")), []
    assert not np.array_equal(other.target, prepared.samples.target)
    for samples in (prepared.samples, other):
        train, validation = (samples.take(prepared.rows(side)) for side in ("train", "validation"))
        model = build(name, epochs=3, rounds=10).fit(train, validation)
        predictions.append(model.predict(samples.take(prepared.rows("train", "validation"))))
    np.testing.assert_array_equal(predictions[1], predictions[0])


# The order of genes


def test_neighbors_in_the_order_rise_and_fall_together() -> None:
    rng = np.random.default_rng(0)
    programs = np.repeat(np.arange(6), 10)
    values = rng.normal(size=(40, 6))[:, programs] + 0.5 * rng.normal(size=(40, 60))
    values *= rng.choice([-1, 1], size=60)  # genes that go against one another belong together, too
    mixed = rng.permutation(60)
    order = correlation_order(values[:, mixed] - values[:, mixed].mean(axis=0))
    assert sorted(order) == list(range(60))
    assert np.count_nonzero(np.diff(programs[mixed][order])) == 5  # each program stands in one piece
    for few in range(4):
        assert sorted(correlation_order(values[:5, :few])) == list(range(few))


def test_of_very_many_genes_the_most_variable_are_read(train: ResponseSamples, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OrderedResponseNetwork, "widest", 10)
    expected = train.omics["expression"].iloc[np.unique(train.cell)].astype(np.float64).var(ddof=0).nlargest(10).index
    model = _fitted("cnn1d", train)
    read = [model.features_.names[column] for column in model.learnt_["order"]]
    assert sorted(read) == sorted(f"expression:{gene}" for gene in expected)


# The tokens of a molecule


def test_tokens_of_a_molecule() -> None:
    for tokens in ("Cl C C Br", "[Cl-] . [Na+]", "F / C = C / F", "C [C@H] ( N ) C ( = O ) O"):
        assert tokens_of(tokens.replace(" ", "")) == tokens.split()
    assert tokens_of("[Na+].[Cl-]") == ["[Cl-]", ".", "[Na+]"] and tokens_of("no molecule") == []
    assert tokens_of("N[C@@H](C)C(=O)O") == tokens_of("C[C@H](N)C(=O)O")


def test_rare_and_unseen_tokens_are_read_as_unknown() -> None:
    tokens = SmilesTokens().fit(["CCO", "CCN", "CCCl", None])
    assert (tokens.names, tokens.length) == (["token:unknown", "token:C"], 3)
    kinds, there = tokens.transform(["CCO", "[Xe]", None, "CCCCC"])
    unknown, carbon, nothing = [1, 0], [0, 1], [0, 0]
    expected = [[carbon, carbon, unknown], [unknown, nothing, nothing], [nothing] * 3, [carbon] * 3]
    assert kinds.tolist() == expected and (kinds.sum(axis=2) == there).all()
    assert SmilesTokens(longest=2).fit(["CCO", "CCN"]).length == 2


def test_neither_spelling_nor_what_follows_a_molecule_s_end_matters(fitted: FittedModel, prepared: Prepared) -> None:
    model: Any = fitted("transformer")
    one, two = (
        model.predict(question(prepared.samples, line="NEW", drug="NEW", smiles=smiles))
        for smiles in (ASPIRIN, "OC(=O)c1ccccc1OC(C)=O")
    )
    np.testing.assert_array_equal(one, two)
    drugs, kinds, there = model._inputs(prepared.samples).drugs
    assert not there.all()
    noise = torch.where(there[..., None], kinds, torch.randn_like(kinds))
    with torch.no_grad():
        expected, found = (model.network_.drug_code(drugs, each, there) for each in (kinds, noise))
    torch.testing.assert_close(found, expected)


# Omics that are missing


def _fusion(blocks: list[slice], tissues: int, fusion: str, modality_dropout: float) -> FusionModule:
    of = MultiOmics(layers=1, units=8, activation="silu", dropout=0.0, fusion=fusion, modality_dropout=modality_dropout)
    return FusionModule(of, blocks=blocks, tissues=tissues, drug_width=4)


def test_what_stands_in_for_a_missing_table_changes_nothing(fusion: Any, prepared: Prepared) -> None:
    cells, measured = fusion._inputs(prepared.samples).cells
    cells, measured = cells[measured.all(dim=1)], measured[measured.all(dim=1)]
    assert len(cells) > 10
    for column, block in enumerate(fusion._tables().values()):
        lacks, other = measured.clone(), cells.clone()
        lacks[::2, column] = False
        other[::2, block] = 1e3 * torch.randn_like(other[::2, block])
        with torch.no_grad():
            whole, lacking, replaced = (
                fusion.network_.cell_code(*each) for each in ((cells, measured), (cells, lacks), (other, lacks))
            )
        torch.testing.assert_close(replaced, lacking, rtol=0, atol=0)
        assert not torch.equal(lacking[::2], whole[::2]) and torch.equal(lacking[1::2], whole[1::2])


@pytest.mark.parametrize("absent", [("expression",), TABLES], ids="-".join)
def test_a_missing_table_is_as_if_no_line_had_it(fusion: Any, prepared: Prepared, absent: tuple[str, ...]) -> None:
    samples = prepared.side("test")
    without = replace(samples, omics={name: table for name, table in samples.omics.items() if name not in absent})
    empty = {name: table * np.nan if name in absent else table for name, table in samples.omics.items()}
    prediction, attribution = fusion.predict(without), fusion.attribute(without)
    np.testing.assert_array_equal(prediction, fusion.predict(replace(samples, omics=empty)))
    assert rmse(prediction, samples.target) < rmse(prepared.side("train").target.mean(), samples.target)
    assert attribution.relative_error < 0.05
    tables = np.array([name.split(":")[0] for name in attribution.names])
    assert np.isin(tables, absent).any() and not attribution.values[:, np.isin(tables, absent)].any()
    assert attribution.values[:, tables == "tissue"].any()


def test_lines_without_a_table_do_not_depend_on_what_others_have_in_it(prepared: Prepared) -> None:
    table = prepared.samples.omics["methylation"]
    lacking = np.arange(len(table)) % 3 == 0
    sparse = table.mask(np.broadcast_to(lacking[:, None], table.shape))
    shuffled = sparse.copy()
    shuffled[~lacking] = sparse[~lacking].to_numpy()[::-1]
    samples, other = (
        replace(prepared.samples, omics={**prepared.samples.omics, "methylation": each}) for each in (sparse, shuffled)
    )
    model = _fitted("multi_omics", samples.take(prepared.rows("train")), fusion="gated")
    same, never_had = model.predict(samples) == model.predict(other), lacking[samples.cell]
    assert same[never_had].all() and (~same[~never_had]).mean() > 0.9


@pytest.mark.parametrize("fusion", ["mean", "gated"])
def test_measured_tables_share_all_of_the_weight(fusion: str) -> None:
    torch.manual_seed(0)
    network = _fusion([slice(0, 3), slice(3, 5), slice(5, 9)], 2, fusion, 0.0)
    measured = torch.tensor([[1, 1, 1], [1, 0, 1], [0, 1, 0], [0, 0, 0]], dtype=torch.bool)
    weights = network._weights(torch.randn(4, 3, 8), measured)
    assert ((weights > 0) == measured).all()
    torch.testing.assert_close(weights.sum(dim=1), torch.tensor([1.0, 1.0, 1.0, 0.0]))
    assert fusion == "gated" or weights[1].tolist() == [0.5, 0.0, 0.5]
    network.cell_code(torch.randn(4, 11), measured).sum().backward()
    assert all(torch.isfinite(each.grad).all() for each in network.parameters() if each.grad is not None)


def test_tables_are_dropped_in_training_alone() -> None:
    torch.manual_seed(0)
    network = _fusion([slice(0, 3), slice(3, 5)], 1, "gated", 0.3)
    cells, measured = torch.randn(4000, 6), torch.ones(4000, 2, dtype=torch.bool)
    with torch.no_grad():
        dropped = network.train().cell_code(cells, measured)
        whole, again, bare = (network.eval().cell_code(cells, each) for each in (measured, measured, ~measured))
    assert torch.equal(whole, again)
    for expected, share in ((whole, 0.7**2), (bare, 0.3**2)):
        assert float((dropped == expected).all(dim=1).float().mean()) == pytest.approx(share, abs=0.03)


def test_lines_without_expression_are_trained_on_where_the_task_keeps_them(params: Params, tmp_path: Path) -> None:
    task, raw = response_task(params), tmp_path / "raw"
    simulate_drug_response(raw, SIZE)
    table = pd.read_parquet(raw / "expression.parquet")
    lacking = table["cell_line_id"][::3]
    table[~table["cell_line_id"].isin(lacking)].to_parquet(raw / "expression.parquet", index=False)
    rules: tuple[Literal["drop"], Literal["impute"]] = ("drop", "impute")
    missing = [replace(task.data.missing, expression=rule) for rule in rules]
    ruled = [replace(task, data=replace(task.data, missing=each)) for each in missing]
    dropped, prepared = (prepare(each.read(raw), each, params.seed) for each in ruled)
    assert not dropped.samples.pairs["cell_line_id"].isin(lacking).any()
    train, test = prepared.side("train"), prepared.side("test")
    model = _fitted("multi_omics", train)
    lines = np.unique(train.cell)
    without = train.omics["expression"].isna().all(axis=1).to_numpy()[lines]
    assert train.cell_lines.index[lines][without].isin(lacking).any() and not without.all()
    assert model.features_.cell_line.complete(train.cell_lines, train.omics)[lines].all(), "a line is not learnt from"
    _, measured = model._inputs(train).cells
    np.testing.assert_array_equal(measured[lines, list(model._tables()).index("expression")].numpy(), ~without)
    asked = test.take(test.pairs["cell_line_id"].isin(lacking).to_numpy())
    assert rmse(model.predict(asked), asked.target) < rmse(np.full(len(asked), train.target.mean()), asked.target)


def test_requests_may_lack_omics(fusion: Any, fitted: FittedModel, prepared: Prepared, tmp_path: Path) -> None:
    contract, strict = (response_contract(name, prepared) for name in ("multi_omics", "mlp"))
    save_model(fusion, fitted("mean_effects"), contract, tmp_path)
    predictor, one = Predictor().read(tmp_path), alone(prepared.side("test"), 1)
    row = contract.request(one).to_dict("records")[0]
    for left in (TABLES[:1], TABLES[1:], TABLES):
        asked = pd.DataFrame([{key: value for key, value in row.items() if key not in left}])
        empty = {name: table * np.nan if name in left else table for name, table in one.omics.items()}
        found, expected = predictor.predict(None, asked, {"explain": True}), fusion.predict(replace(one, omics=empty))
        np.testing.assert_allclose(found["prediction"], expected, rtol=0, atol=1e-5)
        if "expression" in left:
            with pytest.raises(PayloadError, match="expression is missing"):
                strict.read(asked)


# The bilinear start of a linear model and of boosting


def _xgboost(start: str = "bilinear") -> Any:
    few_rows = {"min_child_weight": 1.0, "learning_rate": 0.2, "l2": 1.0}  # the defaults would hardly split them
    return build("xgboost", {**few_rows, "start": start})


def test_a_line_s_own_targets_and_the_order_of_rows_do_not_change_where_it_starts(train: ResponseSamples) -> None:
    starts = partial(out_of_fold, folds=5, seed=0, bits=16)
    before, target = starts(train), train.target.astype(np.float32)
    for line in np.unique(train.cell)[:4]:
        own = train.cell == line
        after = starts(replace(train, pairs=train.pairs.assign(target=np.where(own, target[::-1] + 5, target))))
        np.testing.assert_array_equal(after[own], before[own])
        assert not np.allclose(after[~own], before[~own])
    order = np.random.default_rng(0).permutation(len(train))
    np.testing.assert_allclose(starts(train.take(order)), before[order], rtol=1e-7, atol=1e-4)


def test_trees_start_out_of_fold(prepared: Prepared, train: ResponseSamples, monkeypatch: pytest.MonkeyPatch) -> None:
    validation, offsets, matrix_of = prepared.side("validation"), [], PairTrees._matrix

    def tell(*arguments: Any) -> Any:
        found = matrix_of(*arguments)
        offsets.append(found.offset)
        return found

    monkeypatch.setattr(PairTrees, "_matrix", tell)
    model = _xgboost().fit(train, validation)
    unseen = out_of_fold(train, folds=5, seed=model.seed, alpha=_ALPHA, bits=model.bits)
    whole = solve(moments_of(train, bits=model.bits), alpha=_ALPHA)
    for found, expected in zip(offsets, (unseen, whole.predict(validation)), strict=False):
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert not np.allclose(unseen, whole.predict(train), atol=1e-2)


@pytest.mark.parametrize("interactions", [True, False])
def test_a_gene_adds_what_changes_with_it_through_components(train: ResponseSamples, interactions: bool) -> None:
    model = solve(moments_of(train, components=6, interactions=interactions, bits=16), alpha=1e-3)
    some, table = train.take(np.arange(40)), train.omics["expression"]
    gene = str(table.columns[3])
    other = replace(some, omics={**some.omics, "expression": table.assign(**{gene: table[gene] + 1.5})})
    before, after = model.attribute(some), model.attribute(other)
    np.testing.assert_allclose(before.base + before.values.sum(axis=1), model.predict(some), rtol=1e-4, atol=1e-4)
    change, place = after.values - before.values, before.names.index(f"expression:{gene}")
    np.testing.assert_allclose(change[:, place], model.predict(other) - model.predict(some), atol=1e-4)
    assert np.abs(change[:, place]).max() > 1e-3
    np.testing.assert_allclose(np.delete(change, place, axis=1), 0, atol=1e-6)


@pytest.mark.parametrize("count", [1, 2])
def test_lines_fewer_than_folds_can_be_fitted(train: ResponseSamples, count: int) -> None:
    few = train.take(np.isin(train.cell, np.unique(train.cell)[:count]))
    assert np.isfinite(out_of_fold(few, folds=5, seed=0, bits=16)).all()
    assert np.isfinite(_xgboost().fit(few).predict(train)).all()


@pytest.mark.parametrize("start", ["bilinear", "drug_mean", "none"])
def test_the_start_s_share_and_the_trees_share_add_up(prepared: Prepared, train: ResponseSamples, start: str) -> None:
    model, test = _xgboost(start).fit(train), prepared.side("test")
    predicted, attribution = model.predict(test), model.attribute(test)
    np.testing.assert_allclose(attribution.prediction, predicted, atol=1e-4)
    np.testing.assert_allclose(attribution.base + attribution.values.sum(axis=1), predicted, atol=1e-3)
    assert len(set(attribution.names)) == len(attribution.names)
    assert (model.linear_ is not None) == (start == "bilinear")
    if model.linear_ is not None:
        margin = model.booster_.inplace_predict(model.features_.transform(test).gather())
        assert margin.std() > 0.01, "the trees add nothing, and this test would see nothing"
        np.testing.assert_allclose(predicted, model.linear_.predict(test) + margin, atol=1e-5)
        names = set(model.linear_.attribute(test).names)
        assert names <= set(attribution.names), "a name of its own would be another feature's"


def test_adding_attributions_adds_what_has_one_name() -> None:
    one = Attribution(["a", "b"], np.array([[1.0, 2.0]]), np.array([10.0]), np.array([13.0]), "x")
    total = add([one, Attribution(["c", "a"], np.array([[4.0, 8.0]]), np.array([20.0]), np.array([32.0]), "y")])
    assert dict(zip(total.names, total.values[0], strict=True)) == {"a": 9.0, "b": 2.0, "c": 4.0}
    assert (total.base.tolist(), total.prediction.tolist(), total.method) == ([30.0], [45.0], "x + y")
    assert add([one, one], 0.5).values.tolist() == one.values.tolist()
    assert add([one, one], 0.5).method == "x"


def test_directions_in_which_training_lines_happen_not_to_differ_decide_nothing(params: Params, tmp_path: Path) -> None:
    simulate_drug_response(tmp_path, Size(lines=48, molecules=14, genes=30, programs=2))
    given: Any = response_task(params)
    for split, interactions in (("cell_blind", "", ""), False), (("cross_study", "SIM1", "SIM2"), True):
        own = dict(zip(("mode", "train_study", "test_study"), split, strict=True))
        task = replace(given, split=replace(given.split, **own))
        prepared = prepare(task.read(tmp_path), task, params.seed)
        train, test = prepared.side("train"), prepared.side("test")
        assert len(np.unique(train.cell)) == 30  # as many directions as lines: the last ones are nearly nothing
        model = build("elastic_net", {"interactions": interactions}).fit(train)
        assert r2_score(train.target, model.predict(train)) > 0.4
        assert r2_score(test.target, model.predict(test)) > -0.5  # was -465


def _line_features(lines: int) -> tuple[CellLineFeatures, dict[str, pd.DataFrame], np.ndarray]:
    """Return features of some of many like lines, the tables of these, and how the others spread."""
    rng = np.random.default_rng(4)
    table = pd.DataFrame(rng.normal(size=(lines + 2000, 40)) @ rng.normal(size=(40, 40)) + 5).add_prefix("G")
    about = pd.DataFrame({"tissue": "lung"}, index=table.index)
    known = {"expression": table.iloc[:lines]}
    features = CellLineFeatures(("expression",), components=64).fit(about.iloc[:lines], known)
    return features, known, features.transform(about, {"expression": table}).astype(np.float64)


def test_the_spread_of_other_lines_is_found_from_the_training_lines_and_of_many_lines_it_is_theirs() -> None:
    features, known, every = _line_features(60)
    told = features.unseen_spread(known)[: features.width - 1]
    true = every[60:, :-1].std(axis=0) / every[:60, :-1].std(axis=0)
    assert true[-1] > 2.5 > 1.2 > true[0]  # the last component deceives, the first does not
    seen = np.isfinite(told)
    assert seen.sum() >= 38 and (told >= 1).all()
    assert np.abs(np.log(told[seen] / np.maximum(true[seen], 1))).max() < np.log(2)
    features, known, _ = _line_features(1500)
    assert features.unseen_spread(known).max() < 1.1


def test_a_table_without_components_or_with_one_line_is_left_as_it_is() -> None:
    table = pd.DataFrame({"A": [1.0, 2.0, 4.0], "B": [3.0, 1.0, 1.0]})
    about = pd.DataFrame({"tissue": "lung"}, index=table.index)
    plain = CellLineFeatures(("expression",)).fit(about, {"expression": table})
    assert plain.unseen_spread({"expression": table}).tolist() == [1.0, 1.0, 1.0]
    alone = CellLineFeatures(("expression",), components=4).fit(about[:1], {"expression": table[:1]})
    assert len(alone.unseen_spread({"expression": table[:1]})) == alone.width
