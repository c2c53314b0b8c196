"""The one way by which a version gets an alias: ``candidate``, ``staging``, ``production``, and ``previous``.

Every move demands the evidence of that very version, judged by `evaluation.promotion.gate` there and then, and is
written with its reason into the history. Of two people at once, one is told. A crash leaves the state before or the one
after.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from evaluation.promotion.gate import Verdict, allowed, as_dicts, failures, judge
from evaluation.promotion.registered_files import keep_hashes
from pipelines import tracking
from pipelines.errors import UserError
from pipelines.params import read_params
from pipelines.policy import Policy
from serving import audit_log as log
from serving.alias_moves import Found, look, move, refuse_unsound
from serving.answers import answer_example
from serving.audit_log import CANDIDATE, PREVIOUS, PRODUCTION, STAGING, Entry
from serving.gate_context import FILES_TAG, Hashes, evidence_of, hashes, situation, version_of

Target = Literal["staging", "production"]


class GateError(UserError):
    """The gate refused; carries all verdicts."""

    def __init__(self, message: str, verdicts: Sequence[Verdict]) -> None:
        self.verdicts = tuple(verdicts)
        super().__init__("\n".join([message, *(str(verdict) for verdict in failures(verdicts))]))


@dataclass(frozen=True)
class Moved:
    """What became of a version that was registered, promoted or rolled back to.

    Attributes
    ----------
    version
        Of the registered model that bears the task's name.
    verdicts
        Of the gate, as things are now; of a registration those before ``staging``.
    entry
        The row of the history; None where the version had the alias, and its evidence, already.
    """

    name: str
    version: int
    alias: str
    verdicts: tuple[Verdict, ...]
    entry: Entry | None


def register(name: str, evidence: dict[str, Any], *, by: str, why: str = "", policy: Policy | None = None) -> Moved:
    """Make a version of the registered model ``name`` and the alias ``candidate`` point to it.

    The version carries the hashes of its evidence, data, split, code and files as tags. A model that is registered
    already keeps its version and gets the new evidence. Whether the gate lets it on is told, and decided by `promote`.

    Parameters
    ----------
    name
        Name of the task.
    evidence
        As read by `evaluation.evidence.evidence_file.read_evidence`, and logged to its run by `evaluation.candidate`.
    by, why
        For the history.
    policy
        That of ``params.yaml`` if None.

    Raises
    ------
    UserError
        The evidence is of another task, of a run that is not there, not logged to it, or not of the model's files.
    """
    by = _somebody(by)
    if evidence["task"] != name:
        raise UserError(f"the evidence is of the task {evidence['task']!r}, not of {name!r}")
    _known_run(evidence)
    evidence_of(name, evidence["run_id"], evidence["sha256"])
    files = hashes(evidence["model_uri"])
    if files.model is None or files.model != evidence["hashes"].get("model.sha256"):
        raise UserError(f"the files of {evidence['model_uri']} are not those of the evidence; run `make train` again")
    keep_hashes(evidence["run_id"], files.each)
    version = _version(name, evidence)
    found = look(name)
    refuse_unsound(found, name)
    number = int(version.version)
    now = situation(
        name,
        version,
        evidence,
        to="staging",
        production=found.aliases.get(PRODUCTION),
        registering=True,
    )
    verdicts = tuple(judge(evidence, policy or read_params().policy, now))
    tags = _tags(evidence, files)
    if found.aliases.get(CANDIDATE) == number and version.tags.items() >= tags.items():
        return Moved(name, number, CANDIDATE, verdicts, None)
    entry = move(
        name,
        expected=found,
        by=by,
        action=log.REGISTER,
        alias=CANDIDATE,
        to_version=number,
        why=why,
        evidence_sha256=evidence["sha256"],
        verdicts=as_dicts(verdicts),
        tags=tags,
    )
    return Moved(name, number, CANDIDATE, verdicts, entry)


def promote(
    name: str,
    to: Target = "staging",
    version: int | str | None = None,
    *,
    by: str,
    why: str = "",
    policy: Policy | None = None,
) -> Moved:
    """Judge a version by its evidence, now, and give it the alias ``to`` if no check fails.

    Parameters
    ----------
    name
        Name of the task.
    to
        ``staging`` is open to every registered version, ``production`` to the one in staging.
    version
        The candidate, or the version in staging, if None.
    by, why
        For the history; a name is needed.
    policy
        That of ``params.yaml`` if None.

    Raises
    ------
    GateError
        A check failed.
    UserError
        There is no such version, it is not in staging, its evidence was edited, or somebody else was faster.
    """
    by = _somebody(by)
    found = look(name)
    refuse_unsound(found, name)
    number = _to_promote(name, to, None if version is None else int(version), found)
    if found.aliases.get(to) == number:
        return Moved(name, number, to, (), None)
    evidence, verdicts = _judged(name, to, number, found, policy)
    if not allowed(verdicts):
        raise GateError(f"{name} version {number} does not go to {to}", verdicts)
    entry = move(
        name,
        expected=found,
        by=by,
        action=log.PROMOTE,
        alias=to,
        to_version=number,
        why=why,
        evidence_sha256=evidence["sha256"],
        verdicts=as_dicts(verdicts),
    )
    return Moved(name, number, to, tuple(verdicts), entry)


def judged(name: str, to: Target, version: int | str, *, policy: Policy | None = None) -> list[Verdict]:
    """Return what the gate says of a version now, and move nothing."""
    return _judged(name, to, int(version), look(name), policy)[1]


def rollback(name: str, *, by: str, why: str) -> Moved:
    """Put the version that was in production before back, once it has shown that it loads and answers.

    It passed the gate when it went to production, and today's thresholds do not keep anybody from going back to it. Its
    evidence and files must be those that it passed with.

    Raises
    ------
    UserError
        There is no version before, it was changed since, it does not load or answer, or somebody else was faster.
    """
    by = _somebody(by)
    if not why.strip():
        raise UserError("say why production goes back: why=..., --why or WHY=")
    found = look(name)
    refuse_unsound(found, name)
    number = found.aliases.get(PREVIOUS)
    if number is None:
        raise UserError(f"no version of {name} was in production before; see `make history TASK={name}`")
    version = version_of(name, number)
    evidence = evidence_of(name, version.run_id, version.tags.get("evidence.sha256"))
    if hashes(version.source) != Hashes(evidence["hashes"].get("model.sha256"), version.tags.get(FILES_TAG)):
        raise UserError(f"the files of {name} version {number} are not those that were registered; it is not served")
    rows = answer_example(version.source)
    entry = move(
        name,
        expected=found,
        by=by,
        action=log.ROLLBACK,
        alias=PRODUCTION,
        to_version=number,
        why=why,
        evidence_sha256=evidence["sha256"],
        verdicts=[{"check": "answers", "status": "pass", "reason": f"loaded, and answered {rows} rows", "by": None}],
    )
    return Moved(name, number, PRODUCTION, (), entry)


def restore(name: str, *, by: str, why: str) -> Entry | None:
    """Put aliases and stages back where the history says, after they were moved behind its back; None if they are."""
    by = _somebody(by)
    found = look(name)
    if not found.moved() and not found.staged_wrongly():
        return None
    return move(name, expected=found, by=by, action=log.RESTORE, alias="", to_version=None, why=why)


def history(name: str) -> list[Entry]:
    """Return every row of the task's history, the oldest first."""
    return list(look(name).entries)


