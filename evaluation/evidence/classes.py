"""What the evidence of every classifier says: how often it is right, how sure it is, and what a shortcut reaches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from mlflow import MlflowClient

from evaluation.evidence.shortcuts import beside_model
from evaluation.figures import plots
from evaluation.metrics.classification import bootstrap_classification, classification_metrics, confusion
from evaluation.metrics.means import coverage
from evaluation.metrics.resample import Interval
from evaluation.metrics.weakest import of_classes
from pipelines.params import Evaluate, Task
from training.model.calibration import prediction_sets
from training.model.fitted import Fitted


@dataclass(frozen=True)
class Classified:
    """The test rows of a classifier, measured.

    Attributes
    ----------
    classes, target, probabilities, predicted
        Names; codes ``(n,)``; calibrated ``(n, classes)``; codes of the most probable class ``(n,)``.
    metrics
        With intervals.
    test, sections, figures, tables, logged, warnings
        See `evaluation.evidence.parts.Evidence`.
    """

    classes: tuple[str, ...]
    target: np.ndarray
    probabilities: np.ndarray
    predicted: np.ndarray
    metrics: dict[str, Interval]
    test: dict[str, Any]
    sections: dict[str, Any]
    figures: dict[str, Figure]
    tables: dict[str, pd.DataFrame]
    logged: dict[str, float]
    warnings: list[str]


def classified(
    task: Task,
    classes: Sequence[str],
    fitted: Fitted,
    predictions: pd.DataFrame,
    *,
    seed: int,
    audit: dict[str, Any] | None = None,
    within: str | None = None,
    unlike: np.ndarray | None = None,
) -> Classified:
    """Measure the test rows of a classifier.

    Parameters
    ----------
    task, classes, fitted, predictions
        From the fit stage.
    seed
        Of the bootstrap.
    audit
        What the audit of the data found: a score that a confounder reaches too is not worth much.
    within
        Column of the predictions that names the drug, where two classes are also to be told apart within drugs.
    unlike
        Of `training.model.predictor.Predictor.unlike`.
    """
    target = predictions["target"].to_numpy(np.int64)
    probabilities, raw, baseline = (
        columns_of(predictions, kind, classes) for kind in ("probability", "raw", "baseline")
    )
    metrics = measure(predictions, classes, task.evaluate, seed, within)
    uncalibrated = classification_metrics(target, raw, classes=classes)
    held = prediction_sets(probabilities, fitted.threshold)
    true_is_held = held[np.arange(len(target)), target]
    covered = float(true_is_held.mean())
    calibration = {
        "temperature": fitted.temperature,
        "ece_before": uncalibrated["ece"],
        "log_loss_before": uncalibrated["log_loss"],
        "coverage": task.evaluate.interval_coverage,
        "covered_on_test": covered,
        "mean_set_size": float(held.sum(axis=1).mean()),
    }
    predicted = probabilities.argmax(axis=1)
    title = f"{fitted.architecture}, {task.split.mode}"
    counts = confusion(target, predicted, len(classes))
    drawn = {
        "confusion_matrix": plots.confusion_matrix(counts, classes, title),
        "roc_curves": plots.roc_curves(target, probabilities, classes, title),
        "calibration": plots.calibration_curve(target, raw, probabilities, title),
    }
    if history := learning_history(fitted.run_id):
        drawn["learning_curves"] = plots.learning_curves(history, title)
    logged = {"test_set_coverage": covered, "test_set_size": calibration["mean_set_size"]}
    logged |= {"test_ece_before_calibration": uncalibrated["ece"]}
    shortcuts = beside_model(audit, metrics, task.evaluate.metric)
    return Classified(
        tuple(classes),
        target,
        probabilities,
        predicted,
        metrics,
        test={
            "confusion": {"classes": list(classes), "counts": counts.tolist()},
            "baseline_labels": _labels(baseline, classes),
        },
        sections={
            "worst": of_classes(metrics, target, classes),
            "coverage": coverage(
                task.evaluate.interval_coverage,
                true_is_held,
                predictions["group"],
                unlike=unlike,
                resamples=task.evaluate.resamples,
                confidence=task.evaluate.confidence,
                seed=seed,
            ),
            "calibration": calibration,
            "cross_validation": fitted.cross_validation,
            "audit": None if audit is None else {"findings": audit.get("findings", []), "shortcuts": shortcuts},
        },
        figures=drawn,
        tables={"confusion": pd.DataFrame(counts, columns=list(classes)).assign(true=list(classes))},
        logged=logged,
        warnings=[each["sentence"] for each in shortcuts],
    )


def is_simulated(table: pd.DataFrame) -> bool:
    """Return whether a table of samples says that they are simulated."""
    return bool(table.get("simulated", pd.Series([False])).astype(str).str.lower().eq("true").any())


def measure(
    predictions: pd.DataFrame, classes: Sequence[str], settings: Evaluate, seed: int, within: str | None = None
) -> dict[str, Interval]:
    """Return every metric of a table of predictions with its interval."""
    return bootstrap_classification(
        predictions["target"].to_numpy(np.int64),
        columns_of(predictions, "probability", classes),
        predictions["group"],
        classes=classes,
        baseline=columns_of(predictions, "baseline", classes),
        margin_metric=settings.metric,
        within=None if within is None else predictions[within],
        resamples=settings.resamples,
        confidence=settings.confidence,
        seed=seed,
    )


def columns_of(predictions: pd.DataFrame, kind: str, classes: Sequence[str]) -> np.ndarray:
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


def _labels(baseline: np.ndarray, classes: Sequence[str]) -> dict[str, int]:
    """Return how often the baseline answers each label."""
    codes, counts = np.unique(baseline.argmax(axis=1), return_counts=True)
    return {classes[code]: int(count) for code, count in zip(codes, counts, strict=True)}
