"""Tree ensembles on images.

Trees need a row of numbers an image: the features of a frozen network, or descriptors of color, texture and shape.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from pipelines.samples.images import ImageSamples
from training.features.cell_image import descriptors
from training.trees.labels import LabelTrees

_FEATURES = ("embedding", "descriptors")


def features_of(trial: Any, settings: Mapping[str, Any]) -> str:
    """Draw what trees see: a network that starts from nothing has no features worth a trial."""
    return trial.suggest_categorical("features", ["descriptors"] if settings.get("weights") == "none" else _FEATURES)


class ImageTrees(LabelTrees):
    """Trees on features of images.

    Parameters
    ----------
    features
        ``embedding``: of a frozen network that was trained on ImageNet; ``descriptors``: color, texture and shape.
    balanced, seed, device
        See `LabelTrees`.
    """

    features: str

    @classmethod
    def origin(cls, hyperparameters: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, str]:
        """Return whether the features are of a network that was trained on other images."""
        if hyperparameters.get("features") != "embedding":
            return {"pretrained": "false"}
        from training.features.embedding import EMBEDDER  # here, with PyTorch: trees on tables do without

        return {"pretrained": "true", "weights": f"imagenet ({EMBEDDER})"}

    def _fit_features(self, train: ImageSamples) -> None:
        """Neither the network nor the descriptors learn from the training rows."""

    def _matrix(self, samples: ImageSamples) -> np.ndarray:
        if self.features == "descriptors":
            return np.asarray(descriptors(samples), dtype=np.float32)
        from training.features.embedding import embeddings

        return np.asarray(embeddings(samples, self.device), dtype=np.float32)
