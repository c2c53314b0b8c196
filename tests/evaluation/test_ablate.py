"""A gain of the gene order that is none: other rows, other fits, a network that sees no order."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

from evaluation import ablate as command
from evaluation import permuted_genes
from evaluation.ablate import PERMUTATIONS
from evaluation.evidence.build import evidence_of
from evaluation.evidence.parts import Evaluation
from evaluation.permuted_genes import ablate, ablation_path, as_text, compare, permutable, write_ablation
from pipelines.datasets import Prepared
from pipelines.errors import UserError
from pipelines.files import read_json, write_json
from pipelines.params import Params, PerBudget, read_params
from pipelines.tasks.profiles_multi_target import ProfilesMultiTarget
from tests.evaluation.measures import bootstrap_targets
from tests.training.profile_samples import TARGETS, gene_samples
from training.architectures import get_architecture
from training.model.cross_fit import fit_final
from training.model.final_fit import Fitted, fit
from training.model.predictor import Predictor

ROOT = Path(__file__).parents[2]
NAME = "gene_expression"
ARCHITECTURE = "attention_gru"
SMALL = {"width": 8, "embedding": 8, "window": 6, "batch_size": 32, "order": "correlation", "linear_start": 0.0}


@pytest.fixture(scope="module")
def params() -> Params:
    params = read_params(ROOT / "params.yaml")
    task = params.task(NAME)
    assert isinstance(task, ProfilesMultiTarget)
    few = PerBudget(6, 60)
    small = replace(
        task,
        tune=replace(task.tune, epochs=few, rounds=few),
        fit=replace(task.fit, members=PerBudget(2, 1)),
        evaluate=replace(task.evaluate, resamples=100, explained_samples=PerBudget(6, 6)),
    )
    return replace(params, seed=7, device="cpu", budget="quick", tasks={**params.tasks, NAME: small})


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    samples = gene_samples(90)
    side = np.where(np.arange(90) < 60, "train", "test")
    table = samples.table.assign(
        group=samples.table["patient_id"], split=side, fold=np.where(side == "train", np.arange(90) % 2, -1)
    )
    return Prepared(samples, table, "0" * 64, {"rows": {"dropped": {}}, "without": {}})


@dataclass(frozen=True)
class Reference:
    """What the fit stage leaves."""

    fitted: Fitted
    model: Predictor
    predictions: pd.DataFrame

    def ablate(self, prepared: Prepared, params: Params, **others: Any) -> dict[str, Any]:
        settings = {"permutations": PERMUTATIONS, **others}
        return ablate(NAME, self.fitted, self.model, self.predictions, prepared=prepared, params=params, **settings)


@pytest.fixture(scope="module")
def reference(place: Path, params: Params, prepared: Prepared) -> Reference:
    folder = place / "models" / NAME / ARCHITECTURE
    architecture = get_architecture(ARCHITECTURE, "profiles", "multi_target")
    fitted = fit(
        NAME, architecture, {**architecture.defaults, **SMALL}, prepared=prepared, params=params, folder=folder
    )
    return Reference(fitted, Predictor().read(folder / "model"), pd.read_parquet(folder / "predictions.parquet"))


@pytest.fixture(scope="module")
def found(reference: Reference, params: Params, prepared: Prepared) -> dict[str, Any]:
    return reference.ablate(prepared, params, permutations=2)


def test_permuted_fits_are_compared_with_the_fitted_model_on_its_test_rows(
    found: dict[str, Any], reference: Reference, params: Params
) -> None:
    table = reference.predictions
    measured, predicted = (table[[f"{kind}_{gene}" for gene in TARGETS]] for kind in ("target", "prediction"))
    expected = bootstrap_targets(measured, predicted, table["group"], resamples=100, seed=params.seed)
    for metric in ("r2", "rmse", "mae", "mse"):
        assert found["as_it_is"][metric] == pytest.approx(expected[metric].as_dict()), metric
    assert {"rmse_sd", "mae_sd"} <= set(found["gain"])
    assert found["samples"] == found["groups"] == 30
    assert found["order"] == "correlation"
    assert len(found["of_each"]) == len(found["permuted"]) == found["permutations"] == found["members"] == 2


def test_the_gain_is_the_difference_of_the_scores_and_its_mean_over_the_permutations(found: dict[str, Any]) -> None:
    for metric, sign in (("r2", 1), ("rmse", -1)):
        each = [one[metric]["value"] for one in found["of_each"]]
        scores = [one[metric]["value"] for one in found["permuted"]]
        assert each == pytest.approx([sign * (found["as_it_is"][metric]["value"] - score) for score in scores])
        assert found["gain"][metric]["value"] == pytest.approx(np.mean(each))
        assert len(set(each)) == 2  # two orders, two fits
        assert found["gain"][metric]["low"] <= found["gain"][metric]["high"]


def test_both_sides_are_trained_alike(
    reference: Reference, params: Params, prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same order fitted again, as the permuted ones are, gains exactly nothing: only the order differs."""

    def unpermuted(architecture: Any, hyperparameters: Any, *arguments: Any, **others: Any) -> Any:
        assert hyperparameters == {**reference.fitted.hyperparameters, "permutation": 1}
        return fit_final(architecture, {**hyperparameters, "permutation": 0}, *arguments, **others)

    monkeypatch.setattr(permuted_genes, "fit_final", unpermuted)
    found = reference.ablate(prepared, params, permutations=1)
    for metric, interval in found["gain"].items():
        assert interval == pytest.approx({"value": 0.0, "low": 0.0, "high": 0.0}, abs=1e-5), metric


