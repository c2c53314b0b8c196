"""What raw profiles must satisfy to predict the time to an event: a follow-up that a model can learn from."""

from typing import Any

import numpy as np
import pandas as pd

from pipelines.expectations import Check, Report, Suite, between, filled, report_rows, report_table
from pipelines.samples.expression import SAMPLES_FILE
from pipelines.samples.survival import read_follow_up

_LEAST_EVENTS = 10  # fewer than ten events say nothing of any risk
_LEAST_FOLLOWED = 5  # samples that are still followed at the last horizon
_LONGEST = {"days": 36_525.0, "months": 1_200.0, "years": 100.0}  # a century
_SHORTEST_MEDIAN = {"days": 7.0, "months": 0.25, "years": 0.02}  # a week
_OTHER = {"days": "months or years", "months": "years, or days", "years": "months or days"}


def known(samples: pd.DataFrame, task: Any) -> pd.Series:
    """Return which samples have a follow-up."""
    return pd.Series(read_follow_up(samples, task.data).known, index=samples.index)


def sample_suites(samples: pd.DataFrame, task: Any) -> list[Suite]:
    """Refuse times and events that cannot be read, and warn of samples without, which are dropped."""
    data, found = task.data, read_follow_up(samples, task.data)
    number = pd.Series(found.time).where(np.isfinite(found.time))
    truth = pd.Series(found.event, dtype=object).where(found.event_read, None)
    given = pd.DataFrame({"time": found.time_given, "event": found.event_given})

    def cells(name: str, column: str, message: str) -> Report:
        return report_rows(name, SAMPLES_FILE, column, message, samples[column])

    no_number = "must be a finite number{found}; leave it empty where nothing is known of the follow-up"
    not_positive = "must be above 0{found}: a sample without follow-up says nothing; leave it empty to drop it"
    no_truth = "must be 1 or true for an event, 0 or false for none{found}"
    lacking = f"{data.time} or {data.event} is empty or unknown; the samples are dropped"
    times = [
        filled("time", cells("time_number", data.time, no_number)),
        between("time", cells("time_positive", data.time, not_positive), above=0),
    ]
    events = [filled("event", cells("event_truth", data.event, no_truth))]
    complete = report_rows("follow_up_known", SAMPLES_FILE, None, lacking)
    followed = [between("cells", complete, low=2, tolerated=1.0)]
    # An empty cell is no number either, but is reported once, as dropped.
    return [
        Suite("samples.time", pd.DataFrame({"time": number})[given["time"]], times),
        Suite("samples.event", pd.DataFrame({"event": truth})[given["event"]], events),
        Suite("samples.follow_up", pd.DataFrame({"cells": given.sum(axis=1)}), followed),
    ]


def kept_suites(samples: pd.DataFrame, kept: pd.DataFrame, task: Any) -> list[Suite]:
    """Refuse too few events, a follow-up that ends before the horizons, and another unit of time."""
    data, found = task.data, read_follow_up(kept, task.data)
    time, event = found.time[found.known], found.event[found.known]
    last, unit, shortest = data.horizons[-1], data.unit, _SHORTEST_MEDIAN[data.unit]
    events, followed = int(event.sum()), int((time >= last).sum())
    longest, median = float(time.max(initial=0.0)), float(np.median(time)) if len(time) else shortest
    few = f"{events} events among {len(time)} samples, {_LEAST_EVENTS} are needed; add samples"
    none = "not one sample is censored; check whether it is 0 where a follow-up ended without the event"
    short = f"{followed} samples are followed until {last:g} {unit}, {_LEAST_FOLLOWED} are needed"
    early = f"no event happens until data.horizon ({data.horizon:g} {unit}); choose a later one"
    other = f"are these {_OTHER[unit]}? See data.unit"
    long = f"the longest follow-up is {longest:g} {unit}, more than a century; {other}"
    brief = f"half of the follow-ups end within {median:g} {unit}, a week; {other}"
    frame: dict[str, list[float]] = {}

    def check(name: str, value: float, message: str, column: str = data.time, **bounds: Any) -> Check:
        frame[name] = [value]
        return between(name, report_table(name, SAMPLES_FILE, message, column), **bounds)

    checks = [
        check("events_enough", events, few, data.event, low=_LEAST_EVENTS),
        check("some_censored", int((~event).sum()), none, data.event, low=1, tolerated=1.0),
        check("followed_long_enough", followed, f"{short}; lower data.horizons", low=_LEAST_FOLLOWED),
        check("events_before_horizon", int((event & (time <= data.horizon)).sum()), early, low=1),
        check("time_unit_long", longest, long, high=_LONGEST[unit]),
        check("time_unit_short", median, brief, low=shortest),
    ]
    return [Suite("samples.survival", pd.DataFrame(frame), checks)]
