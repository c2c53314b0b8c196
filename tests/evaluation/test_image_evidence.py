"""Evidence of an image model that flatters it: scores, calibration, maps that show the image and not the model."""

import json
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
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
from torch import nn

from evaluation import score
from evaluation.evidence.build import evaluate, evidence_of
from evaluation.evidence.evidence_file import evidence_path, read_evidence
from evaluation.evidence.parts import Evaluation, Evidence, Explained
from evaluation.explain.checks import randomized
from evaluation.explain.images import PANELS, deletion
from evaluation.figures import plots
from evaluation.problems import columns_of, measures_of
from evaluation.promotion import candidate_run, scoring
from pipelines import tracking
from pipelines.audit import audit_samples, write_audit
from pipelines.datasets import Prepared, prepare
from pipelines.errors import DataError, UserError
from pipelines.params import Params, PerBudget, read_params
from pipelines.samples.images import ImageSamples, read_images
from pipelines.simulate.cells import simulate_blood_cell
from training.architectures import get_architecture
from training.backbone import Backbone
from training.model.calibration import prediction_sets
from training.model.final_fit import Fitted, fit
from training.model.predictor import Predictor
from training.networks.cell_network import CellNetwork
from training.problems.classification import with_probabilities

ROOT = Path(__file__).parents[2]
NAME = "blood_cell"
SEED = 20261120


def small(task: Any, **data: Any) -> Any:
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
    tasks = {**params.tasks, NAME: small(params.task(NAME), size=48)}
    return replace(params, seed=SEED, device="cpu", budget="quick", tasks=tasks)


@pytest.fixture(scope="module")
def prepared(place: Path, params: Params) -> Prepared:
    """Return simulated cells whose frame tells the label: a shortcut."""
    folder = place / "data" / NAME
    task: Any = params.task(NAME)
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
    fitted: Fitted
    model: Any
    predictions: pd.DataFrame
    evidence: dict[str, Any]

    def metric(self, name: str) -> dict[str, float]:
        return self.evidence["test"]["metrics"][name]


def judged(name: str, prepared: Prepared, params: Params, place: Path) -> Judged:
    architecture = get_architecture(name, "images", "classification")
    hyperparameters = {**architecture.defaults, "features": "descriptors"} if architecture.space else {}
    folder, reports = place / "models" / NAME / name, evidence_path(NAME, name).parent
    fitted = fit(NAME, architecture, hyperparameters, prepared=prepared, params=params, folder=folder)
    model, predictions = Predictor().read(folder / "model"), pd.read_parquet(folder / "predictions.parquet")
    evidence = evaluate(fitted, model, predictions, prepared=prepared, params=params, folder=reports)
    return Judged(fitted, model, predictions, evidence)


@pytest.fixture(scope="module")
def trees(prepared: Prepared, params: Params, place: Path) -> Judged:
    return judged("xgboost", prepared, params, place)


@pytest.fixture(scope="module")
def majority(prepared: Prepared, params: Params, place: Path) -> Judged:
    return judged("majority_class", prepared, params, place)


def test_the_metrics_are_those_of_the_predictions_and_on_the_run_and_of_this_split(
    trees: Judged, prepared: Prepared, params: Params, tmp_path: Path
) -> None:
    task: Any = params.task(NAME)
    metrics, classes = trees.evidence["test"]["metrics"], list(task.data.classes)
    probabilities = columns_of(trees.predictions, "probability", classes)
    expected = measures_of("classification").metrics(trees.predictions["target"], probabilities, classes=classes)
    assert set(metrics) == {*expected, "margin"}
    logged = MlflowClient().get_run(trees.fitted.run_id).data.metrics
    for name, value in expected.items():
        assert trees.metric(name)["value"] == pytest.approx(value, nan_ok=True), name
        for suffix, key in (("", "value"), ("_low", "low"), ("_high", "high")):
            assert logged[f"test_{name}{suffix}"] == pytest.approx(metrics[name][key]), name
    other: Any = (replace(trees.fitted, split_sha256="0" * 64), trees.model, trees.predictions)
    with pytest.raises(UserError, match="was fitted on another split"):
        evaluate(*other, prepared=prepared, params=params, folder=tmp_path)


