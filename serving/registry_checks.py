"""What does not fit between registry, history, evidence and files of a task."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from evaluation.promotion.gate import Verdict, allowed
from pipelines import tracking
from pipelines.errors import UserError
from serving import audit_log
from serving.alias_moves import Found, look
from serving.audit_log import Entry
from serving.gate_context import FILES_TAG, evidence_of, hashes


@dataclass(frozen=True)
class Problem:
    """What does not fit.

    Attributes
    ----------
    kind
        ``history``, ``alias``, ``stage``, ``verdict``, ``version``, ``run``, ``evidence`` or ``files``.
    version
        Of which version; None where it is the whole task's.
    """

    kind: str
    message: str
    version: int | None = None

    def __str__(self) -> str:
        of = "" if self.version is None else f"version {self.version}: "
        return f"{self.kind}: {of}{self.message}"


def verify(name: str) -> list[Problem]:
    """Return what does not fit in the registry of the task ``name``; nothing, where all is well."""
    found = look(name)
    problems = [Problem("history", each) for each in found.broken()]
    if found.intent is not None:
        entry = found.intent.entry
        told = f"{entry.by} moves it to {entry.alias}, or was broken off; the next who may write the history settles it"
        problems.append(Problem("history", told, entry.to_version))
    problems += [Problem("history", f"the trigger {each} is gone") for each in found.missing_triggers]
    problems += [Problem("alias", each) for each in found.moved()]
    problems += [Problem("stage", each) for each in found.staged_wrongly()]
    problems += [problem for entry in found.entries for problem in _unproved(entry)]
    for number in sorted({entry.to_version for entry in found.entries if entry.to_version is not None}):
        problems += _of_version(name, number, found)
    return problems


def _unproved(entry: Entry) -> Iterator[Problem]:
    """Yield a problem where a row tells of a promotion that the gate did not allow."""
    if entry.action == audit_log.PROMOTE:
        try:
            verdicts = [Verdict(**verdict) for verdict in entry.verdicts]
        except TypeError:
            verdicts = []
        if not allowed(verdicts):
            yield Problem("verdict", f"row {entry.number} promotes it without the gate's word", entry.to_version)


def _of_version(name: str, number: int, found: Found) -> Iterator[Problem]:
    if number not in found.stages:
        if number in found.state.aliases.values():
            yield Problem("version", "has an alias and was deleted", number)
        return
    version = MlflowClient().get_model_version(name, str(number))
    moves = [entry for entry in found.entries if entry.to_version == number]
    sha256 = next((entry.evidence_sha256 for entry in reversed(moves) if entry.action == audit_log.REGISTER), None)
    if version.tags.get("evidence.sha256") != sha256:
        tag = str(version.tags.get("evidence.sha256"))[:12]
        yield Problem("evidence", f"its tag names evidence {tag}, it was registered with {str(sha256)[:12]}", number)
    run = _run(version.run_id)
    if run is not None:
        yield Problem("run", run, number)
        return
    for each in sorted({entry.evidence_sha256 for entry in moves if entry.evidence_sha256 is not None}):
        try:
            evidence = evidence_of(name, version.run_id, each)
        except UserError as error:
            yield Problem("evidence", str(error), number)
            continue
        if each == sha256:
            yield from _unlike(version, evidence, number)


def _unlike(version: ModelVersion, evidence: dict[str, Any], number: int) -> Iterator[Problem]:
    """Yield where a version is not what its evidence says."""
    for what, told, is_ in (
        ("run", evidence["run_id"], version.run_id),
        ("model", evidence["model_uri"], version.source),
    ):
        if told != is_:
            yield Problem("version", f"its {what} is {is_}, its evidence is of {told}", number)
    for key, value in evidence["hashes"].items():
        if version.tags.get(key) != str(value):
            yield Problem("version", f"its tag {key} is not what its evidence says", number)
    files = hashes(version.source)
    if files.model is None or files.model != evidence["hashes"].get("model.sha256"):
        yield Problem("files", "the model's files are not those that the evidence was made of", number)
    elif files.files != version.tags.get(FILES_TAG):
        yield Problem("files", "the model's code or description are not those that were registered", number)


def _run(run_id: str) -> str | None:
    """Return what is wrong with a run, None if nothing is."""
    try:
        run = MlflowClient().get_run(run_id)
    except MlflowException as error:
        if not tracking.absent(error):
            raise
        return f"run {run_id} is not in the tracking store"
    restore = f"`mlflow runs restore --run-id {run_id}` restores it"
    return f"run {run_id} was deleted; {restore}" if run.info.lifecycle_stage == "deleted" else None
