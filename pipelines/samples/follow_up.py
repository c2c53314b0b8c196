"""Times of follow-up and events, as ``samples.csv`` has them: text that may not be what it should."""

from __future__ import annotations

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
    """What the rows of ``samples.csv`` say, shape ``(n,)`` each.

    Attributes
    ----------
    time
        NaN where the cell is no number.
    event
        False where the cell says neither.
    time_said, event_said
        Whether there is a cell that is not empty or unknown.
    event_read
        Whether the cell says one of the two.
    """

    time: np.ndarray
    event: np.ndarray
    time_said: np.ndarray
    event_said: np.ndarray
    event_read: np.ndarray

    @property
    def known(self) -> np.ndarray:
        """Return which rows have a follow-up that can be learnt from."""
        return np.isfinite(self.time) & (self.time > 0) & self.event_read


def read_follow_up(table: pd.DataFrame, data: SurvivalData) -> FollowUp:
    """Read the columns ``data.time`` and ``data.event`` of a table of samples."""
    time, event = table[data.time], table[data.event]
    truth = as_truth(event)
    return FollowUp(
        time=pd.to_numeric(time, errors="coerce").to_numpy(np.float64, na_value=np.nan),
        event=truth.fillna(value=False).to_numpy(bool),
        time_said=~np.array([is_unknown(cell) for cell in time], dtype=bool),
        event_said=~np.array([is_unknown(cell) for cell in event], dtype=bool),
        event_read=truth.notna().to_numpy(bool),
    )
