"""A model of responses that fails on what it has not seen, or one whose features, orders or tokens see test rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipelines.datasets import Prepared
from pipelines.samples.response import UNKNOWN, ResponseSamples
from tests.training.tiny import FittedModel, build, changed, question, with_omics
from training.architectures import Architecture, get_architecture, names
from training.estimator import Estimator


@pytest.fixture(params=names("pairs", "regression"))
def architecture(request: pytest.FixtureRequest) -> Architecture:
    return get_architecture(request.param, "pairs", "regression")


@pytest.fixture
def model(architecture: Architecture, fitted: FittedModel) -> Estimator:
    return fitted(architecture.name)


# Predicting


@pytest.mark.parametrize("smiles", ["CC(=O)Oc1ccccc1C(=O)O", None])
def test_an_unseen_drug_is_predicted(model: Estimator, prepared: Prepared, smiles: str | None) -> None:
    known = prepared.samples.cell_lines.index[0]
    _assert_sane(model, prepared, question(prepared.samples, line=known, drug="NEW", smiles=smiles))


def test_an_unseen_line_of_an_unseen_tissue_is_predicted(model: Estimator, prepared: Prepared) -> None:
    drug = prepared.samples.drugs.index[0]
    asked = question(prepared.samples, line="NEW", drug=drug, smiles=prepared.samples.drugs["smiles"].iloc[0])
    for tissue in ("a tissue nobody has seen", UNKNOWN):
        _assert_sane(model, prepared, replace(asked, cell_lines=asked.cell_lines.assign(tissue=tissue)))


def test_a_line_without_any_measurement_is_predicted(model: Estimator, prepared: Prepared) -> None:
    asked = question(prepared.samples, line="NEW", drug="NEW", smiles=None)
    _assert_sane(model, prepared, with_omics(asked, {name: table * np.nan for name, table in asked.omics.items()}))


def _assert_sane(model: Estimator, prepared: Prepared, asked: ResponseSamples) -> None:
    prediction = model.predict(asked)
    target = prepared.side("train").target
    assert prediction.shape == (1,)
    assert abs(prediction[0] - target.mean()) < 5 * target.std()


# Fitting


@pytest.mark.parametrize("split", ["prepared", "drug_blind"])
def test_test_rows_change_nothing_of_a_fit(
    architecture: Architecture, split: str, request: pytest.FixtureRequest
) -> None:
    prepared: Prepared = request.getfixturevalue(split)
    test, others = prepared.rows("test"), prepared.rows("train", "validation")
    other = changed(prepared.samples, test)
    assert not np.array_equal(other.target, prepared.samples.target)
    predictions = []
    for samples in (prepared.samples, other):
        train, validation = (samples.take(prepared.rows(side)) for side in ("train", "validation"))
        predictions.append(build(architecture).fit(train, validation).predict(samples.take(others)))
    np.testing.assert_array_equal(predictions[1], predictions[0])
