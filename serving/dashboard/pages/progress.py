"""Work on threads of its own, looked at by a fragment: Streamlit's caches and parallel fragments hold up the page."""

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
from serving.dashboard.data.endpoints import NoAnswer, Refused
from serving.dashboard.pages.frame import fault

_JOBS = "jobs"
_LOOK = 0.7  # seconds between two looks at a job
_AFTER = 2.0  # seconds that the browser has to draw the page before anything heavy begins
_RETRY = 60.0  # seconds after which failed work is tried again when it is next wanted
_PATIENCE = 10.0  # seconds after which work that reports nothing can be stopped too
_AT_ONCE = 0.15  # seconds that a page gives a job before it shows that it waits
_logger = logging.getLogger(__name__)


class Job(Future[Any]):
    """Work that begins at once and reports to its job; if canceled it ends at its next report, and has no result."""

    def __init__(self, work: Callable[[Job], Any]) -> None:
        super().__init__()
        self.work, self.count, self.started = work, (0, 0), time.monotonic()
        self.ended: float | None = None
        self.add_done_callback(lambda _: setattr(self, "ended", time.monotonic()))
        threading.Thread(target=self._run, name="dashboard job", daemon=True).start()

    def report(self, done: int, of: int) -> None:
        """Take from the work how far it is; end a work that nobody waits for."""
        self.count = (done, of)
        if self.done():
            raise CancelledError

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
        with contextlib.suppress(CancelledError, InvalidStateError):  # nobody waits for it
            try:
                value = self.work(self)
            except CancelledError:
                raise
            except UserError as error:
                self.set_exception(error)
            except Exception as error:  # whatever it is, the page goes on
                _logger.exception("a job of the dashboard failed")
                said = f"It failed ({type(error).__name__}); the dashboard's terminal says more."
                self.set_exception(UserError(said))
            else:
                self.set_result(value)


def job(key: str, work: Callable[[Job], Any], *, fresh: bool = False, believed: float = float("inf")) -> Job:
    """Return the session's job of this name; begin it if there is none, if it is stale, or if it is to be fresh."""
    jobs: dict[str, Job] = st.session_state.setdefault(_JOBS, {})
    found = jobs.get(key)
    if found is not None:
        kept = believed if found.error is None else min(believed, _RETRY)
        stale = found.ended is not None and not found.cancelled() and time.monotonic() - found.ended > kept
        if not fresh and not stale:
            return found
        found.cancel()
    jobs[key] = Job(work)
    return jobs[key]


def known(key: str) -> Job | None:
    """Return the session's job of this name, None if none was started."""
    return st.session_state.get(_JOBS, {}).get(key)


def forget(*prefixes: str) -> None:
    """Cancel and drop the jobs whose names start with one of these."""
    jobs: dict[str, Job] = st.session_state.get(_JOBS, {})
    for key in [key for key in jobs if key.startswith(prefixes)]:
        jobs.pop(key).cancel()


def shown(work: Job, draw: Callable[[Any], None], *, label: str, key: str) -> None:
    """Draw the result of a job; its error, with a button that tries again; or, with ``label``, how far it is."""
    work.wait(_AT_ONCE)
    if not work.done():
        _wait(work, label, key)
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
            jobs.update({name: Job(found.work) for name, found in jobs.items() if found is work})
            st.rerun()


@st.fragment(run_every=_LOOK)
def _wait(work: Job, label: str, key: str) -> None:
    """Draw how far a job is, and the whole page again once it is done."""
    if work.done():
        st.rerun()
    done, of = work.count
    text = f"{label}{f', {done:,} of {of:,} answered' if of > 1 else ''} … {time.monotonic() - work.started:.0f} s"
    if not of and time.monotonic() - work.started < _PATIENCE:
        st.caption(f":material/hourglass_top: {text}")
        return
    left, right = st.columns([5, 1], vertical_alignment="center")
    if of:
        left.progress(done / of, text=text)
    else:
        left.caption(f":material/hourglass_top: {text}")
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
