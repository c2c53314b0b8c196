"""The interval for unseen drugs, measured on drugs that are held out of a fit."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from pipelines.datasets import Prepared
from pipelines.groups.pairs import drug_groups
from training.estimator import Estimator
from training.model.calibration import half_widths

SHARE = 0.25  # of the drugs that are held out, in one fold


def unseen_half_width(prepared: Prepared, refit: Callable[[Any, Any], Estimator], coverage: float) -> float | None:
    """Return the half width of intervals for unseen drugs, see `training.model.calibration.half_widths`.

    ``refit`` fits one model on the training rows of three quarters of the drugs, stopped early on the validation rows
    of these; it predicts the validation rows of the other drugs: unseen cells and drugs. Drugs are grouped as in a
    drug-blind split. The final model is fitted on more drugs and may average several models, so that the width errs on
    the wide side. None for fewer held-out drugs than coverage / (1 - coverage).
    """
    train, validation = prepared.side("train"), prepared.side("validation")
    group = drug_groups(prepared.samples.drugs).to_numpy()
    names = np.unique(group[np.unique(train.drug)])
    shuffled = names[np.random.default_rng(0).permutation(len(names))]
    least = math.ceil(coverage / (1 - coverage) - 1e-9)
    held = shuffled[: max(round(SHARE * len(names)), least)]
    is_held = np.isin(group, held)
    unseen = validation.take(is_held[validation.drug])
    drugs = len(np.unique(group[unseen.drug])) if len(unseen) else 0
    if drugs < least or 2 * len(held) > len(names):
        return None
    fitted = train.take(~is_held[train.drug])
    watched = validation.take(~is_held[validation.drug])
    if not len(fitted) or not len(watched):
        return None
    return float(half_widths(unseen.target - refit(fitted, watched).outputs(unseen), drugs, coverage))
