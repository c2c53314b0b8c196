"""Evidence of a classifier of profiles: how often it is right, and which genes carry each class."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import numpy as np
import pandas as pd

from evaluation.evidence.classes import classified, is_simulated
from evaluation.evidence.parts import Evidence
from evaluation.explain import checks
from evaluation.explain.cells import chosen_rows
from evaluation.explain.deletion import Deletion
from evaluation.explain.profiles import TOP, ProfileExplanation, deletion, explain_profiles, overlap
from evaluation.explain.randomized import integrate_coarsely
from evaluation.figures import profiles
from pipelines.params import Params
from pipelines.prepared import Prepared
from pipelines.samples.expression import ExpressionSamples
from pipelines.tasks.profiles_classification import ProfilesClassification
from training.estimator import Classifier, Estimator
from training.model.final import CrossFitted
from training.model.fitted import Fitted
from training.model.predictor import Predictor

COMPLETE_WITHIN = 0.05  # relative gap up to which attributions are said to add up


def label_evidence(
    task: ProfilesClassification,
    fitted: Fitted,
    model: Predictor,
    predictions: pd.DataFrame,
    prepared: Prepared,
    params: Params,
    *,
    audit: dict[str, Any] | None = None,
) -> Evidence:
    """Measure and explain a model of family ``profile_labels`` on the test rows.

    Parameters
    ----------
    task, fitted, model, predictions, prepared
        From the fit stage.
    params
        Of which the seed is taken.
    audit
        What the audit of the data found.
    """
    test: ExpressionSamples = prepared.side("test")
    found = classified(
        task, test.classes, fitted, predictions, seed=params.seed, audit=audit, unlike=model.unlike(test)
    )
    drawn, tables, logged, warnings = dict(found.figures), dict(found.tables), dict(found.logged), []
    rows = chosen_rows(found.target, found.target, task.evaluate.explained_samples.of(fitted.budget), params.seed)
    explained = explain_profiles(model.estimator, test, rows)
    section = checks.NOT_EXPLAINED
    if explained is not None:
        explanation, values = explained
        assert isinstance(model.estimator, (Classifier, CrossFitted))
        groups = predictions["group"].to_numpy()[rows]
        fell = deletion(
            model.estimator,
            test.take(rows),
            values,
            explanation.names,
            groups,
            seed=params.seed,
            resamples=task.evaluate.resamples,
            confidence=task.evaluate.confidence,
        )
        stable = stability(model.estimator, prepared, rows, task.evaluate.stability_seeds.of(fitted.budget))
        section = _section(explanation, fell, stable)
        chosen = test.take(rows)
        alike = checks.random_correlation(model.estimator, chosen, chosen.target, params.seed)
        if alike is not None:
            section["checks"].append(checks.random_weights(alike))
            logged["explanation_random_correlation"] = alike
        tables["genes_by_class"] = explanation.genes
        title = f"{fitted.architecture}, {task.split.mode}"
        named = (explanation.by_class, explanation.names, test.classes, title)
        drawn["genes_by_class"] = profiles.genes_by_class(*named)
        logged |= {
            "explanation_additivity_error": explanation.relative_error,
            "explanation_deletion_drop": fell.drop_top,
            "explanation_deletion_drop_random": fell.drop_random,
        }
        if stable is not None:
            logged["explanation_stability_top_50"] = stable
        if explanation.relative_error >= COMPLETE_WITHIN:
            warnings.append(f"attributions miss the logit by {explanation.relative_error:.1%}")
        if not fell.passed:
            warnings.append("masking the named genes takes no more confidence than masking random ones")
        layout = layout_of(model.estimator)
        if layout is not None:
            tables["layout"] = layout
            drawn["layout"] = profiles.layout_maps(layout, *named)
    return Evidence(
        metrics=found.metrics,
        strata={},
        test=found.test,
        sections={**found.sections, "explanation": section},
        simulated=is_simulated(test.table),
        tables=tables,
        figures=drawn,
        logged=logged,
        warnings=[*warnings, *found.warnings],
    )


def stability(estimator: Estimator, prepared: Prepared, rows: np.ndarray, seeds: int) -> float | None:
    """Return how much of each class's top genes fits from different seeds share, the mean over all pairs of fits.

    All are single models with the same hyperparameters, fitted on the same rows and integrated alike, so that nothing
    but the seed differs: the explained model, of an ensemble its first member, and ``seeds`` more.

    Parameters
    ----------
    estimator
        The explained model.
    prepared
        What it was fitted on.
    rows
        Of the test side, which are explained.
    seeds
        How many other fits; see ``evaluate.stability_seeds``.

    Returns
    -------
    float or None
        None where the architecture has no seed, or ``seeds`` is 0.
    """
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
        explained = explain_profiles(fit, prepared.side("test"), rows)
        assert explained is not None
        tables.append(explained[0].genes)
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


def _section(explanation: ProfileExplanation, fell: Deletion, stable: float | None) -> dict[str, Any]:
    first = explanation.genes[explanation.genes["rank"] <= 5]
    return {
        "method": explanation.method,
        "rows": len(explanation.rows),
        "additivity_relative_error": explanation.relative_error,
        "additive": explanation.relative_error < COMPLETE_WITHIN,
        "deletion": fell.as_dict(),
        "stability": None if stable is None else {"top": TOP, "overlap": stable},
        "top": {str(label): part["gene"].tolist() for label, part in first.groupby("class")},
        "checks": [checks.completeness(explanation.relative_error), checks.deletion(fell.difference)],
    }
