"""Tree ensembles on images: on features of a frozen network, or on descriptors of color, texture and shape."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from pipelines.samples.images import ImageSamples
from training.architectures import draw
from training.features.cell_image import descriptors
from training.features.isolated_cells import ISOLATIONS, isolated
from training.trees.boosters import LabelTrees

_FEATURES = ("embedding", "descriptors")


def feature_space(trial: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Draw isolation of the cell and the kind of features; without ImageNet weights there are only descriptors."""
    features = ["descriptors"] if settings.get("weights") == "none" else _FEATURES
    return draw(trial, isolation=ISOLATIONS, features=features)


class ImageTrees(LabelTrees):
    """Trees on features of images: ``embedding`` of a network trained on ImageNet, or ``descriptors``."""

    features: str
    isolation: str  # of the cell, see `training.features.isolated_cells.isolated`
    max_bin = 256

    @classmethod
    def origin(cls, hyperparameters: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, str]:
        """Return whether the features are those of a network that was trained on other images."""
        if hyperparameters.get("features") != "embedding":
            return {"pretrained": "false"}
        from training.features.embedding import EMBEDDER  # imports PyTorch, which trees on tables do without

        return {"pretrained": "true", "weights": f"imagenet ({EMBEDDER})"}

    def seen(self, samples: ImageSamples) -> ImageSamples:
        """See `Estimator.seen`."""
        return isolated(samples, self.isolation)

    def _matrix(self, samples: ImageSamples) -> np.ndarray:
        samples = self.seen(samples)
        if self.features == "descriptors":
            return np.asarray(descriptors(samples), dtype=np.float32)
        from training.features.embedding import embeddings

        return np.asarray(embeddings(samples, self.device), dtype=np.float32)
