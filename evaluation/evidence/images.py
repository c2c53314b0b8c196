"""Evidence of a model of images: how often it is right, how sure it may be, and where it looks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from evaluation.evidence.classes import Classified, classified, is_simulated
from evaluation.evidence.parts import Evidence
from evaluation.explain import checks
from evaluation.explain.cells import CellExplanation, chosen_rows, deletion, explain_cells
from evaluation.figures import plots
from pipelines.modalities.images import ImagesTask
from pipelines.prepared import Prepared
from pipelines.samples.images import ImageSamples
from training.estimator import Classifier
from training.model.final import CrossFitted
from training.model.fitted import Fitted
from training.model.predictor import Predictor

PANELS = 16  # images of the Grad-CAM panel


def image_evidence(
    task: ImagesTask,
    fitted: Fitted,
    model: Predictor,
    predictions: pd.DataFrame,
    prepared: Prepared,
    *,
    seed: int,
    audit: dict[str, Any] | None = None,
) -> Evidence:
    """Measure and explain a model of kind ``images`` on the test rows.

    Parameters
    ----------
    task, fitted, model, predictions, prepared
        From the fit stage.
    seed
        Of the bootstrap and of the images shown.
    audit
        What the audit of the data found: a score that a confounder reaches too is not worth much.
    """
    test: ImageSamples = prepared.side("test")
    found = classified(task, task.data.classes, fitted, predictions, seed=seed, audit=audit, unlike=model.unlike(test))
    rows = chosen_rows(found.target, found.predicted, task.evaluate.explained_samples.of(fitted.budget), seed)
    explanation = explain_cells(model.estimator, test, rows, seed)
    drawn, logged, warnings = dict(found.figures), dict(found.logged), []
    section = checks.NOT_EXPLAINED
    if explanation is not None:
        drawn["grad_cam"] = _panel(explanation, test, found, f"{fitted.architecture}, {task.split.mode}")
        logged["explanation_on_the_cell"] = explanation.foreground_share
        logged["explanation_random_correlation"] = explanation.random_correlation
        told = explanation.as_dict()
        assert isinstance(model.estimator, (Classifier, CrossFitted))
        fell = deletion(
            model.estimator,
            test.take(rows),
            explanation.maps,
            predictions["group"].to_numpy()[rows],
            resamples=task.evaluate.resamples,
            confidence=task.evaluate.confidence,
            seed=seed,
        )
        logged["explanation_deletion_drop"] = fell.drop_top
        logged["explanation_deletion_drop_random"] = fell.drop_random
        section = {
            **told,
            "deletion": {"fields": fell.genes, "drop_top": fell.drop_top, "drop_random": fell.drop_random},
            "checks": [checks.random_weights(explanation.random_correlation), checks.deletion(fell.difference)],
        }
        if not fell.passed:
            warnings.append("masking where the Grad-CAM maps are hot takes no more confidence than masking elsewhere")
        if not told["maps_depend_on_the_weights"]:
            warnings.append("the Grad-CAM maps hardly change with random weights: they show the image, not the model")
    return Evidence(
        metrics=found.metrics,
        strata={},
        test=found.test,
        sections={**found.sections, "explanation": section},
        simulated=is_simulated(test.table),
        tables=found.tables,
        figures=drawn,
        logged=logged,
        warnings=[*warnings, *found.warnings],
    )


def _panel(
    explanation: CellExplanation,
    test: ImageSamples,
    found: Classified,
    title: str,
) -> Any:
    target, predicted, classes = found.target, found.predicted, found.classes
    # Of each class right and wrong ones in turn; wrong ones stand first: they are what a reader wants to see.
    right = target[explanation.rows] == predicted[explanation.rows]
    turn = pd.Series(right).groupby([target[explanation.rows], right]).cumcount().to_numpy()
    chosen = np.lexsort((right, turn))[:PANELS]
    shown = chosen[np.lexsort((target[explanation.rows][chosen], right[chosen]))]
    rows = explanation.rows[shown]
    titles = [
        f"{classes[target[row]]}\n{classes[predicted[row]]} {found.probabilities[row].max():.2f}"
        if target[row] != predicted[row]
        else f"{classes[target[row]]} {found.probabilities[row].max():.2f}"
        for row in rows
    ]
    images = test.pixels[test.index[rows]]
    return plots.attribution_panel(images, explanation.maps[shown], titles, title, right[shown])
