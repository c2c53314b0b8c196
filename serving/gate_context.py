"""What the gate compares evidence with: the version's files, the run, and the recorded data, as they are now."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import yaml
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from evaluation.evidence.evidence_file import read_evidence
from evaluation.evidence.looks import TEST_SHA256, ledger
from evaluation.promotion.registered_files import FILES_TAG, served_hashes, version_behind
from evaluation.promotion.situation import Situation
from pipelines import tracking
from pipelines.errors import UserError
from pipelines.file_hashes import combined
from pipelines.paths import PREPARED
from pipelines.split import split_sha256

DVC_LOCK = Path("dvc.lock")
SECONDS = 300
_PROGRAM = """
import sys
import mlflow
from mlflow.models import Model

folder = sys.argv[1]
example = Model.load(folder).load_input_example(folder)
answer = mlflow.pyfunc.load_model(folder).predict(example)
if len(answer) != len(example):
    sys.exit(f"{len(answer)} answers to {len(example)} rows")
columns = [name for name in ("prediction", "label") if name in answer] or list(answer)[:1]
if answer[columns].isna().any().any():
    sys.exit(f"an answer without {' or '.join(columns)}")
print(f"answered {len(answer)}")
"""


def situation(
    name: str,
    version: ModelVersion,
    evidence: dict[str, Any],
    *,
    to: Literal["staging", "production"],
    production: int | None,
    registering: bool = False,
) -> Situation:
    """Return the situation of a version; ``registering``: it is about to get its tags from this evidence."""
    recorded, samples = data_md5(), PREPARED / name / "samples.parquet"
    other = recorded is None or evidence.get("hashes", {}).get("dvc.data_md5") != recorded
    folder, files = tracking.DATA / name, hashes(version.source)
    return Situation(
        to=to,
        today=datetime.now(UTC).date(),
        run_id=version.run_id,
        model_uri=version.source,
        evidence_sha256=evidence["sha256"] if registering else version.tags.get("evidence.sha256"),
        model_sha256=files.model,
        files_sha256=files.files,
        registered_files_sha256=files.files if registering else version.tags.get(FILES_TAG),
        dvc_data_md5=recorded,
        data_sha256=tracking.folder_sha256(folder) if other and folder.is_dir() else None,
        split_sha256=split_sha256(pd.read_parquet(samples)) if samples.is_file() else None,
        version=int(version.version),
        production=production,
        dvc_lock_md5=lock_md5(name),
        looks=_looks(name, evidence["hashes"].get(TEST_SHA256)),
        rotation_sha256=_run_tag(version.run_id, tracking.ROTATION_SHA256),
    )


def _looks(name: str, rows: str | None) -> int | None:
    return None if rows is None else len(ledger(name, rows))


def _run_tag(run_id: str | None, tag: str) -> str | None:
    """Return a tag of a run, None where it has none or the run cannot be found."""
    try:
        return MlflowClient().get_run(str(run_id)).data.tags.get(tag)
    except MlflowException as error:
        if not tracking.absent(error):
            raise
        return None


def version_of(name: str, version: int) -> ModelVersion:
    """Return a version of the registered model ``name``."""
    try:
        return MlflowClient().get_model_version(name, str(version))
    except MlflowException as error:
        if not tracking.absent(error):
            raise
        raise UserError(f"{name} has no version {version}; see `python -m serving.history --task {name}`") from error


def registered(uri: str) -> ModelVersion:
    """Return the version that ``models:/NAME/VERSION`` or ``models:/NAME@ALIAS`` names, else raise `UserError`."""
    try:
        version = version_behind(uri)
    except MlflowException as error:
        raise UserError(f"{uri!r} cannot be read from {tracking.mlflow.get_tracking_uri()}: {error}") from error
    if version is None:
        raise UserError(f"{uri!r}: name a version: models:/<task>/<number> or models:/<task>@<alias>")
    return version


def run_problem(run_id: str) -> str | None:
    """Return what is wrong with a run: it does not exist, or is deleted; None if nothing is."""
    try:
        run = MlflowClient().get_run(run_id)
    except MlflowException as error:
        if not tracking.absent(error):
            raise
        return f"run {run_id} is not in {tracking.store()}"
    restore = f"`mlflow runs restore --run-id {run_id}` restores it"
    deleted = run.info.lifecycle_stage == "deleted"
    return f"run {run_id} in {tracking.store()} was deleted; {restore}" if deleted else None


def evidence_of(name: str, run_id: str, sha256: str | None) -> dict[str, Any]:
    """Return the evidence from the artifacts of the run; `UserError` if it cannot be read or has another hash."""
    if not sha256:
        raise UserError(f"the version of {name} has no evidence; register it again: make register TASK={name}")
    place = f"evidence/{sha256}/evidence.json"
    lacking = f"run {run_id} of {name} has no artifact {place}; register again"
    with downloaded(f"runs:/{run_id}/{place}", lacking) as path:
        try:
            evidence = read_evidence(path)
        except UserError as error:
            raise UserError(f"{place} of run {run_id}: {str(error).removeprefix(f'{path}: ')}") from error
        except (OSError, ValueError) as error:
            raise UserError(f"{place} of run {run_id} cannot be read: {error}") from error
    if evidence["sha256"] != sha256:
        raise UserError(f"{place} of run {run_id} was edited: it is evidence {evidence['sha256'][:12]}")
    return evidence


@dataclass(frozen=True)
class Hashes:
    """Hashes of a logged model: of its artifact ``model``, of all served files (also code), and of each by its path."""

    model: str | None
    files: str | None
    each: dict[str, str] = field(default_factory=dict, compare=False)


def hashes(uri: str) -> Hashes:
    """Return the hashes of a logged model's files as they are now; None for what cannot be read."""
    try:
        with model_files(uri) as folder:
            logged = yaml.safe_load((folder / "MLmodel").read_text(encoding="utf-8"))
            place = logged["flavors"]["python_function"]["artifacts"]["model"]["path"]
            each = served_hashes(folder)
            return Hashes(tracking.folder_sha256(folder / place), combined(each), each)
    except (UserError, OSError, KeyError, TypeError, yaml.YAMLError):
        return Hashes(None, None)


