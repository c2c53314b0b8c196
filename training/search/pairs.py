"""Pairs allow imputation where values are missing, and mechanisms of drugs where the data tells of any."""

from typing import Any

import numpy as np

from pipelines.datasets import Prepared
from training.features.cell_line import imputations
from training.features.mechanism import Mechanisms


def allowed(settings: dict[str, Any], prepared: Prepared) -> dict[str, Any]:
    """Return the settings with ways to impute, and whether a mechanism is known of any training drug."""
    train = prepared.side("train")
    told = Mechanisms().fit(train.drugs.iloc[np.unique(train.drug)])
    return {**settings, "imputations": imputations(train), "mechanisms": bool(told.pathways or told.targets)}
