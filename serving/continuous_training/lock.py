"""One loop at a time in a checkout: two would meet in DVC's lock and in one another's files."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from pipelines.errors import UserError
from pipelines.files import write_json
from serving.continuous_training.loop import now


class BusyError(UserError):
    """Another loop holds the lock."""


@contextlib.contextmanager
def alone(folder: Path, task: str, by: str) -> Iterator[None]:
    """Hold the checkout's lock; the operating system lets go of it when the holder ends, however it ends.

    Parameters
    ----------
    folder
        ``.retrain``.
    task, by
        Told to whoever comes second.

    Raises
    ------
    BusyError
        Names task, person, process and since when.
    """
    folder.mkdir(parents=True, exist_ok=True)
    holder = folder / "holder.json"
    lock = FileLock(folder / "lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise BusyError(f"busy: {_who(holder)}; one loop at a time, run this again when it has ended") from error
    try:
        write_json(holder, {"task": task, "by": by, "process": os.getpid(), "since": now()})
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def _who(holder: Path) -> str:
    try:
        told = json.loads(holder.read_text(encoding="utf-8"))
        return f"{told['by']} is retraining {told['task']} since {told['since']} (process {told['process']})"
    except (OSError, ValueError, KeyError, TypeError):  # it has the lock and has not written its name yet
        return "another loop has just begun"
