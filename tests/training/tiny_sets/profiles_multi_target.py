"""Expression profiles whose first genes follow the others."""

from typing import Any, ClassVar

import numpy as np

from pipelines.samples.expression import ExpressionSamples
from tests.training.profile_samples import TARGETS, gene_samples
from tests.training.tiny_sets import profiles_classification
from training.architectures import Architecture

SIZES = {"train": 96, "validation": 48, "unseen": 48}


class Tiny(profiles_classification.Tiny):
    """The targets are genes."""

    choices = len(TARGETS)
    miss = 0.01
    settings: ClassVar[dict[str, Any]] = {}
    small: ClassVar[dict[str, Any]] = {
        **{"rounds": 60, "trees": 30, "epochs": 15, "batch_size": 16, "dropout": 0.1, "width": 16, "members": 2},
        **{"window": 7, "embedding": 16},
    }

    def rows(self, side: str, architecture: Architecture) -> ExpressionSamples:
        return gene_samples(SIZES[side], seed=list(SIZES).index(side))

    def error(self, outputs: np.ndarray, samples: ExpressionSamples) -> float:
        return float(np.nanmean((outputs - samples.target) ** 2))

    def outputs_of(self, explained: np.ndarray) -> np.ndarray:
        return explained
