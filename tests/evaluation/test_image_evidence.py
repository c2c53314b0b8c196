"""Evidence of an image model that flatters it: scores, calibration, maps that show the image and not the model."""

import json
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from mlflow import MlflowClient
from PIL import Image
from torch import nn

from evaluation import score
from evaluation.comparison import page, ranking
from evaluation.comparison.architectures import compare
from evaluation.comparison.ranking import leaderboard
from evaluation.evidence import stress as stress_tests
from evaluation.evidence.build import evaluate, evidence_of, params_sha256
from evaluation.evidence.evidence_file import check_schema, evidence_path, read_evidence, seal
from evaluation.evidence.parts import Evaluation, Evidence, Explained
from evaluation.explain import images
from evaluation.explain.checks import randomized
from evaluation.explain.images import PANELS, deletion, on_the_cell
from evaluation.figures import plots
from evaluation.problems import columns_of, measures_of
from evaluation.promotion import candidate_run, scoring
from evaluation.promotion.card import content
from evaluation.promotion.gate import OF
from pipelines import probes, tracking
from pipelines.audit import audit_samples, write_audit
from pipelines.datasets import Prepared, prepare
from pipelines.errors import DataError, UserError
from pipelines.files import jsonable
from pipelines.formatting import interval
from pipelines.params import Params, PerBudget, read_params, read_task
from pipelines.problems import get_problem
from pipelines.report import as_markdown
from pipelines.samples.images import ImageSamples, read_images
from pipelines.simulate.cells import simulate_blood_cell
from pipelines.tune_metric import with_metric
from tests.evaluation.made_evidence import made_cell_evidence
from training.architectures import get_architecture
from training.backbone import Backbone
from training.features.isolated_cells import isolated
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
        evaluate=replace(task.evaluate, resamples=200, explained_samples=PerBudget(12, 12), stressed_samples=few),
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
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(probes._TREES, "n_estimators", 20)
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
    how: dict[str, Any] = {"prepared": prepared, "params": params, "folder": folder}
    how["params"] = with_metric(params, NAME, "log_loss")
    fitted = fit(NAME, architecture, hyperparameters, **how)
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
        overall = name in {metric.name for metric in get_problem("classification").metrics}
        of_ends = "interval" if overall else "by_class"
        assert logged[f"{'test' if overall else 'by_class'}/{name}"] == pytest.approx(metrics[name]["value"]), name
        for end in ("low", "high"):
            assert logged[f"{of_ends}/{name}_{end}"] == pytest.approx(metrics[name][end]), name
    its_own = with_metric(params, NAME, read_task(trees.model.contract.task_text).tune.metric)
    assert trees.evidence["hashes"]["params.sha256"] == params_sha256(its_own, NAME)  # `make reproduce` has no other
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
        assert logged["test/set_coverage"] == pytest.approx(found["covered_on_test"])
    assert majority.evidence["calibration"]["mean_set_size"] > trees.evidence["calibration"]["mean_set_size"]


class Frame(CellNetwork):
    """Names the class by the frame of the image, which `prepared` plants; nothing is learnt."""

    architecture = "alexnet"

    def outputs(self, samples: ImageSamples) -> np.ndarray:
        """Return one for the class whose gray the frame is nearest to."""
        gray = samples.pixels[samples.index, 0].mean(axis=(1, 2))
        return np.eye(len(samples.classes))[np.clip(np.round(gray / 40), 0, 4).astype(int)]

    def outputs_embedded(self, samples: ImageSamples) -> tuple[np.ndarray, np.ndarray]:
        """Return `outputs`, and that no image is unlike another."""
        return self.outputs(samples), np.zeros((len(samples), 1))

    def heatmaps(self, samples: ImageSamples) -> Any:
        """Return nothing: there is no network."""
        return None


@pytest.fixture(scope="module")
def framed(prepared: Prepared, params: Params, majority: Judged) -> Evaluation:
    """Return a model that looks at the frame alone, and its predictions."""
    test = prepared.side("test")
    raw = Frame().outputs(test)
    table = prepared.table.iloc[prepared.rows("test")]
    table = with_probabilities(table, test.classes, raw, 1.0, np.full(raw.shape, 1 / raw.shape[1]))
    model = Predictor()
    model.estimator, model.contract = Frame(), replace(majority.model.contract, temperature=1.0)
    return Evaluation(params.task(NAME), majority.fitted, model, table, prepared, SEED)


