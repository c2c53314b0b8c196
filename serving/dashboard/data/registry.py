"""What the registry says, for people: which version stands where, since when, on whose word, and by which evidence.

All is read through `serving.alias_moves` and `serving.gate_context`, and nothing is written. It imports MLflow, which
takes seconds: pages call it from a `serving.dashboard.data.background_jobs.Job`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import alembic.command
import alembic.config
import mlflow.store.model_registry.sqlalchemy_workspace_store
import mlflow.store.tracking.sqlalchemy_workspace_store
import mlflow.utils.search_logged_model_utils
import sqlalchemy.dialects.sqlite
import yaml
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from evaluation.promotion.card import read_figures
from pipelines import tracking
from pipelines.errors import UserError
from pipelines.files import read_json
from serving.alias_moves import Found, history_uri, look
from serving.audit_log import CANDIDATE, PREVIOUS, PRODUCTION, STAGING, Entry
from serving.gate_context import evidence_of, version_of

SHOWN = (PRODUCTION, STAGING, CANDIDATE, PREVIOUS)
_CONTRACT = "contract.json"
# MLflow and SQLAlchemy import these with the first question, on whichever thread asks it: see `loading`.
_NEEDED_LATER = (
    alembic.command,
    alembic.config,
    mlflow.store.model_registry.sqlalchemy_workspace_store,
    mlflow.store.tracking.sqlalchemy_workspace_store,
    mlflow.utils.search_logged_model_utils,
    sqlalchemy.dialects.sqlite,
)


@dataclass(frozen=True)
class Version:
    """A version of a registered model.

    Attributes
    ----------
    task, number, architecture, run_id
        Of it.
    simulated
        Whether its test rows are simulated.
    evidence_sha256
        None where it was registered without evidence.
    uri
        Of the logged model.
    """

    task: str
    number: int
    architecture: str
    run_id: str
    simulated: bool
    evidence_sha256: str | None
    uri: str


@dataclass(frozen=True)
class Standing:
    """A version that an alias points to, and the row of the history that put it there; None where there is none."""

    alias: str
    version: Version
    entry: Entry | None


@dataclass(frozen=True)
class Registered:
    """What a task's registry holds.

    Attributes
    ----------
    standings
        Production first.
    entries
        The history, the newest first.
    problems
        Where aliases do not point where the history says, a sentence each.
    experiment_id
        Of the task in MLflow, for links.
    """

    task: str
    standings: list[Standing] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    experiment_id: str | None = None

    def standing(self, alias: str) -> Standing | None:
        """Return what an alias points to."""
        return next((each for each in self.standings if each.alias == alias), None)


def registered(task: str) -> Registered:
    """Return what the registry says of a task.

    Raises
    ------
    UserError
        The registry cannot be read.
    """
    refuse_no_registry()
    found = look(task)
    standings = [
        Standing(alias, version(task, found.aliases[alias]), _moved(found, alias))
        for alias in SHOWN
        if alias in found.aliases
    ]
    experiment = MlflowClient().get_experiment_by_name(task)
    return Registered(
        task,
        standings,
        list(reversed(found.entries)),
        found.moved(),
        None if experiment is None else str(experiment.experiment_id),
    )


def everywhere(tasks: Sequence[str]) -> list[Registered]:
    """Return `registered` of several tasks."""
    return [registered(task) for task in tasks]


def version(task: str, number: int) -> Version:
    """Return a version as the registry has it."""
    found = version_of(task, number)
    tags = found.tags
    return Version(
        task,
        int(found.version),
        tags.get("architecture", "unknown"),
        str(found.run_id),
        tags.get("simulated") == "true",
        tags.get("evidence.sha256"),
        str(found.source),
    )


def evidence(version: Version) -> dict[str, Any]:
    """Return the evidence of a version, checked against its hash.

    Raises
    ------
    UserError
        It has none, or it was edited.
    """
    return evidence_of(version.task, version.run_id, version.evidence_sha256)


def figures(version: Version) -> dict[str, bytes]:
    """Return the figures of the model card by their file names; none where they cannot be read."""
    if version.evidence_sha256 is None:
        return {}
    place = f"evidence/{version.evidence_sha256}/figures"
    with tempfile.TemporaryDirectory(prefix="oncolineage-") as folder:
        try:
            found = Path(_download(f"runs:/{version.run_id}/{place}", folder))
        except (MlflowException, OSError):
            return {}
        return read_figures(found)


def contract(version: Version) -> dict[str, Any] | None:
    """Return the contract that a version was logged with, as JSON values; None where it cannot be read.

    Only two small files are fetched, not the model.
    """
    with tempfile.TemporaryDirectory(prefix="oncolineage-") as folder:
        try:
            location = tracking.mlflow.get_logged_model(version.uri.removeprefix("models:/")).artifact_location
            about = yaml.safe_load(Path(_download(f"{location}/MLmodel", folder)).read_text(encoding="utf-8"))
            place = about["flavors"]["python_function"]["artifacts"]["model"]["path"]
            found: dict[str, Any] = read_json(Path(_download(f"{location}/{place}/{_CONTRACT}", folder)))
        except (MlflowException, OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
            return None
    return found


def refuse_no_registry() -> None:
    """Refuse to look where there is nothing: SQLite would make an empty file there.

    Raises
    ------
    UserError
        Says what to do.
    """
    uri = history_uri()
    path = uri.removeprefix("sqlite:///")
    if path != uri and path != ":memory:" and not Path(path).is_file():
        raise UserError(f"there is no registry at {path} yet; `make demo` and `make register TASK=...` make one")


def _moved(found: Found, alias: str) -> Entry | None:
    """Return the newest row of the history by which the alias came to point where it does."""
    number = found.aliases[alias]
    if alias == PREVIOUS:  # it follows from what happened in production
        return next((entry for entry in reversed(found.entries) if entry.alias == PRODUCTION), None)
    moves = (entry for entry in reversed(found.entries) if entry.alias == alias and entry.to_version == number)
    return next(moves, None)


def _download(uri: str, folder: str) -> str:
    return str(tracking.mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=folder))