def test_calibration_and_the_coverage_of_sets_are_those_of_the_predictions(
    trees: Judged, majority: Judged, params: Params
) -> None:
    task: Any = params.task(NAME)
    classes = list(task.data.classes)
    for one in (trees, majority):
        found, contract = one.evidence["calibration"], one.model.contract
        raw, probabilities = (columns_of(one.predictions, kind, classes) for kind in ("raw", "probability"))
        target, sets = one.predictions["target"].to_numpy(), prediction_sets(probabilities, contract.threshold)
        before = measures_of("classification").metrics(target, raw, classes=classes)
        assert (found["ece_before"], found["log_loss_before"]) == pytest.approx((before["ece"], before["log_loss"]))
        assert found["temperature"] == contract.temperature
        assert found["covered_on_test"] == pytest.approx(np.mean([sets[row, code] for row, code in enumerate(target)]))
        assert found["mean_set_size"] == pytest.approx(sets.sum() / len(target))
        logged = MlflowClient().get_run(one.fitted.run_id).data.metrics
        assert logged["test_set_coverage"] == pytest.approx(found["covered_on_test"])
    assert majority.evidence["calibration"]["mean_set_size"] > trees.evidence["calibration"]["mean_set_size"]


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
    convolutions = (nn.Conv2d(3, 16, 3, 1, 1), nn.Conv2d(16, 24, 3, 2, 1), nn.Conv2d(24, 24, 3, 2, 1))
    return nn.Sequential(*(nn.Sequential(each, nn.BatchNorm2d(each.out_channels), nn.ReLU()) for each in convolutions))


class Small(CellNetwork):
    """Three convolutions, from scratch: learns the two kinds of chromatin in a second."""

    architecture = "alexnet"  # whose code caches take this for
    backbone = Backbone(_create, lambda network: list(network.children()), smallest=16)


def _dark(self: Small, samples: ImageSamples) -> np.ndarray:
    dark = 255.0 - samples.pixels[samples.index].mean(axis=3)
    return (dark / dark.max(axis=(1, 2), keepdims=True)).astype(np.float32)


# What is dark in the image, whatever the network has learnt; everywhere; where the network looks least.
MAPS: dict[str, Callable[[Small, ImageSamples], np.ndarray]] = {
    "dark": _dark,
    "everywhere": lambda self, samples: np.ones((len(samples), *samples.pixels.shape[1:3]), np.float32),
    "elsewhere": lambda self, samples: 1 - Small.heatmaps(self, samples),
}
SETTINGS: dict[str, Any] = {
    **{"weights": "none", "epochs": 20, "patience": 20, "batch_size": 16, "learning_rate": 5e-3, "backbone_rate": 1.0},
    **{"layer_decay": 1.0, "dropout": 0.0, "strength": 0.0, "views": 2, "test_views": 2, "device": "cpu", "seed": 1},
}


@pytest.fixture(scope="module")
def glass_task(params: Params) -> Any:
    return small(params.task(NAME), classes=("all", "hem"), crop=1.0, size=48)


@pytest.fixture(scope="module")
def glass(place: Path, glass_task: Any) -> Prepared:
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


Shown = Callable[[Small], Evidence]


@pytest.fixture(scope="module")
def shown(network: Small, glass: Prepared, glass_task: Any, majority: Judged) -> Shown:
    """Return the evidence of any network on predictions with three mistakes in each class, to be shown."""
    with tracking.run("glass", "fit", "small") as run:
        for step, loss in enumerate((0.7, 0.4, 0.2)):
            mlflow.log_metrics({"step_train_loss": loss, "step_validation_loss": loss + 0.1}, step=step)
    fitted = replace(majority.fitted, task="glass", architecture="small", run_id=run.info.run_id)
    test = glass.rows("test")
    samples = glass.samples.take(test)
    raw = network.outputs(samples)
    for code in range(2):
        wrong = np.flatnonzero(samples.target == code)[:3]
        raw[wrong] = np.where(np.arange(2) == code, 0.2, 0.8)
    table = with_probabilities(glass.table.iloc[test], samples.classes, raw, 1.0, np.full((len(test), 2), 0.5))
    contract = replace(majority.model.contract, classes=list(samples.classes), threshold=0.5)

    def evidence(estimator: Small) -> Evidence:
        model = Predictor()
        model.estimator, model.contract = estimator, contract
        return evidence_of(Evaluation(glass_task, fitted, model, table, glass, 2), None)

    return evidence