def passes_stress(section: dict[str, Any]) -> bool:
    evidence = {"modality": "images", "stress": jsonable(section)}
    policy = read_params(ROOT / "params.yaml").policy
    case: Any = SimpleNamespace(evidence=evidence, gate=policy.gate)
    return OF["stress"](case).passes


def test_a_model_that_looks_at_the_frame_fails_the_stress_tests_and_one_that_looks_at_nothing_does_not(
    framed: Evaluation, majority: Judged
) -> None:
    found = evidence_of(framed, None)
    section = found.sections["stress"]
    check_schema(seal({**majority.evidence, "stress": section}), "the evidence")
    assert section["home"]["accuracy"]["value"] > 0.95
    by_kind = {each["kind"]: each for each in section["kinds"]}
    for kind in ("slide", "border", "slide_and_stain"):
        assert by_kind[kind]["drop"]["value"] >= 0.9 and by_kind[kind]["drop"]["low"] > 0.7
    assert section["kinds"][0]["kind"] == section["worst"]["accuracy"]["kind"] in ("slide", "border", "slide_and_stain")
    assert by_kind["noise"]["drop"]["value"] < 0.1
    assert not passes_stress(section)
    nothing = majority.evidence["stress"]
    assert {each["drop"]["value"] for each in nothing["kinds"]} == {0.0}
    assert passes_stress(nothing)


def test_drawn_rows_of_one_group_are_exchanged_for_all_rows(framed: Evaluation) -> None:
    groups = np.where(np.arange(len(framed.predictions)) == 0, "small", "large")
    run = replace(framed, predictions=framed.predictions.assign(group=groups))
    found = stress_tests.evidence(run, measures_of("classification"), 5, lambda *_: Figure())
    assert found.sections["stress"]["samples"] == len(groups)


def test_stress_tests_are_of_the_rows_at_home_and_of_the_calibrated_answers(trees: Judged, prepared: Prepared) -> None:
    section, task = trees.evidence["stress"], read_params(ROOT / "params.yaml").task(NAME)
    assert section["samples"] == 20 and section["metric"] == "accuracy"
    assert set(section["home"]) >= {"accuracy", "ece", *(f"recall_{label}" for label in task.data.classes)}
    assert "margin" not in section["home"]
    measures, classes = measures_of("classification"), list(task.data.classes)
    target = prepared.side("test").target
    rows = Explained(("a",), target, lambda *_: target, strata=target).rows(20, SEED, target)
    home = trees.predictions.iloc[rows]
    test = prepared.side("test")
    changed = task.stressed(test.take(rows), test, SEED)
    logged = MlflowClient().get_run(trees.fitted.run_id).data.metrics
    table = pd.read_csv(evidence_path(NAME, "xgboost").with_name("stress.csv")).set_index(["kind", "metric"])["value"]
    drops = [each["drop"]["value"] for each in section["kinds"]]
    assert drops == sorted(drops, reverse=True)
    at_home = measures.metrics(home["target"], columns_of(home, "probability", classes), classes=classes)
    for name in ("accuracy", "ece", "recall_monocyte"):
        assert section["home"][name]["value"] == pytest.approx(at_home[name])
    values: dict[str, list[float]] = {"accuracy": [], "ece": []}
    for each in section["kinds"]:
        outputs = trees.model.outputs(changed[each["kind"]])
        expected = measures.metrics(home["target"], outputs, classes=classes)
        for name in ("accuracy", "ece", "recall_monocyte"):
            assert each["metrics"][name]["value"] == pytest.approx(expected[name]), (each["kind"], name)
            assert table[each["kind"], name] == pytest.approx(expected[name])
        for name, of in values.items():
            of.append(expected[name])
            assert logged[f"stress/{each['kind']}_{name}"] == pytest.approx(expected[name])
        assert each["drop"]["value"] == pytest.approx(at_home["accuracy"] - expected["accuracy"])
        assert each["drop"]["low"] <= each["drop"]["value"] <= each["drop"]["high"]
    assert logged["test/worst_stress_accuracy"] == pytest.approx(min(values["accuracy"]))
    assert logged["test/worst_stress_ece"] == pytest.approx(max(values["ece"]))
    assert logged["interval/worst_stress_accuracy_low"] <= logged["test/worst_stress_accuracy"]
    assert logged["test/worst_stress_accuracy_drop"] == pytest.approx(max(drops))
    assert evidence_path(NAME, "xgboost").with_name("stress.png").is_file()


