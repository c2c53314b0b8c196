"""Work on threads of its own: pages stay usable while an endpoint, the registry or a disk is slow.

Streamlit's caches hold up the session that waits for them, and a parallel fragment must end before the page runs
again. A thread does neither, and a fragment looks at it until it is done.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, InvalidStateError
from typing import Any

import streamlit as st

from pipelines.errors import UserError
from serving.dashboard.data.endpoint_client import NoAnswer, Refused
from serving.dashboard.pages.frame import fault

SPARE = 60.0  # seconds that a job has beside those of the endpoint: a busy machine is slow to import the libraries
_JOBS = "jobs"
_LOOK = 0.7  # seconds between two looks at a job
_RETRY = 60.0  # seconds after which failed work is tried again when it is next wanted
_AFTER = 2.0  # seconds that the browser has to draw the page before anything heavy begins
_LONGEST = 120.0  # seconds that a job may be silent unless said otherwise
_AT_ONCE = 0.15  # seconds that a page gives a job before it shows that it waits
_logger = logging.getLogger(__name__)


class Job(Future[Any]):
    """Work that begins at once; it takes the job, to report its progress, and fails after ``seconds`` without a report.

    A canceled job goes on until its next report, but its result is dropped.
    """

    def __init__(self, work: Callable[[Job], Any], seconds: float = _LONGEST) -> None:
        super().__init__()
        self.work, self.seconds, self.count = work, seconds, (0, 0)
        self.started = self.heard = time.monotonic()
        self.ended: float | None = None
        self.add_done_callback(lambda _: setattr(self, "ended", time.monotonic()))
        threading.Thread(target=self._run, name="dashboard job", daemon=True).start()

    def report(self, done: int, of: int) -> None:
        """Take from the work how far it is; end a work that nobody waits for."""
        self.count, self.heard = (done, of), time.monotonic()
        if super().done():
            raise CancelledError

    def done(self) -> bool:
        """Whether there is a result, an error, or nobody who waits."""
        if not super().done() and time.monotonic() - self.heard > self.seconds:
            self._fail(UserError(f"Nothing came within {self.seconds:g} s."))
        return super().done()

    @property
    def error(self) -> BaseException | None:
        """Return the error for people; None if there is none."""
        return self.exception() if self.done() and not self.cancelled() else None

    @property
    def succeeded(self) -> bool:
        """Whether there is a result."""
        return self.done() and not self.cancelled() and self.error is None

    def wait(self, seconds: float) -> bool:
        """Wait for a job that may be nearly done; return whether it is."""
        with contextlib.suppress(CancelledError, TimeoutError):
            self.exception(seconds)
        return self.done()

    def _run(self) -> None:
        try:
            value = self.work(self)
            with contextlib.suppress(InvalidStateError):  # nobody waits for it
                self.set_result(value)
        except CancelledError:
            pass
        except UserError as error:
            self._fail(error)
        except Exception as error:  # whatever it is, the page goes on
            _logger.exception("a job of the dashboard failed")
            self._fail(UserError(f"It failed ({type(error).__name__}); the dashboard's terminal says more."))

    def _fail(self, error: UserError) -> None:
        with contextlib.suppress(InvalidStateError):
            self.set_exception(error)


def job(
    key: str,
    work: Callable[[Job], Any],
    *,
    fresh: bool = False,
    believed: float = float("inf"),
    seconds: float = _LONGEST,
) -> Job:
    """Return the session's job of this name, started if there is none, or if a ``fresh`` one is wanted.

    A result is reused for ``believed`` seconds, an error for a minute at most; for ``seconds`` see `Job`.
    """
    jobs: dict[str, Job] = st.session_state.setdefault(_JOBS, {})
    found = jobs.get(key)
    if found is not None and not fresh and not _stale(found, believed):
        return found
    if found is not None:
        found.cancel()
    jobs[key] = Job(work, seconds)
    return jobs[key]


def _stale(found: Job, believed: float) -> bool:
    limit = min(believed, _RETRY) if found.error is not None else believed
    return found.ended is not None and not found.cancelled() and time.monotonic() - found.ended > limit


def known(key: str) -> Job | None:
    """Return the session's job of this name, None if none was started."""
    found: Job | None = st.session_state.get(_JOBS, {}).get(key)
    return found


def forget(*prefixes: str) -> None:
    """Cancel and drop the jobs whose names start with one of these."""
    jobs: dict[str, Job] = st.session_state.get(_JOBS, {})
    for key in [key for key in jobs if key.startswith(prefixes)]:
        jobs.pop(key).cancel()


def shown(work: Job, draw: Callable[[Any], None], *, label: str, key: str, stoppable: bool = True) -> None:
    """Draw the result of a job, or its error with a button that tries again; until then draw its progress.

    ``label`` says what goes on ("Asking the model"); ``key`` is that of the widgets.
    """
    work.wait(_AT_ONCE)
    if not work.done():
        _wait(work, label, key, stoppable)
    elif work.succeeded:
        draw(work.result())
    else:
        if work.cancelled():
            st.info("Stopped.", icon=":material/cancel:")
        else:
            fault(str(work.error))
        if isinstance(work.error, NoAnswer) and work.error.command:
            st.code(work.error.command, language=None)
        retry = not isinstance(work.error, Refused)  # it would be refused again
        if retry and st.button("Try again", key=f"again {key}", icon=":material/refresh:"):
            jobs: dict[str, Job] = st.session_state.get(_JOBS, {})
            jobs.update({name: Job(found.work, found.seconds) for name, found in jobs.items() if found is work})
            st.rerun()


@st.fragment(run_every=_LOOK)
def _wait(work: Job, label: str, key: str, stoppable: bool) -> None:
    """Draw how far a job is, and the whole page again once it is done."""
    if work.done():
        st.rerun()
    done, of = work.count
    text = f"{label}{f', {done:,} of {of:,} answered' if of > 1 else ''} … {time.monotonic() - work.started:.0f} s"
    if not stoppable:
        st.caption(f":material/hourglass_top: {text}")
        return
    left, right = st.columns([5, 1], vertical_alignment="center")
    left.progress(min(1.0, done / max(of, 1)), text=text)
    if right.button("Stop", key=f"stop {key}", width="stretch"):
        work.cancel()
        st.rerun()


def afterwards(begin: Callable[[], Job], label: str) -> None:
    """Begin work once the browser has drawn the page, which an import of seconds would hold up."""
    _begin(begin, label, [])


@st.fragment(run_every=_AFTER)
def _begin(begin: Callable[[], Job], label: str, drawn: list[bool]) -> None:
    if drawn:  # the second run: the browser has the page
        begin()
        st.rerun()
    drawn.append(True)
    st.caption(f":material/hourglass_top: {label} …")