def test_maps_of_a_trained_network_lie_on_the_cell_and_change_with_random_weights(network: Small, shown: Shown) -> None:
    network.by_views_ = {"accuracy": [0.5, 0.75]}
    found = shown(network)
    assert found.tables["views"].to_dict("list") == {"views": [1, 2], **network.by_views_}
    explained = found.sections["explanation"]
    assert (explained["method"], explained["images"], explained["maps_depend_on_the_weights"]) == ("grad_cam", 12, True)
    assert abs(explained["correlation_with_random_weights"]) < 0.5
    assert 0.1 < explained["area_of_the_cell"] < 0.3
    assert 2 * explained["area_of_the_cell"] < explained["attribution_on_the_cell"] <= 1
    assert found.warnings == []
    assert found.logged["explanation_on_the_cell"] == explained["attribution_on_the_cell"]
    check, fell = explained["checks"]
    value = explained["correlation_with_random_weights"]
    assert check["name"] == "random_weights" and check["value"] == value
    assert found.logged["explanation_random_correlation"] == value
    assert fell["name"] == "deletion" and fell["low"] > 0
    assert fell["value"] == pytest.approx(explained["deletion"]["drop_top"] - explained["deletion"]["drop_random"])
    assert found.logged["explanation_deletion_drop"] == explained["deletion"]["drop_top"]


@pytest.mark.parametrize("maps", MAPS)
def test_maps_that_show_the_image_or_what_decides_nothing_are_called_so(
    maps: str, network: Small, shown: Shown
) -> None:
    shows: Small = type("Shows", (Small,), {"heatmaps": MAPS[maps]})(**network.get_params())
    shows.__dict__.update(network.__dict__)
    found = shown(shows)
    explained = found.sections["explanation"]
    if maps == "elsewhere":
        assert explained["checks"][1]["value"] < 0
        assert any("takes no more confidence" in warning for warning in found.warnings)
        return
    assert explained["correlation_with_random_weights"] == pytest.approx(1)
    assert explained["maps_depend_on_the_weights"] is False
    assert any("show the image, not the model" in warning for warning in found.warnings)
    if maps == "everywhere":  # attribution that is everywhere is on the cell by its area alone
        assert explained["attribution_on_the_cell"] == pytest.approx(explained["area_of_the_cell"])


def test_masking_reads_no_cached_features_and_changes_no_image(glass: Prepared) -> None:
    """What a frozen network gave is kept by the image's digest, which a masked image has as well."""
    fitted = Small(mode="head", **{**SETTINGS, "epochs": 2}).fit(glass.side("train"))
    test = glass.side("test").take(np.arange(8))
    assert isinstance(test.pixels, np.memmap)
    before = np.array(test.pixels[test.index])
    outputs = fitted.outputs(test)
    bootstrap = {"resamples": 1000, "confidence": 0.95, "seed": 1}
    fell = deletion(fitted, test, fitted.heatmaps(test), np.arange(8), **bootstrap)
    assert fell.drop_top != 0 and fell.drop_random != 0
    np.testing.assert_array_equal(test.pixels[test.index], before)
    np.testing.assert_array_equal(fitted.outputs(test), outputs)


def test_the_panel_shows_right_and_wrong_predictions_of_each_class(network: Small, shown: Shown) -> None:
    figure = shown(network).figures["grad_cam"]
    frames = [axes for axes in figure.axes if axes.images]
    assert len(frames) == 12 <= PANELS
    counts: Counter[tuple[str, bool]] = Counter()
    for axes in frames:
        right = to_hex(axes.spines["left"].get_edgecolor()) == plots.BLUE
        lines = axes.get_title(loc="left").split("\n")
        assert len(lines) == (1 if right else 2)  # a wrong one names the true and the predicted class
        counts[lines[0].split()[0], right] += 1
    assert counts[("all", False)] == counts[("hem", False)] == 3
    assert min(counts[("all", True)], counts[("hem", True)]) >= 2


