"""Expression profiles of three classes, each of which raises genes of its own."""

from typing import Any, ClassVar

import numpy as np

from pipelines.samples.expression import ExpressionSamples
from tests.training.profile_samples import CLASSES, labels_samples, reordered, with_values
from tests.training.tiny_sets import TinySet, softmax
from training.architectures import Architecture

SIZES = {"train": 90, "validation": 30, "unseen": 45}
FEW = {"train": 30, "validation": 6, "unseen": 9}


class Tiny(TinySet):
    """A network sees them as images of 32 pixels."""

    explained = 6
    choices: ClassVar[int | None] = len(CLASSES)
    bounds = (0.35, 0.35)
    bound_with_holes = 0.5
    settings: ClassVar[dict[str, Any]] = {"modes": ["partial"], "layouts": ["given", "similarity"], "weights": "none"}
    small: ClassVar = {"rounds": 60, "trees": 30, "epochs": 1, "weights": "none", "image_size": 32, "mode": "partial"}

    def rows(self, side: str, architecture: Architecture) -> ExpressionSamples:
        sizes = FEW if hasattr(architecture.estimator, "backbone") else SIZES  # which is slow, and does not learn here
        return labels_samples(sizes[side], seed=list(SIZES).index(side))

    def content(self, samples: ExpressionSamples) -> list[Any]:
        return [samples.values.copy(), samples.table.copy()]

    def odd(self, samples: ExpressionSamples) -> ExpressionSamples:
        return with_values(samples, samples.values * 3 + 7)

    def reordered(self, samples: ExpressionSamples) -> ExpressionSamples:
        return reordered(samples)

    def with_holes(self, samples: ExpressionSamples) -> ExpressionSamples:
        values = samples.values.copy()
        values[np.random.default_rng(0).random(values.shape) < 0.05] = np.nan
        return with_values(samples, values)

    def imputed(self, train: ExpressionSamples, samples: ExpressionSamples) -> tuple[Any, Any]:
        holes, filled = samples.values.copy(), samples.values.copy()
        mean = train.logged().astype(np.float64).mean(axis=0)
        holes[:, 10:14] = np.nan
        filled[:, 10:14] = (2**mean - 1 if samples.scale == "linear" else mean)[10:14]
        return with_values(samples, holes), with_values(samples, filled)

    def error(self, outputs: np.ndarray, samples: ExpressionSamples) -> float:
        return float((outputs.argmax(axis=1) != samples.target).mean())

    def outputs_of(self, explained: np.ndarray) -> np.ndarray:
        return softmax(explained)
