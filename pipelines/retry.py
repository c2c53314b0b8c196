"""Retry calls of a server that is unreachable, with growing pauses, up to a limit."""

import itertools
import os
import random
import time
from collections.abc import Callable
from typing import TypeVar

from pipelines.errors import UserError
from pipelines.store_errors import StoreError

OUTAGE_SECONDS = "OUTAGE_SECONDS"  # the environment variable
_DEFAULT_SECONDS = 600.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 15.0

Result = TypeVar("Result")


class Unreachable(StoreError):
    """A server was unreachable for longer than `outage_seconds`."""


def outage_seconds() -> float:
    """Return how long an outage is waited for: ``OUTAGE_SECONDS``, or ten minutes; `UserError` if it is no number."""
    text = os.environ.get(OUTAGE_SECONDS, "")
    if not text:
        return _DEFAULT_SECONDS
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise UserError(f"{OUTAGE_SECONDS} is {text!r}; it must be a number of seconds above 0")
    return seconds


def pauses() -> Callable[[], float]:
    """Return a function that gives the next pause: from 0.2 s doubling up to 15 s, less a random half of it."""
    count = itertools.count()
    return lambda: min(_FIRST_PAUSE * 2 ** min(next(count), 10), _LONGEST_PAUSE) * random.uniform(0.5, 1.0)


def retry(
    call: Callable[[], Result],
    is_outage: Callable[[Exception], bool],
    server: str,
    *,
    sleep: Callable[[float], object] = time.sleep,
) -> Result:
    """Return what ``call``, which must be idempotent, returns: called again while ``is_outage`` is true of its error.

    ``server`` is its name in messages. `Unreachable` if the outage lasts for longer than `outage_seconds`.
    """
    limit, began, following = outage_seconds(), time.monotonic(), pauses()
    while True:
        try:
            return call()
        except Exception as error:
            if not is_outage(error):
                raise
            pause = following()
            if time.monotonic() + pause - began > limit:
                reason = next(iter(str(error).splitlines()), "")[:200]
                raise Unreachable(
                    f"{server} could not be reached for {limit:g} s ({OUTAGE_SECONDS}){reason and f': {reason}'}; "
                    "start it again and run the same command: trials go on from their checkpoints"
                ) from error
        sleep(pause)
