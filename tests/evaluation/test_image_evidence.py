"""Evidence of an image model that flatters it: scores, calibration, maps that show the image and not the model."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_hex
from mlflow import MlflowClient
from PIL import Image
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, log_loss, recall_score, roc_auc_score
from torch import nn

from evaluation import leaderboard, score
from evaluation.comparison import ranking
from evaluation.evidence.build import evaluate, evidence_of
from evaluation.evidence.evidence_file import evidence_path, read_evidence
from evaluation.evidence.parts import Evaluation, Evidence, Explained
from evaluation.explain.cells import deletion, randomized
from evaluation.figures import plots
from evaluation.metrics.classification import metric_names
from evaluation.modalities.images import PANELS
from evaluation.problems import columns_of
from evaluation.promotion import candidate_run, scoring
from pipelines import tracking
from pipelines.audits.run import audit_samples, write_audit
from pipelines.datasets import Prepared, prepare
from pipelines.errors import DataError, UserError
from pipelines.modalities.images import ImagesTask
from pipelines.params import Params, PerBudget, read_params
from pipelines.samples.images import ImageSamples, read_images
from pipelines.simulate.cells import simulate_blood_cell
from tests.evaluation.measures import classification_metrics
from training.architectures import get_architecture
from training.backbone import Backbone
from training.model.calibration import apply_temperature, prediction_sets
from training.model.final_fit import Fitted, fit
from training.model.predictor import Predictor
from training.networks.cell_network import CellNetwork
from training.problems.classification import with_probabilities

ROOT = Path(__file__).parents[2]
NAME = "blood_cell"
SEED = 20261120


@pytest.fixture(autouse=True)
def there(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)


def small(task: ImagesTask, **data: Any) -> ImagesTask:
    """Return the task with budgets of a test."""
    few = PerBudget(20, 20)
    return replace(
        task,
        data=replace(task.data, **data),
        tune=replace(task.tune, rounds=few, epochs=few, weights="none"),
        evaluate=replace(task.evaluate, resamples=200, explained_samples=PerBudget(12, 12)),
    )


@pytest.fixture(scope="module")
def params() -> Params:
    params = read_params(ROOT / "params.yaml")
    task = params.task(NAME)
    assert isinstance(task, ImagesTask)
    return replace(params, seed=SEED, device="cpu", budget="quick", tasks={**params.tasks, NAME: small(task, size=48)})


@pytest.fixture(scope="module")
def task(params: Params) -> ImagesTask:
    found = params.task(NAME)
    assert isinstance(found, ImagesTask)
    return found


@pytest.fixture(scope="module")
def prepared(place: Path, task: ImagesTask, params: Params) -> Prepared:
    """Return simulated cells whose frame tells the label: a shortcut."""
    folder = place / "data" / NAME
    simulate_blood_cell(folder, per_class=24, subjects=12)
    for code, label in enumerate(task.data.classes):
        for path in (folder / "images" / label).iterdir():
            with Image.open(path) as image:
                pixels = np.array(image)
            pixels[:4], pixels[-4:] = 40 * code, 40 * code
            Image.fromarray(pixels).save(path, quality=92)
    prepared = prepare(read_images(folder, task), task, params.seed)
    audit = audit_samples(prepared.samples, folder, NAME, task, params.seed)
    write_audit(audit, place / "reports" / NAME)
    return prepared


@dataclass(frozen=True)
class Judged:
    """A model with its evidence."""

    fitted: Fitted
    model: Any
    predictions: pd.DataFrame
    evidence: dict[str, Any]
    folder: Path

    def metric(self, name: str) -> dict[str, float]:
        return self.evidence["test"]["metrics"][name]


def judged(name: str, prepared: Prepared, params: Params, place: Path) -> Judged:
    architecture = get_architecture(name, "images", "classification")
    hyperparameters = {**architecture.defaults, "features": "descriptors"} if architecture.space else {}
    folder, reports = place / "models" / NAME / name, evidence_path(NAME, name).parent
    fitted = fit(NAME, architecture, hyperparameters, prepared=prepared, params=params, folder=folder)
    model, predictions = Predictor().read(folder / "model"), pd.read_parquet(folder / "predictions.parquet")
    return Judged(
        fitted,
        model,
        predictions,
        evaluate(NAME, fitted, model, predictions, prepared=prepared, params=params, folder=reports),
        reports,
    )


@pytest.fixture(scope="module")
def trees(prepared: Prepared, params: Params, place: Path) -> Judged:
    return judged("xgboost", prepared, params, place)


@pytest.fixture(scope="module")
def majority(prepared: Prepared, params: Params, place: Path) -> Judged:
    return judged("majority_class", prepared, params, place)


# The numbers.


def test_every_metric_of_the_design_is_in_the_evidence_and_on_the_run(trees: Judged, task: ImagesTask) -> None:
    metrics = trees.evidence["test"]["metrics"]
    overall = {"accuracy", "balanced_accuracy", "macro_f1", "weighted_f1", "roc_auc", "pr_auc", "ece", "margin"}
    of_class = {
        f"{name}_{label}" for name in ("precision", "recall", "roc_auc", "pr_auc") for label in task.data.classes
    }
    assert overall | of_class <= set(metrics)
    assert set(metrics) == {*metric_names(task.data.classes), "margin"}
    logged = MlflowClient().get_run(trees.fitted.run_id).data.metrics
    for name in overall | of_class:
        assert {"value", "low", "high"} == set(metrics[name])
        for suffix, key in (("", "value"), ("_low", "low"), ("_high", "high")):
            assert logged[f"test_{name}{suffix}"] == pytest.approx(metrics[name][key]), name
    assert metrics["accuracy"]["low"] <= metrics["accuracy"]["value"] <= metrics["accuracy"]["high"]


def test_the_scores_are_those_of_the_predictions_by_another_library(trees: Judged, task: ImagesTask) -> None:
    target = trees.predictions["target"].to_numpy()
    probabilities = columns_of(trees.predictions, "probability", list(task.data.classes))
    guessed = probabilities.argmax(axis=1)
    expected = {
        "accuracy": accuracy_score(target, guessed),
        "balanced_accuracy": balanced_accuracy_score(target, guessed),
        "macro_f1": f1_score(target, guessed, average="macro"),
        "weighted_f1": f1_score(target, guessed, average="weighted"),
        "roc_auc": roc_auc_score(target, probabilities, multi_class="ovr"),
        "log_loss": log_loss(target, probabilities),
    }
    recalls = recall_score(target, guessed, average=None)
    expected |= {f"recall_{label}": recall for label, recall in zip(task.data.classes, recalls, strict=True)}
    for name, value in expected.items():
        assert trees.metric(name)["value"] == pytest.approx(value), name


def test_evidence_on_another_split_is_refused(
    trees: Judged, prepared: Prepared, params: Params, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="was fitted on another split"):
        evaluate(
            NAME,
            replace(trees.fitted, split_sha256="0" * 64),
            trees.model,
            trees.predictions,
            prepared=prepared,
            params=params,
            folder=tmp_path,
        )


# How sure.


def test_calibration_is_told_before_and_after_with_the_temperature(trees: Judged, task: ImagesTask) -> None:
    found, classes = trees.evidence["calibration"], list(task.data.classes)
    raw, probabilities = (columns_of(trees.predictions, kind, classes) for kind in ("raw", "probability"))
    np.testing.assert_allclose(probabilities, apply_temperature(raw, trees.model.contract.temperature))
    target = trees.predictions["target"].to_numpy()
    before = classification_metrics(target, raw, classes=classes)
    assert found["temperature"] == trees.model.contract.temperature != 1
    assert found["ece_before"] == pytest.approx(before["ece"])
    assert found["log_loss_before"] == pytest.approx(before["log_loss"])
    assert trees.metric("ece")["value"] == pytest.approx(
        classification_metrics(target, probabilities, classes=classes)["ece"]
    )
    # Scaling by a temperature changes no answer.
    np.testing.assert_array_equal(raw.argmax(axis=1), probabilities.argmax(axis=1))


def test_the_set_of_classes_covers_what_the_evidence_says(trees: Judged, majority: Judged, task: ImagesTask) -> None:
    for one in (trees, majority):
        found = one.evidence["calibration"]
        probabilities = columns_of(one.predictions, "probability", list(task.data.classes))
        held = prediction_sets(probabilities, one.model.contract.threshold)
        target = one.predictions["target"].to_numpy()
        assert found["covered_on_test"] == pytest.approx(np.mean([held[row, code] for row, code in enumerate(target)]))
        assert found["mean_set_size"] == pytest.approx(held.sum() / len(target))
        assert found["coverage"] == task.evaluate.interval_coverage
        logged = MlflowClient().get_run(one.fitted.run_id).data.metrics
        assert logged["test_set_coverage"] == pytest.approx(found["covered_on_test"])
    assert majority.evidence["calibration"]["mean_set_size"] > trees.evidence["calibration"]["mean_set_size"]


# What the audit found.


def test_a_shortcut_stands_in_the_evidence_beside_the_models_score(
    trees: Judged, capsys: pytest.CaptureFixture[str]
) -> None:
    found = trees.evidence["audit"]
    names = {one["name"] for one in found["findings"]}
    assert "shortcut_image_border" in names or any("border" in name for name in names), names
    assert found["shortcuts"]
    for probe in found["shortcuts"]:
        assert probe["finding"] and probe["score"] > probe["chance"]
        assert probe["model"] == pytest.approx(trees.metric(probe["metric"])["value"])
        for number in (probe["score"], probe["chance"], probe["model"]):
            assert f"{number:.3f}" in probe["sentence"]


# Where it looks.


def cell_on_glass(code: int, number: int, side: int = 48) -> np.ndarray:
    """Return a light background with one dark cell anywhere; its chromatin is fine or coarse by the class."""
    rng = np.random.default_rng([code, number])
    rows, columns = np.mgrid[:side, :side]
    center, width = rng.uniform(14, side - 14, 2), 4 if code else 2
    inside = np.hypot(rows - center[0], columns - center[1]) < 11
    clumps = ((rows // width + columns // width) % 2)[..., None]
    pixels = np.where(inside[..., None], np.array([120, 60, 150]) + clumps * np.array([70, 60, 40]), 215)
    return np.clip(pixels + rng.normal(0, 7, pixels.shape), 0, 255).astype(np.uint8)


def _create(pretrained: bool) -> nn.Module:
    assert not pretrained
    widths = [(3, 16, 1), (16, 24, 2), (24, 24, 2)]
    return nn.Sequential(
        *(
            nn.Sequential(nn.Conv2d(before, after, 3, stride, 1), nn.BatchNorm2d(after), nn.ReLU())
            for before, after, stride in widths
        )
    )


class Small(CellNetwork):
    """Three convolutions, from scratch: learns the two kinds of chromatin in a second."""

    architecture = "alexnet"  # whose code caches take this for
    backbone = Backbone(_create, lambda network: list(network.children()), smallest=16)


class Edges(Small):
    """Shows what is dark in the image, whatever the network has learnt."""

    def heatmaps(self, samples: ImageSamples) -> np.ndarray:
        dark = 255.0 - samples.pixels[samples.index].mean(axis=3)
        return (dark / dark.max(axis=(1, 2), keepdims=True)).astype(np.float32)


class Everywhere(Small):
    """Shows the same at every pixel."""

    def heatmaps(self, samples: ImageSamples) -> np.ndarray:
        return np.ones((len(samples), *samples.pixels.shape[1:3]), np.float32)


SETTINGS: dict[str, Any] = {
    "weights": "none",
    "epochs": 20,
    "patience": 20,
    "batch_size": 16,
    "learning_rate": 5e-3,
    "backbone_rate": 1.0,
    "layer_decay": 1.0,
    "dropout": 0.0,
    "strength": 0.0,
    "views": 2,
    "test_views": 2,
    "device": "cpu",
    "seed": 1,
}


@pytest.fixture(scope="module")
def glass_task(task: ImagesTask) -> ImagesTask:
    return small(task, classes=("all", "hem"), crop=1.0, size=48)


@pytest.fixture(scope="module")
def glass(place: Path, glass_task: ImagesTask) -> Prepared:
    folder = place / "data" / "glass"
    rows = []
    for code, label in enumerate(glass_task.data.classes):
        (folder / "images" / label).mkdir(parents=True)
        for number in range(60):
            file = f"{label}/{number:02d}.png"
            Image.fromarray(cell_on_glass(code, number)).save(folder / "images" / file)
            rows.append((file, label, f"{label}{number // 3}"))
    pd.DataFrame(rows, columns=["file", "label", "subject_id"]).to_csv(folder / "images.csv", index=False)
    return prepare(read_images(folder, glass_task), glass_task, SEED)


@pytest.fixture(scope="module")
def network(glass: Prepared) -> Small:
    fitted = Small(mode="full", **SETTINGS).fit(glass.side("train"), glass.side("validation"))
    assert (fitted.predict(glass.side("test")) == glass.side("test").target).mean() > 0.9
    return fitted


def as_kind(kind: type[Small], network: Small) -> Small:
    """Return the same fitted network with the maps of another class."""
    made = kind(**network.get_params())
    made.__dict__.update(network.__dict__)
    return made


@dataclass(frozen=True)
class Shown:
    """What `evidence_of` is given of a network."""

    task: ImagesTask
    fitted: Fitted
    predictions: pd.DataFrame
    prepared: Prepared
    contract: Any

    def run(self, estimator: Small) -> Evaluation:
        model = Predictor()
        model.estimator, model.contract = estimator, self.contract
        return Evaluation(self.task, self.fitted, model, self.predictions, self.prepared, 2)

    def evidence(self, estimator: Small) -> Evidence:
        return evidence_of(self.run(estimator), None)


@pytest.fixture(scope="module")
def shown(network: Small, glass: Prepared, glass_task: ImagesTask, majority: Judged) -> Shown:
    """Return predictions with three mistakes in each class, so that there are wrong ones to show."""
    with tracking.run("glass", "fit", "small") as run:
        for step, loss in enumerate((0.7, 0.4, 0.2)):
            mlflow.log_metrics({"step_train_loss": loss, "step_validation_loss": loss + 0.1}, step=step)
        mlflow.log_metric("cost_fit_seconds", 1.0)
    fitted = replace(majority.fitted, task="glass", architecture="small", run_id=run.info.run_id)
    test = glass.rows("test")
    samples = glass.samples.take(test)
    raw = network.outputs(samples)
    for code in range(2):
        wrong = np.flatnonzero(samples.target == code)[:3]
        raw[wrong] = np.where(np.arange(2) == code, 0.2, 0.8)
    table = with_probabilities(glass.table.iloc[test], samples.classes, raw, 1.0, np.full((len(test), 2), 0.5))
    contract = replace(majority.model.contract, classes=list(samples.classes), threshold=0.5)
    return Shown(glass_task, fitted, table, glass, contract)


def test_maps_of_a_trained_network_lie_on_the_cell_and_change_with_random_weights(network: Small, shown: Shown) -> None:
    found = shown.evidence(network)
    explained = found.sections["explanation"]
    assert explained["method"] == "grad_cam"
    assert explained["images"] == 12
    assert explained["maps_depend_on_the_weights"] is True
    assert abs(explained["correlation_with_random_weights"]) < 0.5
    assert 0.1 < explained["area_of_the_cell"] < 0.3
    assert 2 * explained["area_of_the_cell"] < explained["attribution_on_the_cell"] <= 1
    assert found.warnings == []
    assert found.logged["explanation_on_the_cell"] == explained["attribution_on_the_cell"]
    assert found.logged["explanation_random_correlation"] == explained["correlation_with_random_weights"]
    check, fell = explained["checks"]
    assert check["name"] == "random_weights" and check["value"] == explained["correlation_with_random_weights"]
    assert fell["name"] == "deletion" and fell["low"] > 0
    assert fell["value"] == pytest.approx(explained["deletion"]["drop_top"] - explained["deletion"]["drop_random"])
    assert found.logged["explanation_deletion_drop"] == explained["deletion"]["drop_top"]


class Elsewhere(Small):
    """Its maps are hot where the network looks least."""

    def heatmaps(self, samples: ImageSamples) -> np.ndarray:
        return 1 - super().heatmaps(samples)


def test_maps_that_are_hot_where_nothing_is_decided_are_called_so(network: Small, shown: Shown) -> None:
    found = shown.evidence(as_kind(Elsewhere, network))
    fell = found.sections["explanation"]["checks"][1]
    assert fell["name"] == "deletion" and fell["value"] < 0
    assert any("takes no more confidence" in warning for warning in found.warnings)


def test_masking_reads_no_cached_features_and_changes_no_image(glass: Prepared) -> None:
    """What a frozen network gave is kept by the image's digest, which a masked image has as well."""
    fitted = Small(mode="head", **{**SETTINGS, "epochs": 2}).fit(glass.side("train"))
    test = glass.side("test").take(np.arange(8))
    assert isinstance(test.pixels, np.memmap)
    before = np.array(test.pixels[test.index])
    outputs = fitted.outputs(test)
    fell = deletion(fitted, test, fitted.heatmaps(test), np.arange(8), seed=1)
    assert fell.drop_top != 0 and fell.drop_random != 0
    np.testing.assert_array_equal(test.pixels[test.index], before)
    np.testing.assert_array_equal(fitted.outputs(test), outputs)


