"""What would make features wrong: statistics of unseen rows, mixed-up columns, a wrong mean, a leaking response."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from pipelines.datasets import Prepared
from pipelines.samples.response import UNKNOWN, ResponseSamples
from tests.training.tiny import repeated, with_omics
from training.architectures import get_architecture, names
from training.features.cell_line import CellLineFeatures
from training.features.pair import DrugFeatures, PairFeatures, PairMatrix, fingerprints

OMICS = ("expression", "mutation", "copy_number", "methylation")
ASPIRIN = "CC(=O)Oc1ccccc1C(=O)O"
ASPIRIN_BACKWARDS = "OC(=O)c1ccccc1OC(C)=O"


@pytest.fixture(scope="module")
def train(prepared: Prepared) -> ResponseSamples:
    return prepared.side("train")


def _pair_features(**cell_line: Any) -> PairFeatures:
    return PairFeatures(CellLineFeatures(OMICS, **cell_line), DrugFeatures(bits=32, components=4))


def _fitted(train: ResponseSamples, **cell_line: Any) -> CellLineFeatures:
    return _pair_features(**cell_line).fit(train).cell_line


def _transformed(features: CellLineFeatures, samples: ResponseSamples) -> np.ndarray:
    return features.transform(samples.cell_lines, samples.omics)


# Pairs


def test_gathered_rows_are_the_line_s_and_the_drug_s(train: ResponseSamples) -> None:
    features = _pair_features(components=3).fit(train)
    matrix = features.transform(train)
    cells = features.cell_line.transform(train.cell_lines, train.omics)
    drugs = features.drug.transform(train.drugs)
    for rows in (np.array([5, 0, 5]), slice(3, 8)):
        gathered = matrix.gather(rows)
        assert gathered.dtype == np.float32
        for row, values in zip(np.arange(len(train))[rows], gathered, strict=True):
            line = list(train.cell_lines.index).index(train.pairs["cell_line_id"].iloc[row])
            drug = list(train.drugs.index).index(train.pairs["drug_id"].iloc[row])
            np.testing.assert_array_equal(values, np.concatenate([cells[line], drugs[drug]]))
    assert matrix.gather().shape == (len(train), features.cell_line.width + len(features.drug.names))


# Cell lines


def test_a_missing_value_becomes_the_training_mean() -> None:
    lines = pd.DataFrame({"tissue": [UNKNOWN] * 4})
    known = pd.DataFrame({"A": [1.0, 3.0, np.nan, np.nan], "B": [0.0, 2.0, 7.0, np.nan]})
    features = CellLineFeatures(("expression",)).fit(lines, {"expression": known})
    table = features.tables["expression"]
    np.testing.assert_allclose(table.fill, [2.0, 3.0])
    new = pd.DataFrame({"A": [np.nan, 9.0], "B": [5.0, np.nan]})
    np.testing.assert_allclose(table.scaled(new) * table.scale + table.center, [[2.0, 5.0], [9.0, 3.0]])
    assert features.transform(lines[:2], {"expression": new})[:, -1].tolist() == [0.0, 0.0], "both are measured"


def test_a_line_that_was_not_measured_is_flagged_and_average(train: ResponseSamples) -> None:
    features = _fitted(train)
    missing = train.omics["mutation"].isna().all(axis=1).to_numpy()
    assert 0 < missing[np.unique(train.cell)].sum() < missing.size
    values = pd.DataFrame(_transformed(features, train), columns=features.names)
    assert values["mutation:not_measured"].tolist() == missing.astype(float).tolist()
    np.testing.assert_allclose(values.loc[missing].filter(like="mutation:SIMG"), 0.0, atol=1e-6)


@pytest.mark.parametrize(
    ("scaling", "low", "high", "within"), [("standard", np.mean, np.std, 1e-5), ("min_max", np.min, np.max, 1e-6)]
)
def test_scaling_is_over_the_training_lines(
    train: ResponseSamples, scaling: str, low: Any, high: Any, within: float
) -> None:
    values = _transformed(_fitted(train, scaling=scaling), train)[np.unique(train.cell)]
    values = values[:, : train.omics["expression"].shape[1]]
    np.testing.assert_allclose(low(values, axis=0), 0.0, atol=within)
    np.testing.assert_allclose(high(values, axis=0), 1.0, atol=within)


def test_an_unknown_tissue_is_no_tissue(train: ResponseSamples) -> None:
    features = _fitted(train)
    lines = train.cell_lines.iloc[:3].assign(tissue=[UNKNOWN, "never seen", features.tissues[0]])
    values = features.transform(lines, {name: table.iloc[:3] for name, table in train.omics.items()})
    assert UNKNOWN not in features.tissues
    assert values[:, -len(features.tissues) :].sum(axis=1).tolist() == [0.0, 0.0, 1.0]


# From transformed features back to raw ones


@pytest.mark.parametrize("settings", [{}, {"components": 4}, {"components": 4, "scaling": "min_max"}], ids=str)
def test_a_spread_gradient_is_exact_for_a_linear_function(train: ResponseSamples, settings: dict[str, Any]) -> None:
    features = _fitted(train, **settings)
    slope = np.random.default_rng(0).normal(size=_transformed(features, train).shape[1])
    lines = np.arange(5)
    gradient = np.tile(slope, (len(lines), 1))
    given = features.spread_gradient(gradient, train.cell_lines, train.omics, lines)
    assert given.shape == (5, len(features.names))
    own = [name.startswith("expression:SIM") for name in features.names]
    shares = features.spread(gradient)[:, own].sum(axis=1)
    np.testing.assert_allclose(shares, gradient[:, features.blocks["expression"]].sum(axis=1))
    whole = _transformed(features, train)[lines] @ slope
    np.testing.assert_allclose(given.sum(axis=1), whole, atol=1e-3)
    # What a gene adds is what is lost when it is set to the value that scales to zero, or with PCA to the mean.
    table = features.tables["expression"]
    zero = table.center + table.middle * table.scale
    for gene in (0, 7):
        other = train.omics["expression"].astype(np.float64)
        other.iloc[:, table.kept[gene]] = zero[gene]
        changed_ = _transformed(features, with_omics(train, {**train.omics, "expression": other}))[lines] @ slope
        np.testing.assert_allclose(given[:, gene], whole - changed_, atol=1e-3)


# Drugs


@pytest.mark.parametrize("identity", ["profile", "one_hot", "none"])
def test_a_molecule_under_another_id_is_recognized(train: ResponseSamples, identity: str) -> None:
    drugs = train.drugs.copy()
    drugs.loc[drugs.index[0], "smiles"] = ASPIRIN
    samples = replace(train, drugs=drugs)
    features = DrugFeatures(16, identity, 4).fit(samples)
    asked = pd.DataFrame({"smiles": [ASPIRIN, ASPIRIN_BACKWARDS, "CCO"]}, index=pd.Index(["X", "Y", "Z"]))
    assert features.known(asked).tolist() == [0, 0, -1]
    first = features.transform(samples.drugs)[0]
    np.testing.assert_array_equal(features.transform(asked)[:2], [first, first])
    np.testing.assert_array_equal(features.offset(asked)[:2], features.mean[[0, 0]])


def test_a_molecule_under_two_ids_is_the_one_measured_more_unless_the_id_is_known(train: ResponseSamples) -> None:
    drugs = train.drugs.copy()
    drugs.loc[drugs.index[[2, 5]], "smiles"] = [ASPIRIN, ASPIRIN_BACKWARDS]
    rows = np.r_[np.flatnonzero(train.drug != 2), np.flatnonzero(train.drug == 2)[:3]]
    features = DrugFeatures(0).fit(replace(train, drugs=drugs).take(rows))
    asked = pd.DataFrame({"smiles": [ASPIRIN, ASPIRIN]}, index=pd.Index(["X", drugs.index[4]]))
    assert [features.ids[place] for place in features.known(asked)] == [drugs.index[5], drugs.index[4]]


@pytest.mark.parametrize("smiles", ["CCO", None])
@pytest.mark.parametrize("identity", ["profile", "one_hot"])
def test_an_unseen_drug_stands_at_the_overall_mean(train: ResponseSamples, identity: str, smiles: str | None) -> None:
    features = DrugFeatures(16, identity, 4).fit(train)
    asked = pd.DataFrame({"smiles": pd.Series([smiles], index=["NEW"], dtype=object)})
    row = dict(zip(features.names, features.transform(asked)[0], strict=True))
    assert row["drug:mean_response"] == pytest.approx(train.target.mean(), rel=1e-6)
    assert row["drug:known"] == 0 and row["fingerprint:none"] == (smiles is None)
    assert not any(row[name] for name in row if name.startswith(("drug:profile", "drug:SIM")))
    assert features.offset(asked)[0] == pytest.approx(train.target.mean())
    assert features.transform(train.drugs)[:, features.names.index("drug:known")].all()


@pytest.mark.parametrize("identity", ["profile", "one_hot", "none"])
def test_identity_none_has_no_response(train: ResponseSamples, identity: str) -> None:
    other = replace(train, pairs=train.pairs.assign(target=np.random.default_rng(0).normal(9, 3, len(train))))
    one, two = (DrugFeatures(16, identity, 4).fit(each) for each in (train, other))
    assert np.array_equal(one.transform(train.drugs), two.transform(train.drugs)) == (identity == "none")
    assert all(name.startswith("fingerprint:") for name in one.names) == (identity == "none")


def test_a_profile_describes_how_lines_answered_beyond_the_mean(train: ResponseSamples) -> None:
    features = DrugFeatures(0, "profile", 100).fit(train)
    rows = train.pairs.assign(residual=train.target - features.mean[train.drug])
    table = rows.pivot_table("residual", "cell_line_id", "drug_id", aggfunc="mean", fill_value=0.0)
    matrix = table[features.ids].to_numpy()
    # All components together: the drugs' inner products.
    np.testing.assert_allclose(features.profile @ features.profile.T, matrix.T @ matrix / len(table), atol=1e-9)


def test_fingerprints_tell_molecules_apart_and_not_spellings() -> None:
    one, two, other, broken, none = fingerprints([ASPIRIN, ASPIRIN_BACKWARDS, "CCO", "C1CC", None], 64)
    assert np.array_equal(one, two) and not np.array_equal(one, other) and one[0] == other[0] == 0
    assert broken.tolist() == none.tolist() == [1.0] + [0.0] * 64


# Memory


@pytest.mark.parametrize("name", names("pairs", "regression"))
def test_the_matrix_of_all_pairs_is_never_built(
    name: str, prepared: Prepared, train: ResponseSamples, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[int] = []
    gather: Callable[..., np.ndarray] = PairMatrix.gather
    forward = torch.nn.Linear.forward

    def counted_gather(self: PairMatrix, *arguments: Any) -> np.ndarray:
        found = gather(self, *arguments)
        batches.append(len(found))
        return found

    def counted_forward(self: torch.nn.Linear, rows: torch.Tensor) -> torch.Tensor:
        batches.append(len(rows))
        return forward(self, rows)

    monkeypatch.setattr(PairMatrix, "gather", counted_gather)
    monkeypatch.setattr(torch.nn.Linear, "forward", counted_forward)
    many, architecture = repeated(train, 20_000), get_architecture(name, "pairs", "regression")
    small = {"epochs": 1, "rounds": 2, "trees": 2, "batch_size": 4096, "bits": 16, "components": 4}
    architecture.build({}, device="cpu", **small).fit(many, prepared.side("validation")).predict(many)
    assert max(batches, default=0) <= 16_384
    assert sum(batches) >= 40_000 or architecture.space is None, "neither fit nor predict was seen"
