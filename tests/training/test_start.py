"""What would make boosting on a linear start lie: a start that has seen its own targets, a lost or doubled share."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pipelines.datasets import Prepared
from pipelines.samples.response import ResponseSamples
from tests.training.tiny import build
from training.architectures import get_architecture
from training.bilinear import moments_of, out_of_fold, solve
from training.estimator import Attribution, add
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
