"""A registry with versions whose evidence passes, in folders and databases of its own."""

import json
import shutil
import urllib.parse
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from mlflow import MlflowClient

from evaluation.evidence.looks import LOOKS, TEST_SHA256
from pipelines import tracking
from pipelines.paths import PREPARED
from pipelines.policy import Policy
from pipelines.split import split_sha256
from serving import registry
from serving.alias_moves import HISTORY_URI
from serving.gate_context import hashes
from tests.empty_store import empty_store
from tests.evaluation.made_evidence import DATA_MD5, HASH, TASK, made_evidence, made_policy, sealed
from tests.servers import open_tracking_server

BY = "A. Person"
POLICY: Policy = made_policy()
SPLIT = pd.DataFrame({"sample_id": ["a", "b"], "group": ["a", "b"], "split": ["train", "test"], "fold": [0, 1]})


def prepare_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make ``folder`` the checkout: data.dvc and a split that `made_version` is measured on."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MLFLOW_SQLALCHEMYSTORE_POOLCLASS", "NullPool")  # nothing is shared across a fork
    Path("data.dvc").write_text(yaml.safe_dump({"outs": [{"md5": DATA_MD5, "path": "data"}]}))
    (folder / PREPARED / TASK).mkdir(parents=True)
    SPLIT.to_parquet(folder / PREPARED / TASK / "samples.parquet", index=False)


@contextmanager
def tracked(uri: str) -> Iterator[MlflowClient]:
    before = tracking.mlflow.get_tracking_uri()
    tracking.mlflow.set_tracking_uri(uri)
    try:
        yield MlflowClient(uri)
    finally:
        tracking.mlflow.set_tracking_uri(before)


@contextmanager
def made_once(folder: Path) -> Iterator[MlflowClient]:
    """Make the new folder a checkout with an empty registry; what the block leaves there, `made_again` brings back."""
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        prepare_folder(folder, patch)
        with tracked(empty_store(folder)) as client:
            yield client
    shutil.copytree(folder, folder.parent / "copy")


@contextmanager
def made_again(folder: Path) -> Iterator[MlflowClient]:
    """Make a checkout of `made_once` what it was, in its place, which its databases name."""
    shutil.rmtree(folder)
    shutil.copytree(folder.parent / "copy", folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_SQLALCHEMYSTORE_POOLCLASS", "NullPool")
        with tracked(f"sqlite:///{folder}/mlflow.db") as client:
            yield client


def made_model(client: MlflowClient, text: str = "weights") -> tuple[str, str]:
    run = client.create_run(tracking.experiment(TASK))
    model = client.create_logged_model(run.info.experiment_id, name="model", source_run_id=run.info.run_id)
    folder = model_folder(client, f"models:/{model.model_id}")
    (folder / "artifacts" / "model").mkdir(parents=True)
    (folder / "artifacts" / "model" / "estimator").write_text(text)
    (folder / "code.py").write_text("answer = 42\n")
    flavor = {"artifacts": {"model": {"path": "artifacts/model"}}}
    (folder / "MLmodel").write_text(yaml.safe_dump({"flavors": {"python_function": flavor}}))
    client.finalize_logged_model(model.model_id, "READY")
    return run.info.run_id, f"models:/{model.model_id}"


def model_folder(client: MlflowClient, uri: str) -> Path:
    location = client.get_logged_model(uri.removeprefix("models:/")).artifact_location
    return Path(urllib.parse.urlparse(location).path)


def logged_evidence(client: MlflowClient, run_id: str, uri: str, **changes: Any) -> dict[str, Any]:
    """Return evidence of a model, logged to its run as `evaluation.candidate` does."""
    evidence = made_evidence(**changes) | {"run_id": run_id, "model_uri": uri}
    for tag, value in {TEST_SHA256: HASH["test"], LOOKS: "2026-11-20T10:00:00+00:00 ada"}.items():
        client.set_tag(run_id, tag, value)
    evidence["hashes"] |= {"model.sha256": hashes(uri).model, "split.sha256": split_sha256(SPLIT)}
    evidence = sealed({key: value for key, value in evidence.items() if key != "sha256"})
    client.log_text(run_id, json.dumps(evidence), f"evidence/{evidence['sha256']}/evidence.json")
    return evidence


def made_version(client: MlflowClient, text: str = "weights", **changes: Any) -> int:
    evidence = logged_evidence(client, *made_model(client, text), **changes)
    return registry.register(TASK, evidence, by=BY, policy=POLICY).version


def compared_with(version: int, low: float = 0.0) -> list[dict[str, Any]]:
    """Return comparisons with the simple models and with a version in production."""
    return [
        *made_evidence()["comparisons"],
        {
            **{"with": "mlp", "kind": "production", "version": str(version), "run_id": None, "metric": "r2"},
            **{"difference": low + 0.1, "low": low, "high": low + 0.2, "p": None, "rows": 100, "groups": 20},
        },
    ]


def aliases(client: MlflowClient) -> dict[str, int]:
    return {alias: int(version) for alias, version in client.get_registered_model(TASK).aliases.items()}


def stages(client: MlflowClient) -> dict[int, str]:
    return {int(each.version): each.current_stage for each in client.search_model_versions(f"name = '{TASK}'")}


@contextmanager
def empty_registry(kind: str, folder: Path) -> Iterator[MlflowClient]:
    """Make ``folder`` the checkout and give the client of an empty registry on ``sqlite, postgresql`` or ``http``.

    ``http`` is a server that is reached by HTTP alone, and a history in an SQLite file of the team's own.
    """
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        prepare_folder(folder, patch)
        patch.delenv(HISTORY_URI, raising=False)
        if kind == "sqlite":
            uri = empty_store(folder)
        elif kind == "postgresql":
            uri = stack.enter_context(postgres())
        else:
            uri = stack.enter_context(open_tracking_server(folder))
            patch.setenv(HISTORY_URI, f"sqlite:///{folder}/history.db")
        yield stack.enter_context(tracked(uri))


@contextmanager
def postgres() -> Iterator[str]:
    """Give the URI of a PostgreSQL server that lives as long as the block; skip where the wheel is not to be had."""
    from tests.training.postgres import postgres as server  # what needs no server is not skipped with it

    with server() as running:
        yield running.url
