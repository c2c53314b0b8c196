"""The only functions that move the aliases ``candidate``, ``staging``, ``production`` and ``previous`` of a task.

Every move requires the evidence of that very version, judged by `evaluation.promotion.gate` at that time, and is
recorded in the history. If two users move at once, one is refused. A crash leaves the old state or the new one.
"""

from collections.abc import Collection, Iterator, Sequence
from typing import Any, Literal, NamedTuple

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from evaluation.evidence.summary import NOTE
from evaluation.promotion.gate import Verdict, allowed, as_dicts, failures, judge
from evaluation.promotion.registered_files import keep_hashes
from evaluation.promotion.signatures import SIGNATURE
from pipelines import tracking
from pipelines.errors import UserError
from pipelines.params import read_params
from pipelines.policy import CHECKS, Policy
from serving import audit_log, signing
from serving.alias_moves import Found, look, move, refuse_unsound
from serving.audit_log import CANDIDATE, PREVIOUS, PRODUCTION, STAGING, Entry
from serving.gate_context import (
    FILES_TAG,
    Hashes,
    answer_example,
    evidence_of,
    hashes,
    run_problem,
    situation,
    version_of,
)

Target = Literal["staging", "production"]
_LATER = {"worst_stratum", "stress", "new_test_split", "pretraining"}  # checks that rows of early histories lack


class GateError(UserError):
    """The gate refused; has all verdicts."""

    def __init__(self, message: str, verdicts: Sequence[Verdict]) -> None:
        self.verdicts = tuple(verdicts)
        super().__init__("\n".join([message, *(str(verdict) for verdict in failures(verdicts))]))


class Moved(NamedTuple):
    """A version with its alias, the gate's verdicts, and the history's row; None where it had the alias before."""

    name: str
    version: int
    alias: str
    verdicts: tuple[Verdict, ...]
    entry: Entry | None


def register(name: str, evidence: dict[str, Any], *, by: str, why: str = "", policy: Policy | None = None) -> Moved:
    """Make a version of the registered model ``name``, with the evidence's hashes as tags, and set ``candidate`` to it.

    A model that is registered already keeps its version and gets the new evidence. The verdicts for staging do not
    prevent a registration. It is a `UserError` if the evidence is of another task, of a run that does not exist, not
    logged to it, or not of the model's files.
    """
    by = _checked_name(by)
    if evidence["task"] != name:
        raise UserError(f"the evidence is of the task {evidence['task']!r}, not of {name!r}")
    signing.check_key()  # before there is a version
    if problem := run_problem(evidence["run_id"]):
        raise UserError(f"the evidence cannot be registered: {problem}; check MLFLOW_TRACKING_URI or run `make train`")
    evidence_of(name, evidence["run_id"], evidence["sha256"])
    files = hashes(evidence["model_uri"])
    if files.model is None or files.model != evidence["hashes"].get("model.sha256"):
        raise UserError(f"the files of {evidence['model_uri']} are not those of the evidence; run `make train` again")
    keep_hashes(evidence["run_id"], files.each)
    version = _version(name, evidence)
    found = _sound(name)
    number = int(version.version)
    production = found.aliases.get(PRODUCTION)
    now = situation(name, version, evidence, to="staging", production=production, registering=True)
    verdicts = tuple(judge(evidence, policy or read_params().policy, now))
    tags = {
        "architecture": evidence["architecture"],
        "simulated": str(evidence["simulated"]).lower(),
        "budget": evidence["budget"],
        "evidence.sha256": evidence["sha256"],
        "evidence.run_id": evidence["run_id"],
        FILES_TAG: str(files.files),
        **({"federated.sites": str(len(evidence["federated"]["sites"]))} if "federated" in evidence else {}),
        **{key: str(value) for key, value in evidence["hashes"].items()},
    }
    if found.aliases.get(CANDIDATE) == number and version.tags.items() >= tags.items():
        return Moved(name, number, CANDIDATE, verdicts, None)
    row = _row(audit_log.REGISTER, CANDIDATE, number, evidence)
    entry = move(name, expected=found, tags=tags, by=by, why=why, verdicts=as_dicts(verdicts), **row)
    return Moved(name, number, CANDIDATE, verdicts, entry)


