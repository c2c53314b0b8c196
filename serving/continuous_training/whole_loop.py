"""The loop from new data to a version in staging: started or continued, and reported."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from mlflow import MlflowClient

from pipelines.errors import UserError
from pipelines.files import written_whole
from pipelines.params import Params
from pipelines.paths import MODELS, REPORTS
from pipelines.text_values import quoted
from serving.continuous_training import stages
from serving.continuous_training.loop import FOLDER, STOP, State, Step, alone, begin, finish, go, read_state
from serving.continuous_training.report import of_now, of_version, report
from serving.continuous_training.steps import Plan, candidate, components, fingerprint, registered, steps

REFUSED = 2

Steps = Callable[[Plan], Sequence[Step]]


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
    steps_of: Steps = steps,
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
                if state.of(plan.fingerprint)
                else "the interrupted loop was of other data or decisions: beginning anew"
            )
        return _through(plan, begin(state, fingerprint=plan.fingerprint, components=parts, by=by), steps_of(plan), tell)


def _nothing_new(plan: Plan, state: State) -> str | None:
    """Return why there is nothing to do, by the registry or by the last loop and DVC's outputs, or None.

    The registry suffices: the checkout of a CI job has an older ``dvc.lock``, and a fresh clone has no outputs.
    """
    if state.unfinished:
        return None
    version = registered(plan)
    if state.of(plan.fingerprint) and (
        version or not (MODELS / plan.name).is_dir() or not stages.stale(plan.checks + plan.models)
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
    before = of_version(plan.name, state.results.get("look", {}).get("served") or {})
    text = report(plan.name, state, before=before, after=of_now(plan.name), evidence=evidence, outcome=outcome)
    with written_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(summary).open("a", encoding="utf-8") as file:
            file.write(text + "\n")
    return path
