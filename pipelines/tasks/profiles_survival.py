"""Time to an event, such as relapse, predicted from expression profiles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pipelines.modalities.profiles import ProfilesData, ProfilesTask, ProfileTargets
from pipelines.typed_yaml import Checks

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


@dataclass(frozen=True)
class SurvivalData(ProfilesData):
    """Settings of profiles with a follow-up."""

    time: str  # column of `samples.csv` with the time of follow-up
    # column of `samples.csv`: whether the follow-up ended with the event (1 or true) or without it (0 or false)
    event: str
    unit: Literal["days", "months", "years"]  # of the times
    horizons: tuple[float, ...]  # times, ascending, at which survival is answered
    horizon: float  # one of them: the answer is the risk of the event until then, and calibration is measured there


@dataclass(frozen=True)
class ProfilesSurvival(ProfilesTask):
    """Time to an event, predicted from expression profiles."""

    target_columns = ("time", "event")

    data: SurvivalData

    @property
    def needs(self) -> tuple[str, ...]:  # type: ignore[override]
        """Return the columns of ``samples.csv`` that hold the follow-up."""
        return (self.data.time, self.data.event)

    def check(self, checks: Checks) -> None:
        """Refuse empty names of columns, and horizons that are not ascending."""
        super().check(checks)
        checks.filled("data.time", "data.event")
        horizons, horizon = self.data.horizons, self.data.horizon
        ascending = list(horizons) == sorted(set(horizons)) and all(0 < each < math.inf for each in horizons)
        several = len(horizons) >= 2 and ascending
        checks.require(several, "data.horizons", "must be two or more times, ascending, above 0")
        listed = ", ".join(f"{each:g}" for each in horizons)
        known = horizon in horizons
        checks.require(known, "data.horizon", f"is {horizon:g}; it must be one of data.horizons ({listed})")

    def targets(self, table: pd.DataFrame, left: np.ndarray, classes: Sequence[str] | None = None) -> ProfileTargets:
        """Return time and event of each sample; those without a follow-up are dropped."""
        from pipelines.samples.survival import read_follow_up

        found = read_follow_up(table, self.data)
        # In the summary of the split, so that models are refitted where the horizons change.
        counts = {"events": int(found.event[left & found.known].sum()), "horizons": list(self.data.horizons)}
        counts |= {"horizon": self.data.horizon}
        columns = {"time": found.time, "event": found.event.astype("int64")}
        return ProfileTargets(
            {"without_follow_up": ~found.known}, columns, counts={"follow_up": counts}, stratum="event"
        )


TASK = ProfilesSurvival
