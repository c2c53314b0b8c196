"""Elastic net (Zou and Hastie, 2005) on pair features: the linear baseline of drug response."""

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np

from pipelines.samples.response import ResponseSamples
from training.architectures import Range, architecture, joined, ranges
from training.bilinear import Bilinear, moments_of, solve
from training.estimator import Attribution, Estimator, FitContext
from training.features.cell_line import CellLineChoices, cell_line_space
from training.features.mechanism import mechanism_space

SPACE = joined(
    ranges(alpha=Range(1e-4, 1.0, log=True), l1_share=Range(0.0, 1.0), interactions=[True, False], components=[32, 64]),
    cell_line_space,
    mechanism_space,
)


@architecture("pairs", "regression", space=SPACE, role="simple")
class ElasticNet(CellLineChoices, Estimator):
    """Linear in line features, drug features and, where asked for, their products."""

    featurizers: ClassVar[Mapping[str, Any]] = {"model": Bilinear}

    alpha: float = 0.01
    l1_share: float = 0.2
    interactions: bool = True
    components: int = 64
    profile_components: int = 12
    bits: int = 128
    mechanism: bool = False
    seed: int = 0

    def fit(self, train: ResponseSamples, validation: Any = None, context: FitContext | None = None) -> Self:
        """Fit on the moments of the training rows, which a study needs once for all penalties."""
        context = context or FitContext()
        names = ("components", "interactions", "profile_components", "bits", "mechanism")
        features: dict[str, Any] = {name: getattr(self, name) for name in names}
        key = (id(train), repr(self.cell_line_features(train)), *features.values())
        moments = context.remember(key, lambda: moments_of(train, choices=self, **features))
        self.model_ = solve(moments, alpha=self.alpha, l1_share=self.l1_share)
        return self

    def predict(self, samples: ResponseSamples) -> np.ndarray:
        """Return the predicted target, shape ``(n,)``."""
        return self.model_.predict(samples)

    def graph(self, contract: Any) -> Any:
        """See `Estimator.graph`."""
        return self.model_.graph()

    def attribute(self, samples: ResponseSamples, output: np.ndarray | None = None) -> Attribution:
        """Return weight times distance from the training mean; a product's share goes to the line's feature."""
        return self.model_.attribute(samples)

    def cost(self) -> dict[str, float]:
        """Return the number of weights, and of those that are not zero."""
        return self.model_.cost()
