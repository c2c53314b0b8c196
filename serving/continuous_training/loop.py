"""Named steps that are done once each: what is done is written down whole, so a killed loop goes on where it was."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipelines.errors import UserError
from pipelines.files import read_json, write_json

FOLDER = Path(".retrain")  # of state and lock
SCHEMA = 1
STOP = "stop"

Results = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Step:
    """One step of a loop.

    Attributes
    ----------
    name
        Under which its result is kept.
    what
        What it does, for the terminal and for ``--dry-run``.
    run
        Takes the results of the steps before it and returns its own, as JSON values. A kill in its midst makes it run
        again: it leaves alone what it finds done. The key ``stop`` in a result ends the loop there.
    """

    name: str
    what: str
    run: Callable[[Results], Mapping[str, Any]]


class OutdatedError(UserError):
    """What an earlier step did no longer holds: it and all after it are done again when the loop goes on."""

    def __init__(self, since: str, message: str) -> None:
        self.since = since
        super().__init__(message)


@dataclass(frozen=True)
class State:
    """What is written down of a task's loop.

    Attributes
    ----------
    path
        ``.retrain/<task>.json``.
    content
        ``fingerprint`` and ``components`` of what the loop is about, ``by``, ``started``, ``steps`` with the results,
        and ``finished``, None until the end.
    """

    path: Path
    content: dict[str, Any] | None

    @property
    def finished(self) -> bool:
        """Whether there is a loop that came to its end."""
        return self.content is not None and self.content["finished"] is not None

    @property
    def unfinished(self) -> bool:
        """Whether there is a loop that was cut short."""
        return self.content is not None and self.content["finished"] is None

    @property
    def results(self) -> dict[str, dict[str, Any]]:
        """Return the results of the steps that are done."""
        return {} if self.content is None else {name: done["result"] for name, done in self.content["steps"].items()}

    def of(self, fingerprint: str) -> bool:
        """Whether the loop is about ``fingerprint``."""
        return self.content is not None and self.content["fingerprint"] == fingerprint


def read_state(path: Path) -> State:
    """Read what is written down; nothing, where no loop has run yet.

    Raises
    ------
    UserError
        The file was edited, or written by another release.
    """
    if not path.is_file():
        return State(path, None)
    try:
        content = read_json(path)
        if content["schema"] != SCHEMA:
            raise ValueError(f"schema {content['schema']}, this release writes {SCHEMA}")
        for key in ("fingerprint", "components", "by", "started", "steps", "finished"):
            content[key]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path}: not a state of retraining ({error}); move it aside and keep it, then the loop begins anew"
        ) from error
    return State(path, content)


def begin(state: State, *, fingerprint: str, components: Mapping[str, Any], by: str) -> State:
    """Return the loop about ``fingerprint``: the one that was cut short, or a new one."""
    if state.unfinished and state.of(fingerprint):
        return state
    content = {
        "schema": SCHEMA,
        "fingerprint": fingerprint,
        "components": dict(components),
        "by": by,
        "started": now(),
        "steps": {},
        "finished": None,
    }
    write_json(state.path, content)
    return State(state.path, content)


def go(state: State, steps: Sequence[Step], tell: Callable[[str], None] = print) -> State:
    """Run the steps that are not done yet, in order, and write down each before the next begins.

    Parameters
    ----------
    state
        From `begin`.
    steps
        The loop.
    tell
        Takes a line for every step.

    Returns
    -------
    State
        With the results of all steps up to the end, or up to the one that said ``stop``.
    """
    assert state.content is not None
    content = {**state.content, "steps": dict(state.content["steps"])}
    for step in steps:
        if step.name in content["steps"]:
            tell(f"{step.name}: done at {content['steps'][step.name]['at']}")
        else:
            tell(f"{step.name}: {step.what}")
            started = time.monotonic()
            try:
                result = dict(step.run({name: done["result"] for name, done in content["steps"].items()}))
            except OutdatedError as error:
                names = list(content["steps"])
                content["steps"] = {name: content["steps"][name] for name in names[: names.index(error.since)]}
                write_json(state.path, content)
                raise
            content["steps"][step.name] = {"at": now(), "seconds": time.monotonic() - started, "result": result}
            write_json(state.path, content)
        if STOP in content["steps"][step.name]["result"]:
            break
    return State(state.path, content)


def finish(state: State, outcome: str) -> State:
    """Write down that the loop came to its end."""
    assert state.content is not None
    content = {**state.content, "finished": {"at": now(), "outcome": outcome}}
    write_json(state.path, content)
    return State(state.path, content)


def now() -> str:
    """Return the time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
