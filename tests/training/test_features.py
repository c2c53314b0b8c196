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
from tests.training.tiny import changed, repeated, with_omics
from training.architectures import get_architecture, names
from training.features.cell_line import CellLineFeatures
from training.features.drug import DrugFeatures, fingerprints
from training.features.pair import PairFeatures, PairMatrix

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


def _some_lines(values: dict[str, list[float]]) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    table = pd.DataFrame(values)
    return pd.DataFrame({"tissue": [UNKNOWN] * len(table)}, index=table.index), {"expression": table}


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


def test_featurizers_are_fitted_on_training_rows_only(prepared: Prepared) -> None:
    unseen = prepared.rows("validation", "test")
    other = changed(prepared.samples, unseen)
    one, two = (_pair_features(components=5).fit(s.take(prepared.rows("train"))) for s in (prepared.samples, other))
    np.testing.assert_equal(two.state(), one.state())
    assert "a tissue of the test rows" not in two.cell_line.tissues


def test_featurizers_see_the_lines_of_their_rows_and_not_the_whole_table(prepared: Prepared) -> None:
    few = prepared.samples.take(np.flatnonzero(prepared.samples.cell < 10))
    table = few.omics["expression"]
    fill = _fitted(few).tables["expression"].fill
    np.testing.assert_allclose(fill, table.iloc[:10].mean(), rtol=1e-5)
    assert not np.allclose(fill, table.mean(), rtol=1e-3)


@pytest.mark.parametrize("components", [0, 4])
def test_columns_are_found_by_name_not_by_position(train: ResponseSamples, components: int) -> None:
    features = _fitted(train, components=components, selection="variance", keep_share=0.7)
    backwards = {name: table.iloc[:, ::-1] for name, table in train.omics.items()}
    np.testing.assert_array_equal(_transformed(features, with_omics(train, backwards)), _transformed(features, train))
    longer = {name: table.assign(A_GENE_NOBODY_KNOWS=7.0) for name, table in train.omics.items()}
    measured = train.omics["mutation"].notna().all(axis=1).to_numpy()
    np.testing.assert_array_equal(
        _transformed(features, with_omics(train, longer))[measured], _transformed(features, train)[measured]
    )


# Cell lines


def test_a_missing_value_becomes_the_training_mean() -> None:
    lines, omics = _some_lines({"A": [1.0, 3.0, np.nan, np.nan], "B": [0.0, 2.0, 7.0, np.nan]})
    features = CellLineFeatures(("expression",)).fit(lines, omics)
    table = features.tables["expression"]
    np.testing.assert_allclose(table.fill, [2.0, 3.0])
    new_lines, new = _some_lines({"A": [np.nan, 9.0], "B": [5.0, np.nan]})
    raw = table.scaled(new["expression"]) * table.scale + table.center
    np.testing.assert_allclose(raw, [[2.0, 5.0], [9.0, 3.0]])
    assert features.transform(new_lines, new)[:, -1].tolist() == [0.0, 0.0], "both are measured"


def test_a_line_that_was_not_measured_is_flagged_and_average(train: ResponseSamples) -> None:
    features = _fitted(train)
    column = features.names.index("mutation:not_measured")
    missing = train.omics["mutation"].isna().all(axis=1).to_numpy()
    assert 0 < missing[np.unique(train.cell)].sum() < missing.size
    values = _transformed(features, train)
    assert values[:, column].tolist() == missing.astype(float).tolist()
    genes = [index for index, name in enumerate(features.names) if name.startswith("mutation:SIMG")]
    np.testing.assert_allclose(values[missing][:, genes], 0.0, atol=1e-6)


def test_scaling_is_over_the_training_lines(train: ResponseSamples) -> None:
    genes = slice(0, train.omics["expression"].shape[1])
    standard, spread = (
        _transformed(_fitted(train, scaling=scaling), train)[np.unique(train.cell), genes]
        for scaling in ("standard", "min_max")
    )
    np.testing.assert_allclose(standard.mean(axis=0), 0.0, atol=1e-5)
    np.testing.assert_allclose(standard.std(axis=0), 1.0, atol=1e-5)
    np.testing.assert_allclose(spread.min(axis=0), 0.0, atol=1e-6)
    np.testing.assert_allclose(spread.max(axis=0), 1.0, atol=1e-6)


def test_an_unknown_tissue_is_no_tissue(train: ResponseSamples) -> None:
    features = _fitted(train)
    lines = train.cell_lines.iloc[:3].assign(tissue=[UNKNOWN, "never seen", features.tissues[0]])
    values = features.transform(lines, {name: table.iloc[:3] for name, table in train.omics.items()})
    tissues = values[:, -len(features.tissues) :]
    assert UNKNOWN not in features.tissues
    assert tissues.sum(axis=1).tolist() == [0.0, 0.0, 1.0]


