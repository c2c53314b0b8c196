"""Calibrated probabilities, by temperature scaling, and conformal sets, from held-out predictions."""

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar

Floats = npt.NDArray[np.float64]

TEMPERATURES = (0.05, 20.0)

# As in the log loss that evaluation reports: a probability of zero is one of 2.2e-16.
SMALLEST = float(np.finfo(np.float64).eps)

# Weight, in rows, of a uniform truth (Platt, 1999). Without it a validation split without a mistake, which good models
# have, asks for ever lower temperatures, and the first mistake on the test split is made with certainty.
_ASSUMED_ROWS = 1.0


def fit_temperature(probabilities: npt.ArrayLike, target: npt.ArrayLike) -> float:
    """Return the temperature under which held-out rows are most likely (Guo et al., 2017, ICML); 1 if none helps."""
    logits = _logits(probabilities)
    true = _true(target, *logits.shape)
    rows = np.arange(len(true))
    mean_logit = logits.mean(axis=1)
    share = _ASSUMED_ROWS / (len(true) + _ASSUMED_ROWS)

    def losses(log_temperature: float) -> tuple[float, float]:
        scale = np.exp(-log_temperature)
        normalizer = np.log(np.exp(logits * scale).sum(axis=1))  # the largest logit is 0: no overflow
        of_truth = float(np.mean(normalizer - logits[rows, true] * scale))
        of_any_class = float(np.mean(normalizer - mean_logit * scale))
        return of_truth, (1 - share) * of_truth + share * of_any_class

    bounds = np.log(TEMPERATURES)
    found = float(minimize_scalar(lambda x: losses(x)[1], bounds=bounds, method="bounded", options={"xatol": 1e-6}).x)
    return float(np.exp(found)) if losses(found)[0] < losses(0.0)[0] else 1.0


def apply_temperature(probabilities: npt.ArrayLike, temperature: float) -> Floats:
    """Return probabilities whose logits are divided by a positive temperature; the predicted class stays."""
    if not (np.isfinite(temperature) and temperature > 0):
        raise ValueError(f"temperature is {temperature}, not a positive number")
    logits = _logits(probabilities)
    scaled = np.exp(logits / temperature)
    scaled /= scaled.sum(axis=1, keepdims=True)
    # Classes that differ in the last digit may come out equal; the prediction must not change for it.
    rows, top = np.arange(len(scaled)), np.argmax(probabilities, axis=1)
    moved = scaled.argmax(axis=1) != top
    scaled[rows[moved], top[moved]] = np.nextafter(scaled[moved].max(axis=1), np.inf)
    return scaled


def true_scores(probabilities: npt.ArrayLike, target: npt.ArrayLike) -> Floats:
    """Return the score of each row's true class, 1 - its probability, ``(n_rows,)``.

    Classes whose score is at most a quantile of these over groups are a conformal set (Sadinle et al., 2019, JASA).
    """
    table = _table(probabilities)
    true = _true(target, *table.shape)
    scores: Floats = 1 - table[np.arange(true.size), true]
    return scores


def quantile_of_groups(scores: Floats, groups: npt.ArrayLike, share: float) -> float:
    """Return the score that rows of a new group exceed with probability 1 - ``share`` at most; infinite for few groups.

    Each group has the same weight, and so has the new one, whose scores are taken to be the largest (Lee et al., 2023).
    """
    _, code, sizes = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
    if code.shape != scores.shape:
        raise ValueError(f"groups has shape {code.shape}, not {scores.shape}")
    order = np.argsort(scores)
    # In units of a group: all rows weigh n_groups together, and share * (n_groups + 1) of that must lie below.
    below = np.cumsum(1 / sizes[code[order]])
    place = int(np.searchsorted(below, share * (sizes.size + 1) - 1e-9))
    return float(scores[order[place]]) if place < scores.size else np.inf


def half_widths(errors: Floats, groups: int, coverage: float) -> Floats:
    """Return the half width of split conformal intervals (Lei et al., 2018); rows of one of ``groups`` err together."""
    level = min(1.0, np.ceil((groups + 1) * coverage) / groups)
    widths: Floats = np.quantile(np.abs(errors), level, axis=0, method="higher")
    return widths


def prediction_sets(probabilities: npt.ArrayLike, threshold: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Return which classes are in each row's set, ``(n_rows, n_classes)``; the most probable one always is.

    ``threshold`` is one, that of each class ``(n_classes,)`` or that of each row ``(n_rows, 1)``.
    """
    table = _table(probabilities)
    sets = 1 - table <= np.asarray(threshold, dtype=np.float64)
    sets[np.arange(len(table)), table.argmax(axis=1)] = True
    return sets


def _logits(probabilities: npt.ArrayLike) -> Floats:
    table = np.clip(_table(probabilities), SMALLEST, None)
    logits: Floats = np.log(table / table.max(axis=1, keepdims=True))
    return logits


def _table(probabilities: npt.ArrayLike) -> Floats:
    table = np.asarray(probabilities, dtype=np.float64)
    if table.ndim != 2 or table.shape[1] < 1:
        raise ValueError(f"probabilities has shape {table.shape}, not (n_rows, n_classes)")
    bad = np.flatnonzero(~((table >= 0) & np.isfinite(table)).all(axis=1))
    if bad.size:
        raise ValueError(f"probabilities is {table[bad[0]]} at row {bad[0]}")
    return table


def _true(target: npt.ArrayLike, n_rows: int, n_classes: int) -> npt.NDArray[np.intp]:
    true = np.asarray(target)
    if true.shape != (n_rows,) or n_rows == 0:
        raise ValueError(f"target has shape {true.shape}, and probabilities has {n_rows} rows; at least one is needed")
    if true.dtype.kind not in "iu" or true.min() < 0 or true.max() >= n_classes:
        raise ValueError(f"target must have codes of {n_classes} classes, integers from 0")
    return true.astype(np.intp)
