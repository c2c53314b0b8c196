"""A stack that is no better, was weighted by rows that its members saw, or answers otherwise once it is loaded."""

import io
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

import evaluation.stack
from evaluation.comparison.stacked import choose
from evaluation.evidence.evidence_file import evidence_path, read_evidence
from evaluation.evidence.looks import ledger, sha256_of_tested
from evaluation.promotion.candidate_run import candidate
from evaluation.promotion.scoring import load
from pipelines.datasets import Prepared
from pipelines.errors import UserError
from pipelines.files import read_json, write_json
from pipelines.params import Params, PerBudget, read_params
from pipelines.tracking import mlflow
from serving.registry import register
from tests.evaluation.planted import split_by
from tests.training.profile_samples import PREDICTORS, TARGETS, gene_samples, labels_samples, with_values
from training.architectures import STACK, get_architecture
from training.model.cross_fit import CrossFitted, fit_final
from training.model.stacking import fit_members, fit_weights, stack

NAME = "gene_expression"
MEMBERS = ("ridge", "xgboost")
ROWS = 420


@pytest.fixture(scope="module")
def params() -> Params:
    params = read_params(Path(__file__).parents[2] / "params.yaml")
    task: Any = params.task(NAME)
    few = {"tune": replace(task.tune, **dict.fromkeys(("epochs", "rounds"), PerBudget(60, 60)))}
    few["split"] = replace(task.split, folds=3)
    small = replace(task, **few, evaluate=replace(task.evaluate, resamples=200, explained_samples=PerBudget(4, 4)))
    return replace(params, seed=7, device="cpu", budget="quick", tasks={**params.tasks, NAME: small})


def genes(steps: float) -> Prepared:
    """Return targets that are linear in all genes, and with one also jump by ``steps``; a patient has two samples."""
    samples, rng = gene_samples(ROWS), np.random.default_rng(3)
    free = rng.normal(size=(ROWS, len(PREDICTORS)))
    linear = free @ rng.normal(size=(len(PREDICTORS), len(TARGETS))) / 6
    jump = np.where(np.abs(free[:, :1]) > 0.67, steps, -steps)  # no line has anything of it
    place = [list(samples.genes).index(name) for name in (*PREDICTORS, *TARGETS)]
    values = np.empty_like(samples.values)
    values[:, place] = 6 + np.hstack([free, linear + jump + rng.normal(0, 0.2, linear.shape)])
    patient = np.arange(ROWS) // 2
    samples = with_values(samples, values)
    samples = replace(samples, table=samples.table.assign(patient_id=[f"P{each}" for each in patient]))
    side = np.where(patient % 3 == 0, "test", np.where(patient % 3 == 1, "train", "validation"))
    return split_by(samples, side, np.where(side == "test", -1, patient % 7 % 3))


