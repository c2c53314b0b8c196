"""From expression profiles to features of a model: log2, imputed, filtered, scaled; learned from training rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

import numpy as np

from pipelines.errors import UserError
from pipelines.samples.expression import ExpressionSamples
from training.features.fitted import FittedAttributes

STUDY_VARIANCE = 1.19  # log2 units squared: the filter of the study of gene images
SELECTIONS = ("all", "variance", "top_300", "top_1000", "top_3000")
Scaling = Literal["standard", "min_max", "none"]


class ProfileFeatures:
    """Log2, imputation, filter and scaling of profiles.

    Parameters
    ----------
    selection
        Genes that are kept, of those that vary: ``all``, ``variance`` (above `STUDY_VARIANCE`), or ``top_<k>``, the
        most variable.
    scaling
        ``standard``: mean 0 and variance 1; ``min_max``: 0 to 1, clipped; ``none``: log2 units.

    Attributes
    ----------
    genes
        Those kept, in the order of the table.
    """

    def __init__(self, selection: str = "all", scaling: Scaling = "standard") -> None:
        self.selection = selection
        self.scaling = scaling
        self.genes: list[str] = []

    def fit(self, samples: ExpressionSamples) -> Self:
        """Learn means, filter and scales; raise UserError if fewer than two genes are left."""
        inputs = list(samples.inputs)
        values = samples.logged(inputs).astype(np.float64)
        known = ~np.isnan(values)
        mean = np.where(known, values, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
        values = np.where(known, values, mean)
        variance = values.var(axis=0)
        kept = self._kept(variance)
        if len(kept) < 2:
            raise UserError(
                f"of {len(inputs)} genes {len(kept)} are left by the selection {self.selection!r}; choose another"
            )
        self.genes = [inputs[column] for column in kept]
        shift: np.ndarray = np.zeros(len(kept))
        scale: np.ndarray = np.ones(len(kept))
        if self.scaling == "min_max":
            shift = values[:, kept].min(axis=0)
            scale = values[:, kept].max(axis=0) - shift
        elif self.scaling == "standard":
            shift, scale = mean[kept], np.sqrt(variance[kept])
        self._impute = mean[kept].astype(np.float32)
        self._shift, self._scale = shift.astype(np.float32), scale.astype(np.float32)
        return self

    def _kept(self, variance: np.ndarray) -> np.ndarray:
        varying = np.flatnonzero(variance > 1e-9)
        if self.selection == "variance":
            return np.flatnonzero(variance > STUDY_VARIANCE)
        if self.selection.startswith("top_"):
            order = varying[np.argsort(-variance[varying], kind="stable")]
            return np.sort(order[: int(self.selection.removeprefix("top_"))])
        return varying

    def transform(self, samples: ExpressionSamples) -> np.ndarray:
        """Return the features, float32, shape ``(n, len(genes))``."""
        values = samples.logged(self.genes).astype(np.float32)
        values = np.where(np.isnan(values), self._impute, values)
        values = (values - self._shift) / self._scale
        return np.clip(values, 0, 1) if self.scaling == "min_max" else values

    @property
    def middle(self) -> np.ndarray:
        """Return the features of the mean training profile, float32, shape ``(len(genes),)``."""
        return (self._impute - self._shift) / self._scale

    def state(self) -> dict[str, Any]:
        """Return everything that was fitted."""
        arrays = {"impute": self._impute, "shift": self._shift, "scale": self._scale}
        return {"selection": self.selection, "scaling": self.scaling, "genes": self.genes, **arrays}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """Rebuild from `state`."""
        made = cls(state["selection"], state["scaling"])
        made.genes = list(state["genes"])
        made._impute, made._shift, made._scale = (
            np.asarray(state[key], np.float32) for key in ("impute", "shift", "scale")
        )
        return made


class ProfileEstimator(FittedAttributes):
    """An estimator with fitted `ProfileFeatures` as ``features_``."""

    features_: ProfileFeatures
    featurizers: ClassVar[Mapping[str, Any]] = {"features": ProfileFeatures}
