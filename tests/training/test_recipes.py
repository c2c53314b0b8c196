"""Recipes that do not learn the laboratory: exchanged copies, jitter, weights by source, and the metric of tuning."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Self
from unittest.mock import Mock

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import spearmanr

from pipelines.datasets import Prepared
from pipelines.errors import UserError
from pipelines.params import Params, PerBudget, Task, read_params
from pipelines.paths import SHORTCUTS_FILE
from pipelines.problems import get_problem, higher_is_better
from pipelines.samples.cell_masks import cell_masks
from pipelines.samples.images import ImageSamples
from pipelines.simulate.cells import simulate_blood_cell
from pipelines.tune_metric import with_tune_metric, write_shortcuts
from tests.training.image_samples import CLASSES, TREES, from_files, image_task, in_memory, write_folder
from tests.training.tiny import ROOT
from training.architectures import Architecture, get_architecture
from training.estimator import Classifier, FitContext
from training.features import exchanged_cells, sources
from training.features.exchanged_cells import exchanged
from training.features.sources import source_weights
from training.model import cross_fit
from training.model.cross_fit import fit_final
from training.model.stress import MOST, answered, answered_parts, score, under_stress
from training.networks.augment import ZOOMS, augmentation, blurred, zoomed
from training.networks.cell_network import viewed
from training.studies.study import tune

SIDE = 96


@pytest.fixture(scope="module")
def task() -> Any:
    task: Any = read_params(ROOT / "params.yaml").task("blood_cell")
    return replace(task, data=replace(task.data, size=SIDE))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return cells of laboratories that are confounded with the class, and others that are not."""
    folder = tmp_path_factory.mktemp("laboratories")
    for name, (per_class, seed, laboratories) in {
        "train": (40, 1, "confounded"),
        "home": (24, 2, "confounded"),
        "away": (48, 3, "both"),
    }.items():
        simulate_blood_cell(folder / name, per_class=per_class, seed=seed, laboratories=laboratories)
    return folder


@pytest.fixture(scope="module")
def cells(folder: Path, task: Any) -> dict[str, ImageSamples]:
    cache = folder / "cache"
    return {name: task.read(folder / name, cache=cache).samples.alone() for name in ("train", "home", "away")}


# Copies of training images.


