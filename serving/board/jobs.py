"""Work on a thread of its own, so that no page waits for a model, a registry or a disk."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from pipelines.faults import UserError

T = TypeVar("T")
_logger = logging.getLogger(__name__)


class Cancelled(Exception):
    """Raised inside work that nobody waits for any more."""


class Job(Generic[T]):
    """One piece of work; it starts at once.

    Parameters
    ----------
    work
        Is given the job, to tell how far it is and to ask whether it was cancelled.
    seconds
        Without a word from the work (see `tell`), after which nobody waits any longer, however long it goes on.

    Attributes
    ----------
    error
        What went wrong, told for people; None while nothing has.
    """

    def __init__(self, work: Callable[[Job[T]], T], *, seconds: float = float("inf")) -> None:
        self.error: UserError | None = None
        self.cancelled = False
        self._told = (0, 0)
        self._value: list[T] = []
        self._started = self._heard = time.monotonic()
        self._stopped: float | None = None
        self._work, self._seconds = work, seconds
        self._ended = threading.Event()
        threading.Thread(target=self._run, args=(work,), name="dashboard job", daemon=True).start()

    def again(self) -> Job[T]:
        """Return the same work, started anew."""
        return Job(self._work, seconds=self._seconds)

    @property
    def done(self) -> bool:
        """Whether there is a value, an error or nobody who waits."""
        if not self._ended.is_set() and time.monotonic() - self._heard > self._seconds:
            self.error = UserError(f"Nothing came within {self._seconds:g} s.")
            self._end()
        return self._ended.is_set()

    @property
    def value(self) -> T:
        """Return what the work returned; only for a job that succeeded."""
        return self._value[0]

    @property
    def succeeded(self) -> bool:
        """Whether there is a value."""
        return self.done and bool(self._value) and self.error is None and not self.cancelled

    @property
    def seconds(self) -> float:
        """Return for how long it has run."""
        return time.monotonic() - self._started

    @property
    def age(self) -> float:
        """Return for how long it has been done; 0 while it is not."""
        return 0.0 if self._stopped is None else time.monotonic() - self._stopped

    @property
    def share(self) -> float:
        """Return how much of the work is done, from 0 to 1, as far as it tells."""
        done, of = self._told
        return min(1.0, done / max(of, 1))

    @property
    def progress(self) -> str:
        """Return "128 of 436"; empty where there is only one thing to do, or nothing is told."""
        done, of = self._told
        return f"{done:,} of {of:,}" if of > 1 else ""

    def tell(self, done: int, of: int) -> None:
        """Say how far the work is; called by the work itself.

        Raises
        ------
        Cancelled
            Nobody waits for it.
        """
        self._told, self._heard = (done, of), time.monotonic()
        if self._ended.is_set():
            raise Cancelled

    def cancel(self) -> None:
        """Wait no longer. What is on its way comes to nothing."""
        if not self._ended.is_set():
            self.cancelled = True
            self._end()

    def wait(self, seconds: float) -> bool:
        """Wait, for tests and for what is nearly always there at once; returns whether the job is done."""
        self._ended.wait(seconds)
        return self.done

    def _run(self, work: Callable[[Job[T]], T]) -> None:
        try:
            value = work(self)
            if not self._ended.is_set():
                self._value.append(value)
        except Cancelled:
            pass
        except UserError as error:
            self._fail(error)
        except Exception as error:  # whatever it is, the page lives
            _logger.exception("a job of the dashboard failed")
            self._fail(UserError(f"Something went wrong ({type(error).__name__}); the dashboard's terminal says more."))
        finally:
            self._end()

    def _end(self) -> None:
        self._stopped = time.monotonic() if self._stopped is None else self._stopped
        self._ended.set()

    def _fail(self, error: UserError) -> None:
        if not self._ended.is_set():
            self.error = error
