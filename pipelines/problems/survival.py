"""The time to an event is predicted; targets are time and event, outputs log hazards relative to the training rows."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pipelines.problems import MARGIN, Metric, Problem, Score, get_problem, low

if TYPE_CHECKING:
    import numpy as np


def _finite(function: str, otherwise: float) -> Score:
    """Return a function of `pipelines.samples.survival`, and ``otherwise`` where it is NaN."""

    def score(target: np.ndarray, risk: np.ndarray) -> float:
        from pipelines.samples import survival

        found = float(getattr(survival, function)(target[:, 0], target[:, 1], risk))
        return found if math.isfinite(found) else otherwise

    return score


PROBLEM = Problem(
    "survival",
    (
        Metric(
            "concordance",
            "share of comparable pairs whose risks are in the right order (Harrell)",
            score=_finite("concordance", 0.5),
        ),
        Metric("uno_concordance", "the same, corrected for censoring, up to the last horizon (Uno)"),
        low("integrated_brier", "squared error of the survival curve, mean over the horizons"),
        *(get_problem("classification").metric(name) for name in ("brier", "ece")),  # of the risk until the horizon
        low("partial_loss", "negative log partial likelihood per event", _finite("partial_loss", 0.0)),
        MARGIN,
    ),
    ("validation_loss",),
)
