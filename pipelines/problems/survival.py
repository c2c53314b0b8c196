"""The time to an event is predicted, as a risk and as a survival curve; who is censored is known to be free until then.

What is measured has two columns, time and event; what a model answers is the log hazard, relative to the training rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.problems import MARGIN, Metric, Problem, get_problem

if TYPE_CHECKING:
    import numpy as np

# NumPy takes a moment to import, and who reads params.yaml does not need it: hence the local imports.


def _concordance(target: np.ndarray, risk: np.ndarray) -> float:
    """Return Harrell's index; 0.5 where no two rows can be compared."""
    import numpy as np

    from pipelines.samples.survival import concordance

    found = float(concordance(target[:, 0], target[:, 1], risk))
    return found if np.isfinite(found) else 0.5


def _partial_loss(target: np.ndarray, risk: np.ndarray) -> float:
    """Return the loss of `partial_loss`; 0, which all models then have, without an event."""
    import numpy as np

    from pipelines.samples.survival import partial_loss

    found = float(partial_loss(target[:, 0], target[:, 1], risk))
    return found if np.isfinite(found) else 0.0


PROBLEM = Problem(
    "survival",
    (
        Metric(
            "concordance", "share of comparable pairs whose risks are in the right order (Harrell)", score=_concordance
        ),
        Metric("uno_concordance", "the same, corrected for censoring, up to the last horizon (Uno)"),
        Metric(
            "integrated_brier",
            "squared error of the survival curve, mean over the horizons; low is good",
            higher_is_better=False,
        ),
        *(get_problem("classification").metric(name) for name in ("brier", "ece")),  # of the risk until the horizon
        Metric(
            "partial_loss",
            "negative log partial likelihood per event; low is good",
            higher_is_better=False,
            score=_partial_loss,
        ),
        MARGIN,
    ),
    ("validation_loss",),
)
