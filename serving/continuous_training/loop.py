"""A loop of named steps that survives a kill: the result of each step is written down before the next begins."""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from pipelines.errors import UserError
from pipelines.files import read_json, write_json

FOLDER = Path(".retrain")  # of state and lock
SCHEMA = 1
STOP = "stop"

Results = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Step:
    """A step of a loop; it is run again after a kill, so it skips what it finds done."""

    name: str  # key of its result
    what: str
    run: Callable[[Results], Mapping[str, Any]]  # of the results before it; `STOP` in its own (JSON) ends the loop


class OutdatedError(UserError):
    """The result of the step ``since`` is out of date: it and all after it are run again when the loop goes on."""

    def __init__(self, since: str, message: str) -> None:
        self.since = since
        super().__init__(message)


class BusyError(UserError):
    """Another loop is running in this checkout."""


@contextlib.contextmanager
def alone(folder: Path, task: str, by: str) -> Iterator[None]:
    """Hold the checkout's lock, which the system releases when the holder ends; `BusyError` names another holder."""
    folder.mkdir(parents=True, exist_ok=True)
    holder = folder / "holder"
    lock = FileLock(folder / "lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        named = "another loop has just begun"
        with contextlib.suppress(OSError):  # the holder may end at this moment
            named = holder.read_text(encoding="utf-8") or named
        raise BusyError(f"busy: {named}; run this again when it has ended") from error
    try:
        holder.write_text(f"{by} is retraining {task} since {now()} (process {os.getpid()})", encoding="utf-8")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


@dataclass(frozen=True)
class State:
    """The state file ``.retrain/<task>.json`` of a loop, see `begin`; ``content`` is empty where no loop has run."""

    path: Path
    content: dict[str, Any]

    @property
    def finished(self) -> bool:
        """Whether the loop came to its end."""
        return bool(self.content.get("finished"))

    @property
    def unfinished(self) -> bool:
        """Whether the loop was interrupted."""
        return bool(self.content) and not self.finished

    @property
    def results(self) -> dict[str, dict[str, Any]]:
        """Return the results of the steps that are done."""
        return {name: done["result"] for name, done in self.content.get("steps", {}).items()}


def read_state(path: Path) -> State:
    """Read a state file, which need not exist; raises `UserError` where it was edited or is of another release."""
    if not path.is_file():
        return State(path, {})
    try:
        content = read_json(path)
        if content["schema"] != SCHEMA:
            raise ValueError(f"schema {content['schema']}, this release writes {SCHEMA}")
        for key in ("fingerprint", "components", "by", "started", "steps", "finished"):
            content[key]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: no state of retraining ({error}); move it away, then the loop begins anew") from error
    return State(path, content)


def begin(state: State, *, fingerprint: str, components: Mapping[str, Any], by: str) -> State:
    """Return the interrupted loop with this fingerprint, or a new one."""
    if state.unfinished and state.content["fingerprint"] == fingerprint:
        return state
    content = {"schema": SCHEMA, "fingerprint": fingerprint, "components": dict(components), "by": by}
    content |= {"started": now(), "steps": {}, "finished": None}
    write_json(state.path, content)
    return State(state.path, content)


def go(state: State, steps: Sequence[Step], tell: Callable[[str], None] = print) -> State:
    """Run the steps that are not done, up to the end or a ``stop``; write down each before the next begins."""
    done = dict(state.content["steps"])
    content = {**state.content, "steps": done}
    for step in steps:
        if step.name in done:
            tell(f"{step.name}: done at {done[step.name]['at']}")
        else:
            tell(f"{step.name}: {step.what}")
            try:
                result = dict(step.run({name: each["result"] for name, each in done.items()}))
            except OutdatedError as error:
                names = list(done)
                for name in names[names.index(error.since) :]:
                    del done[name]
                write_json(state.path, content)
                raise
            done[step.name] = {"at": now(), "result": result}
            write_json(state.path, content)
        if STOP in done[step.name]["result"]:
            break
    return State(state.path, content)


def finish(state: State, outcome: str) -> None:
    """Write down that the loop came to its end."""
    write_json(state.path, {**state.content, "finished": {"at": now(), "outcome": outcome}})


def now() -> str:
    """Return the time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
