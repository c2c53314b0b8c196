"""The loop from new data to a version in staging: the fingerprint of its input, its steps, its run and its report."""

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from evaluation.evidence.build import params_sha256
from evaluation.evidence.evidence_file import read_evidence
from evaluation.promotion import candidate_run
from evaluation.promotion.candidate_run import choose
from evaluation.promotion.gate import allowed, as_dicts, failures
from pipelines import tracking
from pipelines.code_closure import closure
from pipelines.datasets import read_prepared
from pipelines.errors import UserError
from pipelines.files import read_json, written_whole
from pipelines.params import Params, Task
from pipelines.paths import AUDIT_FILE, MODELS, REPORTS, VALIDATION_FILE
from pipelines.text_values import quoted
from serving import registry
from serving.audit_log import CANDIDATE, PRODUCTION, STAGING
from serving.continuous_training import stages
from serving.continuous_training.loop import (
    FOLDER,
    STOP,
    OutdatedError,
    Results,
    State,
    Step,
    alone,
    begin,
    finish,
    go,
    read_state,
)
from serving.continuous_training.report import report
from serving.registry import Target

_STAGES = Path("dvc.yaml")
_GATE = ("evaluation.candidate", "evaluation.promotion.gate")  # run after the last stage
FINGERPRINT = "retraining.fingerprint"  # tag of a version
_MADE_OF = ("data.sha256", "split.sha256", "git.commit", "budget")
REFUSED = 2


def components(params: Params, name: str, architectures: Sequence[str]) -> dict[str, str]:
    """Return the hash of each part of the input; raises `UserError` where the task has no data."""
    data = tracking.DATA / name
    if not data.is_dir():
        raise UserError(f"{data} does not exist; bring data with `make data FROM=DIR TASK={name}`")
    policy = {"gate": asdict(params.policy.gate), "task": asdict(params.policy.task(name))}
    return {
        "data": tracking.folder_sha256(data),
        "params": params_sha256(params, name),
        "policy": fingerprint(policy),
        "code": fingerprint(code(params.task(name), architectures)),
        "architectures": ", ".join(sorted(architectures)),
    }


def fingerprint(content: Any) -> str:
    """Return the hash of JSON values; loops of equal `components` give equal models on one machine, equal verdicts."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def code(task: Task, architectures: Sequence[str]) -> dict[str, str]:
    """Return the commands of ``dvc.yaml`` by stage, and the hash of all code that they and the gate run by path."""
    written = yaml.safe_load(_STAGES.read_text(encoding="utf-8"))["stages"]
    commands = {name: str(stage.get("do", stage)["cmd"]) for name, stage in written.items()}
    modules = re.findall(r"python -m ([\w.]+)", " ".join(commands.values()))
    return commands | closure(*modules, *_GATE, task=task, architectures=architectures)


@dataclass(frozen=True)
class Plan:
    """The input of a loop: task, parameters, architectures, user for the history, and fingerprint."""

    name: str
    params: Params
    architectures: tuple[str, ...]
    by: str
    fingerprint: str

    @property
    def checks(self) -> list[str]:
        """Return the DVC stages that check the raw data."""
        return [f"validate@{self.name}", f"audit@{self.name}"]

    @property
    def models(self) -> list[str]:
        """Return the DVC stages that end with the evidence of the models."""
        return [f"evaluate@{self.name}-{each}" for each in self.architectures]


def steps(plan: Plan) -> list[Step]:
    """Return the loop of a plan; it moves to production only where the policy of the task says so."""
    loop = [
        Step("look", "what is served now", lambda _: look(plan)),
        Step("check", "validate and audit the raw data", lambda _: check(plan)),
        Step("train", f"tune, fit and evaluate {', '.join(plan.architectures)}", lambda _: train(plan)),
        Step("evidence", "compare the best on validation rows with all others", lambda _: collect(plan)),
        Step("register", "make it a version", lambda results: register(plan, results)),
        Step("gate", "judge the version for staging", lambda results: judge(plan, results, "staging")),
        Step("staging", "move it to staging", lambda results: move(plan, results, "staging")),
    ]
    if plan.params.policy.task(plan.name).promote == "production":
        loop += [
            Step("gate_of_production", "judge it for production", lambda results: judge(plan, results, "production")),
            Step("production", "move it to production", lambda results: move(plan, results, "production")),
        ]
    return loop


def look(plan: Plan) -> dict[str, Any]:
    """Return the aliases, and the hashes of the version in production, or else in staging."""
    aliases = _aliases(plan.name)
    served = next((alias for alias in (PRODUCTION, STAGING) if alias in aliases), None)
    if served is None:
        return {"aliases": aliases, "served": None}
    version = MlflowClient().get_model_version(plan.name, aliases[served])
    hashes = {key: version.tags[key] for key in _MADE_OF if key in version.tags}
    found = {"alias": served, "version": aliases[served], "run_id": version.run_id, **hashes}
    return {"aliases": aliases, "served": found}


def check(plan: Plan) -> dict[str, Any]:
    """Validate and audit; data that fails validation ends the loop with an error."""
    stages.reproduce(plan.checks)
    validation = read_json(REPORTS / plan.name / VALIDATION_FILE)
    audit = read_json(REPORTS / plan.name / AUDIT_FILE)
    return {"warnings": len(validation["warnings"]), "findings": [each["name"] for each in audit["findings"]]}


def train(plan: Plan) -> dict[str, Any]:
    """Bring every model and the leaderboard up to date."""
    stages.reproduce(plan.models)
    stages.reproduce([f"leaderboard@{plan.name}"], "--single-item")
    return {"architectures": list(plan.architectures)}


def collect(plan: Plan) -> dict[str, Any]:
    """Choose the best of the loop's architectures on validation rows, and complete its evidence."""
    task = plan.params.task(plan.name)
    # The folder may hold others from earlier days.
    best = choose(plan.name, plan.params, [each for each in plan.architectures if each != task.evaluate.baseline])
    prepared = read_prepared(plan.name, task)
    evidence = candidate_run.candidate(plan.name, plan.params, prepared, str(best["architecture"]))
    kept = {key: evidence[key] for key in ("architecture", "sha256", "run_id", "simulated")}
    return {"production": _aliases(plan.name).get(PRODUCTION), **kept}


