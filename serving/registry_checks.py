"""What does not match between registry, history, evidence and files of a task."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from evaluation.promotion.gate import Verdict, allowed
from pipelines.errors import UserError
from serving import audit_log
from serving.alias_moves import Found, look
from serving.audit_log import Entry
from serving.gate_context import FILES_TAG, evidence_of, hashes, run_problem


class Problem(NamedTuple):
    """What does not match (``history, alias, stage, version, ...``), and of which version; None for the whole task."""

    kind: str
    message: str
    version: int | None = None

    def __str__(self) -> str:
        of = "" if self.version is None else f"version {self.version}: "
        return f"{self.kind}: {of}{self.message}"


def verify(name: str) -> list[Problem]:
    """Return the problems of the registry of the task ``name``."""
    found = look(name)
    problems = [Problem("history", each) for each in found.broken()]
    if found.intent is not None:
        by, alias = found.intent.entry.by, found.intent.entry.alias
        message = f"{by} moves it to {alias} now or was interrupted; the next user who may write settles it"
        problems.append(Problem("history", message, found.intent.entry.to_version))
    problems += [Problem("history", f"the trigger {each} is missing") for each in found.missing_triggers]
    problems += [Problem("alias", each) for each in found.moved()]
    problems += [Problem("stage", each) for each in found.staged_wrongly()]
    for entry in found.entries:
        if entry.action == audit_log.PROMOTE and not _allowed(entry):
            message = f"row {entry.number} promotes it though the gate did not allow it"
            problems.append(Problem("verdict", message, entry.to_version))
    for number in sorted({entry.to_version for entry in found.entries if entry.to_version is not None}):
        problems += _of_version(name, number, found)
    return problems


def _allowed(entry: Entry) -> bool:
    try:
        return allowed([Verdict(**verdict) for verdict in entry.verdicts])
    except TypeError:
        return False


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
    if (problem := run_problem(version.run_id)) is not None:
        yield Problem("run", problem, number)
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
    """Yield where a version differs from its evidence."""
    sources = (("run", evidence["run_id"], version.run_id), ("model", evidence["model_uri"], version.source))
    for what, expected, is_ in sources:
        if expected != is_:
            yield Problem("version", f"its {what} is {is_}, its evidence is of {expected}", number)
    for key, value in evidence["hashes"].items():
        if version.tags.get(key) != str(value):
            yield Problem("version", f"its tag {key} differs from its evidence", number)
    files = hashes(version.source)
    if files.model is None or files.model != evidence["hashes"].get("model.sha256"):
        yield Problem("files", "the model's files are not those that the evidence was made of", number)
    elif files.files != version.tags.get(FILES_TAG):
        yield Problem("files", "the model's code or description are not those that were registered", number)
