"""The metrics of each problem as functions, for tests that know one problem alone."""

from __future__ import annotations

from evaluation.problems import measures_of

REGRESSION, CLASSIFICATION = measures_of("regression"), measures_of("classification")
regression_metrics, bootstrap_regression = REGRESSION.metrics, REGRESSION.bootstrap
classification_metrics, bootstrap_classification = CLASSIFICATION.metrics, CLASSIFICATION.bootstrap
bootstrap_targets = measures_of("multi_target").bootstrap