@pytest.mark.parametrize("kind", [Edges, Everywhere])
def test_maps_that_show_the_image_and_not_the_model_are_called_so(
    kind: type[Small], network: Small, shown: Shown
) -> None:
    found = shown.evidence(as_kind(kind, network))
    explained = found.sections["explanation"]
    assert explained["correlation_with_random_weights"] == pytest.approx(1)
    assert explained["maps_depend_on_the_weights"] is False
    assert any("show the image, not the model" in warning for warning in found.warnings)
    if kind is Everywhere:  # attribution that is everywhere is on the cell by its area alone
        assert explained["attribution_on_the_cell"] == pytest.approx(explained["area_of_the_cell"])


def test_the_panel_shows_right_and_wrong_predictions_of_each_class(network: Small, shown: Shown) -> None:
    figure = shown.evidence(network).figures["grad_cam"]
    frames = [axes for axes in figure.axes if axes.images]
    assert len(frames) == 12 <= PANELS
    told: Counter[tuple[str, bool]] = Counter()
    for axes in frames:
        right = to_hex(axes.spines["left"].get_edgecolor()) == plots.BLUE
        lines = axes.get_title(loc="left").split("\n")
        assert len(lines) == (1 if right else 2)  # a wrong one names the true and the predicted class
        told[lines[0].split()[0], right] += 1
    assert told[("all", False)] == told[("hem", False)] == 3
    assert min(told[("all", True)], told[("hem", True)]) >= 2


