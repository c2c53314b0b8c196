"""Cells, tumor types and survival at sites: what their networks agree on, what leaves a site, and what comes out."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("flwr")

from pipelines.datasets import prepare
from pipelines.errors import UserError
from pipelines.params import Params, read_params
from pipelines.samples.images import IMAGES_FOLDER
from pipelines.simulate.cells import simulate_blood_cell
from pipelines.simulate.sites import deal_sites
from tests.empty_store import working_in
from tests.training.image_samples import SMALL, in_memory, settled_weights
from tests.training.profile_samples import CLASSES, labels_samples
from tests.training.survival_samples import follow_up_samples
from tests.training.tiny import ROOT
from training.architectures import FEDERATED, get_architecture
from training.estimator import FitContext
from training.federated import images, profiles, site
from training.federated.final import fit_federated, told, tuned
from training.federated.local_grid import LocalGrid
from training.federated.plan import Plan
from training.federated.private import private_loop
from training.federated.site import Site, app
from training.federated.weights import received, sent
from training.model.final_fit import read_fitted
from training.networks.loop import Trained

OF = get_architecture("resnet50", "images", "classification")
GENES = get_architecture("resnet50", "profiles", "classification")
NOTHING = FitContext(loop=lambda *given, **more: Trained(-1, []))


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for of in (OF, GENES):
        monkeypatch.setattr(of.estimator, "backbone", SMALL)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(settled_weights(SMALL, tmp_path_factory.mktemp("weights") / "resnet50.safetensors", 48))


def cells(weights: str, **given: Any) -> Any:
    settings = {"views": 2, "test_views": 1, "epochs": 2, "device": "cpu", "weights": weights, "mode": "head"}
    return OF.estimator(**{**settings, **given})


def agreed(module: Any, parts: list[Any], estimator: Any) -> Any:
    """Return the estimator as the sites of ``parts`` begin it."""
    found = module.agree([module.lists(part) for part in parts])
    for step in module.STEPS:
        each = [module.sums(step, part, found, estimator) for part in parts]
        found[step] = {name: np.sum([one[name] for one in each], axis=0) for name in each[0]}
    return module.begin(estimator, found)


def test_sites_of_cells_agree_on_what_a_fit_on_all_images_learns(weights: str) -> None:
    whole = in_memory(31, 48)
    parts = [whole.take(rows).alone() for rows in (np.arange(20), np.arange(20, 31))]
    begun = agreed(images, parts, cells(weights, color="reinhard", isolation="cell"))
    pooled = cells(weights, color="reinhard", isolation="cell").fit(whole, None, NOTHING)
    np.testing.assert_allclose(begun.stain_, pooled.stain_, rtol=1e-5)
    np.testing.assert_array_equal(begun.counts_, pooled.counts_)
    ours, theirs = (each.state()["weights"] for each in (begun, pooled))
    for name in ("head.0.running_mean", "head.0.running_var"):
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-3, atol=1e-5)
    for name in (each for each in theirs if each.startswith("frozen.")):
        np.testing.assert_array_equal(ours[name], theirs[name])


def test_of_a_frozen_backbone_the_head_alone_leaves_a_site_and_its_statistics_stay(weights: str) -> None:
    rows = in_memory(24, 48)
    start = agreed(images, [rows], cells(weights)).state()
    trained = cells(weights).fit(rows, None, FitContext(start=start))
    before, after = start["weights"], trained.state()["weights"]
    moved = {name for name in after if not np.array_equal(before[name], after[name])}
    assert moved == {"head.2.weight", "head.2.bias"}
    assert set(sent(after, trained.still)) == {*moved, "head.0.running_mean", "head.0.running_var"}


def test_a_mean_of_what_sites_send_has_the_variance_of_all_rows() -> None:
    rng = np.random.default_rng(0)
    values = [rng.normal(mean, 1, (50, 3)) for mean in (-4, 9)]

    def of(rows: np.ndarray) -> dict[str, np.ndarray]:
        return {"a.running_mean": rows.mean(axis=0), "a.running_var": rows.var(axis=0), "a.num_batches_tracked": rows}

    each = [sent(of(rows), ()) for rows in values]
    found = received({name: np.mean([one[name] for one in each], axis=0) for name in each[0]})
    whole = of(np.concatenate(values))
    assert set(found) == {"a.running_mean", "a.running_var"}
    for name, value in found.items():
        np.testing.assert_allclose(value, whole[name])


def test_a_head_is_trained_with_privacy_and_batch_normalization_that_learns_is_refused(weights: str) -> None:
    rows = in_memory(12, 48)
    plan = Plan(task="blood_cell", architecture="resnet50", noise=1.0, share=0.5)
    for mode in ("head", "full"):
        begun = agreed(images, [rows], cells(weights, mode=mode))
        context = FitContext(start=begun.state(), loop=private_loop(plan, np.arange(12) // 2))
        if mode == "full":
            with pytest.raises(UserError, match="batch normalization mixes groups"):
                cells(weights, mode=mode).fit(rows, None, context)
            continue
        after = cells(weights, mode=mode).fit(rows, None, context).state()["weights"]
        assert not np.array_equal(after["head.2.weight"], begun.state()["weights"]["head.2.weight"])


def test_sites_of_gene_images_agree_though_one_lacks_a_class() -> None:
    whole = labels_samples(60)
    alone = whole.target == 2
    rows = (np.flatnonzero(~alone)[:25], np.r_[np.flatnonzero(~alone)[25:], np.flatnonzero(alone)])
    how: dict[str, Any] = {"image_size": 32, "epochs": 1, "device": "cpu", "balanced": True}
    begun = agreed(profiles, [whole.take(part) for part in rows], GENES.estimator(**how))
    pooled = GENES.estimator(**how).fit(whole, None, NOTHING)
    assert begun.classes_ == list(CLASSES) and begun.counts_.tolist() == [20, 20, 20]
    np.testing.assert_array_equal(begun.layout_.pixel, pooled.layout_.pixel)
    np.testing.assert_allclose(begun.features_.transform(whole), pooled.features_.transform(whole), atol=1e-4)
    for name, weight in pooled.state()["weights"].items():  # the same start; statistics are of the rows that train
        if "running" not in name and "num_batches" not in name:
            np.testing.assert_array_equal(begun.state()["weights"][name], weight)


def test_sites_of_a_survival_network_agree() -> None:
    whole = follow_up_samples(60)
    parts = [whole.take(np.arange(start, 60, 2)) for start in range(2)]
    of = get_architecture("cox_mlp", "profiles", "survival").estimator
    begun = agreed(profiles, parts, of(epochs=1, device="cpu"))
    pooled = of(epochs=1, device="cpu").fit(whole, None, NOTHING)
    np.testing.assert_allclose(begun.features_.transform(whole), pooled.features_.transform(whole), atol=1e-4)
    for name, weight in pooled.state()["weights"].items():
        np.testing.assert_array_equal(begun.state()["weights"][name], weight)


def test_a_site_reads_rows_of_classes_that_it_has_too_few_of(tmp_path: Path) -> None:
    samples = labels_samples(60)
    kept = samples.take(np.r_[0:50:3, 1:50:3, 2])  # one of the third class
    table = pd.DataFrame(kept.raw(), columns=list(kept.genes)).assign(sample_id=kept.table["sample_id"])
    table.to_parquet(tmp_path / "expression.parquet", index=False)
    kept.table[["sample_id", "patient_id", "label"]].assign(sample_type="01").to_csv(tmp_path / "samples.csv")
    task = read_params(ROOT / "params.yaml").task("tumor_type")
    assert task.read(tmp_path).samples.classes == CLASSES[:2]
    found = task.read(tmp_path, classes=CLASSES).samples
    assert found.classes == CLASSES and np.bincount(found.target).tolist() == [17, 17, 1]


# From the raw folders of two simulated laboratories to a model that answers.

TASK, LABORATORIES = "blood_cell", ("lab_a", "lab_b")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("laboratories")
    simulate_blood_cell(folder / "data" / TASK, per_class=24, subjects=12, laboratories="both")
    deal_sites(folder / "data" / TASK, "laboratory", [folder / name for name in LABORATORIES])
    return folder


@pytest.fixture(scope="module")
def params() -> Params:
    params = read_params(ROOT / "params.yaml")
    task: Any = params.task(TASK)
    tune = replace(task.tune, metric="log_loss", weights="packaged")
    task = replace(task, data=replace(task.data, size=48), tune=tune)
    return replace(params, tasks={TASK: task}, device="cpu")


def test_images_are_dealt_whole_to_their_laboratories(place: Path) -> None:
    tables = [pd.read_csv(place / name / "images.csv") for name in LABORATORIES]
    whole = pd.read_csv(place / "data" / TASK / "images.csv")
    assert sorted(pd.concat(tables)["file"]) == sorted(whole["file"])
    for name, table in zip(LABORATORIES, tables, strict=True):
        assert table["laboratory"].nunique() == 1
        there = {str(path.relative_to(place / name / IMAGES_FOLDER)) for path in place.glob(f"{name}/images/*/*")}
        assert there == set(table["file"])


def test_a_federated_model_of_cells_is_logged_and_answers(
    place: Path, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site, "read_params", lambda: params)
    task, lite = params.task(TASK), get_architecture("efficientnet_lite0", "images", "classification")
    prepared = prepare(task.read(place / "data" / TASK), task, params.seed)
    asked = {"task": TASK, "architecture": lite.name, "rounds": 2, "epochs": 4, **told(prepared, task)}
    plan = Plan(hyperparameters={**tuned(TASK, lite), "learning_rate": 0.02}, **asked)
    hidden = set(prepared.side("validation", "test").table["sample_id"])
    for name in LABORATORIES:
        own = Site(name, place / name, params, plan)
        assert not hidden & {*own.train.table["sample_id"], *own.validation.table["sample_id"]}
    with working_in(place):
        made = fit_federated(LocalGrid(app, [place / name for name in LABORATORIES]), plan, prepared, params)
        fitted, model, predictions = read_fitted(Path("models") / TASK / f"{FEDERATED}{lite.name}")
    assert [each["site"] for each in made.federated["sites"]] == list(LABORATORIES)
    assert fitted.federated == made.federated and len(predictions) == len(prepared.tested)
    outputs = model.estimator.outputs(prepared.side("test"))
    right = (outputs.argmax(axis=1) == prepared.side("test").target).mean()
    assert right > 0.4  # of five classes
