"""What would make a network of genes a guess: genes mixed up, an order not kept, a start that saw its answer."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from pipelines.errors import UserError
from pipelines.samples.expression import ExpressionSamples
from training.architectures import get_architecture, names
from training.features.expression_profile import ProfileFeatures
from training.networks.gene_modules import AdditiveAttention, WindowEmbedding
from training.networks.gene_network import GeneNetwork, RecurrentGeneNetwork, gene_positions, ridge

ESTIMATORS = {
    name: get_architecture(name, "profiles", "multi_target").estimator for name in names("profiles", "multi_target")
}
NAMES = ["dnn", "attention_gru"]  # the contract suite fits the others
RECURRENT = [name for name, of in ESTIMATORS.items() if issubclass(of, RecurrentGeneNetwork)]
PREDICTORS, TARGETS, TRAIN = 30, 4, 96
SMALL: dict[str, Any] = {
    "width": 16,
    "depth": 1,
    "members": 2,
    "dropout": 0.1,
    "batch_size": 16,
    "learning_rate": 5e-3,
    "linear_start": 0.5,
}
SMALL_WINDOWS: dict[str, Any] = {"window": 7, "embedding": 16}
ROUNDING = 1e-4


def simulated(n: int = 144, *, seed: int = 0, scale: str = "log2") -> ExpressionSamples:
    """Return profiles of a few programs; the targets depend on them, bent, and the table's columns are mixed."""
    rng = np.random.default_rng(seed)
    fixed = np.random.default_rng(100)
    programs = rng.normal(size=(n, 3))
    predictors = 8 + programs @ fixed.normal(size=(3, PREDICTORS)) + 0.5 * rng.normal(size=(n, PREDICTORS))
    bent = np.hstack([programs, np.abs(programs)])
    targets = 6 + bent @ fixed.normal(size=(6, TARGETS)) * 2 + 0.3 * rng.normal(size=(n, TARGETS))
    names = [f"P{number}" for number in range(PREDICTORS)] + [f"T{number}" for number in range(TARGETS)]
    columns = fixed.permutation(len(names))
    genes = tuple(names[column] for column in columns)
    about = pd.DataFrame(
        {
            "chromosome": fixed.choice(["chr2", "chr10", "chrX"], len(genes)),
            "start": fixed.integers(1, 10**6, len(genes)),
        },
        index=pd.Index(genes),
    )
    patients = [f"patient {number // 2}" for number in range(n)]
    table = pd.DataFrame({"sample_id": [f"s{number}" for number in range(n)], "patient_id": patients})
    values = np.hstack([predictors, targets])[:, columns]
    values = np.exp2(values) - 1 if scale == "linear" else values
    samples = ExpressionSamples(table, values.astype(np.float32), np.arange(n), genes, about, scale)
    return samples.aimed(names[PREDICTORS:], names[:PREDICTORS])


def with_values(samples: ExpressionSamples, values: np.ndarray) -> ExpressionSamples:
    return replace(samples, values=values)


def built(name: str, **others: Any) -> GeneNetwork:
    architecture = get_architecture(name, "profiles", "multi_target")
    small = {**architecture.defaults, **SMALL, **(SMALL_WINDOWS if name in RECURRENT else {}), **others}
    settings = {"epochs": 15, "seed": 3, "device": "cpu"}
    made = architecture.build(small, **{key: value for key, value in settings.items() if key not in small})
    assert isinstance(made, GeneNetwork)
    return made


@pytest.fixture(scope="module")
def samples() -> ExpressionSamples:
    return simulated()


@pytest.fixture(scope="module")
def train(samples: ExpressionSamples) -> ExpressionSamples:
    return samples.take(np.arange(TRAIN))


@pytest.fixture(scope="module")
def held_out(samples: ExpressionSamples) -> ExpressionSamples:
    return samples.take(np.arange(TRAIN, len(samples)))


@pytest.fixture(scope="module")
def fitted(train: ExpressionSamples, held_out: ExpressionSamples) -> dict[str, GeneNetwork]:
    return {name: built(name).fit(train, held_out) for name in NAMES}


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def model(name: str, fitted: dict[str, GeneNetwork]) -> GeneNetwork:
    return fitted[name]


def share_explained(model: GeneNetwork, samples: ExpressionSamples, mean: np.ndarray) -> float:
    """Return R2 against the training mean, over all targets."""
    error = np.nansum((model.predict(samples) - samples.target) ** 2)
    return float(1 - error / np.nansum((mean - samples.target) ** 2))


# The network


def test_attention_weights_of_every_head_sum_to_one() -> None:
    torch.manual_seed(0)
    states = torch.randn(5, 9, 6)
    pooled, weights = AdditiveAttention(6, 3)(states)
    assert pooled.shape == (5, 18)
    np.testing.assert_allclose(weights.sum(dim=1).detach().numpy(), 1, atol=1e-6)
    np.testing.assert_allclose(
        pooled[:, :6].detach().numpy(), (weights[:, :, :1] * states).sum(dim=1).detach().numpy(), atol=1e-5
    )


def test_a_gene_moves_its_own_window_alone() -> None:
    embedding = WindowEmbedding(10, 4, 3)
    inputs = torch.zeros(1, 10)
    changed = inputs.clone()
    changed[0, 5] = 1.0
    moved = (embedding(changed) - embedding(inputs)).abs().sum(dim=2)[0] > 0
    assert moved.tolist() == [False, True, False]


# Fitting and predicting


