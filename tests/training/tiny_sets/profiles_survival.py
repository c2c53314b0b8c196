"""Expression profiles whose first genes raise the hazard of an event."""

from typing import Any, ClassVar

import numpy as np

from pipelines.samples.expression import ExpressionSamples
from pipelines.samples.survival import concordance
from tests.training.survival_samples import follow_up, follow_up_samples
from tests.training.tiny_sets import profiles_classification
from training.architectures import Architecture

SIZES = {"train": 90, "validation": 45, "unseen": 60}


class Tiny(profiles_classification.Tiny):
    """The answer is a log hazard; the error is the share of pairs in the wrong order."""

    choices: ClassVar[int | None] = None
    miss = 0.01
    bounds = (0.7, 0.9)
    bound_with_holes = 0.9
    settings: ClassVar[dict[str, Any]] = {}
    small: ClassVar[dict[str, Any]] = {"rounds": 60, "epochs": 40, "batch_size": 32, "width": 16, "members": 2}

    def rows(self, side: str, architecture: Architecture) -> ExpressionSamples:
        return follow_up_samples(SIZES[side], seed=list(SIZES).index(side))

    def error(self, outputs: np.ndarray, samples: ExpressionSamples) -> float:
        time, event = follow_up(samples)
        return 1 - float(concordance(time, event, outputs))

    def outputs_of(self, explained: np.ndarray) -> np.ndarray:
        return explained[:, 0]
