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


def without_batches(
    values: np.ndarray, batch: pd.Series, classes: np.ndarray, fitted: np.ndarray | None = None
) -> np.ndarray:
    """Return ``values`` ``(n, genes)``, float64, with location and scale of each class alike in all its batches.

    ``batch``, a row a sample, is None where it is unknown; ``classes`` has shape ``(n,)``. What is taken off is
    estimated on the samples ``fitted``, bool ``(n,)``, by default all. These stay as they are: samples of an unknown
    batch, those of a class of which fewer than two fitted ones are in their batch, and a gene with one value in all
    fitted samples of a class in a batch: a gene that is not expressed would tell the batch afterwards.
    """
    fitted = np.ones(len(values), dtype=bool) if fitted is None else fitted
    corrected = np.array(values, dtype=np.float64)
    cells = pd.DataFrame({"batch": batch.to_numpy(object), "class": classes})
    for _, of_class in cells.dropna().groupby("class"):
        batches = [rows.index.to_numpy() for _, rows in of_class.groupby("batch")]
        batches = [rows for rows in batches if fitted[rows].sum() >= _FEWEST]
        if batches:
            _correct(corrected, batches, fitted)
    return corrected


def _correct(values: np.ndarray, batches: list[np.ndarray], fitted: np.ndarray) -> None:
    """Take location and scale of its ``batches``, each the positions of its samples, from the values of one class."""
    known = [values[rows[fitted[rows]]] for rows in batches]
    mean = np.concatenate(known).mean(axis=0)
    within = np.concatenate([each - each.mean(axis=0) for each in known])
    spread = np.sqrt(np.maximum((within**2).mean(axis=0), _TINY))
    for rows, each in zip(batches, known, strict=True):
        location, scale = _shrunken((each - mean) / spread)
        varies = np.ptp(each, axis=0) > 0
        values[rows] = np.where(
            varies, ((values[rows] - mean) / spread - location) / scale * spread + mean, values[rows]
        )


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
