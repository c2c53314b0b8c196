"""Evidence of a model of images: how often it is right, how sure it may be, and where it looks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from mlflow import MlflowClient

from evaluation import figures
from evaluation.classification import bootstrap_classification, classification_metrics, confusion
from evaluation.evidence import Evidence
from evaluation.explain.cells import CellExplanation, chosen_rows, explain_cells
from evaluation.resample import Interval
from pipelines.images import ImageSamples
from pipelines.params import ImageTask
from pipelines.prepare import Prepared
from training.calibration import prediction_sets
from training.fit import Fitted
from training.predictor import Predictor

PANELS = 16  # images of the Grad-CAM panel


def image_evidence(
    task: ImageTask,
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
        What the audit of the data found: a score that a nuisance reaches too is not worth much.
    """
    classes = task.data.classes
    test: ImageSamples = prepared.side("test")
    target = predictions["target"].to_numpy(np.int64)
    probabilities, raw, baseline = (
        columns_of(predictions, kind, classes) for kind in ("probability", "raw", "baseline")
    )
    metrics = measure(predictions, task, seed)
    uncalibrated = classification_metrics(target, raw, classes=classes)
    held = prediction_sets(probabilities, fitted.threshold)
    covered = float(held[np.arange(len(target)), target].mean())
    calibration = {
        "temperature": fitted.temperature,
        "ece_before": uncalibrated["ece"],
        "log_loss_before": uncalibrated["log_loss"],
        "coverage": task.evaluate.interval_coverage,
        "covered_on_test": covered,
        "mean_set_size": float(held.sum(axis=1).mean()),
    }
    predicted = probabilities.argmax(axis=1)
    rows = chosen_rows(target, predicted, task.evaluate.explained_samples.of(fitted.budget), seed)
    explanation = explain_cells(model.estimator, test, rows, seed)
    title = f"{fitted.architecture}, {task.split.mode}"
    counts = confusion(target, predicted, len(classes))
    drawn = {
        "confusion_matrix": figures.confusion_matrix(counts, classes, title),
        "roc_curves": figures.roc_curves(target, probabilities, classes, title),
        "calibration": figures.calibration_curve(target, raw, probabilities, title),
    }
    if history := learning_history(fitted.run_id):
        drawn["learning_curves"] = figures.learning_curves(history, title)
    logged = {"test_set_coverage": covered, "test_set_size": calibration["mean_set_size"]}
    logged |= {"test_ece_before_calibration": uncalibrated["ece"]}
    warnings = []
    if explanation is not None:
        drawn["grad_cam"] = _panel(explanation, test, target, predicted, probabilities, classes, title)
        logged["explanation_on_the_cell"] = explanation.foreground_share
        logged["explanation_random_correlation"] = explanation.random_correlation
        if not explanation.as_dict()["maps_depend_on_the_weights"]:
            warnings.append("the Grad-CAM maps hardly change with random weights: they show the image, not the model")
    shortcuts = _shortcuts(audit, metrics)
    warnings += [each["sentence"] for each in shortcuts]
    return Evidence(
        metrics=metrics,
        strata={},
        test={
            "confusion": {"classes": list(classes), "counts": counts.tolist()},
            "baseline_labels": _labels(baseline, classes),
        },
        sections={
            "calibration": calibration,
            "explanation": None if explanation is None else explanation.as_dict(),
            "audit": None if audit is None else {"findings": audit.get("findings", []), "shortcuts": shortcuts},
        },
        simulated=bool(test.table.get("simulated", pd.Series([False])).astype(str).str.lower().eq("true").any()),
        tables={"confusion": pd.DataFrame(counts, columns=list(classes)).assign(true=list(classes))},
        figures=drawn,
        logged=logged,
        warnings=warnings,
    )


def measure(predictions: pd.DataFrame, task: ImageTask, seed: int) -> dict[str, Interval]:
    """Return every metric of a table of predictions with its interval."""
    classes = task.data.classes
    return bootstrap_classification(
        predictions["target"].to_numpy(np.int64),
        columns_of(predictions, "probability", classes),
        predictions["group"],
        classes=classes,
        baseline=columns_of(predictions, "baseline", classes),
        margin_metric=task.evaluate.metric,
        resamples=task.evaluate.resamples,
        confidence=task.evaluate.confidence,
        seed=seed,
    )


def columns_of(predictions: pd.DataFrame, kind: str, classes: tuple[str, ...]) -> np.ndarray:
    """Return the columns ``<kind>_<class>``, shape ``(n, classes)``."""
    return predictions[[f"{kind}_{label}" for label in classes]].to_numpy(np.float64)


def learning_history(run_id: str) -> list[dict[str, float]]:
    """Return the metrics that the fit logged step by step, a row a step."""
    client = MlflowClient()
    rows: dict[int, dict[str, float]] = {}
    for key in client.get_run(run_id).data.metrics:
        if key.startswith("step_"):
            for entry in client.get_metric_history(run_id, key):
                rows.setdefault(entry.step, {"step": entry.step})[key.removeprefix("step_")] = entry.value
    return [rows[step] for step in sorted(rows)]


def _panel(
    explanation: CellExplanation,
    test: ImageSamples,
    target: np.ndarray,
    predicted: np.ndarray,
    probabilities: np.ndarray,
    classes: tuple[str, ...],
    title: str,
) -> Any:
    # Of each class right and wrong ones in turn; wrong ones stand first: they are what a reader wants to see.
    right = target[explanation.rows] == predicted[explanation.rows]
    turn = pd.Series(right).groupby([target[explanation.rows], right]).cumcount().to_numpy()
    chosen = np.lexsort((right, turn))[:PANELS]
    shown = chosen[np.lexsort((target[explanation.rows][chosen], right[chosen]))]
    rows = explanation.rows[shown]
    titles = [
        f"{classes[target[row]]}\n{classes[predicted[row]]} {probabilities[row].max():.2f}"
        if target[row] != predicted[row]
        else f"{classes[target[row]]} {probabilities[row].max():.2f}"
        for row in rows
    ]
    images = test.pixels[test.index[rows]]
    return figures.attribution_panel(images, explanation.maps[shown], titles, title, right[shown])


def _labels(baseline: np.ndarray, classes: tuple[str, ...]) -> dict[str, int]:
    """Return how often the baseline answers each label."""
    codes, counts = np.unique(baseline.argmax(axis=1), return_counts=True)
    return {classes[code]: int(count) for code, count in zip(codes, counts, strict=True)}


def _shortcuts(audit: dict[str, Any] | None, metrics: dict[str, Interval]) -> list[dict[str, Any]]:
    """Return the audit's shortcuts beside what the model scores in the same metric."""
    found = []
    for probe in (audit or {}).get("shortcuts", []):
        model = metrics.get(probe["metric"])
        if probe.get("finding") and model is not None:
            sentence = (
                f"{probe['probe']} alone reaches {probe['metric']} {probe['score']:.3f} (chance "
                f"{probe['chance']:.3f}); the model reaches {model.value:.3f}"
            )
            found.append({**probe, "model": model.value, "sentence": sentence})
    return found