@contextmanager
def model_files(uri: str) -> Iterator[Path]:
    """Yield a copy of the folder of a logged model."""
    with downloaded(uri, f"the files of model {uri} cannot be read") as folder:
        yield folder


def data_md5() -> str | None:
    """Return the hash of ``data/`` in ``data.dvc``, None without one."""
    if not tracking.DATA_DVC.is_file():
        return None
    outs = (yaml.safe_load(tracking.DATA_DVC.read_text(encoding="utf-8")) or {}).get("outs") or [{}]
    return outs[0].get("md5")


def lock_md5(name: str) -> str | None:
    """Return the hash in ``dvc.lock`` of the data that the task's split was made of, None without one."""
    if not DVC_LOCK.is_file():
        return None
    content = yaml.safe_load(DVC_LOCK.read_text(encoding="utf-8"))
    stages = (content.get("stages") if isinstance(content, dict) else None) or {}
    stage = stages.get(f"prepare@{name}") or {}
    place = (tracking.DATA / name).as_posix()
    return next((each.get("md5") for each in stage.get("deps", []) if each.get("path") == place), None)


@contextmanager
def downloaded(uri: str, otherwise: str) -> Iterator[Path]:
    """Yield a copy of artifacts; `UserError`, which says ``otherwise``, where they cannot be read."""
    with tempfile.TemporaryDirectory(prefix="oncolineage-") as temporary:
        try:
            path = tracking.mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=temporary)
        except (MlflowException, OSError) as error:
            raise tracking.refusal(error) or UserError(f"{otherwise} ({str(error).splitlines()[0]})") from error
        yield Path(path)


def answer_example(uri: str, seconds: float = SECONDS) -> int:
    """Predict a logged model's input example and return its number of rows; `UserError` if it does not answer each."""
    with model_files(uri) as folder:
        try:
            done = subprocess.run(
                [sys.executable, "-B", "-c", _PROGRAM, str(folder.resolve())],
                cwd=folder.parent,  # not the checkout: the model brings its code
                env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
                capture_output=True,
                text=True,
                timeout=seconds,
            )
        except subprocess.TimeoutExpired as error:
            raise UserError(f"model {uri} does not answer within {seconds:g} s; nothing was changed") from error
    lines = [line for line in done.stdout.splitlines() if line.startswith("answered ")]
    if done.returncode or not lines:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise UserError(f"model {uri} does not load or answer: {last}; nothing was changed")
    return int(lines[-1].split()[1])