def test_the_run_and_the_report_hold_the_same(
    found: dict[str, Any], reference: Reference, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    path = ablation_path(NAME, ARCHITECTURE)
    write_ablation(found, path)
    assert read_json(path) == json.loads(json.dumps(found))
    run = MlflowClient().get_run(reference.fitted.run_id)
    for metric in ("r2", "rmse", "mae", "mse", "rmse_sd", "mae_sd"):
        for suffix, key in (("", "value"), ("_low", "low"), ("_high", "high")):
            assert run.data.metrics[f"ablation_gene_order_{metric}{suffix}"] == found["gain"][metric][key]
    assert run.info.status == "FINISHED"
    names = [item.path for item in MlflowClient().list_artifacts(reference.fitted.run_id)]
    assert "ablation_gene_order.json" in names
    line = as_text(found, "r2")
    assert line.startswith(f"{NAME} {ARCHITECTURE}: test r2 gains ")
    assert "order 'correlation'" in line


def test_the_command_tells_the_outcome_in_a_line(
    reference: Reference,
    params: Params,
    prepared: Prepared,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(place)
    write_json(Path("models") / NAME / ARCHITECTURE / "fitted.json", asdict(reference.fitted))
    monkeypatch.setattr(command, "read_params", lambda: params)
    monkeypatch.setattr("pipelines.datasets.read_prepared", lambda name, task: prepared)
    command.main(["--task", NAME, "--architecture", ARCHITECTURE, "--permutations", "1"])
    (line,) = capsys.readouterr().out.strip().splitlines()[-1:]
    assert line.startswith(f"{NAME} {ARCHITECTURE}: test r2 gains ")
    assert line.endswith(f"see {ablation_path(NAME, ARCHITECTURE)}")
    assert read_json(ablation_path(NAME, ARCHITECTURE))["permutations"] == 1


def test_the_evidence_of_a_fitted_network_shows_where_it_looks(
    reference: Reference, params: Params, prepared: Prepared
) -> None:
    task = params.task(NAME)
    assert isinstance(task, ProfilesMultiTarget)
    predictions = reference.predictions
    run = Evaluation(task, reference.fitted, reference.model, predictions, prepared, params.seed)
    evidence = evidence_of(run, None)
    assert evidence.logged["explanation_additivity_error"] < 0.05
    assert set(evidence.tables["predictors_by_target"]["target"]) == set(TARGETS)
    members = reference.model.estimator.members_
    order = evidence.tables["gene_order"]
    told = order.groupby("member")["gene"].agg(list).tolist()  # one where all members read in the same order
    assert told * (2 if len(told) == 1 else 1) == [member.gene_order for member in members]
    assert evidence.sections["cross_validation"].keys() >= {"cv_r2_mean", "cv_r2_sd"}
    mlflow.log_metrics(evidence.to_log(), run_id=reference.fitted.run_id)


# What is refused.


@pytest.mark.parametrize("name", ["dnn", "ridge", "mean_expression", "random_forest"])
def test_an_architecture_that_sees_no_order_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=f"{name!r} does not look at the order of genes"):
        permutable(name, read_params(ROOT / "params.yaml").task(NAME))


def test_a_reference_of_other_rows_or_members_is_refused(
    reference: Reference, params: Params, prepared: Prepared
) -> None:
    with pytest.raises(UserError, match="another split"):
        reference.ablate(replace(prepared, sha256="1" * 64), params)
    task = params.task(NAME)
    more = replace(task, fit=replace(task.fit, members=PerBudget(5, 5)))
    with pytest.raises(UserError, match=r"has 2 members, fit\.members asks for 5"):
        reference.ablate(prepared, replace(params, tasks={**params.tasks, NAME: more}))
    shuffled = replace(reference, predictions=reference.predictions.iloc[::-1])
    with pytest.raises(UserError, match="not of the test rows"):
        shuffled.ablate(prepared, params)
    with pytest.raises(UserError, match="at least 1 is needed"):
        reference.ablate(prepared, params, permutations=0)


def test_a_task_without_genes_to_order_is_refused(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for task, architecture in (("drug_response", "mlp"), (NAME, "dnn")):
        with pytest.raises(UserError, match="does not look at the order of genes"):
            command.main(["--task", task, "--architecture", architecture])


# The comparison.


def test_an_order_that_helps_is_told_from_one_that_does_not() -> None:
    rng = np.random.default_rng(0)
    measured = rng.normal(size=(120, 6))
    groups = np.repeat(np.arange(60), 2)
    alike = [measured + 0.5 * rng.normal(size=measured.shape) for _ in range(3)]
    worse = [measured + 0.8 * rng.normal(size=measured.shape) for _ in range(3)]
    helps = compare(measured, alike[0], worse, groups)
    assert all(interval["low"] > 0 for interval in helps["gain"].values())
    assert all(one["r2"]["low"] > 0 for one in helps["of_each"])
    idle = compare(measured, alike[0], alike[1:], groups)["gain"]["r2"]
    assert idle["low"] < 0 < idle["high"]
    itself = compare(measured, alike[0], [alike[0]], groups)["gain"]
    assert {number for interval in itself.values() for number in interval.values()} == {0.0}
