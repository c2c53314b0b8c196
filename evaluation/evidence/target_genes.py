"""What the evidence says of the genes that many targets are predicted from."""

from __future__ import annotations

from typing import Any

import numpy as np

from evaluation.evidence.parts import Evaluation, Evidence, Explained
from evaluation.explain import checks
from evaluation.explain.deletion import delete_genes
from evaluation.explain.targets import explain_targets, orders_of_genes
from evaluation.figures import targets
from evaluation.problems.multi_target import target_spreads
from pipelines.samples.expression import ExpressionSamples
from training.estimator import Estimator

RANDOM_TARGETS = 3  # whose explanations are compared with those of random weights


def explain_every_target(run: Evaluation, explained: Explained, strata: np.ndarray) -> Evidence:
    """Explain all targets of some test rows, and check whether that can be believed."""
    estimator = run.model.estimator
    order = orders_of_genes(estimator)
    read = Evidence(tables={} if order is None else {"gene_order": order})
    rows = explained.rows(run.explained_samples, run.seed, strata)
    samples = run.test.take(rows)
    scale = target_spreads(run.prepared.side("train").target)
    explanation = explain_targets(estimator, samples, scale, progress=True)
    if explanation is None:
        return read | checks.not_explained()
    fell = delete_genes(
        estimator,
        samples,
        explanation.importance.to_numpy(),
        explanation.importance.columns.tolist(),
        groups=run.groups[rows],
        change=lambda before, after: explained.change(before, after, explained.of_row[rows]),
        **run.bootstrap,
    )
    alike = _random_correlation(estimator, samples, run.seed)
    worst = str(explanation.error_by_target.idxmax())
    error = float(explanation.error_by_target[worst])
    section: dict[str, Any] = {
        "worst_target": {"gene": worst, "additivity_relative_error": error},
        "predictors": len(explanation.mean_abs),
        "top": explanation.top_predictors().head(10).to_dict("records"),
    }
    drawn = targets.predictors_by_target(explanation.standardized, explanation.direction, run.title)
    tables = {
        "predictors_by_target": explanation.predictors_by_target(),
        "top_predictors": explanation.top_predictors(),
    }
    figures = {"predictors_by_target": drawn}
    told = checks.told(
        explanation.method,
        explanation.rows,
        explanation.relative_error,
        fell,
        alike,
        section=section,
        at_worst=f", of {worst} by {error:.1%}",
    )
    return read | told | Evidence(tables=tables, figures=figures)


def _random_correlation(estimator: Estimator, samples: ExpressionSamples, seed: int) -> float | None:
    """Return the mean of `checks.random_correlation` over the first few targets, None where there is no network."""
    found = []
    for position in range(min(RANDOM_TARGETS, len(samples.targets))):
        alike = checks.random_correlation(estimator, samples, np.full(len(samples), position), seed + position)
        if alike is None:
            return None
        found.append(alike)
    return float(np.mean(found))