def whoever(given: str = "") -> str:
    """Return a name for the history: the one given, or git's."""
    return given.strip() or (tracking.git("config", "user.name") or "")


def _somebody(by: str) -> str:
    if not by.strip():
        raise UserError("the history wants a name: by=..., --by, BY= or git config user.name")
    return by.strip()


def _judged(
    name: str, to: Target, number: int, found: Found, policy: Policy | None
) -> tuple[dict[str, Any], list[Verdict]]:
    """Return the evidence of a version, and the verdicts on it."""
    version = version_of(name, number)
    evidence = evidence_of(name, version.run_id, version.tags.get("evidence.sha256"))
    now = situation(name, version, evidence, to=to, production=found.aliases.get(PRODUCTION))
    return evidence, judge(evidence, policy or read_params().policy, now)


def _to_promote(name: str, to: Target, version: int | None, found: Found) -> int:
    if to == "staging":
        number = version if version is not None else found.aliases.get(CANDIDATE)
        if number is None:
            raise UserError(f"{name} has no candidate; register a model first: make register TASK={name}")
        return number
    if to != "production":
        raise UserError(f"versions go to staging or production, not to {to!r}")
    staged = found.aliases.get(STAGING)
    if version is not None and version == found.aliases.get(PRODUCTION):
        return version
    if staged is None or (version is not None and version != staged):
        asked = "no version" if version is None else f"not version {version}"
        there = "nothing" if staged is None else f"version {staged}"
        raise UserError(f"production is for the version in staging: {asked} of {name} is there, but {there}")
    return staged


def _known_run(evidence: dict[str, Any]) -> None:
    try:
        run = MlflowClient().get_run(evidence["run_id"])
    except MlflowException as error:
        if not tracking.absent(error):
            raise
        raise UserError(
            f"run {evidence['run_id']} of the evidence is not in {tracking.store()}; look whether it is the store that "
            "the evidence was made with, else run `make train` again"
        ) from error
    if run.info.lifecycle_stage == "deleted":
        raise UserError(
            f"{tracking.store()} holds the run {run.info.run_id} of the evidence as deleted; with that address in "
            f"MLFLOW_TRACKING_URI, `mlflow runs restore --run-id {run.info.run_id}` restores it"
        )


def _tags(evidence: dict[str, Any], files: Hashes) -> dict[str, str]:
    return {
        "architecture": evidence["architecture"],
        "simulated": str(evidence["simulated"]).lower(),
        "budget": evidence["budget"],
        "evidence.sha256": evidence["sha256"],
        "evidence.run_id": evidence["run_id"],
        FILES_TAG: str(files.files),
        **{key: str(value) for key, value in evidence["hashes"].items()},
    }


def _version(name: str, evidence: dict[str, Any]) -> ModelVersion:
    """Return the version of the evidence's model, made if it is not there yet."""
    client = MlflowClient()
    try:
        client.get_registered_model(name)
    except MlflowException as error:
        if not tracking.absent(error):
            raise
        try:
            client.create_registered_model(name, description=f"Models of the task {name}, registered with evidence.")
        except MlflowException:  # another process made it in the meantime
            client.get_registered_model(name)
    for version in client.search_model_versions(f"name = '{name}'"):
        if version.source == evidence["model_uri"]:
            return version
    # A server takes a logged model as a source only under its id.
    uri = evidence["model_uri"]
    model_id = uri.removeprefix("models:/") if uri.startswith("models:/m-") else None
    return client.create_model_version(name, source=uri, run_id=evidence["run_id"], model_id=model_id)