def register(plan: Plan, results: Results) -> dict[str, Any]:
    """Make a version of the candidate, tagged with the fingerprint."""
    if fingerprint(components(plan.params, plan.name, plan.architectures)) != plan.fingerprint:
        raise UserError("data, parameters or code were changed while the loop ran; run it again")
    evidence = candidate(plan.name, results)
    version = str(registry.register(plan.name, evidence, by=plan.by, why=f"retraining {plan.fingerprint[:12]}").version)
    MlflowClient().set_model_version_tag(plan.name, version, FINGERPRINT, plan.fingerprint)
    return {"version": version}


def judge(plan: Plan, results: Results, to: Target) -> dict[str, Any]:
    """Return the gate's verdicts; a refusal ends the loop. `OutdatedError` if production was moved meanwhile."""
    version, now = results["register"]["version"], _aliases(plan.name).get(PRODUCTION)
    if now != results["evidence"]["production"]:
        raise OutdatedError("evidence", f"production was moved to version {now} while the loop ran; run it again")
    verdicts = registry.judged(plan.name, to, version, policy=plan.params.policy)
    result: dict[str, Any] = {"to": to, "verdicts": as_dicts(verdicts)}
    if not allowed(verdicts):
        why = "; ".join(f"{each.check}: {each.reason}" for each in failures(verdicts))
        result[STOP] = f"version {version} may not go to {to}: {why}"
    return result


def move(plan: Plan, results: Results, to: Target) -> dict[str, Any]:
    """Move the version, unless it is there: a loop may have been killed after the move."""
    version, before = results["register"]["version"], results["look"]["aliases"].get(to)
    now = _aliases(plan.name)
    # A version in production has left staging and is not sent back.
    if version == now.get(PRODUCTION):
        to = "production"
    elif version != now.get(to):
        why, policy = f"retraining {plan.fingerprint[:12]}", plan.params.policy
        registry.promote(plan.name, to=to, version=version, by=plan.by, why=why, policy=policy)
    return {"version": version, "alias": to, "before": before, "done": f"version {version} is in {to}"}


def candidate(name: str, results: Results) -> dict[str, Any]:
    """Return the evidence that the loop collected; raises `UserError` where it was overwritten."""
    folder = REPORTS / name / candidate_run.FOLDER
    evidence = read_evidence(folder / candidate_run.EVIDENCE)
    if evidence["sha256"] != results["evidence"]["sha256"]:
        raise UserError(f"{folder}: not the evidence of this loop; run it again")
    return evidence


