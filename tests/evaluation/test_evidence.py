"""Evidence that is not what it says, a score that a confounder reaches too, figures that draw what is not there."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from sklearn.metrics import average_precision_score, r2_score

from evaluation.evidence.build import beside_model, evidence_of
from evaluation.evidence.evidence_file import evidence_sha256, read_evidence, seal
from evaluation.evidence.regression import worst_drugs
from evaluation.figures import plots
from evaluation.metrics import Interval, mean_of_rows
from evaluation.modalities.pairs import OF_LINES, line_score
from evaluation.problems import measures_of
from pipelines.errors import UserError
from pipelines.files import write_json
from pipelines.probes import probe_response
from pipelines.samples.response import ResponseSamples, make_samples
from tests.evaluation.made_evidence import made_cell_evidence, made_evidence, sealed
from tests.evaluation.planted import Known, Setting, pairs_setting
from tests.training.tiny import build, tiny_prepared
from training.architectures import get_architecture

BOOTSTRAP: dict[str, Any] = {"resamples": 200, "confidence": 0.95, "seed": 3}
PROBE = {"probe": "border", "metric": "roc_auc", "score": 0.8, "low": 0.7, "high": 0.9, "chance": 0.5, "finding": True}
METRICS = {"roc_auc": Interval(0.85, 0.75, 0.95), "r2": Interval(0.6, 0.4, 0.7), "bare": Interval(0.6, math.nan, 0.7)}
CLASSES = ["basophil", "monocyte", "myeloblast"]

pytestmark = pytest.mark.usefixtures("quiet")


def test_evidence_is_read_as_it_was_sealed_and_refused_if_edited_cut_or_of_another_schema(
    tmp_path: Path,
) -> None:
    evidence, path = made_evidence(), tmp_path / "evidence.json"
    write_json(path, evidence)
    assert read_evidence(path) == evidence
    evidence["worst"]["rows"][0]["value"] = 0.99
    write_json(path, evidence)
    with pytest.raises(UserError, match="edited"):
        read_evidence(path)
    path.write_text(json.dumps(made_evidence())[:100])
    with pytest.raises(UserError, match="not JSON"):
        read_evidence(path)
    for schema in (2, 4, "3", None):
        other = {**made_evidence(), "schema": schema}
        write_json(path, {**other, "sha256": evidence_sha256(other)})
        with pytest.raises(UserError, match="run the evaluate stage again"):
            read_evidence(path)
    nothing = made_cell_evidence(coverage={"declared": 0.9, **dict.fromkeys(("observed", "low", "high"), np.nan)})
    assert nothing["coverage"]["observed"] is None  # and the hash is of what is written
    assert evidence_sha256(json.loads(json.dumps(nothing))) == nothing["sha256"]


@pytest.mark.parametrize(
    ("path", "value", "place"),
    [
        ("test__metrics__margin__low", "0.4", "test.metrics.margin.low"),
        ("test__metrics", {}, "test.metrics"),
        ("worst__unit", "planet", "worst.unit"),
        ("coverage__observed", 1.2, "coverage.observed"),
        ("explanation__checks__0__name", "trust me", "explanation.checks.0.name"),
        ("hashes__model.sha256", "none", "hashes.model.sha256"),
        ("more", 1, "the top"),
        ("cohorts", KeyError, "the top"),  # a candidate has cohorts too
    ],
)
def test_a_fault_is_named_by_its_place_though_the_hash_is_right(
    path: str, value: Any, place: str, tmp_path: Path
) -> None:
    evidence = made_evidence(**{path: value}) if value is not KeyError else made_evidence()
    if value is KeyError:
        evidence = sealed({key: each for key, each in evidence.items() if key not in ("sha256", path)})
    write_json(tmp_path / "evidence.json", evidence)
    with pytest.raises(UserError, match=re.escape(f"evidence.json, {place}: ")):
        read_evidence(tmp_path / "evidence.json")
    with pytest.raises(UserError, match=re.escape(place)):
        seal(evidence)


NOTHING = SimpleNamespace(samples=SimpleNamespace(take=lambda rows: None), tested=None)  # prepared samples


def setting(predictions: pd.DataFrame) -> Setting:
    return replace(pairs_setting(NOTHING, predictions, resamples=400), seed=3)


def test_coverage_resamples_groups_and_not_rows_and_is_shown_on_both_sides_of_novelty() -> None:
    groups = np.repeat(np.arange(20), 30)
    covered = np.repeat(np.arange(20) < 18, 30).astype(float)  # whole groups are missed
    run = setting(pd.DataFrame({"group": groups})).run(Known())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(run.model), "unlike", lambda *_: groups >= 17)
        found = run.coverage(covered)
        patch.setattr(type(run.model), "unlike", lambda *_: None)
        by_row = setting(pd.DataFrame({"group": np.arange(600)})).run(Known()).coverage(covered)
    assert found["observed"] == by_row["observed"] == pytest.approx(0.9)
    assert found["high"] - found["low"] > 3 * (by_row["high"] - by_row["low"])
    like, unlike = (found["by_novelty"][side] for side in ("like", "unlike"))
    assert (like["rows"], like["observed"], unlike["rows"]) == (510, 1, 90)
    assert unlike["observed"] == pytest.approx(1 / 3) and "by_novelty" not in by_row
    # The mean of several columns weighs them alike and leaves out what is unknown.
    values = np.array([[1.0, 0.0, np.nan], [np.nan, 1.0, np.nan], [np.nan, 0.0, np.nan]])
    assert mean_of_rows(values, [0, 1, 2], **BOOTSTRAP).value == pytest.approx((1 + 1 / 3) / 2)
    assert np.isnan(mean_of_rows(np.full(4, np.nan), range(4), **BOOTSTRAP).value)
    assert np.isnan(mean_of_rows(np.ones(4), np.zeros(4), **BOOTSTRAP).low)


def test_the_drug_that_is_predicted_worst_comes_first_whatever_the_split_keeps_apart() -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        [(f"L{i}", drug) for i in range(40) for drug in ("A", "B", "flat")], columns=["cell_line_id", "drug_id"]
    )
    frame["target"] = np.where(frame["drug_id"] == "flat", 2.0, rng.normal(100, 1, len(frame)))
    frame["prediction"] = frame["target"] + np.where(frame["drug_id"] == "B", 2.0, 0.2) * rng.normal(size=len(frame))
    for group in ("cell_line_id", "drug_id"):
        rows = worst_drugs(setting(frame.assign(group=frame[group])).run(Known()), {"B": "bee"})["rows"]
        assert [row["name"] for row in rows] == ["B", "A", "flat"]
        assert rows[0]["label"] == "bee" and "label" not in rows[1]
        assert np.isnan(rows[2]["value"])  # a drug to which all lines respond alike has no variance to explain
        for row in rows[:2]:
            part = frame[frame["drug_id"] == row["name"]]
            assert row["value"] == pytest.approx(r2_score(part["target"], part["prediction"]), abs=1e-9)
            assert row["low"] < row["value"] < row["high"]
        assert rows[0]["high"] < rows[1]["low"]


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


def test_lines_are_scored_by_their_distance_from_the_drug_means_and_weigh_by_their_measurements(
    train: ResponseSamples, predictions: pd.DataFrame
) -> None:
    assert line_score(predictions, train, **BOOTSTRAP) == Interval(1.0, 1.0, 1.0)
    naive = predictions.assign(prediction=predictions["drug_id"].map(DRUG_MEANS))
    assert line_score(naive, train, **BOOTSTRAP) == Interval(0.0, 0.0, 0.0)
    wrong = predictions["cell_line_id"] == "L11"  # measured twice, 5.5 / 4 from the drugs' means
    missed = predictions.assign(prediction=predictions["target"].where(~wrong, predictions["target"] - 1.0))
    weight = np.array([1 if line % 3 == 0 else 2 for line in range(12)])
    apart = float(weight @ (((np.arange(12) - 5.5) / 4) ** 2))
    found = line_score(missed, train, **BOOTSTRAP)
    assert found.value == pytest.approx(1 - 2 * 1.0 / apart)
    assert found.low < found.value < found.high == 1.0
    new = predictions.assign(drug_id="new", prediction=99.0)
    together = pd.concat([predictions, new], ignore_index=True)
    assert line_score(together, train, **BOOTSTRAP) == Interval(1.0, 1.0, 1.0)
    assert all(math.isnan(end) for end in line_score(new, train, **BOOTSTRAP).as_dict().values())
    one = line_score(predictions.assign(group="G"), train, **BOOTSTRAP)
    assert one.value == 1.0 and math.isnan(one.low) and math.isnan(one.high)


def test_a_shortcut_of_responses_stands_beside_the_models_score_in_its_own_measure(tmp_path: Path) -> None:
    prepared = tiny_prepared(tmp_path / "raw")
    train, test = prepared.side("train"), prepared.side("test")
    assert probe_response("x", pd.DataFrame({"v": [1.0]}), train, np.array(["L0"]), 0)["metric"] == OF_LINES
    estimator = build(get_architecture("mean_effects", "pairs", "regression")).fit(train)
    predicted = estimator.predict(test)
    predictions = prepared.table.iloc[prepared.rows("test")].assign(prediction=predicted, baseline=predicted)
    probe = {**PROBE, "probe": "level_methylation", "metric": OF_LINES, "score": 0.3, "low": 0.2, "high": 0.4}
    audit = {"findings": [{"name": "shortcut_level_methylation"}], "shortcuts": [probe]}
    run = pairs_setting(prepared, predictions, resamples=100).run(estimator, "mean_effects")
    found = evidence_of(run, audit)
    section = found.sections["audit"]
    assert section["findings"] == audit["findings"]
    (beside,) = section["shortcuts"]
    assert beside["model_metric"] == OF_LINES
    assert abs(beside["model"]) < 0.2, "drug means alone, which is what the baseline knows of unseen lines, reach 0"
    assert beside["model_low"] <= beside["model"] <= beside["model_high"]
    assert found.warnings == [beside["sentence"]]
    assert evidence_of(run, None).sections["audit"] is None


def _words(figure: Figure) -> str:
    figure.draw_without_rendering()
    return "\n".join(text.get_text() for text in figure.findobj(plt.Text))


def test_the_confusion_matrix_shows_every_count_and_an_absent_class():
    counts = np.array([[2, 1, 0], [0, 0, 0], [1, 0, 1]])
    figure = plots.confusion_matrix(counts, CLASSES, "resnet50")
    assert [text.get_text() for text in figure.axes[0].texts] == list("210000101")
    shares = np.asarray(figure.axes[0].images[0].get_array())
    np.testing.assert_allclose(shares, [[2 / 3, 1 / 3, 0], [0.0, 0, 0], [0.5, 0, 0.5]])


def test_the_areas_and_errors_in_the_legends_are_the_metrics():
    target, before = np.arange(60) % 3, np.random.default_rng(0).dirichlet(np.ones(3), 60)
    after = (before + 1 / 3) / 2
    found = measures_of("classification").metrics(target, before, classes=CLASSES)
    words = _words(plots.roc_curves(target, before, CLASSES, "resnet50"))
    assert all(f"{name}: {found[f'roc_auc_{name}']:.3f}" in words for name in CLASSES)
    words = _words(plots.calibration_curve(target, before, after, "resnet50"))
    for probabilities, name in ((before, "as predicted"), (after, "temperature-scaled")):
        error = measures_of("classification").metrics(target, probabilities, classes=CLASSES)["ece"]
        assert f"{name}: ECE {error:.3f}" in words
    scores = {"mlp": before[:, 1], "baseline": after[:, 1]}
    words = _words(plots.precision_recall_curves(target == 1, scores, "title"))
    areas = {name: average_precision_score(target == 1, each) for name, each in scores.items()}
    assert f"chance: {1 / 3:.3f}" in words and all(f"{name}: {area:.3f}" in words for name, area in areas.items())


def test_a_class_without_rows_has_no_curve():
    target, probabilities = np.arange(60) % 3, np.random.default_rng(0).dirichlet(np.ones(3), 60)
    words = _words(plots.roc_curves(target * 0, probabilities, CLASSES, "resnet50"))
    assert "monocyte: undefined, 0 of 60 rows" in words and "basophil: undefined, 60 of 60 rows" in words
    words = _words(plots.precision_recall_curves(np.zeros(5), {"mlp": np.ones(5)}, "title"))
    assert "mlp: undefined, no row is positive" in words


def test_learning_curves_keep_losses_metrics_and_rates_apart_and_bear_gaps():
    history: list[dict[str, float]] = [
        {"step": 0, "train_loss": 1.0, "validation_loss": 1.2, "validation_accuracy": 0.5, "learning_rate": 1e-3},
        {"step": 1, "train_loss": 0.8, "learning_rate": 1e-4, "never_defined": float("nan")},
        {"step": 2, "train_loss": float("nan"), "validation_loss": 1.0, "validation_accuracy": 0.7},
    ]
    figure = plots.learning_curves(history, "resnet50")
    panels = {axes.get_ylabel(): [line.get_label() for line in axes.lines] for axes in figure.axes}
    assert panels == {
        "loss": ["train_loss", "validation_loss"],
        "metric": ["validation_accuracy"],
        "learning rate": ["learning_rate"],
    }
    accuracy = figure.axes[1].lines[0]
    assert np.asarray(accuracy.get_xydata()).tolist() == [[0, 0.5], [2, 0.7]]
