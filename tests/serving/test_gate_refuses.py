from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow import MlflowClient

from evaluation.evaluate import evidence_path, evidence_sha256
from pipelines import tracking
from pipelines.faults import UserError
from pipelines.files import write_json
from pipelines.params import Params, read_params
from serving.register import choose
from serving.registry import margin_is_proved, register

ROOT = Path(__file__).parents[2]
TASK = "drug_response"


def made_evidence(architecture: str, validation: float, low: float | None, high: float | None) -> dict[str, Any]:
    value = None if low is None or high is None else (low + high) / 2
    evidence = {
        "schema": 1,
        "task": TASK,
        "architecture": architecture,
        "baseline": "mean_effects",
        "simulated": True,
        "run_id": "none",
        "model_uri": "models:/m-none",
        "validation": {"metric": "rmse", "value": validation},
        "test": {"metrics": {"margin": {"value": value, "low": low, "high": high}}},
        "hashes": {"split.sha256": "0" * 64},
    }
    return {**evidence, "sha256": evidence_sha256(evidence)}


@given(low=st.floats(-1, 1), width=st.floats(0, 1))
def test_staging_needs_the_whole_interval_above_zero(low: float, width: float) -> None:
    proved, reason = margin_is_proved(made_evidence("mlp", 1.0, low, low + width))
    assert proved == (low > 0)
    assert "mean_effects" in reason


def test_an_undefined_margin_proves_nothing() -> None:
    assert not margin_is_proved(made_evidence("mlp", 1.0, None, None))[0]


@pytest.fixture
def params(monkeypatch: pytest.MonkeyPatch) -> Params:
    return read_params(ROOT / "params.yaml")


def test_the_choice_is_made_on_validation_rows_and_never_takes_the_baseline(params: Params, tmp_path: Path) -> None:
    # The best on the test split (margin) is not the best on validation rows, and the baseline is best of all there.
    for name, validation, low in (("mean_effects", 0.1, 0.0), ("mlp", 1.2, 0.5), ("xgboost", 1.1, 0.1)):
        write_json(evidence_path(TASK, name, tmp_path), made_evidence(name, validation, low, low + 0.1))
    assert choose(TASK, params, None, tmp_path)["architecture"] == "xgboost"
    assert choose(TASK, params, "mlp", tmp_path)["architecture"] == "mlp"
    with pytest.raises(UserError, match=r"dvc repro evaluate@"):
        choose(TASK, params, "elastic_net", tmp_path)


def test_nothing_evaluated_is_said(params: Params, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="make train"):
        choose(TASK, params, None, tmp_path)


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MlflowClient]:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.chdir(tmp_path)
    before = tracking.mlflow.get_tracking_uri()
    tracking.mlflow.set_tracking_uri(uri)
    yield MlflowClient(uri)
    tracking.mlflow.set_tracking_uri(before)


def registered(client: MlflowClient, evidence: dict[str, Any], of_run: str | None = None) -> dict[str, Any]:
    """Return the evidence bound to a run that carries the hash of ``of_run``, its own if None."""
    run = client.create_run(tracking.experiment(TASK))
    model = client.create_logged_model(run.info.experiment_id, name="model", source_run_id=run.info.run_id)
    bound = copy.deepcopy(evidence) | {"run_id": run.info.run_id, "model_uri": f"models:/{model.model_id}"}
    bound["sha256"] = evidence_sha256(bound)
    client.set_tag(run.info.run_id, "evidence.sha256", of_run or bound["sha256"])
    return bound


def test_evidence_of_another_run_or_task_is_refused(client: MlflowClient) -> None:
    evidence = made_evidence("mlp", 1.0, 0.1, 0.2)
    with pytest.raises(UserError, match="not in the tracking store"):
        register(TASK, evidence)
    with pytest.raises(UserError, match="evaluated with other evidence"):
        register(TASK, registered(client, evidence, of_run="f" * 64))
    with pytest.raises(UserError, match="of the task"):
        register("blood_cell", registered(client, evidence))
    assert client.search_registered_models() == []


def test_a_worse_candidate_does_not_move_staging(client: MlflowClient) -> None:
    good = registered(client, made_evidence("mlp", 1.0, 0.1, 0.2))
    first = register(TASK, good)
    assert first.staged
    assert client.get_model_version_by_alias(TASK, "staging").version == first.version
    worse = registered(client, made_evidence("xgboost", 1.0, -0.1, 0.2))
    second = register(TASK, worse)
    assert not second.staged
    assert second.version != first.version
    assert client.get_model_version_by_alias(TASK, "staging").version == first.version
    assert register(TASK, good).version == first.version


def test_params_are_frozen(params: Params) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        params.seed = 1  # type: ignore[misc]