def registered(plan: Plan) -> str | None:
    """Return the version with an alias and this fingerprint, None where there is none."""
    client = MlflowClient()
    for version in dict.fromkeys(_aliases(plan.name).values()):
        if client.get_model_version(plan.name, version).tags.get(FINGERPRINT) == plan.fingerprint:
            return version
    return None


def _aliases(name: str) -> dict[str, str]:
    try:
        found = MlflowClient().get_registered_model(name).aliases
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise tracking.refusal(error) or UserError(f"the registry cannot be read: {error.message}") from error
        return {}
    return {alias: str(found[alias]) for alias in (PRODUCTION, STAGING, CANDIDATE) if alias in found}


class Outcome(NamedTuple):
    """The end of a loop: exit code 0 or 2, a sentence, and the report, None where nothing was to do."""

    code: int
    sentence: str
    report: Path | None = None


def retrain(
    name: str,
    params: Params,
    *,
    by: str,
    architectures: Sequence[str] = (),
    steps_of: Callable[[Plan], Sequence[Step]] = steps,
    tell: Callable[[str], None] = print,
) -> Outcome:
    """Pull data, and if something changed: check, train, collect evidence, register, judge, move, and report.

    Without ``architectures`` all of the task's models are trained; the naive baseline always is. `BusyError` if another
    loop is running in this checkout. After another `UserError` the steps before it stay done.
    """
    every = params.architectures(name)
    if unknown := sorted(set(architectures) - set(every)):
        raise UserError(f"params.yaml, models: {name} has no {quoted(unknown)}; it has {', '.join(every)}")
    baseline = params.task(name).evaluate.baseline
    chosen = [each for each in every if not architectures or each in architectures or each == baseline]
    with alone(FOLDER, name, by):
        tell(stages.pull())
        parts = components(params, name, chosen)
        plan = Plan(name, params, tuple(chosen), by, fingerprint(parts))
        state = read_state(FOLDER / f"{name}.json")
        if done := _nothing_new(plan, state):
            return Outcome(0, f"nothing new: {done}")
        if state.unfinished:
            tell(
                f"going on with the loop begun {state.content['started']}"
                if state.content["fingerprint"] == plan.fingerprint
                else "the interrupted loop was of other data or decisions: beginning anew"
            )
        return _through(plan, begin(state, fingerprint=plan.fingerprint, components=parts, by=by), steps_of(plan), tell)


def _nothing_new(plan: Plan, state: State) -> str | None:
    """Return why there is nothing to do, or None; the registry suffices: a fresh clone or CI job has no outputs."""
    if state.unfinished:
        return None
    version = registered(plan)
    if state.content.get("fingerprint") == plan.fingerprint and (
        version
        or not (MODELS / plan.name).is_dir()
        or not stages.stale(f"inputs@{plan.name}", plan.checks + plan.models)
    ):
        ended = state.content["finished"]
        return f"the loop of {ended['at']} had this data and these decisions; {ended['outcome']}"
    return version and f"version {version} was made of this data with these decisions"


def _through(plan: Plan, state: State, loop: Sequence[Step], tell: Callable[[str], None]) -> Outcome:
    """Run the steps and write the report, of a failure too."""
    try:
        state = go(state, loop, tell)
    except Exception as error:
        first = next(iter(str(error).splitlines()), repr(error))
        _write_report(plan, read_state(state.path), f"An error ended the loop: {first}")
        raise
    stopped = next((result[STOP] for result in state.results.values() if STOP in result), None)
    outcome = str(stopped or state.results[loop[-1].name].get("done", "done"))
    path = _write_report(plan, state, outcome)
    if run_id := state.results.get("evidence", {}).get("run_id"):
        MlflowClient().log_artifact(run_id, str(path), f"retraining/{plan.fingerprint[:12]}")
    finish(state, outcome)
    return Outcome(REFUSED if stopped else 0, outcome, path)


def _write_report(plan: Plan, state: State, outcome: str) -> Path:
    """Write the report, also to the summary of a GitHub job."""
    path = REPORTS / plan.name / "retraining.md"
    evidence = None
    if "evidence" in state.results:
        with contextlib.suppress(UserError):  # edited since; the step that needs it reports that
            evidence = candidate(plan.name, state.results)
    text = report(plan.name, state, evidence, outcome)
    with written_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(summary).open("a", encoding="utf-8") as file:
            file.write(text + "\n")
    return path