def test_a_start_by_ridge_is_that_of_an_unseen_patient() -> None:
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(24, 8))
    targets = inputs @ rng.normal(size=(8, 2)) + rng.normal(size=(24, 2))
    targets -= targets.mean(axis=0)
    patients = np.repeat(np.arange(12), 2).astype(str)
    inputs -= inputs.mean(axis=0)
    weights, unseen = ridge(inputs, targets, patients)
    # The penalty that was chosen is the one that gives these weights.
    penalties = 8 * np.array((0.03, 0.1, 0.2, 0.3, 0.5, 1.0, 3.0, 10.0))
    solved = [np.linalg.solve(inputs.T @ inputs + penalty * np.eye(8), inputs.T @ targets) for penalty in penalties]
    errors = [np.abs(one - weights).max() for one in solved]
    assert min(errors) < 1e-8
    penalty = penalties[int(np.argmin(errors))]
    for patient in np.unique(patients):
        own = patients == patient
        center, level = inputs[~own].mean(axis=0), targets[~own].mean(axis=0)
        others = inputs[~own] - center
        beta = np.linalg.solve(others.T @ others + penalty * np.eye(8), others.T @ (targets[~own] - level))
        np.testing.assert_allclose(unseen[own], (inputs[own] - center) @ beta + level, atol=1e-6)


def test_the_start_lies_in_the_prediction_whole(train: ExpressionSamples, held_out: ExpressionSamples) -> None:
    estimator = built("dnn", linear_start=1.0, epochs=0).fit(train, held_out)
    inputs = ProfileFeatures().fit(train).transform(train)
    target = (train.target - train.target.mean(axis=0)) / train.target.std(axis=0)
    weights, _ = ridge(inputs, target, train.table["patient_id"].to_numpy(str))
    expected = ProfileFeatures().fit(train).transform(held_out) @ weights
    expected = expected * train.target.std(axis=0) + train.target.mean(axis=0)
    np.testing.assert_allclose(estimator.predict(held_out), expected, rtol=0, atol=ROUNDING)


# The order of genes


def test_the_order_along_the_genome_counts_chromosomes_as_numbers(train: ExpressionSamples) -> None:
    features = ProfileFeatures().fit(train)
    about = train.about_genes.copy()
    about.loc["P3", ["chromosome", "start"]] = np.nan
    about["chromosome"] = about["chromosome"].astype(object)
    known = replace(train, about_genes=about)
    order = [features.genes[position] for position in gene_positions(features, known, "chromosome")]
    found = about.loc[order, "chromosome"].tolist()
    assert order[-1] == "P3"
    assert list(dict.fromkeys(found[:-1])) == ["chr2", "chr10", "chrX"]
    for chromosome in ("chr2", "chr10", "chrX"):
        lying_there = about.loc[order][[each == chromosome for each in found]]
        assert lying_there["start"].is_monotonic_increasing


def test_an_order_that_is_not_to_be_had_is_refused(train: ExpressionSamples) -> None:
    features = ProfileFeatures().fit(train)
    with pytest.raises(UserError, match=r"chromosome and start in genes\.csv"):
        gene_positions(features, replace(train, about_genes=train.about_genes[[]]), "chromosome")
    with pytest.raises(UserError, match="must be one of table, chromosome, correlation"):
        gene_positions(features, train, "alphabet")


def test_correlated_genes_lie_side_by_side(train: ExpressionSamples) -> None:
    features = ProfileFeatures().fit(train)
    correlation = np.abs(np.corrcoef(features.transform(train).T))

    def between_neighbors(order: np.ndarray) -> float:
        return float(correlation[order[:-1], order[1:]].mean())

    positions = gene_positions(features, train, "correlation")
    assert between_neighbors(positions) > 1.2 * between_neighbors(gene_positions(features, train, "table"))
    np.testing.assert_array_equal(positions, gene_positions(features, train, "correlation"))


def test_a_permuted_order_is_another_and_still_fits(
    name: str, model: GeneNetwork, train: ExpressionSamples, held_out: ExpressionSamples
) -> None:
    permuted = built(name, permutation=1).fit(train, held_out)
    assert permuted.gene_order != model.gene_order
    assert sorted(permuted.gene_order) == sorted(model.gene_order)
    assert share_explained(permuted, held_out, train.target.mean(axis=0)) > 0.4
    assert built(name, permutation=1, epochs=1).fit(train).gene_order == permuted.gene_order
    assert built(name, permutation=2, epochs=1).fit(train).gene_order != permuted.gene_order
    if isinstance(permuted, RecurrentGeneNetwork) and isinstance(model, RecurrentGeneNetwork):
        assert [set(step) for step in permuted.steps] != [set(step) for step in model.steps]


# Explaining and keeping


def test_an_attribution_is_of_the_gene_that_it_names(model: GeneNetwork, held_out: ExpressionSamples) -> None:
    """A gene at its training mean adds nothing, wherever the order has put it."""
    gene = held_out.predictors[4]
    values = held_out.values.copy()
    values[:, held_out.genes.index(gene)] = np.nan
    attribution = model.attribute(with_values(held_out, values), np.zeros(len(held_out), dtype=int))
    added = np.abs(attribution.values).mean(axis=0)
    assert added[attribution.names.index(gene)] < 1e-6
    assert (np.delete(added, attribution.names.index(gene)) > 1e-6).all()


def test_the_cost_counts_the_work_of_every_step(name: str, model: GeneNetwork) -> None:
    cost = model.cost()
    json.dumps(cost)
    assert cost["parameters"] > PREDICTORS * TARGETS
    if name in RECURRENT:
        gates, width, directions = (4 if "lstm" in name else 3), 16, 2
        steps = 5 * directions * gates * width * (16 + width)  # embedding 16
        assert cost["multiply_adds"] > steps * 2  # members
    else:
        assert cost["multiply_adds"] == 2 * (PREDICTORS * 16 + 16 * TARGETS) + PREDICTORS * TARGETS
