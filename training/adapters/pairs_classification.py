"""Any model of responses as a classifier: its prediction relative to the drug's mean becomes a probability."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit, logit

from pipelines.samples.response import ResponseSamples
from pipelines.samples.sensitivity import SensitivitySamples
from training.architectures import Architecture, get_architecture
from training.estimator import Attribution, Classifier, FitContext
from training.features.pair import DrugFeatures

OF = "regression"
_CERTAIN = 0.999


@dataclass(eq=False, repr=False, kw_only=True)
class Sensitivity(Classifier):
    """A regressor, and the link from its predictions to the probability that a line is sensitive (Platt, 1999).

    The log odds are those of the drug's share of sensitive training lines, plus a slope times the distance of the
    prediction below the drug's mean, in standard deviations of the drug, plus a constant.
    """

    of: str
    hyperparameters: Mapping[str, Any]

    featurizers = dict.fromkeys(("share", "mean", "variance"), DrugFeatures)  # of each drug
    fitted = ("slope", "constant")

    def fit(self, train: SensitivitySamples, validation: Any = None, context: FitContext | None = None) -> Self:
        """Fit the regressor on ``train``, and the link on ``validation``, or on ``train`` where that lacks a class."""
        watched = None if validation is None else validation.measured
        self.regressor_ = self._regressor().fit(train.measured, watched, context)
        self.share_, self.mean_ = _of_drugs(train, train.target), _of_drugs(train, train.measured.target)
        deviation = train.measured.target - self.mean_.offset(train.drugs)[train.drug]
        self.variance_ = _of_drugs(train, deviation**2)
        shown = train if validation is None or len(np.unique(validation.target)) < 2 else validation
        self.slope_, self.constant_ = _fit_link(*self._terms(shown), shown.target)
        return self

    def _regressor(self) -> Any:
        return get_architecture(self.of, "pairs", OF).estimator(**self.hyperparameters)

    def _known(self, samples: ResponseSamples) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return log odds of the share, mean and standard deviation of each sample's drug, ``(n,)``."""
        found = (self.share_, self.mean_, self.variance_)
        share, mean, variance = (each.offset(samples.drugs)[samples.drug] for each in found)
        return log_odds(share), mean, np.sqrt(variance) + np.finfo(np.float32).tiny

    def _terms(self, samples: ResponseSamples) -> tuple[np.ndarray, np.ndarray]:
        """Return the baseline's log odds, and the distance of each prediction below the drug's mean, ``(n,)``."""
        odds, mean, deviation = self._known(samples)
        return odds, (mean - self.regressor_.predict(samples)) / deviation

    def predict_proba(self, samples: ResponseSamples) -> np.ndarray:
        """Return the probabilities of `pipelines.samples.sensitivity.CLASSES`, ``(n, 2)``."""
        odds, below = self._terms(samples)
        odds = odds + self.slope_ * below + self.constant_
        return np.column_stack([expit(-odds), expit(odds)])

    def graph(self, contract: Any) -> Any:
        """See `Estimator.graph`; the inputs are those of the regressor, after the terms of the link."""
        from training.graphs import Graph
        from training.graphs.pairs import Linked

        inner = self.regressor_.graph(contract)
        terms = ("log_odds_of_drug", "mean_of_drug", "deviation_of_drug")
        about = dict.fromkeys(
            terms, "of the training rows of the drug, or of all where it is unknown, see `Sensitivity`"
        )

        def inputs(samples: SensitivitySamples) -> dict[str, np.ndarray]:
            return dict(zip(terms, self._known(samples), strict=True)) | inner.inputs(samples)

        linked = Linked(inner.module, self.slope_, self.constant_)
        return Graph(linked, inputs, about | dict(inner.about), shared=False, ragged=inner.ragged)

    def attribute(self, samples: ResponseSamples, output: np.ndarray | None = None) -> Attribution | None:
        """Return what each feature adds to the log odds of a class: the regressor's attribution through the link."""
        inner = self.regressor_.attribute(samples)
        if inner is None:
            return None
        sign = self._sign(samples, output)
        odds, mean, deviation = self._known(samples)
        slope = self.slope_ / deviation
        base = float(log_odds(self.share_.overall)) + self.constant_
        of_drug = odds + self.constant_ - base + slope * (mean - inner.base)
        return Attribution(
            [*inner.names, "drug:sensitive_share"],
            np.column_stack([-slope[:, None] * inner.values, of_drug]) * sign[:, None],
            base * sign,
            (odds + self.constant_ + slope * (mean - inner.prediction)) * sign,
            inner.method,
        )

    def atom_attributions(self, samples: ResponseSamples, output: np.ndarray | None = None) -> list[np.ndarray] | None:
        """Return what each atom adds to the log odds of a class, where the regressor sees atoms."""
        inner = self.regressor_.atom_attributions(samples)
        if inner is None:
            return None
        weight = -self.slope_ / self._known(samples)[2] * self._sign(samples, output)
        return [each * atoms for each, atoms in zip(weight, inner, strict=True)]

    def _sign(self, samples: ResponseSamples, output: np.ndarray | None) -> np.ndarray:
        """Return 1 where the log odds of sensitive are explained, -1 where those of resistant are, ``(n,)``."""
        code = self.predict(samples) if output is None else np.asarray(output)
        return np.where(code == 1, 1.0, -1.0)

    def cost(self) -> dict[str, float]:
        """Return the regressor's cost."""
        return self.regressor_.cost()

    def state(self) -> dict[str, Any]:
        """Return the regressor's state, what is known of the drugs, and the link."""
        return {**super().state(), "regressor": self.regressor_.state()}

    def restore(self, state: dict[str, Any]) -> Self:
        """Restore what `state` returned."""
        self.regressor_ = self._regressor().restore(state["regressor"])
        return super().restore(state)


@dataclass(frozen=True, kw_only=True)
class _OfRegression(Architecture):
    """An architecture of regression as one of classification."""

    of: Architecture

    def build(self, hyperparameters: Mapping[str, Any], **settings: Any) -> Sensitivity:
        """Return an unfitted classifier; settings are the regressor's."""
        regressor = self.of.build(hyperparameters, **settings)
        return Sensitivity(of=self.name, hyperparameters=regressor.get_params(deep=False))

    def first_trial(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return the regressor's."""
        return self.of.first_trial(settings)


def adapt(of: Architecture) -> Architecture:
    """Return an architecture of regression as one of classification, of the same search space and role."""
    return _OfRegression(of.name, of.modality, "classification", Sensitivity, of.space, of.role, of=of)


def log_odds(share: npt.ArrayLike) -> np.ndarray:
    """Return the log odds of shares of training lines, which are cut at 0.001 and 0.999."""
    return logit(np.clip(share, 1 - _CERTAIN, _CERTAIN))


def _of_drugs(train: SensitivitySamples, values: np.ndarray) -> DrugFeatures:
    """Return the mean of ``values`` (n,) by drug, shrunk towards the overall mean, which unseen drugs have."""
    samples = replace(train.measured, pairs=train.pairs.assign(target=values))
    return DrugFeatures(bits=0, identity="none").fit(samples)


def _fit_link(odds: np.ndarray, below: np.ndarray, target: np.ndarray) -> tuple[float, float]:
    """Return slope and constant of the largest likelihood under a weak prior; the slope is never negative."""

    def loss(link: np.ndarray) -> float:
        found = odds + link[0] * below + link[1]
        return float((np.logaddexp(0, found) - target * found).sum() + link @ link / 2)

    slope, constant = minimize(loss, np.zeros(2), bounds=[(0, None), (None, None)], method="L-BFGS-B").x
    return float(slope), float(constant)