def test_the_network_that_was_fitted_is_not_touched_by_randomizing_it(network: Small, glass: Prepared) -> None:
    test = glass.side("test")
    before = network.predict_proba(test)
    state = {key: value.clone() for key, value in network.module_.state_dict().items()}
    first, second, again = (randomized(network, seed) for seed in (1, 2, 1))
    for key, value in network.module_.state_dict().items():
        assert torch.equal(value, state[key])
    np.testing.assert_array_equal(network.predict_proba(test), before)
    weights = [torch.cat([p.flatten() for p in each.module_.parameters()]) for each in (first, second, again)]
    assert not torch.equal(weights[0], weights[1]) and torch.equal(weights[0], weights[2])
    # Nothing of what was learnt is left, in any layer and in no statistic either.
    for (name, mine), theirs in zip(first.module_.named_parameters(), network.module_.parameters(), strict=True):
        if mine.ndim > 1:
            assert not torch.equal(mine, theirs), name


@pytest.mark.parametrize("mode", ["head", "partial"])
def test_a_randomized_network_does_not_read_what_is_cached_of_the_trained_one(mode: str, glass: Prepared) -> None:
    fitted = Small(mode=mode, **{**SETTINGS, "epochs": 2}).fit(glass.side("train"))
    test = glass.side("test")
    assert isinstance(test.pixels, np.memmap)
    trained = fitted.predict_proba(test)
    other = randomized(fitted, 3)
    in_memory = replace(test, pixels=np.array(test.pixels))
    np.testing.assert_allclose(other.predict_proba(test), other.predict_proba(in_memory), atol=1e-3)
    np.testing.assert_array_equal(fitted.predict_proba(test), trained)