def stacked(params: Params, prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> tuple[list[str], dict[str, Any]]:
    for each in MEMBERS:
        defaults = get_architecture(each, "profiles", "multi_target").defaults
        write_json(Path("models") / NAME / each / "tuned.json", {"hyperparameters": defaults, "study": "none"})
    monkeypatch.setattr(evaluation.stack, "read_params", lambda: params)
    for module in ("evaluation.evaluate", "pipelines.params"):
        monkeypatch.setattr(f"{module}.read_params", lambda *_: params)
    monkeypatch.setattr("pipelines.datasets.read_prepared", lambda name, task: prepared)
    with redirect_stdout(io.StringIO()) as out:
        assert evaluation.stack.main(["--task", NAME, "--architectures", *MEMBERS]) == 0
    return out.getvalue().splitlines(), read_json(Path("reports") / NAME / "stack.json")


def test_a_stack_that_is_better_is_registered_and_answers_as_it_did_and_one_that_is_not_leaves_nothing(
    place: Path, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = genes(steps=1.0)
    said, found = stacked(params, prepared, monkeypatch)
    weights = {row["architecture"]: row["weight"] for row in found["members"]}
    assert found["better"] and found["difference"]["low"] > 0 and "is better than its best member" in "".join(said)
    assert sum(weights.values()) == pytest.approx(1) and min(weights.values()) > 0.1
    assert found["validation"] > max(row["validation"] for row in found["members"])
    evidence = read_evidence(evidence_path(NAME, STACK))
    assert evidence["test"]["metrics"]["r2"]["value"] == pytest.approx(found["test"][STACK]["value"])
    assert len(ledger(NAME, sha256_of_tested(prepared))) == 2  # looks: the comparison, and the evidence
    # What was logged, with its code, answers as it did.
    kept = pd.read_parquet(Path("models") / NAME / STACK / "predictions.parquet")
    model, tested = load(evidence["model_uri"]), prepared.side("test")
    np.testing.assert_allclose(model.outputs(tested), kept[[f"prediction_{gene}" for gene in TARGETS]], rtol=1e-6)
    few = tested.take(np.arange(3))
    answered = model.predict(None, model.contract.request(few))["prediction"]
    np.testing.assert_allclose([list(row.values()) for row in answered], model.outputs(few), rtol=1e-5)
    code = Path(mlflow.artifacts.download_artifacts(artifact_uri=evidence["model_uri"])) / "code"
    for name in ("_stack", *MEMBERS):
        assert list(code.rglob(f"architectures/{name}.py")), name
    completed = candidate(NAME, params, prepared, STACK)
    assert register(NAME, completed, by="a person", policy=params.policy).version == 1
    # The same members on what only one of them learns.
    said, found = stacked(params, genes(steps=0.0), monkeypatch)
    assert not found["better"] and "is not better than its best member" in "".join(said)
    assert not (Path("models") / NAME / STACK).exists()
    with pytest.raises(UserError, match="not there"):
        candidate(NAME, params, prepared, STACK)
    runs = mlflow.search_runs([mlflow.get_experiment_by_name(NAME).experiment_id], "tags.stage = 'stack'")
    assert runs["tags.stack"].tolist() == ["not better", "better"]
    assert [len(MlflowClient().search_model_versions(f"name='{NAME}'"))] == [1]


def test_weights_are_of_outputs_by_models_that_never_saw_the_group(params: Params) -> None:
    prepared, task = genes(steps=1.0), params.task(NAME)
    settings = {"rounds": 10, "seed": 1}
    chosen: Any = {each: (get_architecture(each, "profiles", "multi_target"), {}) for each in MEMBERS}
    made = stack(fit_members(chosen, prepared, settings), prepared, task)
    group, tested = prepared.table["group"].to_numpy(), set(prepared.rows("test"))
    seen = []
    for model, fitted, held in made.final.parts:
        assert not set(group[fitted]) & set(group[held]) and not (set(fitted) | set(held)) & tested
        places = np.searchsorted(made.final.held_out_rows, held)
        np.testing.assert_allclose(made.final.held_out[places], model.outputs(prepared.samples.take(held)), rtol=1e-6)
        seen += held.tolist()
    assert sorted(seen) == made.final.held_out_rows.tolist()
    # Hyperparameters and weights are all that it takes to make it again.
    architecture = get_architecture(STACK, "profiles", "multi_target")
    again = fit_final(architecture, made.hyperparameters, prepared, members=3, settings={})
    np.testing.assert_allclose(again.held_out, made.final.held_out, rtol=1e-6)


def test_a_loaded_stack_of_classifiers_answers_and_explains_the_same(params: Params, tmp_path: Path) -> None:
    samples = labels_samples(90)
    side = np.where(np.arange(90) < 60, "train", "test")
    prepared, task = (
        split_by(samples, side, np.where(side == "train", np.arange(90) % 2, -1)),
        params.task("tumor_type"),
    )
    members = ("xgboost", "random_forest")
    chosen: Any = {each: (get_architecture(each, "profiles", "classification"), {}) for each in members}
    made = stack(fit_members(chosen, prepared, {"rounds": 20, "trees": 10, "seed": 1, "device": "cpu"}), prepared, task)
    made.final.estimator.save(tmp_path)
    loaded, tested = CrossFitted.load(tmp_path), prepared.side("test")
    for each in ("outputs", "predict"):
        own = getattr(made.final.estimator, each)(tested)
        np.testing.assert_allclose(getattr(loaded, each)(tested), own, rtol=1e-6)
    assert own.shape == (30,) and (own == tested.target).mean() > 0.5
    few = tested.take(np.arange(4))
    explained = loaded.attribute(few)
    assert explained is not None and explained.relative_error < 0.05


def test_the_weights_are_the_best_ones_and_what_has_no_mean_is_refused() -> None:
    rng = np.random.default_rng(0)
    target = rng.normal(size=(4000, 2)) * [1, 100]
    errors = [rng.normal(size=target.shape) * [1, 100] * sd for sd in (0.5, 1.0, 5.0)]
    measured = np.where(rng.random(target.shape) < 0.2, np.nan, target)
    found = fit_weights([target + each for each in errors], measured)
    assert found == pytest.approx([0.8, 0.2, 0.0], abs=0.03)  # by the inverse of the variance
    classes = rng.integers(0, 2, 4000)
    sure = np.where(rng.random(4000) < 0.9, classes, 1 - classes)
    right = np.stack([np.where(sure == each, 0.9, 0.1) for each in (0, 1)], axis=1)
    assert fit_weights([right, np.full((4000, 2), 0.5)], classes)[0] > 0.9
    with pytest.raises(UserError, match="risks"):
        fit_weights([target[:, 0], target[:, 1]], target)


def test_a_stack_needs_two_architectures_that_are_tuned(place: Path, params: Params) -> None:
    with pytest.raises(UserError, match="run `make train TASK=gene_expression ARCH=gru`"):
        choose(NAME, params, ["gru", "ridge"])
    with pytest.raises(UserError, match="two tuned architectures"):
        choose("tumor_type", params)
