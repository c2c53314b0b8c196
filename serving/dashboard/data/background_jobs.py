"""Work on a thread of its own, so that no page waits for a model, a registry or a disk."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, InvalidStateError
from typing import TypeVar

from pipelines.errors import UserError

T = TypeVar("T")
_logger = logging.getLogger(__name__)


class Job(Future[T]):
    """One piece of work; it starts at once, and can be canceled while it goes on: what is on its way comes to nothing.

    Streamlit's own caches and fragments hold up the session that waits for them; this does not.

    Parameters
    ----------
    work
        Is given the job, to tell how far it is.
    seconds
        Without a word from the work (see `tell`), after which nobody waits any longer, however long it goes on.

    Attributes
    ----------
    started, ended
        Moments of `time.monotonic`; the second is None while the work goes on.
    """

    def __init__(self, work: Callable[[Job[T]], T], *, seconds: float = float("inf")) -> None:
        super().__init__()
        self._work, self._seconds, self._told = work, seconds, (0, 0)
        self.started = self._heard = time.monotonic()
        self.ended: float | None = None
        self.add_done_callback(lambda _: setattr(self, "ended", time.monotonic()))
        threading.Thread(target=self._run, name="dashboard job", daemon=True).start()

    def again(self) -> Job[T]:
        """Return the same work, started anew."""
        return Job(self._work, seconds=self._seconds)

    def done(self) -> bool:
        """Whether there is a value, an error or nobody who waits."""
        if not super().done() and time.monotonic() - self._heard > self._seconds:
            self._fail(UserError(f"Nothing came within {self._seconds:g} s."))
        return super().done()

    @property
    def error(self) -> BaseException | None:
        """Return what went wrong, told for people; None while nothing has."""
        return self.exception() if self.done() and not self.cancelled() else None

    @property
    def succeeded(self) -> bool:
        """Whether there is a value."""
        return self.done() and not self.cancelled() and self.error is None

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
        """Say how far the work is; called by the work itself, which ends there where nobody waits for it."""
        self._told, self._heard = (done, of), time.monotonic()
        if super().done():
            raise CancelledError

    def wait(self, seconds: float) -> bool:
        """Wait for what is nearly always there at once; returns whether the job is done."""
        with contextlib.suppress(CancelledError, TimeoutError):
            self.exception(seconds)
        return self.done()

    def _run(self) -> None:
        try:
            value = self._work(self)
            with contextlib.suppress(InvalidStateError):  # nobody waits for it
                self.set_result(value)
        except CancelledError:
            pass
        except UserError as error:
            self._fail(error)
        except Exception as error:  # whatever it is, the page lives
            _logger.exception("a job of the dashboard failed")
            self._fail(UserError(f"Something went wrong ({type(error).__name__}); the dashboard's terminal says more."))

    def _fail(self, error: UserError) -> None:
        with contextlib.suppress(InvalidStateError):
            self.set_exception(error)