@given(
    codes=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=80),
    count=st.integers(1, 40),
    seed=st.integers(0, 99),
)
def test_the_images_shown_are_of_each_class_right_and_wrong(
    codes: Sequence[tuple[int, int]], count: int, seed: int
) -> None:
    target, predicted = np.array(codes).T

    def chosen_rows() -> np.ndarray:
        return Explained(("a",), target, lambda *_: target).rows(count, seed, target, target == predicted)

    rows = chosen_rows()
    assert len(rows) == min(count, len(target)) == len(set(rows.tolist()))
    assert rows.tolist() == sorted(rows.tolist())
    there = Counter(zip(target.tolist(), (target == predicted).tolist(), strict=True))
    chosen = Counter(zip(target[rows].tolist(), (target[rows] == predicted[rows]).tolist(), strict=True))
    if count >= len(there):
        assert set(chosen) == set(there)
    # In turn: no kind has two more than another that still had some to give.
    for kind, number in chosen.items():
        for other, total in there.items():
            assert number <= chosen[other] + 1 or chosen[other] == total, (kind, other)
    np.testing.assert_array_equal(chosen_rows(), rows)


# Scoring a folder.


@pytest.fixture(scope="module")
def cohort(place: Path, prepared: Prepared) -> Path:
    """Return a raw folder with the test rows alone."""
    source, folder = place / "data" / NAME, place / "cohort" / NAME
    test = prepared.table.iloc[prepared.rows("test")]
    for name in test["sample_id"]:
        (folder / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source / "images" / name, folder / "images" / name)
    listed = pd.read_csv(source / "images.csv", dtype=str)
    listed[listed["file"].isin(test["sample_id"])].to_csv(folder / "images.csv", index=False)
    return folder


