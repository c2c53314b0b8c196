"""From expression profiles to features of a model: log2, imputed, filtered, scaled; learned from training rows."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Self

import numpy as np

from pipelines.errors import UserError
from pipelines.samples.barcodes import origin
from pipelines.samples.expression import ExpressionSamples
from training.architectures import draw
from training.estimator import Estimator, Featurizer
from training.features.combat import without_batches

STUDY_VARIANCE = 1.19  # log2 units squared: the filter of the study of gene images
SELECTIONS = ("all", "variance", "top_300", "top_1000", "top_3000")
Scaling = Literal["standard", "min_max", "none"]
ORIGINS = ("site", "plate")  # that `ProfileFeatures.combat` may name


def combat_space(trial: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Draw `ProfileFeatures.combat`, where the samples have a site or a plate; see `training.search.profiles`."""
    return draw(trial, combat=["none", *settings["origins"]]) if settings.get("origins") else {}


@dataclass
class ProfileFeatures(Featurizer):
    """Log2, imputation, filter and scaling of profiles.

    With ``combat`` filter and scales are learned from training rows that ComBat has corrected, and a model learns from
    `learned` in place of `transform`. Nothing else is corrected: the correction keeps the class apart, which of a new
    profile is not known, and no single profile tells the effect of its site.
    """

    selection: str = "all"  # genes that vary; ``variance``, above `STUDY_VARIANCE`; ``top_<k>``, the most variable
    scaling: Scaling = "standard"  # mean 0, variance 1; ``min_max``, 0 to 1, clipped; ``none``, log2 units
    combat: str = "none"  # or one of `ORIGINS`: whose effect `training.features.combat` takes from the training rows
    genes: list[str] = field(default_factory=list)  # those kept; what follows is theirs, float32
    impute: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    shift: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    scale: np.ndarray = field(default_factory=lambda: np.ones(0, np.float32))

    def fit(self, samples: ExpressionSamples) -> Self:
        """Learn means, filter and scales; raise UserError if fewer than two genes are left."""
        inputs = list(samples.inputs)
        values, mean = self._training_values(samples)
        variance = values.var(axis=0)
        kept = self._kept(variance)
        if len(kept) < 2:
            raise UserError(
                f"of {len(inputs)} genes {len(kept)} are left by the selection {self.selection!r}; choose another"
            )
        self.genes = [inputs[column] for column in kept]
        shift, scale = np.zeros(len(kept)), np.ones(len(kept))
        if self.scaling == "min_max":
            shift = values[:, kept].min(axis=0)
            scale = values[:, kept].max(axis=0) - shift
        elif self.scaling == "standard":
            shift, scale = mean[kept], np.sqrt(variance[kept])
        self.impute, self.shift, self.scale = (each.astype(np.float32) for each in (mean[kept], shift, scale))
        return self

    def _training_values(
        self, samples: ExpressionSamples, fitted: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return values of all inputs, imputed and corrected, ``(n, inputs)``, and the mean of each."""
        values = samples.logged(samples.inputs).astype(np.float64)
        known = ~np.isnan(values)
        mean = np.where(known, values, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
        values = np.where(known, values, mean)
        if self.combat == "none":
            return values, mean
        if (batch := origin(samples.table, self.combat)) is None:
            raise UserError(f"combat is {self.combat!r}, and the samples have no {self.combat}; choose none")
        return without_batches(values, batch, samples.target, fitted), mean

    def learned(self, samples: ExpressionSamples, fitted: np.ndarray | None = None) -> np.ndarray:
        """Return the features that a model learns from, of the rows given to `fit`; otherwise as `transform`.

        ``fitted``: the rows on which ComBat is fitted, bool, ``(n,)``; by default all.
        """
        if self.combat == "none":
            return self.transform(samples)
        columns = np.flatnonzero(np.isin(samples.inputs, self.genes))
        return self._scaled(self._training_values(samples, fitted)[0][:, columns].astype(np.float32))

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
        return self._scaled(np.where(np.isnan(values), self.impute, values))

    def _scaled(self, values: np.ndarray) -> np.ndarray:
        values = (values - self.shift) / self.scale
        return np.clip(values, 0, 1) if self.scaling == "min_max" else values

    @property
    def middle(self) -> np.ndarray:
        """Return the features of the mean training profile, float32, shape ``(len(genes),)``."""
        return (self.impute - self.shift) / self.scale


class ProfileEstimator(Estimator):
    """An estimator with fitted `ProfileFeatures` as ``features_``."""

    features_: ProfileFeatures
    featurizers: ClassVar[Mapping[str, Any]] = {"features": ProfileFeatures}


# What models that predict genes do with their target.


def target_means(samples: ExpressionSamples) -> np.ndarray:
    """Return the mean of each target gene over the samples where it is known, log2 units, shape ``(targets,)``."""
    target = samples.target
    known = ~np.isnan(target)
    return np.where(known, target, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)


def centered(samples: ExpressionSamples, means: np.ndarray) -> np.ndarray:
    """Return the target as distances from ``means``; 0, which teaches nothing, where it is unknown."""
    return np.nan_to_num(samples.target - means)


def chosen_targets(samples: ExpressionSamples, output: np.ndarray | None) -> np.ndarray:
    """Return ``output``, the target gene to explain for each sample; raise ValueError unless there is one for each."""
    if output is None:
        raise ValueError("there are several target genes: name for each sample the position of the one to explain")
    if len(output) != len(samples):
        raise ValueError(f"{len(output)} positions of target genes for {len(samples)} samples; give one for each")
    return np.asarray(output)