def promote(
    name: str,
    to: Target = "staging",
    version: int | str | None = None,
    *,
    by: str,
    why: str = "",
    policy: Policy | None = None,
    beside: int | None = None,
) -> Moved:
    """Judge a version by its evidence, now, and give it the alias ``to`` if no check fails, else raise `GateError`.

    ``staging`` is open to every registered version, by default the candidate, and ``production`` to the one in staging.
    It is a `UserError` if the version does not exist, is not in staging, its evidence was edited, another user was
    faster, or the version ``beside`` which it was tried is not in production any more.
    """
    by = _checked_name(by)
    found = _sound(name)
    number = _to_promote(name, to, None if version is None else int(version), found)
    if beside is not None:
        _refuse_over(name, number, beside, found)
    if found.aliases.get(to) == number:
        return Moved(name, number, to, (), None)
    evidence, verdicts = _judged(name, to, number, found, policy)
    if not allowed(verdicts):
        raise GateError(f"{name} version {number} does not go to {to}", verdicts)
    row = _row(audit_log.PROMOTE, to, number, evidence)
    entry = move(name, expected=found, by=by, why=why, verdicts=as_dicts(verdicts), **row)
    return Moved(name, number, to, tuple(verdicts), entry)


def trial(name: str, version: int, *, beside: int, worse: bool, by: str, why: str) -> Entry | None:
    """Take a version that is ``worse`` out of staging, or record, once, that its trial goes on; None where it is known.

    Nothing is judged, for nothing is served that was not before. `UserError` as of `promote`.
    """
    by = _checked_name(by)
    found = _sound(name)
    _refuse_over(name, version, beside, found)
    if worse:
        row: dict[str, Any] = {"action": audit_log.TAKE_BACK, "alias": STAGING, "to_version": None}
        return move(name, expected=found, by=by, why=why, **row)
    since = found.last_move()
    if any(each.action == audit_log.TRIAL for each in found.entries[since.number if since else 0 :]):
        return None
    row = {"action": audit_log.TRIAL, "alias": "", "to_version": version}
    return move(name, expected=found, by=by, why=why, **row)


def _refuse_over(name: str, version: int, beside: int, found: Found) -> None:
    """Refuse what a trial of a version says where it, or the one beside it, has another place by now."""
    if (found.aliases.get(STAGING), found.aliases.get(PRODUCTION)) != (version, beside):
        raise UserError(
            f"{name} version {version} is not in staging any more, or version {beside} not in production; nothing was "
            "changed: look at `make history` and try again"
        )


def judged(name: str, to: Target, version: int | str, *, policy: Policy | None = None) -> list[Verdict]:
    """Return the verdicts of the gate on a version now."""
    return _judged(name, to, int(version), look(name), policy)[1]


def rollback(name: str, *, by: str, why: str) -> Moved:
    """Put the previous version back into production after a test that it loads and answers.

    It passed the gate when it went to production, so today's thresholds do not apply. Raises `UserError` if there is no
    previous version, its evidence or files were changed since, it does not load or answer, or another user was faster.
    """
    by = _checked_name(by)
    if not why.strip():
        raise UserError("say why production goes back: why=..., --why or WHY=")
    found = _sound(name)
    number = found.aliases.get(PREVIOUS)
    if number is None:
        raise UserError(f"no version of {name} was in production before; see `make history TASK={name}`")
    version, evidence = _with_evidence(name, number)
    if hashes(version.source) != Hashes(evidence["hashes"].get("model.sha256"), version.tags.get(FILES_TAG)):
        raise UserError(f"the files of {name} version {number} are not those that were registered; it is not served")
    reason = f"loaded, and answered {answer_example(version.source)} rows"
    verdicts = [{"check": "answers", "status": "pass", "reason": reason, "by": None}]
    row = _row(audit_log.ROLLBACK, PRODUCTION, number, evidence)
    entry = move(name, expected=found, by=by, why=why, verdicts=verdicts, **row)
    return Moved(name, number, PRODUCTION, (), entry)


def restore(name: str, *, by: str, why: str) -> Entry | None:
    """Put aliases and stages back where the history says; None if they are there."""
    by = _checked_name(by)
    found = look(name)
    if not found.moved() and not found.staged_wrongly():
        return None
    return move(name, expected=found, by=by, action=audit_log.RESTORE, alias="", to_version=None, why=why)


def sign(name: str, *, by: str, why: str) -> list[Entry]:
    """Sign the versions that are not signed by somebody on the list, and the history; return the rows.

    For a registry that was not signed before, or by a key that no longer counts: who signs vouches for what is there.
    `UserError` if anything else is wrong, as where a version has other files than it was signed with.
    """
    by, told = _checked_name(by), verify(name)
    if others := [str(each) for each in told if each.kind != SIGNATURE]:
        raise UserError("\n".join([*others, "nothing was signed"]))
    found, rows = look(name), []
    known = [number for number in sorted(found.tags) if any(entry.to_version == number for entry in found.entries)]
    wanted = {each.version for each in told} - {None} or set(known[-1:])  # any version's row signs the history
    for number in (each for each in known if told and each in wanted):
        row: dict[str, Any] = {"action": audit_log.SIGN, "alias": "", "to_version": number, "by": by, "why": why}
        row["evidence_sha256"] = found.tags[number].get("evidence.sha256")
        rows.append(move(name, expected=look(name), **row))
    return rows


