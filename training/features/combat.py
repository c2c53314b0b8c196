"""ComBat: expression without what the samples of a batch, such as a hospital or a plate, have in common.

After Johnson W. E., Li C., Rabinovic A. (2007), Biostatistics 8(1), 118-127. Packages keep the class out of the
correction as a column of a linear model, which has no solution where every batch holds one class, as hospitals of TCGA
do. Here each class is corrected by itself: what its batches differ in goes, and what it differs in from others stays.
"""

import numpy as np
import pandas as pd

_STEPS = 100
_TOLERANCE = 1e-4  # of the estimates, relative
_FEWEST = 2  # samples of a class in a batch, by which their variance is known
_TINY = 1e-12


def without_batches(values: np.ndarray, batch: pd.Series, classes: np.ndarray) -> np.ndarray:
    """Return ``values`` ``(n, genes)``, float64, with location and scale of each class alike in all its batches.

    ``batch``, a row a sample, is None where it is unknown; ``classes`` has shape ``(n,)``. Samples of unknown batches,
    and those that are the only ones of a class in a batch, stay as they are.
    """
    cells = pd.DataFrame({"batch": batch.to_numpy(object), "class": classes})
    shared = cells[cells.groupby(["class", "batch"])["class"].transform("size") >= _FEWEST]
    corrected = np.array(values, dtype=np.float64)
    for _, rows in shared.groupby("class"):
        own, codes = corrected[rows.index], pd.factorize(rows["batch"])[0]
        corrected[rows.index] = _of_class(own, [np.flatnonzero(codes == code) for code in range(codes.max() + 1)])
    return corrected


def _of_class(values: np.ndarray, batches: list[np.ndarray]) -> np.ndarray:
    """Return values of one class without location and scale of its ``batches``, each the positions of its samples."""
    mean = values.mean(axis=0)
    within = sum(((values[rows] - values[rows].mean(axis=0)) ** 2).sum(axis=0) for rows in batches) / len(values)
    spread = np.sqrt(np.maximum(within, _TINY))
    standard = (values - mean) / spread
    for rows in batches:
        location, scale = _shrunken(standard[rows])
        standard[rows] = (standard[rows] - location) / scale
    return standard * spread + mean


def _shrunken(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return location and scale of a batch's standardized values, ``(genes,)`` each, shrunk by empirical Bayes."""
    count = len(values)
    mean, variance = values.mean(axis=0), values.var(axis=0, ddof=1)
    center, width = mean.mean(), mean.var(ddof=1)
    typical, around = variance.mean(), max(variance.var(ddof=1), _TINY)
    shape, rate = 2 + typical**2 / around, typical + typical**3 / around
    location, scale = mean, variance
    for _ in range(_STEPS):
        last = scale
        location = (count * width * mean + scale * center) / np.maximum(count * width + scale, _TINY)
        squares = (count - 1) * variance + count * (mean - location) ** 2
        scale = (rate + squares / 2) / (count / 2 + shape - 1)
        if np.all(np.abs(scale - last) <= _TOLERANCE * scale):
            break
    return location, np.sqrt(np.maximum(scale, _TINY))
