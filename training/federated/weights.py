"""Weights as they travel: those that training moves, with statistics of batch normalization that can be averaged."""

from collections.abc import Mapping

import numpy as np

from training.federated.statistics import Sums

_MEAN, _VARIANCE, _COUNT = "running_mean", "running_var", "num_batches_tracked"


def sent(weights: Mapping[str, np.ndarray], still: tuple[str, ...]) -> Sums:
    """Return the weights that training moves; variances become mean squares, whose mean over sites is that of all rows.

    A mean of the sites' variances would lack how far their means lie apart.
    """
    moved = {name: value for name, value in weights.items() if not (name.startswith(still) or name.endswith(_COUNT))}
    return _changed(moved, 1.0)


def received(weights: Mapping[str, np.ndarray]) -> Sums:
    """Return what was `sent`, or a mean of it, as weights."""
    return _changed(weights, -1.0)


def _changed(weights: Mapping[str, np.ndarray], sign: float) -> Sums:
    found = dict(weights)
    for name in (each for each in weights if each.endswith(_VARIANCE)):
        mean = weights[name.removesuffix(_VARIANCE) + _MEAN].astype(np.float64)
        found[name] = np.maximum(weights[name].astype(np.float64) + sign * mean**2, 0.0)
    return found
