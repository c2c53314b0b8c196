"""The whole loop, from new data to a version in staging: begun, gone on with, and reported."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines.errors import UserError
from pipelines.files import written_whole
from pipelines.params import Params
from pipelines.paths import MODELS, REPORTS
from pipelines.text_values import quoted
from serving.continuous_training import stages
from serving.continuous_training.changes import Snapshot, decisions_at, keep, kept, take
from serving.continuous_training.fingerprint import components, fingerprint
from serving.continuous_training.lock import alone
from serving.continuous_training.loop import FOLDER, STOP, State, Step, begin, finish, go, read_state
from serving.continuous_training.report import report
from serving.continuous_training.steps import Plan, candidate, registered, steps

REFUSED = 2

Steps = Callable[[Plan], Sequence[Step]]


@dataclass(frozen=True)
class Outcome:
    """How a loop ended.

    Attributes
    ----------
    code
        Exit code, 0 or 2.
    sentence
        What to tell.
    report
        Where the report lies; None where nothing was to do.
    """

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
    folder: Path = FOLDER,
    tell: Callable[[str], None] = print,
) -> Outcome:
    """Pull data, and unless all is as it was: check, train, collect evidence, register, judge, move, and report.

    Parameters
    ----------
    name, params
        The task and all decisions.
    by
        Who is written into the registry's history.
    architectures
        Of the task's models; all of them where none is named. The naive baseline is always among them.
    steps_of
        Gives the steps of a plan.
    folder
        Where state and lock lie.
    tell
        Takes a line for every step.

    Raises
    ------
    BusyError
        Another loop is running in this checkout.
    UserError
        A step failed. The report says which; what was done before it stays done.
    """
    chosen = choose(params, name, architectures)
    with alone(folder, name, by):
        tell(stages.pull())
        parts = components(params, name, chosen)
        mark = fingerprint(parts)
        state = read_state(folder / f"{name}.json")
        plan = Plan(name, params, tuple(chosen), by, mark)
        if done := nothing_new(plan, state):
            return Outcome(0, f"nothing new: {done}")
        if state.unfinished:
            tell(
                f"going on with the loop begun {state.content['started']}"  # type: ignore[index]
                if state.of(mark)
                else "the loop that was cut short was of other data or decisions: beginning anew"
            )
        else:
            keep(_last(name, folder), folder / name / "before")
        state = begin(state, fingerprint=mark, components=parts, by=by)
        return _through(plan, state, steps_of(plan), folder, tell)


def choose(params: Params, name: str, architectures: Sequence[str]) -> list[str]:
    """Return the architectures of a loop, with the baseline that every margin is taken over."""
    every = params.architectures(name)
    if unknown := sorted(set(architectures) - set(every)):
        raise UserError(f"params.yaml, models: {name} has no {quoted(unknown)}; it has {', '.join(every)}")
    baseline = params.task(name).evaluate.baseline
    return [each for each in every if not architectures or each in architectures or each == baseline]


def nothing_new(plan: Plan, state: State) -> str | None:
    """Return why nothing has to be done, or None.

    A version that has an alias is of the same data and decisions; or the last loop was, and DVC finds its outputs as
    they were left. The registry is believed without DVC: a runner's checkout puts ``dvc.lock`` back to what was
    committed, and a fresh clone has no outputs.
    """
    if state.unfinished:
        return None
    version = registered(plan)
    if state.of(plan.fingerprint) and (version or not (MODELS / plan.name).is_dir() or not stages.stale(plan.targets)):
        assert state.content is not None
        ended = state.content["finished"]
        return f"the loop of {ended['at']} had this data and these decisions; {ended['outcome']}"
    return version and f"version {version} was made of this data with these decisions"


def dry_run(name: str, params: Params, *, by: str, architectures: Sequence[str], folder: Path = FOLDER) -> list[str]:
    """Return what `retrain` would do, in lines; nothing is pulled, run or written."""
    chosen = choose(params, name, architectures)
    lines = []
    if stages.stale([str(stages.tracking.DATA_DVC)]):
        lines.append("pull: data/ is not what data.dvc names; the rest is told of the data that is here")
    parts = components(params, name, chosen)
    state = read_state(folder / f"{name}.json")
    plan = Plan(name, params, tuple(chosen), by, fingerprint(parts))
    if done := nothing_new(plan, state):
        return [*lines, f"nothing new: {done}"]
    if state.content is not None:
        changed = [key for key, value in parts.items() if state.content["components"].get(key) != value]
        lines.append(f"changed since the loop begun {state.content['started']}: {', '.join(changed) or 'nothing'}")
    resumed = state.results if state.unfinished and state.of(plan.fingerprint) else {}
    stale = stages.stale(plan.targets)
    lines.append(f"DVC would run {len(stale)} stages: {', '.join(stale) or 'none'}")
    return lines + [f"{step.name}: {'done' if step.name in resumed else step.what}" for step in steps(plan)]


def _through(plan: Plan, state: State, loop: Sequence[Step], folder: Path, tell: Callable[[str], None]) -> Outcome:
    """Run the steps and write the report, of a failure too."""
    place = REPORTS / plan.name / "retraining.md"
    before = kept(folder / plan.name / "before") or Snapshot(None, {})

    def write(reached: State, outcome: str) -> Snapshot:
        after = take(plan.name)
        results = reached.results
        evidence = None
        if "evidence" in results:
            with contextlib.suppress(UserError):  # edited since; the step that needs it says so
                evidence = candidate(plan.name, results)
        previous = results.get("look", {}).get("served") or {}
        if before.facts.get("params") is None and previous:  # no loop has run here, but git may know
            before.facts["params"] = decisions_at(previous.get("git.commit"), plan.name, previous.get("budget"))
        text = report(
            *(plan.name, reached),
            before=before,
            after=after,
            evidence=evidence,
            previous=previous,
            outcome=outcome,
        )
        with written_whole(place) as temporary:
            temporary.write_text(text, encoding="utf-8")
        _summarize(text)
        return after

    try:
        state = go(state, loop, tell)
    except Exception as error:
        first = next(iter(str(error).splitlines()), repr(error))
        write(read_state(state.path), f"An error ended the loop: {first}")
        raise
    stopped = next((result[STOP] for result in state.results.values() if STOP in result), None)
    outcome = str(stopped or state.results[loop[-1].name].get("done", "done"))
    after = write(state, outcome)
    plan.log(state.results, place)
    assert state.content is not None
    after.facts["data.sha256"] = state.content["components"]["data"]
    keep(after, folder / plan.name / "last")
    finish(state, outcome)
    return Outcome(REFUSED if stopped else 0, outcome, place)


def _last(name: str, folder: Path) -> Snapshot:
    """Return data and parameters of the last loop that ended; of what is prepared now, where none has."""
    last = kept(folder / name / "last")
    if last is not None:
        return last
    now = take(name)
    return Snapshot(now.samples, {key: value for key, value in now.facts.items() if key != "params"})


def _summarize(text: str) -> None:
    """Append the report to the summary of a GitHub job, where this is one."""
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(summary).open("a", encoding="utf-8") as file:
            file.write(text + "\n")
