"""The versions of a task by alias, their moves and evidence, read only. Imports MLflow: pages call it from a job."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from evaluation.promotion.card import read_figures
from pipelines import tracking
from pipelines.errors import UserError
from pipelines.files import read_json
from serving import mlflow_private
from serving.alias_moves import Found, history_uri, look
from serving.audit_log import CANDIDATE, PREVIOUS, PRODUCTION, STAGING, Entry
from serving.gate_context import downloaded, evidence_of, version_of

_EVIDENCE = "evidence.sha256"  # tag of a version
mlflow_private.import_stores()  # here, so that they are imported by one thread: see `loading`


@dataclass(frozen=True)
class Standing:
    """A version that an alias points to, what its tags say, and the row of the history that moved the alias there."""

    version: ModelVersion
    architecture: str
    simulated: bool
    evidence_sha256: str | None
    entry: Entry | None


@dataclass(frozen=True)
class Registered:
    """The registry of a task: its standings by alias, production first, and its experiment in MLflow."""

    task: str
    standings: dict[str, Standing]
    found: Found
    experiment_id: str | None


def registered(task: str) -> Registered:
    """Return what the registry says of a task; a registry that cannot be read is a UserError."""
    path = history_uri().removeprefix("sqlite:///")
    if path != history_uri() and path != ":memory:" and not Path(path).is_file():  # SQLite would create an empty file
        raise UserError(f"there is no registry at {path} yet; `make demo` and `make register TASK=...` make one")
    found = look(task)
    standings = {}
    for alias in [each for each in (PRODUCTION, STAGING, CANDIDATE, PREVIOUS) if each in found.aliases]:
        version = version_of(task, found.aliases[alias])
        architecture, simulated = version.tags.get("architecture", "unknown"), version.tags.get("simulated") == "true"
        entry = _moved(found, alias)
        standings[alias] = Standing(version, architecture, simulated, version.tags.get(_EVIDENCE), entry)
    experiment = MlflowClient().get_experiment_by_name(task)
    return Registered(task, standings, found, None if experiment is None else str(experiment.experiment_id))


def _moved(found: Found, alias: str) -> Entry | None:
    """Return the newest row of the history by which the alias points where it does."""
    for entry in reversed(found.entries):
        if alias == PREVIOUS and entry.alias == PRODUCTION:  # it follows from the moves of production
            return entry
        if entry.alias == alias and entry.to_version == found.aliases[alias]:
            return entry
    return None


def evidence(version: ModelVersion) -> dict[str, Any]:
    """Return the evidence of a version, checked against its hash; without evidence, or edited: a UserError."""
    return evidence_of(version.name, str(version.run_id), version.tags.get(_EVIDENCE))


def figures(version: ModelVersion) -> dict[str, bytes]:
    """Return the figures of the model card by their file names; none if they cannot be read."""
    if (sha256 := version.tags.get(_EVIDENCE)) is None:
        return {}
    try:
        with downloaded(f"runs:/{version.run_id}/evidence/{sha256}/figures", "no figures") as folder:
            return read_figures(folder)
    except UserError:
        return {}


def contract(version: ModelVersion) -> dict[str, Any] | None:
    """Return the contract of a version as JSON values, from two small files; None if it cannot be read."""
    try:
        location = tracking.mlflow.get_logged_model(str(version.source).removeprefix("models:/")).artifact_location
        with downloaded(f"{location}/MLmodel", "no description") as path:
            about = yaml.safe_load(path.read_text(encoding="utf-8"))
        place = about["flavors"]["python_function"]["artifacts"]["model"]["path"]
        with downloaded(f"{location}/{place}/contract.json", "no contract") as path:
            return read_json(path)
    except (UserError, MlflowException, OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        return None
