"""Drawn cells of three colors."""

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from pipelines.samples.images import ImageSamples
from tests.training.image_samples import CLASSES, in_memory
from tests.training.tiny_sets import TinySet, softmax
from training.architectures import Architecture

FIRST = {"train": 0, "validation": 200, "unseen": 100}


class Tiny(TinySet):
    """As small as a network takes them, and as few; others learn from more."""

    explained = 0
    choices = len(CLASSES)
    bounds = (0.35, 0.35)
    bound_with_holes = 0.5
    settings: ClassVar[dict[str, Any]] = {"modes": ["head", "partial", "full"], "tree_features": ["descriptors"]}
    small: ClassVar = {"epochs": 3, "views": 2, "test_views": 2, "rounds": 30, "trees": 30, "weights": "none"}

    def rows(self, side: str, architecture: Architecture) -> ImageSamples:
        backbone = getattr(architecture.estimator, "backbone", None)
        few = {"train": 12, "validation": 6, "unseen": 5}[side]
        return in_memory(few if backbone else 3 * few, backbone.smallest if backbone else 48, first=FIRST[side])

    def content(self, samples: ImageSamples) -> list[Any]:
        return [samples.pixels.copy(), samples.table.copy()]

    def odd(self, samples: ImageSamples) -> ImageSamples:
        return replace(samples, pixels=255 - samples.pixels)

    def error(self, outputs: np.ndarray, samples: ImageSamples) -> float:
        return float((outputs.argmax(axis=1) != samples.target).mean())

    def outputs_of(self, explained: np.ndarray) -> np.ndarray:
        return softmax(explained)
