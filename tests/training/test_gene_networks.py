"""What would make a network of genes a guess: genes mixed up, an order not kept, a start that saw its answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipelines.errors import UserError
from pipelines.samples.expression import ExpressionSamples
from tests.training.profile_samples import PREDICTORS, TARGETS, gene_samples, with_values
from tests.training.tiny_sets import tiny_set
from training.architectures import get_architecture
from training.features.expression_profile import ProfileFeatures
from training.networks.gene_modules import WindowEmbedding
from training.networks.gene_network import GeneNetwork, RecurrentGeneNetwork, gene_positions, ridge

ROUNDING = 1e-4


def built(name: str, **others: Any) -> GeneNetwork:
    architecture = get_architecture(name, "profiles", "multi_target")
    point = {**architecture.defaults, "learning_rate": 5e-3, "depth": 1}
    made = tiny_set("profiles", "multi_target", Path()).build(architecture, point, **others)
    assert isinstance(made, GeneNetwork)
    return made


@pytest.fixture(scope="module")
def train() -> ExpressionSamples:
    return gene_samples(96)


@pytest.fixture(scope="module")
def held_out() -> ExpressionSamples:
    return gene_samples(48, seed=1)


@pytest.fixture(scope="module", params=["dnn", "attention_gru"])  # the contract suite fits the others
def model(request: pytest.FixtureRequest, train: ExpressionSamples, held_out: ExpressionSamples) -> GeneNetwork:
    return built(request.param).fit(train, held_out)


def test_a_gene_moves_its_own_window_alone() -> None:
    embedding, inputs = WindowEmbedding(10, 4, 3), torch.zeros(1, 10)
    changed = inputs.clone()
    changed[0, 5] = 1.0
    moved = (embedding(changed) - embedding(inputs)).abs().sum(dim=2)[0] > 0
    assert moved.tolist() == [False, True, False]


def test_a_start_by_ridge_is_that_of_an_unseen_patient() -> None:
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(24, 8))
    targets = inputs @ rng.normal(size=(8, 2)) + rng.normal(size=(24, 2))
    inputs, targets = inputs - inputs.mean(axis=0), targets - targets.mean(axis=0)
    patients = np.repeat(np.arange(12), 2).astype(str)
    weights, unseen = ridge(inputs, targets, patients)

    def solved(penalty: float, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.linalg.solve(x.T @ x + penalty * np.eye(8), x.T @ y)

    # The penalty that was chosen is the one that gives these weights.
    penalties = [8 * each for each in (0.03, 0.1, 0.2, 0.3, 0.5, 1.0, 3.0, 10.0)]
    error, penalty = min((np.abs(solved(each, inputs, targets) - weights).max(), each) for each in penalties)
    assert error < 1e-8
    for patient in np.unique(patients):
        own = patients == patient
        center, level = inputs[~own].mean(axis=0), targets[~own].mean(axis=0)
        beta = solved(penalty, inputs[~own] - center, targets[~own] - level)
        np.testing.assert_allclose(unseen[own], (inputs[own] - center) @ beta + level, atol=1e-6)


def test_the_start_lies_in_the_prediction_whole(train: ExpressionSamples, held_out: ExpressionSamples) -> None:
    estimator = built("dnn", linear_start=1.0, epochs=0).fit(train, held_out)
    inputs = ProfileFeatures().fit(train).transform(train)
    target = (train.target - train.target.mean(axis=0)) / train.target.std(axis=0)
    weights, _ = ridge(inputs, target, train.table["patient_id"].to_numpy(str))
    expected = ProfileFeatures().fit(train).transform(held_out) @ weights
    expected = expected * train.target.std(axis=0) + train.target.mean(axis=0)
    np.testing.assert_allclose(estimator.predict(held_out), expected, rtol=0, atol=ROUNDING)


def test_an_order_that_is_not_to_be_had_is_refused(train: ExpressionSamples) -> None:
    features = ProfileFeatures().fit(train)
    with pytest.raises(UserError, match=r"chromosome and start in genes\.csv"):
        gene_positions(features, train, "chromosome")
    with pytest.raises(UserError, match="must be one of table, chromosome, correlation"):
        gene_positions(features, train, "alphabet")


def test_a_permuted_order_is_another_and_the_seed_s(model: GeneNetwork, train: ExpressionSamples) -> None:
    name = model.architecture
    permuted, again, other = (built(name, permutation=seed, epochs=1).fit(train) for seed in (1, 1, 2))
    assert permuted.gene_order == again.gene_order != other.gene_order
    assert permuted.gene_order != model.gene_order and sorted(permuted.gene_order) == sorted(model.gene_order)


def test_an_attribution_is_of_the_gene_that_it_names(model: GeneNetwork, held_out: ExpressionSamples) -> None:
    """A gene at its training mean adds nothing, wherever the order has put it."""
    gene = held_out.predictors[4]
    values = held_out.values.copy()
    values[:, held_out.genes.index(gene)] = np.nan
    attribution = model.attribute(with_values(held_out, values), np.zeros(len(held_out), dtype=int))
    added = np.abs(attribution.values).mean(axis=0)
    assert added[attribution.names.index(gene)] < 1e-6
    assert (np.delete(added, attribution.names.index(gene)) > 1e-6).all()


def test_the_steps_are_windows_of_the_genes_in_their_order(model: GeneNetwork) -> None:
    if isinstance(model, RecurrentGeneNetwork):  # evidence names the window of each gene
        assert [gene for step in model.steps for gene in step] == model.gene_order
        assert {len(step) for step in model.steps[:-1]} <= {model.window} and len(model.steps[-1]) <= model.window


def test_the_cost_counts_the_work_of_every_step(model: GeneNetwork) -> None:
    cost, inputs, outputs = model.cost(), len(PREDICTORS), len(TARGETS)
    assert cost["parameters"] > inputs * outputs
    if model.architecture == "dnn":  # 2 members with a layer of 16 units
        assert cost["multiply_adds"] == 2 * (inputs + outputs) * 16 + inputs * outputs
    else:  # 6 windows in 2 directions, 3 gates of a GRU, 16 units on an embedding of 16; 2 members
        assert cost["multiply_adds"] > 6 * 2 * 3 * 16 * (16 + 16) * 2
