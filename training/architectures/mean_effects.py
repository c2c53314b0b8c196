"""The baseline of drug response: the drug's mean, plus the effect of a known cell line (Haibe-Kains et al., 2013)."""

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
from scipy.special import expit

from pipelines.samples.response import ResponseSamples
from training.adapters.pairs_classification import log_odds
from training.architectures import architecture
from training.estimator import Attribution, Classifier, Estimator, FitContext
from training.features.pair import DrugFeatures


@architecture("pairs", "regression", role="baseline")
class MeanEffects(Estimator):
    """Additive means of drugs and cell lines, each shrunken by one prior observation."""

    featurizers: ClassVar[Mapping[str, Any]] = {"drug": DrugFeatures}
    fitted: ClassVar[tuple[str, ...]] = ("line_ids", "line_effect")

    def fit(self, train: ResponseSamples, validation: Any = None, context: FitContext | None = None) -> Self:
        """Fit the means of the training rows."""
        self.drug_ = DrugFeatures(bits=0, identity="none").fit(train)
        residual = train.target - self.drug_.offset(train.drugs)[train.drug]
        used, line = np.unique(train.cell, return_inverse=True)
        self.line_ids_ = [str(name) for name in train.cell_lines.index[used]]
        self.line_effect_ = np.bincount(line, residual) / (np.bincount(line) + 1.0)
        return self

    def _effects(self, samples: ResponseSamples) -> tuple[np.ndarray, np.ndarray]:
        drug = self.drug_.offset(samples.drugs)[samples.drug]
        effect = dict(zip(self.line_ids_, self.line_effect_, strict=True))
        return drug, np.array([effect.get(str(name), 0.0) for name in samples.cell_lines.index])[samples.cell]

    def predict(self, samples: ResponseSamples) -> np.ndarray:
        """Return drug mean + cell-line effect, shape ``(n,)``."""
        drug, line = self._effects(samples)
        return drug + line

    def attribute(self, samples: ResponseSamples, output: np.ndarray | None = None) -> Attribution:
        """Return the two effects, from the overall mean."""
        drug, line = self._effects(samples)
        base = np.full(len(samples), self.drug_.overall)
        values = np.column_stack([drug - base, line])
        return Attribution(["drug:mean_response", "cell_line:effect"], values, base, drug + line, "exact")

    def cost(self) -> dict[str, float]:
        """Return the number of means."""
        return {"parameters": len(self.line_ids_) + len(self.drug_.ids) + 1}


@architecture("pairs", "classification", role="baseline")
class SensitiveShare(Classifier, MeanEffects):
    """The baseline of sensitivity: the drug's share of sensitive training lines, plus the effect of the line."""

    def fit(self, train: Any, validation: Any = None, context: FitContext | None = None) -> Self:
        """Fit the shares of the training rows."""
        return super().fit(train.called)

    def predict_proba(self, samples: ResponseSamples) -> np.ndarray:
        """Return the probabilities of resistant and sensitive, ``(n, 2)``."""
        odds = log_odds(sum(self._effects(samples)))
        return np.column_stack([expit(-odds), expit(odds)])

    def attribute(self, samples: ResponseSamples, output: np.ndarray | None = None) -> Attribution:
        """Return the contributions of drug and line to the log odds of a class, from those of the overall share."""
        drug, line = self._effects(samples)
        overall, of_drug, of_both = map(log_odds, (self.drug_.overall, drug, drug + line))
        code = self.predict(samples) if output is None else np.asarray(output)
        sign = np.where(code == 1, 1.0, -1.0)
        values = np.column_stack([of_drug - overall, of_both - of_drug]) * sign[:, None]
        names = ["drug:sensitive_share", "cell_line:effect"]
        return Attribution(names, values, overall * sign, of_both * sign, "exact")
