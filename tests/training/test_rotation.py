"""Evidence over all groups is a lie if an outer model has seen a group that it is tested on, in whatever role."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

import training.model.rotation as rotation
from evaluation.evidence.parts import Evidence
from evaluation.explain.images import isolation, on_the_cell
from pipelines.datasets import Prepared, prepare
from pipelines.errors import UserError
from pipelines.params import Params, PerBudget, read_params
from pipelines.samples import Kept
from pipelines.tracking import ROTATION_SHA256, folder_sha256
from tests.empty_store import working_in
from tests.training.image_samples import CLASSES, draw, image_contract, image_task, in_memory, labeled
from tests.training.tiny import ROOT
from training.architectures import get_architecture
from training.features.isolated_cells import isolated
from training.model.cross_fit import FinalFit
from training.model.final_fit import Fitted, Unfinished, fit
from training.model.predictor import Predictor
from training.model.rotation import ROTATION, Rotated, Routed, is_rotated
from training.problems.classification import Classes
from training.studies.study import tune
from training.trees.images import ImageTrees

NAME, ARCHITECTURE = "cells", "random_forest"
SUBJECTS, EACH, PARTS, SIDE = 18, 3, 3, 24
OF = get_architecture(ARCHITECTURE, "images", "classification")
HYPERPARAMETERS = {**OF.defaults, "features": "descriptors"}


def made_params() -> Params:
    params, few = read_params(ROOT / "params.yaml"), PerBudget(1, 1)
    task: Any = image_task(SIDE)
    split = replace(task.split, validation=0.2, folds=3, fewest_groups=60, rotation=PARTS)
    few_rounds = {"trials": few, "rounds": PerBudget(4, 4)}
    tune = replace(task.tune, objective="cross_validation", metric="roc_auc", weights="none", **few_rounds)
    task = replace(task, split=split, tune=tune, fit=replace(task.fit, members=PerBudget(3, 3)))
    return replace(params, budget="quick", device="cpu", tasks={NAME: task})


def made_prepared(params: Params) -> Prepared:
    """Return cells of subjects of one class each."""
    codes = np.repeat(np.arange(SUBJECTS) % len(CLASSES), EACH)
    samples = labeled(np.stack([draw(code, row, SIDE) for row, code in enumerate(codes.tolist())]), codes)
    subjects = [f"S{subject:02d}" for subject in range(SUBJECTS) for _ in range(EACH)]
    samples = replace(samples, table=samples.table.assign(subject_id=subjects))
    return prepare(
        Kept(samples, {"rows": {"raw": len(codes), "kept": len(codes), "dropped": {}}}), params.task(NAME), 3
    )


@dataclass
class Watched:
    """What reached fits, calibration and references, by the part that was left out; -1 for the registered model."""

    seen: list[tuple[int, str, frozenset[str]]]
    part: int = -1

    def of(self, part: int) -> dict[str, frozenset[str]]:
        found: dict[str, frozenset[str]] = {}
        for whose, role, ids in self.seen:
            if whose == part:
                found[role] = found.get(role, frozenset()) | ids
        return found


def watch(patch: pytest.MonkeyPatch) -> Watched:
    """Record the samples that reach every fit, calibration and reference."""
    watched = Watched([])
    real, without, calibrate = ImageTrees.fit, Prepared.without, Classes.calibrate.__func__  # type: ignore[attr-defined]
    reference = rotation.make_reference

    def note(role: str, ids: Any) -> None:
        watched.seen.append((watched.part, role, frozenset(ids)))

    def fitting(self: Any, train: Any, validation: Any = None, context: Any = None) -> Any:
        note("train", train.table["sample_id"])
        note("early stopping", [] if validation is None else validation.table["sample_id"])
        return real(self, train, validation, context)

    def leaving_out(self: Prepared, part: int) -> Prepared:
        watched.part = part
        return without(self, part)

    def calibrating(cls: Any, task: Any, prepared: Prepared, final: FinalFit, refit: Any) -> Any:
        note("calibration", prepared.table["sample_id"].iloc[final.held_out_rows])
        return calibrate(cls, task, prepared, final, refit)

    def referring(contract: Any, prepared: Prepared, final: FinalFit) -> Any:
        note("reference", prepared.side("train", "validation").table["sample_id"])
        return reference(contract, prepared, final)

    patch.setattr(ImageTrees, "fit", fitting)
    patch.setattr(Prepared, "without", leaving_out)
    patch.setattr(Classes, "calibrate", classmethod(calibrating))
    patch.setattr(rotation, "make_reference", referring)
    return watched


@dataclass(frozen=True)
class Done:
    fitted: Fitted
    folder: Path
    prepared: Prepared
    params: Params
    watched: Watched

    @property
    def predictions(self) -> pd.DataFrame:
        return pd.read_parquet(self.folder / "predictions.parquet")

    def rotated(self) -> Rotated:
        model = Predictor().read(self.folder / "model")
        return Rotated.of(model.contract, model.baseline, self.folder / ROTATION, self.prepared)


def begin(folder: Path, prepared: Prepared, params: Params) -> Fitted:
    how: dict[str, Any] = {"prepared": prepared, "params": params, "folder": folder, "study": "one", "tune": tune}
    return fit(NAME, OF, HYPERPARAMETERS, **how)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Done]:
    """Return a fit of which the second part was cut off, and that was gone on with."""
    params = made_params()
    place = tmp_path_factory.mktemp("rotation")
    with working_in(place, OPTUNA_STORAGE=f"sqlite:///{place / 'optuna.db'}"), pytest.MonkeyPatch.context() as patch:
        prepared, folder, watched = made_prepared(params), place / "models", watch(patch)
        with pytest.MonkeyPatch.context() as killing:
            killing.setattr(rotation, "fit_calibrated", _dies_at(1))
            with pytest.raises(KeyboardInterrupt):
                begin(folder, prepared, params)
        assert not (folder / "predictions.parquet").exists()
        kept = folder_sha256(next(Path("checkpoints/fit").glob("*.rotation")) / "0")
        first, watched.part = [each for each in watched.seen if each[0] == 0], -1
        fitted = begin(folder, prepared, params)
        assert first == [each for each in watched.seen if each[0] == 0], "part 0 was done"
        assert folder_sha256(folder / ROTATION / "0") == kept and not list(Path("checkpoints/fit").iterdir())
        yield Done(fitted, folder, prepared, params, watched)


def _dies_at(number: int) -> Any:
    real, calls = rotation.fit_calibrated, Counter[str]()

    def call(*arguments: Any, **named: Any) -> Any:
        if calls["all"] == number:
            raise KeyboardInterrupt
        calls["all"] += 1
        return real(*arguments, **named)

    return call


def test_no_outer_model_saw_a_group_that_it_is_tested_on(done: Done) -> None:
    table = done.prepared.table
    for part in done.prepared.parts:
        tested = set(table.loc[table["outer"] == part, "group"])
        found = done.watched.of(part)
        assert set(found) == {"train", "early stopping", "calibration", "reference"}
        others = set(table.loc[table["outer"] != part, "sample_id"])
        for role, ids in found.items():
            groups = set(table.loc[table["sample_id"].isin(ids), "group"])
            assert groups and not groups & tested, f"part {part}: {role}"
        assert found["train"] == found["calibration"] == found["reference"] == others  # and all else was used
    assert done.watched.of(-1)["train"] == set(table["sample_id"]), "the registered model is a refit on all"


def test_every_group_is_predicted_once_by_the_model_of_its_part(done: Done) -> None:
    predictions, prepared = done.predictions, done.prepared
    assert predictions["sample_id"].tolist() == prepared.table["sample_id"].tolist()
    assert predictions.groupby("group")["outer"].nunique().eq(1).all() and predictions["group"].nunique() == SUBJECTS
    raw = predictions[[f"raw_{label}" for label in CLASSES]].to_numpy()
    model, samples = done.rotated(), prepared.samples
    unlike, said = model.unlike(samples), model.answer(samples)
    threshold = model.per_row(samples, lambda by, own: np.full(len(own), by.threshold))
    for part in prepared.parts:
        rows = np.flatnonzero(prepared.table["outer"] == part)
        own, outer = samples.take(rows), Predictor().read(done.folder / ROTATION / str(part))
        np.testing.assert_array_equal(raw[rows], outer.estimator.outputs(own))
        assert unlike is not None
        np.testing.assert_array_equal(unlike[rows], outer.unlike(own))
        pd.testing.assert_frame_equal(said.iloc[rows].reset_index(drop=True), outer.answer(own))
        assert set(threshold[rows]) == {outer.contract.threshold}  # type: ignore[attr-defined]
    registered = Predictor().read(done.folder / "model").estimator.outputs(samples)
    assert np.abs(raw - registered).max() > 0.1
    mixed = np.random.default_rng(0).permutation(len(raw))
    shuffled = samples.take(mixed)
    np.testing.assert_array_equal(model.estimator.predict(shuffled), raw[mixed].argmax(axis=1))
    seen = model.estimator.seen(shuffled)
    assert seen.table.equals(shuffled.table)
    np.testing.assert_array_equal(model.estimator.outputs(seen), raw[mixed])
    assert model.estimator.heatmaps(samples) is None
    baseline = predictions[[f"baseline_{label}" for label in CLASSES]]
    assert len(baseline.drop_duplicates()) == 1  # else its order over the parts would be an artifact


@pytest.mark.parametrize("isolations", [("none", "none"), ("none", "cell_size"), ("cell_size", "nucleus_size")])
def test_outer_models_that_isolate_otherwise_see_and_explain_their_own_images(isolations: tuple[str, str]) -> None:
    samples, shown = in_memory(6, SIDE), dict[str, np.ndarray]()

    def model(how: str) -> Any:
        def heatmaps(own: Any) -> np.ndarray:
            seen = isolated(own, how)
            shown.update(zip(own.table["sample_id"], seen.pixels[seen.index], strict=True))
            return np.ones((len(own), SIDE, SIDE))

        seen = partial(isolated, isolation=how)
        return SimpleNamespace(estimator=SimpleNamespace(seen=seen, heatmaps=heatmaps, heatmap_method="occlusion"))

    rotated = Rotated()
    rotated.outer, rotated.contract = [model(how) for how in isolations], image_contract(image_task(SIDE))
    rotated._part_of = pd.Series(np.arange(6) % 2, index=samples.table["sample_id"])
    estimator = Routed(rotated)
    seen = estimator.seen(samples)
    assert (seen is samples) == (isolations == ("none", "none"))
    maps = estimator.heatmaps(seen)
    assert estimator.heatmap_method == "occlusion"
    for part, how in enumerate(isolations):
        right = isolated(samples.take(np.arange(part, 6, 2)), how)
        for name, pixels in zip(right.table["sample_id"], right.pixels[right.index], strict=True):
            np.testing.assert_array_equal(shown[name], pixels)
    assert maps is not None
    by_part = [on_the_cell(samples, isolated(samples, how), maps)[0] for how in isolations]
    np.testing.assert_array_equal(on_the_cell(samples, seen, maps)[0], np.where(np.arange(6) % 2, *by_part[::-1]))


def test_that_no_cell_is_isolated_is_found_without_all_images_in_memory() -> None:
    asked: list[int] = []

    def seen(samples: Any) -> Any:
        asked.append(len(samples))
        return samples

    run: Any = SimpleNamespace(test=in_memory(150, SIDE), model=SimpleNamespace(estimator=SimpleNamespace(seen=seen)))
    assert isolation(run) == Evidence()
    assert sum(asked) == 150 and max(asked) <= 64


def test_a_sample_of_no_part_is_refused_and_not_sent_to_some_model(done: Done) -> None:
    samples = done.prepared.samples
    strange = replace(samples, table=samples.table.assign(sample_id="elsewhere"))
    with pytest.raises(UserError, match="'elsewhere' is in no part"):
        done.rotated().outputs(strange)


def test_models_of_another_rotation_are_refused(done: Done) -> None:
    table = done.prepared.table
    moved = replace(done.prepared, table=table.assign(outer=(table["outer"] + 1) % PARTS))
    model = Predictor().read(done.folder / "model")
    with pytest.raises(UserError, match="part 0 was fitted on another split"):
        Rotated.of(model.contract, model.baseline, done.folder / ROTATION, moved)


def test_parts_that_were_calibrated_for_another_coverage_are_not_gone_on_with() -> None:
    task = made_params().task(NAME)
    wider = replace(task, evaluate=replace(task.evaluate, interval_coverage=0.99))
    asked: dict[str, Any] = {"architecture": ARCHITECTURE, "hyperparameters": {}, "members": 1, "settings": {}}
    assert Unfinished.of("one", task, **asked) != Unfinished.of("one", wider, **asked)


def test_a_baseline_that_learns_from_samples_is_refused() -> None:
    params = made_params()
    task, prepared = params.task(NAME), made_prepared(params)
    learns: Any = replace(task, evaluate=replace(task.evaluate, baseline="xgboost"))
    for architecture in ("xgboost", ARCHITECTURE):
        with pytest.raises(UserError, match=r"evaluate\.baseline is xgboost"):
            is_rotated(architecture, learns, prepared)
    assert is_rotated(ARCHITECTURE, task, prepared) and not is_rotated("majority_class", task, prepared)


def test_one_run_has_the_studies_of_all_parts_below_it(done: Done) -> None:
    client = MlflowClient()
    every = client.search_runs([mlflow.get_experiment_by_name(NAME).experiment_id])
    run = next(each for each in every if each.info.run_id == done.fitted.run_id)
    assert Counter(each.data.tags["stage"] for each in every if "rotation" not in each.data.tags) == {"fit": 1}
    assert run.data.tags[ROTATION_SHA256] == folder_sha256(done.folder / ROTATION)
    studies = [each for each in every if each.data.tags.get("mlflow.parentRunId") == run.info.run_id]
    assert sorted(each.data.tags["rotation"] for each in studies) == [str(part) for part in done.prepared.parts]
    for study in studies:
        part = int(study.data.tags["rotation"])
        assert study.data.tags["split.sha256"] == done.prepared.without(part).sha256
        trials = [each for each in every if each.data.tags.get("mlflow.parentRunId") == study.info.run_id]
        assert [each.data.tags["rotation"] for each in trials] == [str(part)]
    logged = client.get_metric_history(run.info.run_id, "rotation/validation_roc_auc")
    assert [each.step for each in sorted(logged, key=lambda each: each.step)] == done.prepared.parts
