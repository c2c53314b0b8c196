"""Tree ensembles on images: on features of a frozen network, or on descriptors of color, texture and shape."""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from pipelines.samples.images import ImageSamples
from training.architectures import draw
from training.estimator import IMAGENET, FitContext
from training.features.cell_image import descriptors
from training.features.exchanged_cells import EXCHANGES, exchanged
from training.features.isolated_cells import ISOLATIONS, isolated
from training.trees.boosters import LabelTrees

_FEATURES = ("embedding", "descriptors")


def feature_space(trial: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Draw isolation, exchange and the kind of features: without ImageNet weights descriptors, which need color."""
    features = ["descriptors"] if settings.get("weights") == "none" else settings.get("tree_features", _FEATURES)
    drawn = draw(trial, isolation=ISOLATIONS, exchange=EXCHANGES, features=features)
    if drawn["features"] == "embedding":
        from training.features.cell_color import COLORS  # imports PyTorch, which trees on tables do without

        drawn |= draw(trial, color=list(COLORS))
    return drawn


class ImageTrees(LabelTrees):
    """Trees on features of images: ``embedding`` of a network trained on ImageNet, or ``descriptors``."""

    features: str
    isolation: str  # of the cell, see `training.features.isolated_cells.isolated`
    exchange: str  # between classes, see `training.features.exchanged_cells.exchanged`
    color: str  # of what is embedded, one of `training.features.cell_color.COLORS`
    max_bin = 256
    fitted = (*LabelTrees.fitted, "stain")

    @classmethod
    def origin(cls, hyperparameters: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, str]:
        """Return whether the features are those of a network that was trained on other images."""
        if hyperparameters.get("features") != "embedding":
            return {"pretrained": "false"}
        from training.features.embedding import EMBEDDER

        return {"pretrained": "true", "weights": f"imagenet ({EMBEDDER})"}

    def fit(self, train: Any, validation: Any | None = None, context: FitContext | None = None) -> Self:
        """See `LabelTrees.fit`."""
        return super().fit(exchanged(train, self.exchange, self.seed), validation, context)

    def pretraining(self) -> dict[str, Any]:
        """See `Estimator.pretraining`."""
        if self.features != "embedding":
            return super().pretraining()
        return {"weights": "imagenet", "pretrained_on": [IMAGENET]}

    def seen(self, samples: ImageSamples) -> ImageSamples:
        """See `Estimator.seen`."""
        return isolated(samples, self.isolation)

    def embedded(self, samples: ImageSamples) -> np.ndarray:
        """Return the features."""
        return self._matrix(samples)

    def outputs_embedded(self, samples: ImageSamples) -> tuple[np.ndarray, np.ndarray]:
        """Return `outputs` and `embedded`, whose features are computed once."""
        matrix = self._matrix(samples)
        return self._probabilities(matrix) if len(samples) else self.outputs(samples), matrix

    def graph(self, contract: Any) -> Any:
        """See `Estimator.graph`."""
        from training.graphs import Graph

        where = "cell_image.descriptors" if self.features == "descriptors" else "embedding.embeddings"
        about = {"features": f"features of the image, as `training.features.{where}` returns them"}
        return Graph(self._answer(), lambda samples: {"features": self._matrix(samples)}, about, self.stain_ is None)

    def _fit_features(self, train: ImageSamples) -> None:
        self.stain_ = None
        if self.features == "embedding":
            from training.features.cell_color import learned_stain

            self.stain_ = learned_stain(self.color, self.seen(train))

    def restore(self, state: dict[str, Any]) -> Self:
        """Restore what `state` returned; models of earlier releases have no stain."""
        return super().restore({"stain": None, **state})

    def _matrix(self, samples: ImageSamples) -> np.ndarray:
        samples = self.seen(samples)
        if self.features == "descriptors":
            return np.asarray(descriptors(samples), dtype=np.float32)
        from training.features.embedding import embeddings

        return np.asarray(embeddings(samples, self.device, self.color, self.stain_), dtype=np.float32)
