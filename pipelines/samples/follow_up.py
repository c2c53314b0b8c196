"""Times of follow-up and events in ``samples.csv``."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from pipelines.samples.expression import as_truth
from pipelines.text_values import is_unknown

if TYPE_CHECKING:
    from pipelines.tasks.profiles_survival import SurvivalData


@dataclass(frozen=True)
class FollowUp:
    """Follow-up of the rows of ``samples.csv``, shape ``(n,)`` each."""

    time: np.ndarray  # NaN where the cell is no number
    event: np.ndarray  # False where the cell is no truth value
    time_given: np.ndarray  # whether the cell is neither empty nor unknown
    event_given: np.ndarray
    event_read: np.ndarray  # whether the cell is a truth value

    @property
    def known(self) -> np.ndarray:
        """Return the rows with a time above 0 and an event."""
        return np.isfinite(self.time) & (self.time > 0) & self.event_read


def read_follow_up(table: pd.DataFrame, data: SurvivalData) -> FollowUp:
    """Read the columns ``data.time`` and ``data.event`` of a table of samples."""
    time, event = table[data.time], table[data.event]
    truth = as_truth(event)
    return FollowUp(
        time=pd.to_numeric(time, errors="coerce").to_numpy(np.float64, na_value=np.nan),
        event=truth.fillna(value=False).to_numpy(bool),
        time_given=~np.array([is_unknown(cell) for cell in time], dtype=bool),
        event_given=~np.array([is_unknown(cell) for cell in event], dtype=bool),
        event_read=truth.notna().to_numpy(bool),
    )
