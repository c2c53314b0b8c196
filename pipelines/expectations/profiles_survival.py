"""What raw profiles must satisfy where the time to an event is predicted: a follow-up that can be learnt from."""

from __future__ import annotations

from typing import Any

import great_expectations.expectations as gxe
import numpy as np
import pandas as pd

from pipelines.expectations import Check, Suite, Tell, tell_rows, tell_table
from pipelines.expectations.checks import all_true, at_least
from pipelines.expectations.profile_targets import ProfileTargets
from pipelines.samples.expression import SAMPLES_FILE
from pipelines.samples.follow_up import FollowUp, read_follow_up

_LEAST_EVENTS = 10  # fewer than ten events say nothing of any risk
_LEAST_FOLLOWED = 5  # samples that are still followed at the last horizon
_LONGEST = {"days": 36_525.0, "months": 1_200.0, "years": 100.0}  # a century
_SHORTEST_MEDIAN = {"days": 7.0, "months": 0.25, "years": 0.02}  # a week
_OTHER = {"days": "months or years", "months": "years, or days", "years": "months or days"}


class FollowUpRules(ProfileTargets):
    """What must hold of times and events."""

    def known(self, samples: pd.DataFrame, task: Any) -> pd.Series:
        """Return which samples have a follow-up."""
        return pd.Series(read_follow_up(samples, task.data).known, index=samples.index)

    def sample_checks(self, frame: pd.DataFrame, samples: pd.DataFrame, task: Any) -> list[Check]:
        """Refuse times and events that are none, and tell samples without, which are dropped."""
        data, found = task.data, read_follow_up(samples, task.data)
        # What is not said is told once, as dropped; None is passed over.
        frame["number"] = pd.Series(np.isfinite(found.time), dtype=object).where(found.time_said, None)
        frame["time"] = np.where(np.isfinite(found.time), found.time, np.nan)
        frame["truth"] = pd.Series(found.event_read, dtype=object).where(found.event_said, None)
        frame["complete"] = found.time_said & found.event_said

        def cells(name: str, column: str, message: str) -> Tell:
            return tell_rows(name, SAMPLES_FILE, column, message, samples[column])

        number = "must be a finite number{found}; leave it empty where nothing is known of the follow-up"
        positive = "must be above 0{found}: who was never followed says nothing; leave it empty to drop the sample"
        truth = "must be 1 or true for an event, 0 or false for none{found}"
        lacking = f"{data.time} or {data.event} is empty or unknown; the samples are dropped"
        above = gxe.ExpectColumnValuesToBeBetween(column="time", min_value=0, strict_min=True)
        return [
            all_true("number", cells("time_number", data.time, number)),
            Check(above, cells("time_positive", data.time, positive)),
            all_true("truth", cells("event_truth", data.event, truth)),
            all_true("complete", tell_rows("follow_up_known", SAMPLES_FILE, None, lacking), tolerated=1.0),
        ]

    def kept_checks(
        self, frame: pd.DataFrame, samples: pd.DataFrame, kept: pd.DataFrame, task: Any
    ) -> tuple[list[Check], list[Suite]]:
        """Refuse too few events, a follow-up that ends before the horizons, and another unit of time."""
        return _whole(frame, read_follow_up(kept, task.data), task.data), []


def _whole(frame: pd.DataFrame, found: FollowUp, data: Any) -> list[Check]:
    """Add to the one row of ``frame`` what must hold of the follow-up of all samples that are kept."""
    time, event = found.time[found.known], found.event[found.known]
    events, last, unit = int(event.sum()), data.horizons[-1], data.unit
    longest, median = (float(time.max()), float(np.median(time))) if len(time) else (0.0, _SHORTEST_MEDIAN[unit])
    followed, before = int((time >= last).sum()), int((event & (time <= data.horizon)).sum())
    frame["events"], frame["censored"], frame["followed"], frame["before"] = (
        events,
        len(time) - events,
        followed,
        before,
    )
    frame["longest"], frame["median_time"] = longest, median
    few = f"{events} events among {len(time)} samples, {_LEAST_EVENTS} are needed; add samples, or look at {data.event}"
    none = f"not one sample is censored; look whether {data.event} says 0 where a follow-up ended without the event"
    short = f"{followed} samples are followed until {last:g} {unit}, {_LEAST_FOLLOWED} are needed; lower data.horizons"
    early = f"no event happens until data.horizon ({data.horizon:g} {unit}); choose a later one"
    long = f"the longest follow-up is {longest:g} {unit}, more than a century; are these {_OTHER[unit]}? See data.unit"
    brief = f"half of the follow-ups end within {median:g} {unit}, a week; are these {_OTHER[unit]}? See data.unit"
    most = gxe.ExpectColumnValuesToBeBetween(column="longest", max_value=_LONGEST[unit])
    tell = {
        name: tell_table(name, SAMPLES_FILE, said, column)
        for name, said, column in (
            ("events_enough", few, data.event),
            ("some_censored", none, data.event),
            ("followed_long_enough", short, data.time),
            ("events_before_horizon", early, data.time),
            ("time_unit_long", long, data.time),
            ("time_unit_short", brief, data.time),
        )
    }
    warned = gxe.ExpectColumnValuesToBeBetween(column="censored", min_value=1, mostly=0.0)
    return [
        at_least("events", _LEAST_EVENTS, tell["events_enough"]),
        Check(warned, tell["some_censored"]),
        at_least("followed", _LEAST_FOLLOWED, tell["followed_long_enough"]),
        at_least("before", 1, tell["events_before_horizon"]),
        Check(most, tell["time_unit_long"]),
        at_least("median_time", _SHORTEST_MEDIAN[unit], tell["time_unit_short"]),
    ]


RULES = FollowUpRules()
