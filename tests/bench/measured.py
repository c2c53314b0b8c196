"""Timing two ways of doing one thing side by side, and the record that comes of it."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

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
    def asked(self) -> str:
        """Return the bound in words, empty where there is none."""
        if self.bound is None:
            return ""
        if self.bound_on == "ours":
            return f"at most {self.bound:g} {self.unit}"
        return f"at {'least' if self.higher_is_better else 'most'} {self.bound:g}"

    def line(self) -> str:
        unit, (one, two) = self.unit, self.sides
        verdict = {None: "", True: f" (asked: {self.asked})", False: f" (MISSED, asked: {self.asked})"}[self.holds]
        times = "times better" if self.higher_is_better else "times as much"
        return (
            f"{self.name}: {one} {number(self.ours)} {unit}, {two} {number(self.other)} {unit}, "
            f"{number(self.ratio)} {times}{verdict}"
        )


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
    times = "times better" if now.higher_is_better else "times as much"
    return f"{now.name}: {number(now.ratio)} {times}, recorded {number(before.ratio)}; noise explains {noise:.0%}"


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


def paired(ours: Job, other: Job, *, rounds: int, clock: Clock = time.perf_counter) -> tuple[float, float, float]:
    """Return the median seconds of both, measured in turn, and the median ratio other / ours."""
    theirs, mine, ratio = medians(*reversed(in_turn([ours, other], rounds, clock)))
    return mine, theirs, ratio


def compare(name: str, ours: Job, other: Job, *, sides: tuple[str, str], rounds: int) -> Record:
    mine, theirs = in_turn([ours, other], rounds)
    others, seconds, ratio = medians(theirs, mine)
    return Record(name, seconds, others, ratio, "s", sides=sides, spread=spread(theirs, mine))