# From transformed features back to raw ones


def test_spreading_keeps_each_table_s_share(train: ResponseSamples) -> None:
    features = _fitted(train, components=4)
    attribution = np.zeros((1, _transformed(features, train).shape[1]))
    attribution[0, :4] = 1.0  # the components of the first table
    spread = features.spread(attribution)[0]
    of_expression = np.array([name.startswith("expression:") for name in features.names])
    assert spread[of_expression].sum() == pytest.approx(4.0)
    assert np.abs(spread[~of_expression]).max() == 0.0


@pytest.mark.parametrize("settings", [{}, {"components": 4}, {"components": 4, "scaling": "min_max"}], ids=str)
def test_a_spread_gradient_is_exact_for_a_linear_function(train: ResponseSamples, settings: dict[str, Any]) -> None:
    features = _fitted(train, **settings)
    slope = np.random.default_rng(0).normal(size=_transformed(features, train).shape[1])
    lines = np.arange(5)
    gradient = np.tile(slope, (len(lines), 1))
    given = features.spread_gradient(gradient, train.cell_lines, train.omics, lines)
    assert given.shape == (5, len(features.names))
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
    drugs.loc[drugs.index[2], "smiles"], drugs.loc[drugs.index[5], "smiles"] = ASPIRIN, ASPIRIN_BACKWARDS
    samples = replace(train, drugs=drugs)
    rows = np.flatnonzero(samples.drug != 2).tolist() + np.flatnonzero(samples.drug == 2)[:3].tolist()
    features = DrugFeatures(0).fit(samples.take(np.array(rows)))
    asked = pd.DataFrame({"smiles": [ASPIRIN, ASPIRIN]}, index=pd.Index(["X", drugs.index[4]]))
    assert [features.ids[place] for place in features.known(asked)] == [drugs.index[5], drugs.index[4]]


@pytest.mark.parametrize("smiles", ["CCO", None])
@pytest.mark.parametrize("identity", ["profile", "one_hot"])
def test_an_unseen_drug_stands_at_the_overall_mean(train: ResponseSamples, identity: str, smiles: str | None) -> None:
    features = DrugFeatures(16, identity, 4).fit(train)
    asked = pd.DataFrame({"smiles": pd.Series([smiles], index=["NEW"], dtype=object)})
    row = dict(zip(features.names, features.transform(asked)[0], strict=True))
    assert row["drug:mean_response"] == pytest.approx(train.target.mean(), rel=1e-6)
    assert row["drug:known"] == 0
    assert not any(row[name] for name in row if name.startswith(("drug:profile", "drug:SIM")))
    assert row["fingerprint:none"] == (smiles is None)
    assert features.offset(asked)[0] == pytest.approx(train.target.mean())
    assert features.transform(train.drugs)[:, features.names.index("drug:known")].all()


def test_identity_none_has_no_response(train: ResponseSamples) -> None:
    other = replace(train, pairs=train.pairs.assign(target=np.random.default_rng(0).normal(9, 3, len(train))))

    def shown(identity: str, samples: ResponseSamples) -> np.ndarray:
        return DrugFeatures(16, identity, 4).fit(samples).transform(train.drugs)

    np.testing.assert_array_equal(shown("none", other), shown("none", train))
    for identity in ("profile", "one_hot"):
        assert not np.allclose(shown(identity, other), shown(identity, train))
    assert all(name.startswith("fingerprint:") for name in DrugFeatures(16, "none").fit(train).names)


def test_a_profile_describes_how_lines_answered_beyond_the_mean(train: ResponseSamples) -> None:
    features = DrugFeatures(0, "profile", 100).fit(train)
    rows = train.pairs.assign(residual=train.target - features.mean[train.drug])
    table = rows.pivot_table("residual", "cell_line_id", "drug_id", aggfunc="mean", fill_value=0.0)
    lines, matrix = table.index, table[features.ids].to_numpy()
    # All components together: the drugs' inner products.
    np.testing.assert_allclose(features.profile @ features.profile.T, matrix.T @ matrix / len(lines), atol=1e-9)


def test_fingerprints_tell_molecules_apart_and_not_spellings() -> None:
    one, two, other, broken, none = fingerprints([ASPIRIN, ASPIRIN_BACKWARDS, "CCO", "C1CC", None], 64)
    np.testing.assert_array_equal(one, two)
    assert one[0] == other[0] == 0
    assert not np.array_equal(one, other)
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