def test_card_leaderboard_and_comparison_show_the_worst_stress(trees: Judged, majority: Judged, params: Params) -> None:
    card = as_markdown(content(trees.evidence, ["stress.png"]), "figures/")
    stress = trees.evidence["stress"]
    assert "Stress tests" in card and "An image of each class under each stress test" in card
    for each in stress["kinds"]:
        assert f"| {each['kind'].replace('_', ' ')} | {each['metrics']['accuracy']['value']:.3f}" in card
    assert "Stress tests" not in as_markdown(content(made_cell_evidence(), []), "")
    rows = leaderboard(NAME, params)
    (row,) = [each for each in rows if each["architecture"] == "xgboost"]
    worst = row["worst_stress"]
    assert worst == stress["worst"]["accuracy"]
    said = f"{interval(worst)} ({worst['kind'].replace('_', ' ')})"
    assert said in ranking.as_text(NAME, params, rows)
    comparison = compare(NAME, params)
    assert said in page.as_text(comparison)
    for each in (*rows, *comparison["rows"]):
        del each["worst_stress"]
    assert "worst stress" not in ranking.as_text(NAME, params, rows) + page.as_text(comparison)


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
    task = small(params.task(NAME), classes=("all", "hem"), crop=1.0, size=48)
    return replace(task, evaluate=replace(task.evaluate, stressed_samples=PerBudget(4, 4)))  # maps are what is tested


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
            mlflow.log_metrics({"step/train_loss": loss, "step/validation_loss": loss + 0.1}, step=step)
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


@pytest.fixture(scope="module")
def found(network: Small, shown: Shown) -> Evidence:
    """Return the evidence of the network as it is."""
    network.by_views_ = {"accuracy": [0.5, 0.75]}
    return shown(network)


def test_maps_of_a_trained_network_lie_on_the_cell_and_change_with_random_weights(
    network: Small, found: Evidence
) -> None:
    assert found.tables["views"].to_dict("list") == {"views": [1, 2], **network.by_views_}
    explained = found.sections["explanation"]
    assert (explained["method"], explained["images"], explained["maps_depend_on_the_weights"]) == ("grad_cam", 12, True)
    assert abs(explained["correlation_with_random_weights"]) < 0.5
    on_cell = explained["on_the_cell"]
    assert 0.1 < on_cell["area"] < 0.3 and on_cell["without_a_cell"] == 0
    assert 2 * on_cell["area"] < on_cell["low"] < on_cell["value"] < on_cell["high"] <= 1
    assert found.warnings == []
    for key, suffix in (("value", ""), ("low", "_low"), ("high", "_high")):
        assert found.logged[f"explanation/on_the_cell{suffix}"] == on_cell[key]
    check, fell = explained["checks"]
    value = explained["correlation_with_random_weights"]
    assert check["name"] == "random_weights" and check["value"] == value
    assert found.logged["explanation/random_correlation"] == value
    assert fell["name"] == "deletion" and fell["low"] > 0
    assert fell["value"] == pytest.approx(explained["deletion"]["drop_top"] - explained["deletion"]["drop_random"])
    assert found.logged["explanation/deletion_drop"] == explained["deletion"]["drop_top"]


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
        assert explained["on_the_cell"]["value"] == pytest.approx(explained["on_the_cell"]["area"])