def history(name: str) -> list[Entry]:
    """Return every row of the task's history, the oldest first."""
    return list(look(name).entries)


def whoever(given: str = "") -> str:
    """Return a name for the history: the one given, or git's; `UserError` without one."""
    return _checked_name(given.strip() or tracking.git("config", "user.name") or "")


def _checked_name(by: str) -> str:
    if not by.strip():
        raise UserError("the history needs a name: by=..., --by, BY= or git config user.name")
    return by.strip()


def _sound(name: str) -> Found:
    found = look(name)
    refuse_unsound(found, name)
    return found


def _row(action: str, alias: str, number: int, evidence: dict[str, Any]) -> dict[str, Any]:
    return {"action": action, "alias": alias, "to_version": number, "evidence_sha256": evidence["sha256"]}


def _with_evidence(name: str, number: int) -> tuple[ModelVersion, dict[str, Any]]:
    version = version_of(name, number)
    return version, evidence_of(name, version.run_id, version.tags.get("evidence.sha256"))


def _judged(
    name: str, to: Target, number: int, found: Found, policy: Policy | None
) -> tuple[dict[str, Any], list[Verdict]]:
    """Return the evidence of a version, and the verdicts on it."""
    version, evidence = _with_evidence(name, number)
    now = situation(name, version, evidence, to=to, production=found.aliases.get(PRODUCTION))
    return evidence, judge(evidence, policy or read_params().policy, now)


def _to_promote(name: str, to: Target, version: int | None, found: Found) -> int:
    if to not in ("staging", "production"):
        raise UserError(f"versions go to staging or production, not to {to!r}")
    number = version if version is not None else found.aliases.get(CANDIDATE if to == "staging" else STAGING)
    if number is None:
        first = "register a model" if to == "staging" else "promote a version to staging"
        raise UserError(f"{name} has no version to promote to {to}; {first} first")
    if to == "production" and number not in (found.aliases.get(STAGING), found.aliases.get(PRODUCTION)):
        raise UserError(f"{name} version {number} is not in staging; promote it to staging first")
    return number


def _version(name: str, evidence: dict[str, Any]) -> ModelVersion:
    """Return the version of the evidence's model; make it if it does not exist."""
    client = MlflowClient()
    try:
        client.get_registered_model(name)
    except MlflowException as error:
        if not tracking.absent(error):
            raise
        try:
            client.create_registered_model(
                name,
                description=f"Versions for the task {name}, registered with evidence.",
            )
        except MlflowException:  # another process made it meanwhile
            client.get_registered_model(name)
    for version in client.search_model_versions(f"name = '{name}'"):
        if version.source == evidence["model_uri"]:
            return version
    # A server accepts a logged model as a source only together with its id.
    uri = evidence["model_uri"]
    model_id = uri.removeprefix("models:/") if uri.startswith("models:/m-") else None
    said = client.get_run(evidence["run_id"]).data.tags.get(NOTE)  # what the candidate's run says of it
    return client.create_model_version(name, source=uri, run_id=evidence["run_id"], model_id=model_id, description=said)


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
    problems += [Problem(*each) for each in signing.problems(name, found)]
    least = set(CHECKS) - _LATER
    for entry in found.entries:
        if entry.action != audit_log.PROMOTE:
            continue
        if not _allowed(entry, least):
            message = f"row {entry.number} promotes it though the gate did not allow it"
            problems.append(Problem("verdict", message, entry.to_version))
        else:
            least |= {verdict["check"] for verdict in entry.verdicts}  # no version judges less than the one before it
    for number in sorted({entry.to_version for entry in found.entries if entry.to_version is not None}):
        problems += _of_version(name, number, found)
    return problems


def _allowed(entry: Entry, least: Collection[str]) -> bool:
    """Return whether checks were judged, ``least`` among them, each once, and none failed."""
    try:
        verdicts = [Verdict(**verdict) for verdict in entry.verdicts]
    except TypeError:
        return False
    judged = {each.check for each in verdicts}
    return judged.issuperset(least) and len(judged) == len(verdicts) and not failures(verdicts)


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
