"""A mean of bounded numbers that arrive one by one, with an interval that holds at every time.

Whoever looks at a fixed-sample interval after every batch stops at a chance result sooner or later. The interval here
is the empirical-Bernstein confidence sequence of Waudby-Smith and Ramdas (2024, JRSS B 86), Theorem 2: with probability
``1 - level`` it holds the mean at all times at once, whenever one looks and stops.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

_LARGEST_BET = 0.5


class Mean(NamedTuple):
    """The mean so far, and the ends of the interval after all numbers."""

    value: float
    low: float
    high: float
    rows: int


def confidence_sequence(numbers: npt.ArrayLike, level: float = 0.05, bounds: tuple[float, float] = (0.0, 1.0)) -> Mean:
    """Return the interval of the mean after all ``numbers``, in their order, each within ``bounds``.

    `ValueError` for a number beyond them. Without numbers it is the bounds.
    """
    low, high = bounds
    values = (np.asarray(numbers, dtype=np.float64) - low) / (high - low)
    if not len(values):
        return Mean(float("nan"), low, high, 0)
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError(f"a number lies beyond {low:g} to {high:g}")
    times = np.arange(1, len(values) + 1)
    means = (0.5 + values.cumsum()) / (times + 1)
    before = np.concatenate([[0.5], means[:-1]])
    variances = (0.25 + ((values - means) ** 2).cumsum()) / (times + 1)
    earlier = np.concatenate([[0.25], variances[:-1]])
    bets = np.minimum(np.sqrt(2 * np.log(2 / level) / (earlier * times * np.log1p(times))), _LARGEST_BET)
    spent = (((values - before) ** 2) * (-np.log1p(-bets) - bets)).cumsum()
    total = bets.cumsum()
    centers, reach = (bets * values).cumsum() / total, (np.log(2 / level) + spent) / total
    lowest = float(np.clip(np.max(centers - reach), 0, 1))
    highest = float(np.clip(np.min(centers + reach), 0, 1))
    value, lowest, highest = (low + each * (high - low) for each in (float(values.mean()), lowest, highest))
    return Mean(value, lowest, highest, len(values))