@pytest.mark.parametrize("mode", ["head", "partial", "full"])
def test_randomizing_touches_no_fitted_network_and_leaves_nothing_of_it_not_even_cached(
    mode: str, glass: Prepared
) -> None:
    fitted = Small(mode=mode, **{**SETTINGS, "epochs": 2}).fit(glass.side("train"))
    test = glass.side("test")
    assert isinstance(test.pixels, np.memmap)
    trained = fitted.predict_proba(test)
    state = {key: value.clone() for key, value in fitted.module_.state_dict().items()}
    first, second, again = (randomized(fitted, seed) for seed in (7, 8, 7))  # fitted from seed 1
    in_memory = replace(test, pixels=np.array(test.pixels))  # of which no features are cached
    np.testing.assert_allclose(first.predict_proba(test), first.predict_proba(in_memory), atol=1e-3)
    np.testing.assert_array_equal(fitted.predict_proba(test), trained)
    assert all(torch.equal(value, state[key]) for key, value in fitted.module_.state_dict().items())
    weights = [torch.cat([p.flatten() for p in each.module_.parameters()]) for each in (first, second, again)]
    assert not torch.equal(weights[0], weights[1]) and torch.equal(weights[0], weights[2])
    for (name, mine), theirs in zip(first.module_.named_parameters(), fitted.module_.parameters(), strict=True):
        assert mine.ndim == 1 or not torch.equal(mine, theirs), name


@given(
    codes=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=80),
    count=st.integers(1, 40),
    seed=st.integers(0, 99),
)
def test_the_images_shown_are_of_each_class_right_and_wrong(
    codes: Sequence[tuple[int, int]], count: int, seed: int
) -> None:
    target, predicted = np.array(codes).T
    right = target == predicted
    explained = Explained(("a",), target, lambda *_: target)
    rows = explained.rows(count, seed, target, right)
    assert len(rows) == min(count, len(target)) and rows.tolist() == sorted(set(rows.tolist()))
    kinds = list(zip(target.tolist(), right.tolist(), strict=True))
    there, chosen = Counter(kinds), Counter(kinds[row] for row in rows)
    # In turn: no kind has two more than another that still had some to give.
    for kind, number in chosen.items():
        for other, total in there.items():
            assert number <= chosen[other] + 1 or chosen[other] == total, (kind, other)
    np.testing.assert_array_equal(explained.rows(count, seed, target, right), rows)


@pytest.fixture(scope="module")
def cohort(place: Path, prepared: Prepared) -> Path:
    source, folder = place / "data" / NAME, place / "cohort" / NAME
    test = prepared.table.iloc[prepared.rows("test")]
    for name in test["sample_id"]:
        (folder / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source / "images" / name, folder / "images" / name)
    listed = pd.read_csv(source / "images.csv", dtype=str)
    listed[listed["file"].isin(test["sample_id"])].to_csv(folder / "images.csv", index=False)
    return folder


def test_scoring_the_test_rows_as_a_folder_prints_the_evidence_again_in_one_line_of_json(
    trees: Judged, cohort: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for data in (cohort, cohort.parent):  # the task's folder, or the folder of tasks
        monkeypatch.setattr("sys.argv", ["score", "--model", trees.fitted.model_uri, "--data", str(data)])
        assert score.main() == 0
        (line,) = capfd.readouterr().out.splitlines()
        printed = json.loads(line, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
        test = trees.evidence["test"]
        assert (printed["n"], printed["groups"]) == (test["samples"], test["groups"])
        assert set(printed["metrics"]) == set(test["metrics"])
        for name, numbers in printed["metrics"].items():
            assert numbers["value"] == pytest.approx(trees.metric(name)["value"], abs=1e-6), name


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


def test_a_cohort_of_one_subject_or_with_a_broken_image_is_refused(trees: Judged, cohort: Path, tmp_path: Path) -> None:
    shutil.copytree(cohort, copied := tmp_path / "cohort")
    listed = pd.read_csv(copied / "images.csv", dtype=str)
    listed.assign(subject_id="S1").to_csv(copied / "images.csv", index=False)
    with pytest.raises(UserError, match="all samples are of one group"):  # which has no interval
        scoring.score(trees.model, copied)
    path = sorted((copied / "images/monocyte").iterdir())[0]
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(DataError, match=f"images/monocyte/{path.name}: cannot be decoded"):
        scoring.score(trees.model, copied)