@pytest.mark.parametrize("exchange", ["slide", "slide_and_stain"])
def test_copies_have_the_labels_of_their_cells_and_digests_of_their_own(
    cells: dict[str, ImageSamples], exchange: str
) -> None:
    train = cells["train"].take(np.arange(0, 200, 20))
    joined = exchanged(train, exchange, seed=3)
    count = len(train)
    np.testing.assert_array_equal(joined.pixels[joined.index[:count]], train.pixels[train.index])
    assert joined.digests[:count] == train.digests and len(set(joined.digests)) == len(joined) == 2 * count
    np.testing.assert_array_equal(joined.target, np.tile(train.target, 2))
    copies = joined.pixels[joined.index[count:]].astype(int)
    assert (np.abs(copies - train.pixels[train.index]).mean(axis=(1, 2, 3)) > 2).all()
    # On another slide a cell is in its light: the density of all its pixels moves alike. Another stain scales it.
    moved = np.log((copies + 1) / (train.pixels[train.index] + 1.0))
    spread = np.median([of[inside].std(axis=0).mean() for of, inside in zip(moved, cell_masks(train) > 0, strict=True)])
    assert spread < 0.05 if exchange == "slide" else spread > 0.05, spread
    # Features are cached by digest: other copies must not be taken for these.
    one_subject = with_subjects(train, ["a"] * count)
    relabeled = replace(train, table=train.table.assign(target=train.target[::-1]))
    for other in (
        exchanged(train, exchange, seed=4),
        *(exchanged(of, exchange, seed=3) for of in (train.take(np.arange(1, count)), one_subject, relabeled)),
    ):
        assert not set(other.digests[len(other) // 2 :]) & set(joined.digests)


def test_no_image_but_those_of_training_is_a_partner(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    real = exchanged_cells.stressed

    def spied(samples: Any, others: Any, seed: int, kinds: Any) -> Any:
        seen.append(others)
        return real(samples, others, seed, kinds)

    monkeypatch.setattr(exchanged_cells, "stressed", spied)
    train = in_memory(6)
    exchanged(train, "slide", seed=0)
    assert [list(others.digests) for others in seen] == [train.digests]


def test_without_an_exchange_the_training_images_are_returned() -> None:
    train = in_memory(3)
    assert exchanged(train, "none", seed=0) is train


def test_the_stain_of_cells_on_black_is_exchanged_and_black_stays() -> None:
    train = in_memory(6)
    y, x = np.mgrid[:64, :64] - 31.5
    black = np.hypot(y, x) > 25
    pixels = np.where(black[..., None], 0, np.maximum(train.pixels, 20)).astype(np.uint8)
    joined = exchanged(replace(train, pixels=pixels), "slide_and_stain", seed=0)
    copies = joined.pixels[6:]
    assert (copies[:, black] == 0).all() and (copies[:, ~black] != pixels[:, ~black]).any()


def test_copies_of_files_are_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "raw", per_class=2)
    train = from_files(tmp_path / "raw")
    first = exchanged(train, "slide", seed=0)
    monkeypatch.setattr(exchanged_cells, "stressed", lambda *_: pytest.fail("made again"))
    again = exchanged(train, "slide", seed=0)
    assert isinstance(again.pixels, np.memmap)
    np.testing.assert_array_equal(first.pixels, again.pixels)


@pytest.mark.parametrize("name", TREES)
def test_trees_grow_on_copies_too(name: str) -> None:
    sizes: list[int] = []
    train = in_memory(9)
    model: Any = get_architecture(name, "images", "classification").build(
        {"features": "descriptors", "exchange": "slide"}, rounds=2, seed=0, device="cpu"
    )
    matrix = type(model)._matrix

    def spied(samples: Any) -> Any:
        sizes.append(len(samples))
        return matrix(model, samples)

    model._matrix = spied
    model.fit(train)
    assert sizes == [18]


# Weights by source.


def with_subjects(samples: ImageSamples, subjects: list[str | None]) -> ImageSamples:
    return replace(samples, table=samples.table.assign(subject_id=pd.Series(subjects, dtype=object)))


def test_the_sources_of_a_class_weigh_alike_and_so_do_classes() -> None:
    samples = with_subjects(in_memory(12), ["a", "a", "a", "b", *["a"] * 8])
    weights = source_weights(samples.target, sources.sources(samples))
    total = pd.Series(weights).groupby([samples.target, samples.table["subject_id"]]).sum()
    np.testing.assert_allclose(total, [2, 2, 4, 4], rtol=1e-5)  # one source of the first class has a single image
    assert weights.mean() == pytest.approx(1)


def test_one_image_does_not_outweigh_all_others() -> None:
    samples = with_subjects(in_memory(90), ["b", *["a"] * 89])
    assert source_weights(samples.target, sources.sources(samples)).max() < 6


def test_unknown_sources_are_clusters_of_backgrounds(cells: dict[str, ImageSamples]) -> None:
    train = cells["train"].take(np.arange(0, 200, 3))
    found = sources.sources(with_subjects(train, [None] * len(train)))
    second = train.target > 2  # whose laboratory has a yellow background
    assert not set(found[second]) & set(found[~second])
    black = replace(in_memory(4), pixels=np.zeros((4, 64, 64, 3), np.uint8))
    assert set(sources.sources(black)) == {"background 0"}


def test_sources_of_a_cell_alone_are_those_of_its_slide(cells: dict[str, ImageSamples]) -> None:
    train = with_subjects(cells["away"].take(np.arange(0, 120, 12)), [None] * 10)
    lite = get_architecture("efficientnet_lite0", "images", "classification")
    settings: dict[str, Any] = {"weights": "imagenet", "epochs": 0, "views": 1, "device": "cpu"}
    plain, other = (
        lite.build({"isolation": "cell", "source_penalty": each}, **settings).fit(train).module_.head[2].weight
        for each in (0.0, 10.0)
    )
    assert not torch.allclose(plain, other, atol=1e-4)


def test_weights_reach_the_loss() -> None:
    """A few images that one source calls another class move the answer further where its sources weigh alike."""
    train = in_memory(33)
    rare = np.arange(0, 9, 3)  # images of the first class, which their source says to be of the second
    target = np.where(np.isin(np.arange(33), rare), 1, train.target)
    train = replace(train, table=train.table.assign(target=target))
    subjects = np.where(np.isin(np.arange(33), rare), "rare", "common").tolist()
    blue = in_memory(30, first=200).take(np.arange(0, 30, 3))
    plain, weighted = (
        get_architecture("efficientnet_lite0", "images", "classification")
        .build({"by_source": by_source, "penalty": 30.0}, epochs=1, views=1, test_views=1, seed=0, device="cpu")
        .fit(with_subjects(train, subjects))
        .outputs(blue)[:, 1]
        .mean()
        for by_source in (False, True)
    )
    assert weighted > plain + 0.03, (plain, weighted)


# Scale and focus.


def test_jitter_changes_size_and_focus_and_keeps_black_and_shape() -> None:
    image = torch.zeros(1, 3, 64, 64)
    image[:, :, 20:44, 20:44] = torch.rand(3, 24, 24, generator=torch.Generator().manual_seed(0)) * 200 + 20
    area = (image.amax(dim=1) > 7).sum()
    for factor in ZOOMS:
        changed = zoomed(image, factor)
        assert changed.shape == image.shape
        assert (changed.amax(dim=1) > 7).sum() / area == pytest.approx(factor**2, rel=0.12)
    large = torch.zeros(1, 3, 64, 64)
    large[:, :, 2:62, 2:62] = 100
    assert (zoomed(large, ZOOMS[0])[..., :8] == 0).all(), "no part of a second cell is mirrored into the black"
    assert (zoomed(large + 100, ZOOMS[0])[..., 0] > 0).all()
    soft = blurred(image)
    assert (soft[image == 0] == 0).all()
    assert soft[0, :, 22:42, 22:42].std() < 0.95 * image[0, :, 22:42, 22:42].std()
    seen = [viewed(image, view, 0.0, jitter=True) for view in range(4)]
    assert torch.equal(seen[0], image)
    assert not any(torch.equal(view, viewed(image, number, 0.0)) for number, view in enumerate(seen) if number)


@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_jitter_of_training_images_keeps_their_shape_and_range(strength: float) -> None:
    torch.manual_seed(0)
    images = torch.rand(4, 3, 48, 48) * 255
    change = augmentation(strength, 48, jitter=True)
    for _ in range(8):
        changed = change(images)
        assert changed.shape == images.shape and changed.min() >= 0 and changed.max() <= 255


def test_validation_images_are_not_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither early stopping nor a prediction sees copies or jitter."""
    model: Any = get_architecture("efficientnet_lite0", "images", "classification").build(
        {"exchange": "slide", "jitter": True, "strength": 0.0}, epochs=1, seed=0, device="cpu"
    )
    asked: list[tuple[int, bool]] = []
    frozen = type(model)._frozen

    def spied(self: Any, samples: Any, view: int, strength: float, *, jitter: bool = False, **how: Any) -> Any:
        asked.append((len(samples), jitter))
        return frozen(self, samples, view, strength, jitter=jitter, **how)

    monkeypatch.setattr(type(model), "_frozen", spied)
    model.fit(in_memory(9), in_memory(5, first=50)).outputs(in_memory(4, first=90))
    assert set(asked) == {(18, True), (5, False), (4, False)}


# The metric.


class _Answers:
    """Is right about the first of so many samples of each kind."""

    def __init__(self, right: dict[str, int]) -> None:
        self.right = right

    def outputs(self, samples: ImageSamples) -> np.ndarray:
        kind = next((kind for kind in self.right if samples.made.endswith(f" {kind} 0")), "home")
        correct = np.arange(len(samples)) < self.right.get(kind, len(samples))
        return np.eye(3)[np.where(correct, samples.target, (samples.target + 1) % 3)]


@pytest.mark.parametrize(
    ("metric", "expected"), [("worst_stress_accuracy", 4 / 9), ("accuracy", 1.0), ("log_loss", 0.0)]
)
def test_the_worst_over_home_and_all_kinds_is_the_score(task: Any, metric: str, expected: float) -> None:
    samples, problem = in_memory(18), get_problem("classification")
    parts = [(_Answers({"stain": 4, "jpeg": 6}), np.arange(9), np.arange(9, 18))]
    stressed = answered_parts(task, metric, parts, samples, seed=0)
    home = samples.target[9:], np.eye(3)[samples.target[9:]]
    assert score(problem, metric, home, stressed) == pytest.approx(expected, abs=1e-6)
    assert bool(stressed) == metric.startswith("worst_stress_")
    # Of two parts, such as folds, a kind is scored over both.
    twice = [*parts, (_Answers({"stain": 9, "jpeg": 5}), np.arange(9, 18), np.arange(9))]
    if stressed:
        assert score(problem, metric, home, answered_parts(task, metric, twice, samples, seed=0)) == pytest.approx(
            11 / 18
        )


def test_the_worst_of_a_loss_is_the_highest() -> None:
    target = np.array([0, 1])
    sure, unsure = np.array([[0.9, 0.1], [0.1, 0.9]]), np.array([[0.6, 0.4], [0.4, 0.6]])
    found = score(
        get_problem("classification"),
        "worst_stress_log_loss",
        (target, sure),
        [{"home": (target, sure), "blur": (target, unsure)}],
    )
    assert found == pytest.approx(-np.log(0.6))
    assert not higher_is_better("worst_stress_log_loss") and higher_is_better("worst_stress_accuracy")


def test_the_rows_under_stress_are_few_even_and_held_out(task: Any) -> None:
    codes = np.array([0] * 200 + [1] * 60 + [2] * 7)
    many = in_memory(9).take(codes)
    many = replace(many, table=many.table.assign(digest=[f"{row:064x}" for row in range(len(many))], target=codes))
    given: list[Any] = []

    def spied(samples: Any, others: Any, seed: int) -> Any:
        given.append(others)
        return task.stressed(samples, others, seed)

    train, spy = in_memory(9, first=50), Mock(spec=task, stressed=spied)
    drawn = under_stress(spy, "worst_stress_accuracy", many, train, seed=0)
    assert given == [train]  # whose slides and stains are exchanged: none of a held-out image
    assert len(under_stress(spy, "worst_stress_accuracy", many, train, seed=0, parts=5)["home"]) == MOST // 5
    counts = np.bincount(drawn["home"].target)
    assert counts.sum() == MOST and counts[2] == 7 and abs(counts[0] - counts[1]) <= 1
    assert {"slide", "stain", "blur"} <= set(drawn)
    assert {tuple(of.digests) for of in drawn.values()} == {tuple(drawn["home"].digests)}
    assert set(drawn["home"].digests) <= set(many.digests)


class Leaning(Classifier):
    """Is right at home, and of images under stress about the share ``level``."""

    def __init__(self, level: float = 0.25) -> None:
        self.level = level

    def fit(self, train: Any, validation: Any = None, context: FitContext | None = None) -> Self:
        return self

    def predict_proba(self, samples: ImageSamples) -> np.ndarray:
        share = self.level if samples.made.endswith(" blur 20261120") else 1.0
        right = np.arange(len(samples)) < share * len(samples)
        return np.eye(len(CLASSES))[np.where(right, samples.target, (samples.target + 1) % len(CLASSES))]


def leaning(objective: Any) -> tuple[Params, Architecture, Prepared]:
    """Return a study of four trials, whose first is the worst, on twenty images."""
    params = read_params(ROOT / "params.yaml")
    task, trials, samples = image_task(64), PerBudget(4, 4), in_memory(20)
    tune_of: Any = replace(task.tune, metric="worst_stress_accuracy", objective=objective, trials=trials)
    task = replace(task, tune=tune_of, split=replace(task.split, folds=2))
    params = replace(params, tasks={"blood_cell": task}, device="cpu", budget="quick")
    table = samples.table.assign(group=samples.table["sample_id"], fold=np.arange(20) % 2)
    table["split"] = np.where(np.arange(20) < 12, "train", "validation")
    space: Any = lambda trial, settings: {"level": trial.suggest_categorical("level", [0.25, 0.5, 1.0])}  # noqa: E731
    return params, Architecture("leaning", "images", "classification", Leaning, space), Prepared(samples, table, "", {})


@pytest.mark.parametrize("objective", ["validation", "cross_validation"])
def test_a_study_chooses_what_holds_under_stress_and_its_run_says_why(store: str, objective: str) -> None:
    params, architecture, prepared = leaning(objective)
    tuned = tune("blood_cell", architecture, prepared, params, progress=False, why="the audit finds a shortcut")
    assert tuned.metric == "worst_stress_accuracy"
    assert tuned.value == pytest.approx(tuned.hyperparameters["level"], abs=0.1)  # though all are right at home
    runs = mlflow.search_runs(experiment_names=["blood_cell"], output_format="list")
    tried = [run.data.metrics["validation/worst_stress_accuracy"] for run in runs if "trial" in run.data.tags]
    assert len(tried) == 4 and tuned.value == max(tried) > min(tried)
    (parent,) = [run for run in runs if "trial" not in run.data.tags]
    assert parent.data.tags["tune.metric_why"] == "the audit finds a shortcut"


@pytest.mark.parametrize("members", [1, 2])
def test_a_final_fit_is_scored_by_models_on_rows_that_they_have_not_seen(
    members: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    params, architecture, prepared = leaning("validation")
    monkeypatch.setattr(cross_fit, "get_architecture", lambda *names: architecture)
    final = fit_final(architecture, {"level": 0.5}, prepared, members=members, settings={})
    own, task = get_problem("classification"), params.task("blood_cell")
    stressed = answered_parts(task, task.tune.metric, final.parts, prepared.samples, params.seed)
    home = prepared.samples.target[final.held_out_rows], final.held_out
    assert score(own, task.tune.metric, home, stressed) == pytest.approx(0.5, abs=0.1)
    for _, fitted_on, held_out in final.parts:
        assert not set(fitted_on) & set(held_out)
    np.testing.assert_array_equal(np.sort(np.concatenate([rows for *_, rows in final.parts])), final.held_out_rows)


# What `auto` stands for.


@pytest.mark.parametrize(
    ("name", "shortcuts", "metric"),
    [
        *(("blood_cell", [], "log_loss"), ("blood_cell", ["border", "corners"], "worst_stress_accuracy")),
        *(("leukemia_cell", [], "roc_auc"), ("leukemia_cell", ["file_size"], "worst_stress_roc_auc")),
    ],
)
def test_auto_is_what_the_audit_calls_for(tmp_path: Path, name: str, shortcuts: list[str], metric: str) -> None:
    params = with_metric(read_params(ROOT / "params.yaml"), name, "auto")
    found = [{"probe": probe, "finding": True} for probe in shortcuts] + [{"probe": "metadata", "finding": False}]
    with pytest.raises(UserError, match=f"dvc repro audit@{name}"):
        with_tune_metric(params, name, tmp_path)
    write_shortcuts(params.task(name), found, tmp_path / name)
    decided, why = with_tune_metric(params, name, tmp_path)
    assert decided.task(name).tune.metric == metric
    assert metric in why and all(probe in why for probe in shortcuts) and "metadata" not in why
    explicit = with_metric(params, name, "macro_f1")
    assert with_tune_metric(explicit, name, tmp_path) == (explicit, "")


def with_metric(params: Params, name: str, metric: str) -> Params:
    task = params.task(name)
    return replace(params, tasks={**params.tasks, name: replace(task, tune=replace(task.tune, metric=metric))})


def test_no_study_of_a_table_depends_on_the_audit(tmp_path: Path) -> None:
    """Else a probe that finds something new would run all of them again."""
    params = read_params(ROOT / "params.yaml")
    found = [{"probe": "metadata", "finding": True}]
    contents = {}
    for name, of in params.tasks.items():
        write_shortcuts(of, found, tmp_path / name)
        contents[name] = "metadata" in (tmp_path / name / SHORTCUTS_FILE).read_text()
        assert of.tuned_by([]) == of.tuned_by(["metadata"]) or contents[name]
    assert {name for name, listed in contents.items() if listed} == {"blood_cell", "leukemia_cell"}


# The proof: what worst stress ranks high at home holds in another laboratory.

ALONE: dict[str, Any] = {"isolation": "cell_size", "color": "standard"}
RANKED: tuple[dict[str, Any], ...] = (
    *({}, {"exchange": "slide"}, {"exchange": "slide_and_stain"}),
    *({"color": "standard"}, {"color": "standard", "exchange": "slide_and_stain"}),
    *(ALONE, ALONE | {"exchange": "slide_and_stain", "jitter": True}),
)


def trained(train: ImageSamples, away: ImageSamples, recipe: dict[str, Any], **few: int) -> tuple[Any, float]:
    """Return a network trained on laboratories that tell the class, and its accuracy where they do not."""
    of = get_architecture("efficientnet_lite0", "images", "classification")
    model = of.build(of.defaults | recipe, epochs=1, seed=0, device="cpu", test_views=1, **few).fit(train)
    return model, float((model.outputs(away).argmax(axis=1) == away.target).mean())


def on_disk(samples: ImageSamples, name: str) -> ImageSamples:
    """Return samples whose masks and features are cached, as those of files are."""
    np.save(name, samples.pixels)
    return replace(samples, pixels=np.load(name, mmap_mode="r"))


def test_a_recipe_against_shortcuts_holds_in_another_laboratory_where_the_plain_one_fails(
    cells: dict[str, ImageSamples],
) -> None:
    _, plain = trained(cells["train"], cells["away"], {}, views=1)
    _, against = trained(cells["train"], cells["away"], RANKED[-1], views=2)
    assert plain < 0.7 and against > 0.9, (plain, against)


@pytest.mark.soak  # a minute, for a proof that no single change is likely to break
def test_worst_stress_at_home_ranks_recipes_as_another_laboratory_does(
    task: Task, cells: dict[str, ImageSamples], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    metric = "worst_stress_accuracy"
    few = on_disk(cells["train"], "train.npy")
    stressed = under_stress(task, metric, cells["home"], few, seed=0)
    stressed = {kind: on_disk(of.alone(), f"{kind}.npy") for kind, of in stressed.items()}
    away = on_disk(cells["away"], "away.npy")
    worst, elsewhere = [], []
    for recipe in RANKED:
        model, held = trained(few, away, recipe, views=4 if recipe.get("jitter") else 1)  # the first is never changed
        found = answered(model, stressed)
        worst.append(score(get_problem("classification"), metric, found["home"], [found]))
        elsewhere.append(held)
    assert spearmanr(worst, elsewhere)[0] >= 0.8, (worst, elsewhere)