def test_what_is_isolated_is_counted_drawn_and_warned_of(
    network: Small, shown: Shown, found: Evidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "isolation" not in found.sections
    isolating = type("Isolating", (Small,), {})(**{**network.get_params(), "isolation": "cell"})
    isolating.__dict__.update(network.__dict__ | {"isolation": "cell"})
    found = shown(isolating)
    section = found.sections["isolation"]
    assert section == {"images": section["images"], "failed": 0, "failed_share": 0.0} and section["images"] > 12
    assert (found.logged["isolation/failed"], found.logged["isolation/failed_share"]) == (0, 0.0)
    titles = [title for axes in found.figures["masks"].axes if (title := axes.get_title("left"))]
    assert titles == ["all"] * 3 + ["hem"] * 3
    failing = np.arange(section["images"]) % 10 == 1
    all_of, segmented = section["images"], images.cell_masks
    monkeypatch.setattr(
        images,
        "cell_masks",
        lambda samples: segmented(samples) * (~failing[:, None, None] if len(samples) == all_of else 1),
    )
    found = shown(isolating)
    assert found.sections["isolation"]["failed"] == found.logged["isolation/failed"] == failing.sum()
    assert found.logged["isolation/failed_share"] == pytest.approx(failing.mean())
    assert any(f"no cell is found in {failing.sum()} of {all_of} test images" in each for each in found.warnings)


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


class Recorder:
    """An estimator that sees whether the left half of the cell is rough, and keeps what it was shown."""

    def __init__(self) -> None:
        self.shown: list[np.ndarray] = []

    def outputs(self, samples: ImageSamples) -> np.ndarray:
        self.shown.append(samples.pixels[samples.index])
        rough = np.abs(np.diff(self.shown[-1][:, :, :28].astype(float), axis=1)).mean(axis=(1, 2, 3)) / 12
        return np.stack([1 - rough.clip(0, 1), rough.clip(0, 1)], axis=1)


@pytest.fixture
def cut_out(glass: Prepared) -> ImageSamples:
    """Return rough cells on black."""
    rows, columns = np.mgrid[:56, :56] - 27.5
    noise = np.random.default_rng(0).integers(100, 140, (12, 56, 56, 3))
    pixels = np.where((np.hypot(rows, columns) < 22)[..., None], noise, 0).astype(np.uint8)
    return replace(glass.side("train").take(np.arange(12)), pixels=pixels, index=np.arange(12))


@pytest.mark.parametrize("hot", ["left", "right", "frame"])
def test_cells_on_black_are_masked_within_and_random_fields_lie_on_them(hot: str, cut_out: ImageSamples) -> None:
    inside, columns = cut_out.pixels.max(axis=3) > 0, np.arange(56) < 28
    where = {"left": inside & columns, "right": inside & ~columns, "frame": ~inside}[hot]
    model: Any = Recorder()
    fell = deletion(model, cut_out, where.astype(np.float32), np.arange(12), resamples=200, confidence=0.95, seed=1)
    before, *changed = model.shown
    assert len(changed) == 4  # the hottest fields once, random ones three times
    for shown in changed:
        assert (shown[~inside] == 0).all(), "a black frame was painted"
        new = (shown != before).any(axis=3)
        if new.any():
            assert shown[new].std() < before[new].std() / 3 and abs(shown[new].mean() - before[new].mean()) < 5
    areas = [(shown != before).any(axis=3).sum(axis=(1, 2)) / inside.sum(axis=(1, 2)) for shown in changed]
    assert fell.passed == (hot == "left"), "only what the model looks at"
    if hot == "frame":
        assert (areas[0] == 0).all() and fell.drop_top == 0
    else:
        assert (np.abs(areas[0] - 0.25) < 0.1).all()
    assert (np.abs(np.stack(areas[1:]) - 0.25) < 0.1).all(), "random fields that lie off the cell hide nothing"


def test_attribution_is_measured_on_the_cell_that_is_seen_and_images_without_one_are_counted(glass: Prepared) -> None:
    whole = glass.side("test").take(np.arange(6)).alone()
    pixels = np.array(whole.pixels)
    pixels[0] = 215  # no cell
    whole = replace(whole, pixels=pixels)
    seen = isolated(whole, "cell_size")
    maps = np.zeros(pixels.shape[:3], np.float32)
    maps[:, 22:26, 22:26] = 1
    for samples, least in ((whole, 0.1), (seen, 0.4)):  # the isolated cell fills the image
        share, area = on_the_cell(whole, samples, maps)
        assert np.isnan(share[0]) and np.isfinite(share[1:]).all() and area > least
    assert (share[1:] == 1).all(), "the middle of an image with the cell alone is cell"
    elsewhere, _ = on_the_cell(whole, seen, np.eye(48, dtype=np.float32)[None].repeat(6, axis=0) * (np.arange(48) < 2))
    assert (elsewhere[1:] == 0).all()
    maps[1] = 0  # an empty map lies nowhere
    assert np.isnan(on_the_cell(whole, seen, maps)[0][:2]).all()


def test_the_panel_shows_right_and_wrong_predictions_of_each_class(found: Evidence) -> None:
    figure = found.figures["grad_cam"]
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
