"""What the evidence says of the genes that carry the answer to a profile: its class, or a number."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import numpy as np
import pandas as pd

from evaluation.evidence.parts import Evaluation, Evidence, Explained
from evaluation.explain import checks
from evaluation.explain.deletion import delete_genes
from evaluation.explain.profiles import TOP, explain_profiles, overlap
from evaluation.explain.randomized import integrate_coarsely
from evaluation.figures import profiles
from pipelines.datasets import Prepared
from pipelines.samples.expression import ExpressionSamples
from training.estimator import Estimator
from training.model.cross_fit import CrossFitted


def explain_one_answer(run: Evaluation, explained: Explained, strata: np.ndarray, seeds: int) -> Evidence:
    """Explain one answer of each of some test rows, and check whether that can be believed."""
    estimator = run.model.estimator
    rows = explained.rows(run.explained_samples, run.seed, strata)
    samples, of_row = run.test.take(rows), explained.of_row[rows]
    found = explain_profiles(estimator, samples, explained.names, of_row)
    if found is None:
        return checks.not_explained()
    explanation, values = found
    fell = delete_genes(
        estimator,
        samples,
        values if len(explained.names) > 1 else np.abs(values),
        explanation.names,
        groups=run.groups[rows],
        change=lambda before, after: explained.change(before, after, of_row),
        **run.bootstrap,
    )
    stable = stability(run, explained, rows, seeds)
    alike = checks.random_correlation(estimator, samples, explained.output(rows), run.seed)
    first = explanation.genes[explanation.genes["rank"] <= 5]
    section: dict[str, Any] = {
        "stability": None if stable is None else {"top": TOP, "overlap": stable},
        "top": {str(label): part["gene"].tolist() for label, part in first.groupby("class")},
    }
    named = (explanation.by_class, explanation.names, explained.names, run.title)
    tables, drawn = {"genes_by_class": explanation.genes}, {"genes_by_class": profiles.genes_by_class(*named)}
    if (layout := layout_of(estimator)) is not None:
        tables["layout"] = layout
        drawn["layout"] = profiles.layout_maps(layout, *named)
    told = checks.told(explanation.method, len(rows), explanation.relative_error, fell, alike, section=section)
    logged = {} if stable is None else {"explanation_stability_top_50": stable}
    return told | Evidence(tables=tables, figures=drawn, logged=logged)


def stability(run: Evaluation, explained: Explained, rows: np.ndarray, seeds: int) -> float | None:
    """Return how much of each answer's top genes fits from different seeds share, the mean over all pairs of fits.

    All are single models with the same hyperparameters, fitted on the same rows and integrated alike, so that nothing
    but the seed differs: the explained model, of an ensemble its first member, and ``seeds`` more.
    """
    estimator, prepared = run.model.estimator, run.prepared
    ensemble = isinstance(estimator, CrossFitted)
    first: Estimator = estimator.members_[0] if isinstance(estimator, CrossFitted) else estimator
    settings = first.get_params(deep=False)
    if not seeds or "seed" not in settings:
        return None
    fits = [copy.copy(first)]  # the explained model itself keeps its finer integral
    train, validation = _rows_of_first(prepared) if ensemble else (prepared.side("train"), prepared.side("validation"))
    for draw in range(1, seeds + 1):
        other = type(first)(**{**settings, "seed": settings["seed"] + draw})
        fits.append(other.fit(train, validation))
    tables = []
    for fit in fits:
        integrate_coarsely(fit)
        found = explain_profiles(fit, run.test.take(rows), explained.names, explained.of_row[rows])
        assert found is not None
        tables.append(found[0].genes)
    return float(np.mean([overlap(one, other) for one, other in itertools.combinations(tables, 2)]))


def _rows_of_first(prepared: Prepared) -> tuple[ExpressionSamples, ExpressionSamples]:
    """Return what the first member of an ensemble was fitted on, and the fold that it left out."""
    rows = prepared.rows("train", "validation")
    folds = prepared.table["fold"].to_numpy()[rows]
    left_out = folds == folds.min()
    both: ExpressionSamples = prepared.samples.take(rows)
    return both.take(~left_out), both.take(left_out)


def layout_of(estimator: Estimator) -> pd.DataFrame | None:
    """Return where the genes of a network on gene images lie: ``gene, row, column``; of an ensemble the first's."""
    first = estimator.members_[0] if isinstance(estimator, CrossFitted) else estimator
    made = getattr(first, "layout_table", None)
    table: pd.DataFrame | None = None if made is None else made()
    return table
