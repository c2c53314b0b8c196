"""What raw profiles must satisfy to predict the time to an event: a follow-up that a model can learn from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from pipelines.expectations import Report, Suite, report_rows, report_table
from pipelines.expectations.checks import between, filled
from pipelines.expectations.profile_targets import ProfileTargets
from pipelines.samples.expression import SAMPLES_FILE
from pipelines.samples.follow_up import read_follow_up

_LEAST_EVENTS = 10  # fewer than ten events say nothing of any risk
_LEAST_FOLLOWED = 5  # samples that are still followed at the last horizon
_LONGEST = {"days": 36_525.0, "months": 1_200.0, "years": 100.0}  # a century
_SHORTEST_MEDIAN = {"days": 7.0, "months": 0.25, "years": 0.02}  # a week
_OTHER = {"days": "months or years", "months": "years, or days", "years": "months or days"}


class FollowUpRules(ProfileTargets):
    """Rules of times and events."""

    def known(self, samples: pd.DataFrame, task: Any) -> pd.Series:
        """Return which samples have a follow-up."""
        return pd.Series(read_follow_up(samples, task.data).known, index=samples.index)

    def sample_suites(self, samples: pd.DataFrame, task: Any) -> list[Suite]:
        """Refuse times and events that cannot be read, and warn of samples without, which are dropped."""
        data, found = task.data, read_follow_up(samples, task.data)
        number = pd.Series(found.time).where(np.isfinite(found.time))
        truth = pd.Series(found.event, dtype=object).where(found.event_read, None)
        said = pd.DataFrame({"time": found.time_said, "event": found.event_said})

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
        complete = report_rows("follow_up_known", SAMPLES_FILE, None, lacking)
        # An empty cell is no number either, but is reported once, as dropped.
        return [
            Suite("samples.time", pd.DataFrame({"time": number})[said["time"]], times),
            Suite(
                "samples.event",
                pd.DataFrame({"event": truth})[said["event"]],
                [filled("event", cells("event_truth", data.event, no_truth))],
            ),
            Suite(
                "samples.follow_up",
                pd.DataFrame({"cells": said.sum(axis=1)}),
                [between("cells", complete, low=2, tolerated=1.0)],
            ),
        ]

    def kept_suites(self, samples: pd.DataFrame, kept: pd.DataFrame, task: Any) -> list[Suite]:
        """Refuse too few events, a follow-up that ends before the horizons, and another unit of time."""
        data, found = task.data, read_follow_up(kept, task.data)
        time, event = found.time[found.known], found.event[found.known]
        last, unit = data.horizons[-1], data.unit
        shortest = _SHORTEST_MEDIAN[unit]
        whole = {
            "events": int(event.sum()),
            "censored": int((~event).sum()),
            "followed": int((time >= last).sum()),
            "before": int((event & (time <= data.horizon)).sum()),
            "longest": float(time.max(initial=0.0)),
            "median_time": float(np.median(time)) if len(time) else shortest,
        }
        few = f"{whole['events']} events among {len(time)} samples, {_LEAST_EVENTS} are needed; add samples, or check "
        none = "not one sample is censored; check whether {} is 0 where a follow-up ended without the event"
        short = f"{whole['followed']} samples are followed until {last:g} {unit}, {_LEAST_FOLLOWED} are needed; "
        early = f"no event happens until data.horizon ({data.horizon:g} {unit}); choose a later one"
        other = f"are these {_OTHER[unit]}? See data.unit"
        long = f"the longest follow-up is {whole['longest']:g} {unit}, more than a century; {other}"
        brief = f"half of the follow-ups end within {whole['median_time']:g} {unit}, a week; {other}"
        checks = [
            between(statistic, report_table(name, SAMPLES_FILE, message, column), low, high, tolerated=tolerated)
            for statistic, name, column, message, low, high, tolerated in (
                ("events", "events_enough", data.event, few + data.event, _LEAST_EVENTS, None, 0.0),
                ("censored", "some_censored", data.event, none.format(data.event), 1, None, 1.0),
                (
                    "followed",
                    "followed_long_enough",
                    data.time,
                    f"{short}lower data.horizons",
                    _LEAST_FOLLOWED,
                    None,
                    0.0,
                ),
                ("before", "events_before_horizon", data.time, early, 1, None, 0.0),
                ("longest", "time_unit_long", data.time, long, None, _LONGEST[unit], 0.0),
                ("median_time", "time_unit_short", data.time, brief, shortest, None, 0.0),
            )
        ]
        return [Suite("samples.survival", pd.DataFrame([whole]), checks)]


RULES = FollowUpRules()
