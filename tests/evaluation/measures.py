"""The metrics of each problem as functions, for tests that know one problem alone."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from evaluation.metrics.resample import Interval
from evaluation.problems import measures_of

REGRESSION, CLASSIFICATION = measures_of("regression"), measures_of("classification")


def regression_metrics(y: npt.ArrayLike, prediction: npt.ArrayLike, **known: Any) -> dict[str, float]:
    return REGRESSION.metrics(y, prediction, **known)


def bootstrap_regression(
    y: npt.ArrayLike, prediction: npt.ArrayLike, groups: npt.ArrayLike, **known: Any
) -> dict[str, Interval]:
    return REGRESSION.bootstrap(y, prediction, groups, **known)


def classification_metrics(target: npt.ArrayLike, probabilities: npt.ArrayLike, **known: Any) -> dict[str, float]:
    return CLASSIFICATION.metrics(target, probabilities, **known)


def bootstrap_classification(
    target: npt.ArrayLike, probabilities: npt.ArrayLike, groups: npt.ArrayLike, **known: Any
) -> dict[str, Interval]:
    return CLASSIFICATION.bootstrap(target, probabilities, groups, **known)


def bootstrap_targets(
    y: npt.ArrayLike, prediction: npt.ArrayLike, groups: npt.ArrayLike, **known: Any
) -> dict[str, Interval]:
    return measures_of("multi_target").bootstrap(y, prediction, groups, **known)
