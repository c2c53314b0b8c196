"""What would make the networks of drug response lie: an order, a vocabulary or a filled gap that nobody measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest
import torch

from pipelines.datasets import Prepared, prepare
from pipelines.params import Params
from pipelines.samples.response import ResponseSamples
from pipelines.simulate.response import simulate_drug_response
from tests.training.contract_builders import response_contract
from tests.training.tiny import NAME, SIZE, FittedModel, build, question, response_task, rmse, with_omics
from training.architectures import get_architecture
from training.architectures.multi_omics import FusionModule, MultiOmics
from training.architectures.transformer import SmilesTokens, tokens_of
from training.contract import PayloadError
from training.features.gene_layout import correlation_order
from training.model.predictor import Predictor
from training.model.track import alone, save_model
from training.networks.response_network import OrderedResponseNetwork

TABLES = ("expression", "mutation", "copy_number", "methylation")


def _fitted(name: str, samples: ResponseSamples, **hyperparameters: Any) -> Any:
    architecture = get_architecture(name, "pairs", "regression")
    return build(architecture, {**architecture.defaults, **hyperparameters}, epochs=2).fit(samples)


@pytest.fixture(scope="module")
def fusion(fitted: FittedModel) -> Any:
    return fitted("multi_omics")


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


def test_of_very_many_genes_the_most_variable_are_read(prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    train = prepared.side("train")
    monkeypatch.setattr(OrderedResponseNetwork, "widest", 10)
    lines = train.omics["expression"].iloc[np.unique(train.cell)]
    expected = lines.astype(np.float64).var(ddof=0).nlargest(10).index
    assert sorted(_fitted("cnn1d", train).gene_order) == sorted(f"expression:{gene}" for gene in expected)


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


def test_neither_a_molecule_s_spelling_nor_what_stands_behind_its_end_matters(
    fitted: FittedModel, prepared: Prepared
) -> None:
    model: Any = fitted("transformer")
    one, two = (
        model.predict(question(prepared.samples, line="NEW", drug="NEW", smiles=smiles))
        for smiles in ("CC(=O)Oc1ccccc1C(=O)O", "OC(=O)c1ccccc1OC(C)=O")  # aspirin
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


def test_what_stands_in_for_a_missing_table_changes_nothing(fusion: MultiOmics, prepared: Prepared) -> None:
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
def test_samples_without_a_table_are_predicted_as_if_no_line_had_it(
    fusion: MultiOmics, prepared: Prepared, absent: tuple[str, ...]
) -> None:
    samples = prepared.side("test")
    without = with_omics(samples, {name: table for name, table in samples.omics.items() if name not in absent})
    empty = {name: table * np.nan if name in absent else table for name, table in samples.omics.items()}
    prediction, attribution = fusion.predict(without), fusion.attribute(without)
    np.testing.assert_array_equal(prediction, fusion.predict(with_omics(samples, empty)))
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
        with_omics(prepared.samples, {**prepared.samples.omics, "methylation": each}) for each in (sparse, shuffled)
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
    ruled = [
        replace(task, data=replace(task.data, missing=replace(task.data.missing, expression=rule))) for rule in rules
    ]
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


def test_a_request_without_any_omics_is_answered(
    fusion: MultiOmics, fitted: FittedModel, prepared: Prepared, params: Params, tmp_path: Path
) -> None:
    contract, strict = (
        response_contract(NAME, name, response_task(params), prepared, 1.5, 0.9) for name in ("multi_omics", "mlp")
    )
    save_model(fusion, fitted("mean_effects"), contract, tmp_path)
    predictor, one = Predictor().read(tmp_path), alone(prepared.side("test"), 1)
    row = contract.request(one).to_dict("records")[0]
    for left in (TABLES[:1], TABLES[1:], TABLES):
        asked = pd.DataFrame([{key: value for key, value in row.items() if key not in left}])
        empty = {name: table * np.nan if name in left else table for name, table in one.omics.items()}
        found, expected = predictor.predict(None, asked, {"explain": True}), fusion.predict(with_omics(one, empty))
        np.testing.assert_allclose(found["prediction"], expected, rtol=0, atol=1e-5)
        if "expression" in left:
            with pytest.raises(PayloadError, match="expression is missing"):
                strict.read(asked)
