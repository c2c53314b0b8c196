"""Work that goes on while the page stays usable: what is shown meanwhile, how to stop it, and what comes of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

import streamlit as st

from serving.dashboard.data.background_jobs import Job
from serving.dashboard.data.endpoint_client import NoAnswer, Refused
from serving.dashboard.pages.frame import fault

T = TypeVar("T")
_JOBS = "jobs"
_LOOK = 0.7  # seconds between two looks at a job
_RETRY = 60.0  # seconds after which what failed is tried again when it is next wanted
_AFTER = 2.0  # seconds that the browser has for drawing the page before anything heavy begins
SPARE = 15.0  # seconds that a job has beside those of the endpoint: what that says of itself is told before
_LONGEST = 120.0  # seconds that a job may be silent where nothing else is said
_AT_ONCE = 0.15  # seconds that a page gives a job before it shows that it waits; most files are read in less


def job(
    key: str,
    work: Callable[[Job[T]], T],
    *,
    fresh: bool = False,
    believed: float = float("inf"),
    seconds: float = _LONGEST,
) -> Job[T]:
    """Return the session's job of this name, started where there is none yet or a ``fresh`` one is wanted.

    Parameters
    ----------
    key, work
        Its name, and what it does.
    fresh
        Whether what an earlier job of this name found is of no use.
    believed
        For how many seconds it is; what failed is tried again after a minute at the latest.
    seconds
        After which nobody waits any longer for a word from it.
    """
    jobs: dict[str, Job[Any]] = st.session_state.setdefault(_JOBS, {})
    if fresh or key not in jobs or _stale(jobs[key], believed):
        if key in jobs:
            jobs[key].cancel()
        jobs[key] = Job(work, seconds=seconds)
    return jobs[key]


def _stale(found: Job[Any], believed: float) -> bool:
    limit = min(believed, _RETRY) if found.error is not None else believed
    return found.ended is not None and not found.cancelled() and time.monotonic() - found.ended > limit


def known(key: str) -> Job[Any] | None:
    """Return the job of this name, None where none was started."""
    found: Job[Any] | None = st.session_state.get(_JOBS, {}).get(key)
    return found


def forget(prefix: str) -> None:
    """Drop the jobs whose names start so: they are started anew when they are next wanted."""
    jobs: dict[str, Job[Any]] = st.session_state.get(_JOBS, {})
    for key in [key for key in jobs if key.startswith(prefix)]:
        jobs.pop(key).cancel()


def shown(work: Job[T], draw: Callable[[T], None], *, label: str, key: str, stoppable: bool = True) -> None:
    """Draw what a job returned, or what went wrong, with a button that tries again; until then say that it goes on.

    Parameters
    ----------
    work, draw
        The job, and what is done with its value.
    label
        What goes on, for people: "Asking the model".
    key
        Of the widgets.
    stoppable
        Whether people may stop it.
    """
    work.wait(_AT_ONCE)
    if not work.done():
        _wait(work, label, key, stoppable)
    elif work.cancelled():
        st.info("Stopped; nothing came of it.", icon=":material/cancel:")
        _offer_again(work, key)
    elif work.error is not None:
        fault(str(work.error))
        if isinstance(work.error, NoAnswer) and work.error.command:
            st.code(work.error.command, language=None)
        if not isinstance(work.error, Refused):  # it would be refused again
            _offer_again(work, key)
    else:
        draw(work.result())


def _offer_again(work: Job[Any], key: str) -> None:
    """Draw the button that starts a job's work anew, in its place among the session's."""
    if st.button("Try again", key=f"again {key}", icon=":material/refresh:"):
        jobs: dict[str, Job[Any]] = st.session_state.get(_JOBS, {})
        jobs.update({name: found.again() for name, found in jobs.items() if found is work})
        st.rerun()


def afterwards(begin: Callable[[], Job[Any]], label: str) -> None:
    """Begin work once the browser has drawn the page: what loads for seconds would hold up the page itself."""
    _begin(begin, label, [])


@st.fragment(run_every=_AFTER)
def _begin(begin: Callable[[], Job[Any]], label: str, drawn: list[bool]) -> None:
    if drawn:  # the browser looks again: it has the page
        begin()
        st.rerun()
    drawn.append(True)
    st.caption(f":material/hourglass_top: {label} …")


@st.fragment(run_every=_LOOK)
def _wait(work: Job[Any], label: str, key: str, stoppable: bool) -> None:
    """Show how far a job is, and draw the whole page again once it is done."""
    if work.done():
        st.rerun()
    text = f"{label}{f', {work.progress} answered' if work.progress else ''} … {time.monotonic() - work.started:.0f} s"
    if not stoppable:
        st.caption(f":material/hourglass_top: {text}")
        return
    told, stop = st.columns([5, 1], vertical_alignment="center")
    told.progress(work.share, text=text)
    if stop.button("Stop", key=f"stop {key}", width="stretch"):
        work.cancel()
        st.rerun()
