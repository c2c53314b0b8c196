"""Follow-up in ``samples.csv``, and statistics of censored times: survival curve, concordance, partial likelihood.

``weights``, shape ``(b, n)``, says how often each row counts, for the value and its bootstrap interval in one call;
without it every row counts once and the leading axis of the result is dropped.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from pipelines.samples.expression import as_truth
from pipelines.tasks.profiles_survival import SurvivalData
from pipelines.text_values import is_unknown

_PAIRS = 2**24  # comparable pairs held at once
_TIED = 1e-8  # risks that differ by less are the same


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


def kaplan_meier(
    time: np.ndarray,
    event: np.ndarray,
    at: np.ndarray,
    weights: np.ndarray | None = None,
    *,
    censoring: bool = False,
    before: bool = False,
) -> np.ndarray:
    """Return the share without the event at the times ``at``, ``(k,)`` (Kaplan and Meier, 1958), shape ``(b, k)``.

    ``time`` and ``event``, shape ``(n,)``, are times of follow-up and whether they ended with the event. With
    ``censoring`` it is the share that is not censored: an event and a censoring at one time happen in this order. With
    ``before`` it is the share just before ``at``. Beyond the last observed time the curve keeps its last value.
    """
    order = np.argsort(time, kind="stable")
    count = np.ones((1, len(time))) if weights is None else np.asarray(weights, np.float64)[:, order]
    moments, starts = np.unique(time[order], return_index=True)
    happened = event[order].astype(bool)
    events = np.add.reduceat(count * happened, starts, axis=1)
    rows = np.add.reduceat(count, starts, axis=1)
    at_risk = np.cumsum(rows[:, ::-1], axis=1)[:, ::-1]
    if censoring:
        at_risk, events = at_risk - events, rows - events
    left = 1 - np.divide(events, at_risk, out=np.zeros_like(at_risk), where=at_risk > 0)
    curve = np.concatenate([np.ones((len(count), 1)), np.cumprod(left, axis=1)], axis=1)
    found = curve[:, np.searchsorted(moments, at, side="left" if before else "right")]
    return found[0] if weights is None else found


def concordance(
    time: np.ndarray,
    event: np.ndarray,
    risk: np.ndarray,
    weights: np.ndarray | None = None,
    *,
    until: float | None = None,
) -> np.ndarray:
    """Return the share of comparable pairs whose riskier row has its event first, shape ``(b,)``; ties count half.

    Two rows are comparable where the earlier time is one of an event (Harrell et al., 1982); NaN where none are.
    ``time``, ``event`` and ``risk`` have shape ``(n,)``. With ``until`` only events before this time count, each pair
    by the inverse square of the probability of being followed so long, which makes the result independent of the
    censoring (Uno et al., 2011).
    """
    count = np.ones((1, len(time))) if weights is None else np.asarray(weights, np.float64)
    happened = event.astype(bool)
    first = np.flatnonzero(happened if until is None else happened & (time < until))
    importance = np.ones((len(count), len(first)))
    if until is not None:
        followed = kaplan_meier(time, event, time[first], count, censoring=True)
        importance = np.divide(1, followed**2, out=np.zeros_like(followed), where=followed > 0)
    right, total = np.zeros(len(count)), np.zeros(len(count))
    step = max(1, _PAIRS // max(len(time), 1))
    for start in range(0, len(first), step):
        part = slice(start, start + step)
        one = first[part, None]
        later = (time > time[one]) | ((time == time[one]) & ~happened)
        lower = np.where(np.abs(risk - risk[one]) <= _TIED, 0.5, risk < risk[one])
        share = count[:, first[part]] * importance[:, part]
        right += (share * (count @ (later * lower).T)).sum(axis=1)
        total += (share * (count @ later.T)).sum(axis=1)
    found = np.divide(right, total, out=np.full(len(total), np.nan), where=total > 0)
    return found[0] if weights is None else found


def partial_loss(
    time: np.ndarray, event: np.ndarray, risk: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
    """Return the negative log partial likelihood (Cox, 1972) per event, ties after Breslow, shape ``(b,)``.

    ``time``, ``event`` and ``risk`` (log hazards, up to a constant) have shape ``(n,)``; NaN where there is no event.
    """
    order = np.argsort(-time, kind="stable")
    count = np.ones((1, len(time))) if weights is None else np.asarray(weights, np.float64)[:, order]
    time, happened, risk = time[order], event[order].astype(bool), risk[order] - risk.max(initial=-np.inf)
    # Rows that share a time are at risk together: each takes the sum up to the last of them.
    last = np.searchsorted(-time, -time[happened], side="right") - 1
    at_risk = np.cumsum(count * np.exp(risk), axis=1)[:, last]
    logs = np.log(at_risk, out=np.zeros_like(at_risk), where=at_risk > 0)  # 0 only for rows that do not count
    counted = count[:, happened]
    total = counted.sum(axis=1)
    losses = (counted * (logs - risk[happened])).sum(axis=1)
    found = np.divide(losses, total, out=np.full(len(total), np.nan), where=total > 0)
    return found[0] if weights is None else found