def test_scoring_the_test_rows_as_a_folder_gives_the_evidence_again(trees: Judged, cohort: Path) -> None:
    found = scoring.score(trees.model, cohort, seed=SEED)
    assert found["n"] == trees.evidence["test"]["samples"]
    assert found["groups"] == trees.evidence["test"]["groups"]
    assert set(found["metrics"]) == set(trees.evidence["test"]["metrics"])
    for name, numbers in found["metrics"].items():
        expected = trees.metric(name)
        for key in ("value", "low", "high"):
            assert numbers[key] == pytest.approx(expected[key], abs=1e-6, nan_ok=True), (name, key)


def test_the_command_prints_one_line_of_json_for_a_logged_model(
    trees: Judged, cohort: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for data in (cohort, cohort.parent):  # the task's folder, or the folder of tasks
        monkeypatch.setattr("sys.argv", ["score", "--model", trees.fitted.model_uri, "--data", str(data)])
        assert score.main() == 0
        lines = capfd.readouterr().out.splitlines()
        assert len(lines) == 1
        printed = json.loads(lines[0], parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
        assert set(printed) == {"model", "n", "groups", "dropped", "warnings", "metrics"}
        assert printed["model"] == trees.fitted.model_uri
        for numbers in printed["metrics"].values():
            assert set(numbers) == {"value", "low", "high"}
        assert printed["metrics"]["accuracy"]["value"] == pytest.approx(trees.metric("accuracy")["value"])


def test_a_cohort_stands_in_the_candidates_evidence_and_card(
    trees: Judged, majority: Judged, cohort: Path, params: Params, prepared: Prepared
) -> None:
    """Nothing of it is made up: the logged model is loaded and scores the folder."""
    away = cohort.parent
    evidence = candidate_run.candidate(NAME, params, prepared, "xgboost", {"the other clinic": away})
    (found,) = evidence["cohorts"]
    assert found["name"] == "the other clinic" and found["n"] == trees.evidence["test"]["samples"]
    assert found["data.sha256"] == tracking.folder_sha256(cohort)
    for name, numbers in found["metrics"].items():
        assert numbers["value"] == pytest.approx(trees.metric(name)["value"], abs=1e-6, nan_ok=True), name
    folder = Path("reports") / NAME / candidate_run.FOLDER
    assert read_evidence(folder / candidate_run.EVIDENCE) == evidence
    assert "the other clinic" in (folder / "card.md").read_text()
    assert candidate_run.candidate(NAME, params, prepared, "xgboost")["cohorts"] == []


def test_a_cohort_with_a_broken_image_is_refused_by_its_name(trees: Judged, cohort: Path, tmp_path: Path) -> None:
    shutil.copytree(cohort, tmp_path / "cohort")
    path = sorted((tmp_path / "cohort/images/monocyte").iterdir())[0]
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(DataError, match=f"images/monocyte/{path.name}: cannot be decoded"):
        scoring.score(trees.model, tmp_path / "cohort")


def test_a_cohort_of_one_subject_has_no_interval_and_is_refused(trees: Judged, cohort: Path, tmp_path: Path) -> None:
    shutil.copytree(cohort, tmp_path / "cohort")
    listed = pd.read_csv(tmp_path / "cohort/images.csv", dtype=str)
    listed.assign(subject_id="S1").to_csv(tmp_path / "cohort/images.csv", index=False)
    with pytest.raises(UserError, match="all samples are of one group"):
        scoring.score(trees.model, tmp_path / "cohort")


# Side by side.


def test_the_leaderboard_is_written_with_its_figures_and_says_simulated(
    trees: Judged, majority: Judged, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], params: Params
) -> None:
    monkeypatch.setattr(leaderboard, "read_params", lambda: params)
    folder = Path("reports") / NAME
    for arguments in ([], ["--show"]):
        monkeypatch.setattr("sys.argv", ["leaderboard", "--task", NAME, *arguments])
        assert leaderboard.main() == 0
        told = capsys.readouterr().out
        assert "SIMULATED" in told
        assert f"{trees.metric('accuracy')['value']:.3f}" in told
        (cost,) = [line for line in told.splitlines() if line.startswith("xgboost") and trees.fitted.run_id not in line]
        assert len(cost.split()) == 1 + len(ranking.COSTS)
        assert "-" in cost.split()  # trees have no multiply-adds, which is no zero
    assert [row["architecture"] for row in json.loads((folder / "leaderboard.json").read_text())] == [
        "xgboost",
        "majority_class",
    ]
    for name in ("leaderboard", "quality_against_cost"):
        with Image.open(folder / f"{name}.png") as figure:
            assert min(figure.size) > 200
