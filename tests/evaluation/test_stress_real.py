"""On real cells of two laboratories a model of whole images fails the stress tests, and one of isolated cells holds."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from evaluation.evidence import stress
from evaluation.evidence.parts import Evaluation
from evaluation.explain.images import stressed_panel
from evaluation.problems import measures_of
from evaluation.promotion.gate import OF
from pipelines.datasets import Prepared, prepare
from pipelines.files import jsonable
from pipelines.params import Params, read_params
from pipelines.samples.images import IMAGES_FOLDER, ImageSamples, read_images
from pipelines.samples.stressed_images import stressed
from training.architectures.efficientnet_lite0 import EfficientNetLite0
from training.contract import contract_class
from training.model.predictor import Predictor
from training.problems.classification import with_probabilities

ROOT = Path(__file__).parents[2]
NAME = "blood_cell"
FEW, MANY = (45, 80), (60, 112)  # images of each class, and their side
REAL = ROOT.parent / "shared" / "data" / NAME

pytestmark = pytest.mark.skipif(not REAL.is_dir(), reason="the real images are not on this machine")


@pytest.fixture(scope="module")
def shown(request: pytest.FixtureRequest) -> tuple[int, int]:
    return request.param


@pytest.fixture(scope="module")
def params(shown: tuple[int, int]) -> Params:
    params = read_params(ROOT / "params.yaml")
    task: Any = params.task(NAME)
    task = replace(
        task,
        data=replace(task.data, size=shown[1]),
        split=replace(task.split, mode="random", test=0.34, validation=0.1),
        evaluate=replace(task.evaluate, resamples=200),
    )
    return replace(params, tasks={**params.tasks, NAME: task})


@pytest.fixture(scope="module")
def prepared(place: Path, params: Params, shown: tuple[int, int]) -> Prepared:
    """Return some images of each class; basophils, erythroblasts and monocytes come from another laboratory."""
    task: Any = params.task(NAME)
    for label in task.data.classes:
        (into := place / f"{shown}" / IMAGES_FOLDER / label).mkdir(parents=True)
        files = sorted((REAL / IMAGES_FOLDER / label).iterdir())
        for path in files[:: len(files) // shown[0]][: shown[0]]:
            (into / path.name).symlink_to(path)
    return prepare(read_images(place / f"{shown}", task), task, params.seed)


def with_copies(train: ImageSamples, seed: int) -> ImageSamples:
    """Return training rows with blurred, compressed and noisy copies: what a model of texture has to see to hold."""
    parts = [train.alone(), *stressed(train, train, seed, kinds=("blur", "jpeg", "noise")).values()]
    tables = [part.table.assign(digest=part.table["digest"] + part.made) for part in parts]
    pixels = np.concatenate([part.pixels for part in parts])
    table = pd.concat(tables, ignore_index=True)
    return replace(train, table=table, pixels=pixels, index=np.arange(len(pixels)))


def section(recipe: dict[str, Any], train: ImageSamples, prepared: Prepared, params: Params) -> dict[str, Any]:
    """Return what stress tests find of a network's head that was fitted with ``recipe``."""
    task, test = params.task(NAME), prepared.side("test")
    network = EfficientNetLite0(views=2, test_views=1, epochs=1, seed=1, device="cpu", **recipe).fit(train)
    own: dict[str, Any] = {"task": NAME, "architecture": "efficientnet_lite0", "baseline": "majority_class"}
    own |= {"task_text": "", "coverage": 0.9, "classes": list(test.classes), "temperature": 1.0, "threshold": 0.5}
    model = Predictor()
    model.estimator, model.contract = network, contract_class("images", "classification")(**own)
    raw = network.outputs(test)
    table = prepared.table.iloc[prepared.rows("test")]
    table = with_probabilities(table, test.classes, raw, 1.0, np.full(raw.shape, 1 / len(test.classes)))
    fitted: Any = SimpleNamespace(architecture="efficientnet_lite0", budget="quick")
    run = Evaluation(task, fitted, model, table, prepared, params.seed)
    found = stress.evidence(run, measures_of("classification"), 100, stressed_panel)
    return dict(found.sections["stress"])


def verdict(found: dict[str, Any], params: Params) -> Any:
    case: Any = SimpleNamespace(evidence={"modality": "images", "stress": jsonable(found)}, gate=params.policy.gate)
    return OF["stress"](case)


@pytest.mark.real_data
@pytest.mark.parametrize("shown", [FEW], indirect=True)
def test_a_model_of_whole_images_fails(prepared: Prepared, params: Params) -> None:
    found = section({"isolation": "none"}, prepared.side("train"), prepared, params)
    drops = {each["kind"]: each["drop"]["value"] for each in found["kinds"]}
    assert found["home"]["accuracy"]["value"] > 0.85
    assert min(drops["slide"], drops["slide_and_stain"]) > 0.2
    assert not verdict(found, params).passes


@pytest.mark.soak
@pytest.mark.real_data
@pytest.mark.parametrize("shown", [MANY], indirect=True)
def test_a_model_of_isolated_cells_passes(prepared: Prepared, params: Params) -> None:
    recipe = {"isolation": "cell_size", "color": "standard"}
    found = section(recipe, with_copies(prepared.side("train"), 1), prepared, params)
    assert found["home"]["accuracy"]["value"] > 0.85
    assert verdict(found, params).passes, verdict(found, params).reason
