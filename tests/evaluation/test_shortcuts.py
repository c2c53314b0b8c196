"""A score that a confounder reaches too must not be read without it: in the same measure, and with both intervals."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from evaluation.evidence.build import beside_model, evidence_of
from evaluation.metrics import Interval
from evaluation.modalities.pairs import OF_LINES, line_score
from pipelines.samples.response import ResponseSamples, make_samples
from tests.evaluation.planted import Setting
from tests.evaluation.test_atoms import CONTRACT
from tests.training.tiny import build, response_task, tiny_params, tiny_prepared
from training.architectures import get_architecture

BOOTSTRAP: dict[str, Any] = {"resamples": 200, "confidence": 0.95, "seed": 3}
PROBE = {"probe": "border", "metric": "roc_auc", "score": 0.8, "low": 0.7, "high": 0.9, "chance": 0.5, "finding": True}
METRICS = {"roc_auc": Interval(0.85, 0.75, 0.95), "r2": Interval(0.6, 0.4, 0.7), "bare": Interval(0.6, math.nan, 0.7)}


def test_both_scores_stand_with_their_intervals_and_none_is_made_up() -> None:
    bare = {key: value for key, value in PROBE.items() if key not in ("low", "high")} | {"metric": "bare"}
    shortcuts = [PROBE, {**PROBE, "finding": False}, bare]
    found, without = beside_model({"shortcuts": shortcuts}, METRICS, "r2")
    assert found["sentence"] == (
        "border alone reaches roc_auc 0.800 [0.700, 0.900] (chance 0.500); the model reaches 0.850 [0.750, 0.950]"
    )
    assert found.items() >= PROBE.items()
    assert [found[key] for key in ("model_metric", "model", "model_low", "model_high")] == ["roc_auc", 0.85, 0.75, 0.95]
    assert "[" not in without["sentence"] and "0.800 (chance" in without["sentence"]


# The score of a model of responses in the measure of the probes.

DRUG_MEANS = {"D0": 1.0, "D1": -2.0}


@pytest.fixture
def train() -> ResponseSamples:
    """Return training rows, of which the two drugs have the means above."""
    pairs = pd.DataFrame(
        [(f"T{line}", drug) for line in range(4) for drug in DRUG_MEANS], columns=["cell_line_id", "drug_id"]
    )
    pairs["target"] = pairs["drug_id"].map(DRUG_MEANS) + np.repeat([-0.5, 0.5, -0.5, 0.5], 2)
    lines = pd.Index(pairs["cell_line_id"].unique())
    drugs = pd.DataFrame({"smiles": None}, index=pd.Index(list(DRUG_MEANS)), dtype=object)
    return make_samples(pairs, pd.DataFrame({"tissue": "lung"}, index=lines), drugs, {})


@pytest.fixture
def predictions() -> pd.DataFrame:
    """Return test rows of twelve lines that lie apart; of every third one drug was not measured."""
    rows = [
        {"cell_line_id": f"L{line}", "group": f"L{line}", "drug_id": drug, "target": mean + (line - 5.5) / 4}
        for line in range(12)
        for drug, mean in DRUG_MEANS.items()
        if line % 3 or drug == "D0"
    ]
    return pd.DataFrame(rows).assign(prediction=lambda table: table["target"])


def test_a_model_that_knows_the_lines_scores_one_and_one_of_drug_means_none(
    train: ResponseSamples, predictions: pd.DataFrame
) -> None:
    assert line_score(predictions, train, **BOOTSTRAP) == Interval(1.0, 1.0, 1.0)
    naive = predictions.assign(prediction=predictions["drug_id"].map(DRUG_MEANS))
    assert line_score(naive, train, **BOOTSTRAP) == Interval(0.0, 0.0, 0.0)
    within = predictions.assign(prediction=predictions["target"] + np.where(predictions["drug_id"] == "D0", 1.0, -1.0))
    both = within[within["cell_line_id"].map(lambda line: int(line[1:]) % 3 != 0)]
    assert line_score(both, train, **BOOTSTRAP).value == pytest.approx(1.0), "the mean over a line's drugs is right"


def test_lines_weigh_by_their_measurements(train: ResponseSamples, predictions: pd.DataFrame) -> None:
    wrong = predictions["cell_line_id"] == "L11"  # measured twice, 5.5 / 4 from the drugs' means
    missed = predictions.assign(prediction=predictions["target"].where(~wrong, predictions["target"] - 1.0))
    weight = np.array([1 if line % 3 == 0 else 2 for line in range(12)])
    apart = float(weight @ (((np.arange(12) - 5.5) / 4) ** 2))
    found = line_score(missed, train, **BOOTSTRAP)
    assert found.value == pytest.approx(1 - 2 * 1.0 / apart)
    assert found.low < found.value < found.high == 1.0


def test_drugs_that_were_not_trained_on_have_no_mean(train: ResponseSamples, predictions: pd.DataFrame) -> None:
    new = predictions.assign(drug_id="new", prediction=99.0)
    together = pd.concat([predictions, new], ignore_index=True)
    assert line_score(together, train, **BOOTSTRAP) == Interval(1.0, 1.0, 1.0)
    assert all(math.isnan(end) for end in line_score(new, train, **BOOTSTRAP).as_dict().values())
    one = line_score(predictions.assign(group="G"), train, **BOOTSTRAP)
    assert one.value == 1.0 and math.isnan(one.low) and math.isnan(one.high)


def test_a_shortcut_of_responses_stands_beside_the_models_score_in_its_own_measure(tmp_path: Path) -> None:
    from pipelines.probes import probe_response

    prepared = tiny_prepared(tmp_path / "raw")
    train, test = prepared.side("train"), prepared.side("test")
    assert probe_response("x", pd.DataFrame({"v": [1.0]}), train, np.array(["L0"]), 0)["metric"] == OF_LINES
    estimator = build(get_architecture("mean_effects", "pairs", "regression")).fit(train)
    predicted = estimator.predict(test)
    predictions = prepared.table.iloc[prepared.rows("test")].assign(prediction=predicted, baseline=predicted)
    setting = Setting(response_task(tiny_params()), prepared, predictions, CONTRACT).evaluated(resamples=100)
    probe = {**PROBE, "probe": "level_methylation", "metric": OF_LINES, "score": 0.3, "low": 0.2, "high": 0.4}
    audit = {"findings": [{"name": "shortcut_level_methylation"}], "shortcuts": [probe]}
    run = setting.run(estimator, "mean_effects")
    found = evidence_of(run, audit)
    section = found.sections["audit"]
    assert section["findings"] == audit["findings"]
    (beside,) = section["shortcuts"]
    assert beside["model_metric"] == OF_LINES
    assert abs(beside["model"]) < 0.2, "drug means alone, which is what the baseline knows of unseen lines, reach 0"
    assert beside["model_low"] <= beside["model"] <= beside["model_high"]
    assert found.warnings == [beside["sentence"]]
    assert evidence_of(run, None).sections["audit"] is None
