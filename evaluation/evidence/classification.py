"""What the evidence of every classifier says: how often it is right and how sure it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from evaluation.evidence.parts import Evaluation, Evidence
from evaluation.figures import plots
from evaluation.metrics.classification import confusion
from evaluation.metrics.weakest import of_classes
from evaluation.modalities import Modality
from evaluation.problems import Measures, columns_of
from training.model.calibration import prediction_sets


def class_evidence(measures: Measures, run: Evaluation, modality: Modality) -> Evidence:
    """Measure the test rows of a classifier, over all and within strata; see `Measures.evidence`."""
    task, predictions, contract = run.task, run.predictions, run.contract
    target, probabilities, baseline, scoring = measures.columns(predictions)
    assert baseline is not None
    classes: list[str] = scoring["classes"]
    raw = columns_of(predictions, "raw", classes)
    metrics = measures.intervals(predictions, task, run.seed)
    uncalibrated = measures.metrics(target, raw, classes=classes)
    held = prediction_sets(probabilities, contract.threshold)  # type: ignore[attr-defined]
    true_is_held = held[np.arange(len(target)), target]
    covered, size = float(true_is_held.mean()), float(held.sum(axis=1).mean())
    calibration = {
        "temperature": contract.temperature,  # type: ignore[attr-defined]
        "ece_before": uncalibrated["ece"],
        "log_loss_before": uncalibrated["log_loss"],
        "coverage": task.evaluate.interval_coverage,
        "covered_on_test": covered,
        "mean_set_size": size,
    }
    counts = confusion(target, probabilities.argmax(axis=1), len(classes))
    drawn = {
        "confusion_matrix": plots.confusion_matrix(counts, classes, run.title),
        "roc_curves": plots.roc_curves(target, probabilities, classes, run.title),
        "calibration": plots.calibration_curve(target, raw, probabilities, run.title),
    }
    if task.within:  # two classes, of which the second is rare in some parts
        scores = {run.fitted.architecture: probabilities[:, 1], f"baseline {task.evaluate.baseline}": baseline[:, 1]}
        drawn["precision_recall"] = plots.precision_recall_curves(target == 1, scores, run.title)
    if history := run.history():
        drawn["learning_curves"] = plots.learning_curves(history, run.title)
    test: dict[str, Any] = {
        "confusion": {"classes": classes, "counts": counts.tolist()},
        "baseline_labels": _labels(baseline, classes),
    }
    found = Evidence(
        metrics=metrics,
        test=test,
        sections={
            "worst": of_classes(metrics, target, classes),
            "coverage": run.coverage(true_is_held),
            "calibration": calibration,
            "cross_validation": run.fitted.cross_validation,
        },
        tables={"confusion": pd.DataFrame(counts, columns=classes).assign(true=classes)},
        figures=drawn,
        logged={
            "test_set_coverage": covered,
            "test_set_size": size,
            "test_ece_before_calibration": uncalibrated["ece"],
        },
    )
    return found | modality.by_stratum(run, lambda part: measures.intervals(part, task, run.seed))


def _labels(baseline: np.ndarray, classes: list[str]) -> dict[str, int]:
    """Return how often the baseline answers each label."""
    codes, counts = np.unique(baseline.argmax(axis=1), return_counts=True)
    return {classes[code]: int(count) for code, count in zip(codes, counts, strict=True)}
