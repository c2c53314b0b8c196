"""Tree ensembles on images: what XGBoost and Random Forest share, which is all but their parameters.

Trees need a row of numbers an image: the features of a frozen network, or descriptors of color, texture and shape.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import xgboost

from pipelines.images import ImageSamples
from training.device import threads, xgboost_device
from training.estimator import Classifier, FitContext
from training.features.cell_image import descriptors
from training.features.embedding import EMBEDDER, embeddings

_REPORT_EVERY = 10  # rounds
_FEATURES = ("embedding", "descriptors")


def features_of(trial: Any, settings: Mapping[str, Any]) -> str:
    """Draw what trees see: a network that starts from nothing has no features worth a trial."""
    return trial.suggest_categorical("features", ["descriptors"] if settings.get("weights") == "none" else _FEATURES)


class ImageTrees(Classifier):
    """Trees on features of images.

    Parameters
    ----------
    features
        ``embedding``: of a frozen network that was trained on ImageNet; ``descriptors``: color, texture and shape.
    balanced
        Whether classes weigh alike, however many images each has.
    seed, device
        As in ``params.yaml``.
    """

    features: str
    balanced: bool
    seed: int
    device: str

    @classmethod
    def origin(cls, hyperparameters: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, str]:
        """Return whether the features are of a network that was trained on other images."""
        if hyperparameters.get("features") != "embedding":
            return {"pretrained": "false"}
        return {"pretrained": "true", "weights": f"imagenet ({EMBEDDER})"}

    @abstractmethod
    def _booster_params(self) -> dict[str, Any]:
        """Return XGBoost's parameters."""

    @abstractmethod
    def _rounds(self) -> tuple[int, int | None]:
        """Return the number of boosting rounds and the patience of early stopping, None for none."""

    def _matrix(self, samples: ImageSamples) -> np.ndarray:
        made = embeddings(samples, self.device) if self.features == "embedding" else descriptors(samples)
        return np.asarray(made, dtype=np.float32)

    def fit(
        self, train: ImageSamples, validation: ImageSamples | None = None, context: FitContext | None = None
    ) -> Self:
        """Grow the trees; with ``validation`` boosting stops once its log loss no longer falls."""
        context = context or FitContext()
        self.classes_ = list(train.classes)
        codes = train.target
        counts = np.bincount(codes, minlength=len(self.classes_)).clip(1)
        weights = (len(codes) / (len(self.classes_) * counts))[codes] if self.balanced else None
        grown = xgboost.QuantileDMatrix(self._matrix(train), codes, weight=weights, nthread=threads())
        watched = None
        if validation is not None and len(validation):
            watched = xgboost.QuantileDMatrix(self._matrix(validation), validation.target, ref=grown, nthread=threads())
        rounds, patience = self._rounds()
        booster = xgboost.train(
            {
                "objective": "multi:softprob",
                "num_class": len(self.classes_),
                "tree_method": "hist",
                "seed": self.seed,
                "nthread": threads(),
                "device": xgboost_device(self.device),
                "eval_metric": "mlogloss",
                **self._booster_params(),
            },
            grown,
            rounds,
            evals=[(watched, "validation")] if watched is not None else [],
            early_stopping_rounds=patience if watched is not None else None,
            callbacks=[_Report(context.on_step)] if context.on_step and watched is not None else None,
            verbose_eval=False,
        )
        best = booster.best_iteration if patience and watched is not None else rounds - 1
        self.booster_ = booster[: best + 1]
        return self

    def predict_proba(self, samples: ImageSamples) -> np.ndarray:
        """Return the probability of each class, shape ``(n, classes)``."""
        if len(samples) == 0:
            return np.zeros((0, len(self.classes_)))
        self.booster_.set_param({"nthread": threads(), "device": xgboost_device(self.device)})
        probabilities = self.booster_.inplace_predict(self._matrix(samples)).astype(np.float64)
        return probabilities / probabilities.sum(axis=1, keepdims=True)

    def cost(self) -> dict[str, float]:
        """Return the number of nodes and trees."""
        return {
            "parameters": sum(tree.count(":") for tree in self.booster_.get_dump(dump_format="text")),
            "trees": len(self.booster_.get_dump(dump_format="text")),
        }

    def state(self) -> dict[str, Any]:
        """Return classes and booster (XGBoost's UBJSON, as bytes)."""
        raw = np.frombuffer(bytes(self.booster_.save_raw("ubj")), dtype=np.uint8)
        return {"classes": self.classes_, "booster": raw}

    def restore(self, state: dict[str, Any]) -> Self:
        """Take on classes and booster."""
        self.classes_ = list(state["classes"])
        self.booster_ = xgboost.Booster(model_file=bytearray(state["booster"].tobytes()))
        return self


class _Report(xgboost.callback.TrainingCallback):
    """Tells the validation log loss every few rounds."""

    def __init__(self, on_step: Any) -> None:
        self._on_step = on_step

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        if epoch % _REPORT_EVERY == 0:
            self._on_step(epoch, {"validation_log_loss": float(evals_log["validation"]["mlogloss"][-1])})
        return False
