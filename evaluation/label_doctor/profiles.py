"""Doubtful labels of profiles: a forest sees them, and people see the genes that speak for the other label."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from training.estimator import Attribution, Estimator, add

ARCHITECTURE = "random_forest"
HYPERPARAMETERS: dict[str, Any] = {}
_GENES = 6


def reasons(samples: Any, models: Sequence[Estimator], given: np.ndarray, suggested: np.ndarray) -> list[str]:
    """Return for each sample the genes that speak most for ``suggested`` against ``given``, classes ``(n,)``."""
    found = []
    for row, model in enumerate(models):
        one = samples.take(np.array([row]))
        of, against = (model.attribute(one, np.array([codes[row]])) for codes in (suggested, given))
        if of is None or against is None:
            found.append("")
            continue
        both = add([of, Attribution(against.names, -against.values, against.base, against.prediction, against.method)])
        order = np.argsort(-both.values[0])[:_GENES]
        found.append(", ".join(f"{both.names[each].rpartition(':')[2]} {both.values[0, each]:+.2f}" for each in order))
    return found


def pictures(samples: Any) -> list[bytes]:
    """Return nothing: a profile has no picture."""
    return []
