"""The shipped cells must be reproducible, small, valid, plainly simulated, and to be learned but not by a shortcut."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from skimage.feature import local_binary_pattern
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pipelines.datasets import prepare
from pipelines.modalities.images import ImagesTask
from pipelines.params import read_params
from pipelines.samples.images import ImageSamples, read_images
from pipelines.simulate.__main__ import main
from pipelines.simulate.cells import simulate_blood_cell, simulate_leukemia_cell
from pipelines.split import SIDES
from pipelines.validate import validate_folder

ROOT = Path(__file__).parents[2]
BLOOD, LEUKEMIA = "blood_cell", "leukemia_cell"
SIMULATE: dict[str, Callable[..., None]] = {BLOOD: simulate_blood_cell, LEUKEMIA: simulate_leukemia_cell}
MEGABYTE = 1_000_000

Folders = dict[str, Path]


def task_of(name: str) -> ImagesTask:
    task = read_params(ROOT / "params.yaml").task(name)
    assert isinstance(task, ImagesTask)
    return task


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    base = tmp_path_factory.mktemp("simulated")
    for name, simulate in SIMULATE.items():
        simulate(base / name)
    return {name: base / name for name in SIMULATE}


@pytest.fixture(scope="module")
def samples(folders: Folders, tmp_path_factory: pytest.TempPathFactory) -> dict[str, ImageSamples]:
    cache = tmp_path_factory.mktemp("cache")
    return {name: read_images(folder, task_of(name), cache=cache).samples for name, folder in folders.items()}


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_same_seed_gives_the_same_bytes_and_another_gives_others(tmp_path: Path) -> None:
    for name, seed in (("first", 1), ("second", 1), ("third", 2)):
        simulate_blood_cell(tmp_path / name / BLOOD, per_class=2, subjects=2, seed=seed)
        simulate_leukemia_cell(tmp_path / name / LEUKEMIA, subjects=4, per_subject=2, seed=seed)
    first, second, third = (content(tmp_path / name) for name in ("first", "second", "third"))
    assert first == second
    assert set(first) == set(third)  # so another seed replaces what was there
    assert not {file for file in first if file.endswith(".jpg")} & {
        file for file in first if first[file] == third[file]
    }


@pytest.mark.parametrize("name", SIMULATE)
def test_the_command_writes_the_default_sample(
    name: str, folders: Folders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["--task", name, "--out", str(tmp_path / "out")])
    assert content(tmp_path / "out") == content(folders[name])
    assert str(tmp_path / "out") in capsys.readouterr().out


@pytest.mark.parametrize("name", SIMULATE)
def test_it_validates_without_a_finding(name: str, folders: Folders) -> None:
    validation = validate_folder(folders[name], name, task_of(name))
    assert [str(finding) for finding in validation.findings] == []


def test_both_sets_are_small_enough_for_a_git_repository(folders: Folders) -> None:
    assert sum(len(data) for folder in folders.values() for data in content(folder).values()) < 3 * MEGABYTE


@pytest.mark.parametrize("name", SIMULATE)
def test_it_says_that_it_is_simulated(name: str, folders: Folders, samples: dict[str, ImageSamples]) -> None:
    raw = pd.read_csv(folders[name] / "images.csv", dtype=str)
    assert raw["simulated"].eq("true").all()
    assert raw["file"].str.contains("/SIM_").all()
    assert raw["subject_id"].dropna().str.startswith("SIM-").all()
    assert samples[name].table["simulated"].eq(True).all()  # what reports go by


def test_some_subjects_of_blood_cells_are_known_and_have_all_kinds(samples: dict[str, ImageSamples]) -> None:
    table = samples[BLOOD].table
    known = table.dropna(subset="subject_id")
    assert 0.2 < 1 - len(known) / len(table) < 0.5
    assert known.groupby("subject_id")["label"].nunique().min() == 5
    assert table["label"].value_counts().eq(40).all()


def test_a_subject_of_leukemia_cells_has_one_label_and_subjects_are_uneven(samples: dict[str, ImageSamples]) -> None:
    table = samples[LEUKEMIA].table
    assert table["subject_id"].nunique() == 24
    assert table.groupby("subject_id")["label"].nunique().max() == 1
    sizes = table["subject_id"].value_counts()
    assert sizes.max() >= 2 * sizes.min()


def test_leukemia_cells_lie_on_black_and_inside_the_crop(folders: Folders) -> None:
    for path in (folders[LEUKEMIA] / "images").glob("*/*.jpg"):
        with Image.open(path) as image:
            pixels = np.asarray(image).max(axis=2)
        cell = np.argwhere(pixels > 60)
        cropped = pixels[
            12:-12, 12:-12
        ]  # what the task keeps: corners that are not black would tell how large a cell is
        assert not any(corner.any() for ends in (cropped[:7], cropped[-7:]) for corner in (ends[:, :7], ends[:, -7:]))
        assert cell.min() >= 0.1 * pixels.shape[0] and cell.max() <= 0.9 * pixels.shape[0]


@pytest.mark.parametrize("name", SIMULATE)
def test_no_image_is_the_copy_of_another(name: str, samples: dict[str, ImageSamples]) -> None:
    assert samples[name].table["digest"].is_unique


@pytest.mark.parametrize("name", SIMULATE)
def test_it_can_be_split_as_shipped_with_every_class_on_every_side(
    name: str, samples: dict[str, ImageSamples], folders: Folders, tmp_path: Path
) -> None:
    task = task_of(name)
    kept = read_images(folders[name], task, cache=tmp_path)
    table = prepare(kept, task, 1).table
    assert table.groupby("split")["label"].nunique().to_dict() == dict.fromkeys(SIDES, len(task.data.classes))


def unseen_auroc(features: np.ndarray, samples: ImageSamples) -> float:
    """Return the mean AUROC on unseen subjects over folds, one class against the rest."""
    target, subject = samples.target, samples.table["subject_id"]
    groups = subject.where(subject.notna(), samples.table["sample_id"]).to_numpy()
    scores = []
    for train, test in StratifiedGroupKFold(4, shuffle=True, random_state=0).split(features, target, groups):
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))
        probability = model.fit(features[train], target[train]).predict_proba(features[test])
        for code in range(len(samples.classes)) if len(samples.classes) > 2 else [1]:
            scores.append(roc_auc_score(target[test] == code, probability[:, code]))
    return float(np.mean(scores))


def shape_and_texture(samples: ImageSamples) -> np.ndarray:
    rows = []
    for pixels in samples.pixels[samples.index]:
        gray = pixels.mean(axis=2)
        dark = gray < 130
        patterns = local_binary_pattern(gray.astype(np.uint8), 8, 2, "uniform")
        inside = (gray > 15) & (gray < 170)
        histogram = np.histogram(patterns[inside], bins=np.arange(11), density=True)[0]
        quantiles = np.quantile(pixels[inside], (0.1, 0.5, 0.9), axis=0).ravel()
        rows.append([*histogram, *quantiles, inside.mean(), dark.mean(), gray[inside].std()])
    return np.array(rows)


@pytest.mark.parametrize(("name", "low", "high"), [(BLOOD, 0.85, 0.995), (LEUKEMIA, 0.7, 0.97)])
def test_classes_can_be_learned_and_not_to_perfection(
    name: str, low: float, high: float, samples: dict[str, ImageSamples]
) -> None:
    assert low < unseen_auroc(shape_and_texture(samples[name]), samples[name]) < high


@pytest.mark.parametrize("name", SIMULATE)
def test_what_lies_around_the_cell_does_not_tell_its_class(name: str, samples: dict[str, ImageSamples]) -> None:
    pixels = samples[name].pixels
    side = pixels.shape[1] // 10
    ends = (slice(side), slice(-side, None))
    corners = [pixels[:, y, x].mean(axis=(1, 2)) for y in ends for x in ends]
    assert unseen_auroc(np.hstack(corners), samples[name]) < 0.65
