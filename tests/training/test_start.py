"""What would make a linear model or boosting on one lie: a start that has seen its targets, few lines, a lost share."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import r2_score

from pipelines.datasets import Prepared, prepare
from pipelines.samples.response import ResponseSamples
from pipelines.simulate.response import Size, simulate_drug_response
from tests.training.tiny import NAME, build, tiny_params
from training.architectures import get_architecture
from training.bilinear import moments_of, out_of_fold, solve
from training.estimator import Attribution, add
from training.features.cell_line import CellLineFeatures
from training.trees.responses import _ALPHA, PairTrees


@pytest.fixture(scope="module")
def train(prepared: Prepared) -> ResponseSamples:
    return prepared.side("train")


def _xgboost(start: str = "bilinear") -> Any:
    architecture = get_architecture("xgboost", "pairs", "regression")
    few_rows = {"min_child_weight": 1.0, "learning_rate": 0.2, "l2": 1.0}  # the defaults would hardly split them
    return build(architecture, {**architecture.defaults, **few_rows, "start": start})


def test_a_line_s_own_targets_and_the_order_of_rows_do_not_change_where_it_starts(train: ResponseSamples) -> None:
    before, target = out_of_fold(train, folds=5, seed=0, bits=16), train.target.astype(np.float32)
    for line in np.unique(train.cell)[:4]:
        own = train.cell == line
        moved = np.where(own, target[::-1] + 5, target)
        after = out_of_fold(replace(train, pairs=train.pairs.assign(target=moved)), folds=5, seed=0, bits=16)
        np.testing.assert_array_equal(after[own], before[own])
        assert not np.allclose(after[~own], before[~own])
    order = np.random.default_rng(0).permutation(len(train))
    np.testing.assert_allclose(
        out_of_fold(train.take(order), folds=5, seed=0, bits=16), before[order], rtol=1e-7, atol=1e-4
    )


def test_the_trees_start_there_and_new_rows_at_the_whole_model(
    prepared: Prepared, train: ResponseSamples, monkeypatch: pytest.MonkeyPatch
) -> None:
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
def test_what_a_gene_adds_is_what_changes_with_it_though_components_lie_between(
    train: ResponseSamples, interactions: bool
) -> None:
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
    two = Attribution(["c", "a"], np.array([[4.0, 8.0]]), np.array([20.0]), np.array([32.0]), "y")
    total = add([one, two])
    assert dict(zip(total.names, total.values[0], strict=True)) == {"a": 9.0, "b": 2.0, "c": 4.0}
    assert (total.base.tolist(), total.prediction.tolist(), total.method) == ([30.0], [45.0], "x + y")
    assert add([one, one], 0.5).values.tolist() == one.values.tolist()
    assert add([one, one], 0.5).method == "x"


GENES = 30


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("few lines")
    simulate_drug_response(found, Size(lines=48, molecules=14, genes=GENES, programs=2))
    return found


@pytest.mark.parametrize(
    ("split", "interactions"),
    [
        ({"mode": "cell_blind", "train_study": "", "test_study": ""}, False),
        ({"mode": "cross_study", "train_study": "SIM1", "test_study": "SIM2"}, True),
    ],
)
def test_directions_in_which_training_lines_happen_not_to_differ_decide_nothing(
    split: dict[str, str], interactions: bool, folder: Path
) -> None:
    params = tiny_params()
    task: Any = params.task(NAME)
    task = replace(task, split=replace(task.split, **split))
    prepared = prepare(task.read(folder), task, params.seed)
    train, test = prepared.side("train"), prepared.side("test")
    assert len(np.unique(train.cell)) == GENES  # as many directions as lines: the last ones are nearly nothing
    architecture = get_architecture("elastic_net", "pairs", "regression")
    model = build(architecture, {**architecture.defaults, "interactions": interactions}).fit(train)
    assert r2_score(train.target, model.predict(train)) > 0.4
    assert r2_score(test.target, model.predict(test)) > -0.5  # was -465


def _fitted(lines: int) -> tuple[CellLineFeatures, dict[str, pd.DataFrame], np.ndarray]:
    """Return features of some of many like lines, the tables of these, and how the others spread."""
    rng = np.random.default_rng(4)
    table = pd.DataFrame(rng.normal(size=(lines + 2000, 40)) @ rng.normal(size=(40, 40)) + 5).add_prefix("G")
    about = pd.DataFrame({"tissue": "lung"}, index=table.index)
    known = {"expression": table.iloc[:lines]}
    features = CellLineFeatures(("expression",), components=64).fit(about.iloc[:lines], known)
    return features, known, features.transform(about, {"expression": table}).astype(np.float64)


def test_the_spread_of_other_lines_is_found_from_the_training_lines_and_of_many_lines_it_is_theirs() -> None:
    features, known, every = _fitted(60)
    told = features.unseen_spread(known)[: features.width - 1]
    true = every[60:, :-1].std(axis=0) / every[:60, :-1].std(axis=0)
    assert true[-1] > 2.5 > 1.2 > true[0]  # the last component deceives, the first does not
    seen = np.isfinite(told)
    assert seen.sum() >= 38 and (told >= 1).all()
    assert np.abs(np.log(told[seen] / np.maximum(true[seen], 1))).max() < np.log(2)
    features, known, _ = _fitted(1500)
    assert features.unseen_spread(known).max() < 1.1


def test_a_table_without_components_or_with_one_line_is_left_as_it_is() -> None:
    table = pd.DataFrame({"A": [1.0, 2.0, 4.0], "B": [3.0, 1.0, 1.0]})
    about = pd.DataFrame({"tissue": "lung"}, index=table.index)
    plain = CellLineFeatures(("expression",)).fit(about, {"expression": table})
    assert plain.unseen_spread({"expression": table}).tolist() == [1.0, 1.0, 1.0]
    alone = CellLineFeatures(("expression",), components=4).fit(about[:1], {"expression": table[:1]})
    assert len(alone.unseen_spread({"expression": table[:1]})) == alone.width
