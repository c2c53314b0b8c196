"""Timing two ways of doing one thing side by side, and the record that comes of it."""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

ROOT = Path(__file__).parents[2]
Job = Callable[[], object]
Clock = Callable[[], float]
NOISE, MOST_NOISE = 0.15, 0.5  # shares by which a ratio may differ from one run to the next


@dataclass(frozen=True)
class Record:
    name: str  # what is done, and how much of it
    ours: float  # median, in `unit`
    other: float
    ratio: float  # how the two compare; the median over pairs where there are pairs
    unit: str
    bound: float | None = None  # what the issue asks for, None where it asks for nothing
    # Of `ratio`: true where it says how many times faster or smaller ours is, false where it says how many times longer
    # ours takes than something that does less (a process that does nothing, a call without a network).
    higher_is_better: bool = True
    bound_on: Literal["ratio", "ours"] = "ratio"  # `ours` may then not be higher
    sides: tuple[str, str] = ("ours", "other")
    spread: float = 0.0  # of the pairs' ratios, see `spread`; 0 where it was not kept

    @property
    def holds(self) -> bool | None:
        """Whether the bound is kept; None where there is none."""
        if self.bound is None:
            return None
        if self.bound_on == "ours":
            return self.ours <= self.bound
        return self.ratio >= self.bound if self.higher_is_better else self.ratio <= self.bound

    @property
    def times(self) -> str:
        return f"{number(self.ratio)} times {'better' if self.higher_is_better else 'as much'}"

    @property
    def cells(self) -> list[str]:
        """Return name, what both sides took, the ratio, and the bound with whether it is kept (else empty)."""
        values = zip(self.sides, (self.ours, self.other), strict=True)
        asked = f"at {'least' if self.higher_is_better else 'most'} {self.bound:g}" if self.bound is not None else ""
        if asked and self.bound_on == "ours":
            asked = f"at most {self.bound:g} {self.unit}"
        verdict = {None: "", True: ": holds", False: ": **missed**"}[self.holds]
        took = [f"{side}: {number(value)} {self.unit}" for side, value in values]
        return [self.name, *took, self.times, asked + verdict]


def worse(now: Record, before: Record) -> str | None:
    """Return what is worse than ``before`` by more than noise explains, None where nothing is.

    Ratios are compared, which differ less between days and machines than seconds do, but where a bound is on `ours`.
    """
    if now.bound_on == "ours":  # the other side is the platform's own too, or says little
        return None
    change = before.ratio / now.ratio if now.higher_is_better else now.ratio / before.ratio
    noise = min(max(NOISE, 2 * (now.spread + before.spread)), MOST_NOISE)
    if change <= 1 + noise:
        return None
    return f"{now.name}: {now.times}, recorded {number(before.ratio)}; noise explains {noise:.0%}"


@dataclass(frozen=True)
class Table:
    """What follows from the figures of a benchmark, as it stands below its records."""

    title: str
    columns: list[str]
    rows: list[list[str]]

    def lines(self) -> list[str]:
        lines = [f"### {self.title}", "", f"| {' | '.join(self.columns)} |", "|---" * len(self.columns) + "|"]
        return [*lines, *(f"| {' | '.join(row)} |" for row in self.rows)]


def number(value: float) -> str:
    """Return three digits of a number, four where it is near 1."""
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.3f}" if 0.1 <= abs(value) < 10 else f"{value:.3g}"


def in_turn(jobs: Sequence[Job], rounds: int, clock: Clock = time.perf_counter) -> list[list[float]]:
    """Return for each job its times in ``rounds`` rounds, which run the jobs forwards and backwards in turn.

    Every job runs once untimed before.
    """
    for job in jobs:
        job()
    times: list[list[float]] = [[] for _ in jobs]
    for each in range(rounds):
        for place in range(len(jobs)) if each % 2 == 0 else reversed(range(len(jobs))):
            began = clock()
            jobs[place]()
            times[place].append(clock() - began)
    return times


def medians(ours: Sequence[float], other: Sequence[float]) -> tuple[float, float, float]:
    """Return the medians of both, and of ours / other pair by pair."""
    ratio = statistics.median(a / b for a, b in zip(ours, other, strict=True))
    return statistics.median(ours), statistics.median(other), ratio


def spread(ours: Sequence[float], other: Sequence[float]) -> float:
    """Return the median distance of the pairs' ratios from their median, as a share of it."""
    ratio = medians(ours, other)[2]
    return statistics.median(abs(a / b / ratio - 1) for a, b in zip(ours, other, strict=True))


def compare(
    name: str,
    ours: Job,
    other: Job,
    *,
    rounds: int,
    clock: Clock = time.perf_counter,
    value: Callable[[float], float] = float,
    **more: Any,
) -> Record:
    """Run both in turn; return the record, with fields ``more``, of the ``value`` of their seconds and of the ratio."""
    mine, theirs = in_turn([ours, other], rounds, clock)
    seconds, others, ratio = medians(mine, theirs)
    about: dict[str, Any] = {"unit": "s", **more}
    better = about.get("higher_is_better", True)
    return Record(name, value(seconds), value(others), 1 / ratio if better else ratio, **about)


# The process that starts the other has little memory: a new one is said to have had that of the one that starts it.
_WATCH = """
import resource, subprocess, sys, time
began = time.perf_counter()
subprocess.run([sys.executable, *sys.argv[1:]], check=True, stdout=subprocess.DEVNULL)
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
print(time.perf_counter() - began, peak / 1e6)
"""


def in_a_process(*arguments: str) -> tuple[float, float]:
    """Return seconds and peak megabytes of a new Python in the current folder."""
    command, env = [sys.executable, "-c", _WATCH, *arguments], {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE, text=True)
    seconds, megabytes = map(float, done.stdout.split())
    return seconds, megabytes
