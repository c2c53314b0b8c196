"""The evidence of every classifier: how often it is right and how sure it is."""

from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import confusion_matrix

from evaluation.evidence import strata
from evaluation.evidence.parts import Evaluation, Evidence, Explained, worst
from evaluation.figures import plots
from evaluation.modalities import Modality
from evaluation.problems import Measures, columns_of
from evaluation.problems.classification import reliability
from evaluation.results import confused
from training.model.calibration import prediction_sets


def evidence(measures: Measures, run: Evaluation, modality: Modality) -> Evidence:
    """Measure the test rows of a classifier, over all and within strata; see `Measures.evidence`."""
    task, contract, predictions = run.task, run.contract, run.predictions
    target, probabilities, baseline, scoring = measures.columns(predictions)
    assert baseline is not None
    classes: list[str] = scoring["classes"]
    raw = columns_of(predictions, "raw", classes)
    metrics = measures.intervals(predictions, task, run.seed)
    uncalibrated = measures.metrics(target, raw, classes=classes)

    def sets_of(by: Any, rows: np.ndarray) -> np.ndarray:
        return prediction_sets(probabilities[rows], by.set_thresholds(by.cell_of(run.test.take(rows)), len(rows)))

    sets = run.model.per_row(run.test, sets_of)
    in_set = sets[np.arange(len(target)), target]
    covered, size = float(in_set.mean()), float(sets.sum(axis=1).mean())
    counts = confusion_matrix(target, probabilities.argmax(axis=1), labels=range(len(classes)))
    drawn = {
        "confusion_matrix": plots.confusion_matrix(counts, classes, run.title),
        "roc_curves": plots.roc_curves(target, probabilities, classes, run.title),
        "calibration": plots.calibration_curve(target, raw, probabilities, run.title),
    }
    if task.within:  # two classes, of which the second is rare in some parts
        scores = {run.fitted.architecture: probabilities[:, 1], f"baseline {task.evaluate.baseline}": baseline[:, 1]}
        drawn["precision_recall"] = plots.precision_recall_curves(target == 1, scores, run.title)
    share, confidence, accuracy = reliability(target, probabilities)
    of_bins = {"predicted": confidence, "observed": accuracy, "rows": (share * len(target)).round().astype(int)}
    tables = {"calibration": pd.DataFrame(of_bins).dropna(), "predicted": confused(counts, classes)}
    rows = np.bincount(target, minlength=len(classes)).tolist()
    recalls = [
        {"name": label, "n": count, **metrics[f"recall_{label}"].as_dict()}
        for label, count in zip(classes, rows, strict=True)
    ]
    answers = pd.Series(np.array(classes)[baseline.argmax(axis=1)]).value_counts(sort=False)
    logged = {"test/set_coverage": covered, "test/set_size": size, "test/ece_before_calibration": uncalibrated["ece"]}
    found = Evidence(
        metrics=metrics,
        test={
            "confusion": {"classes": classes, "counts": counts.tolist()},
            "baseline_labels": {label: int(answers[label]) for label in classes if label in answers},
        },
        sections={
            "worst": worst("class", "recall", recalls),
            "coverage": run.coverage(in_set),
            "calibration": {
                "temperature": contract.temperature,
                "ece_before": uncalibrated["ece"],
                "log_loss_before": uncalibrated["log_loss"],
                "coverage": task.evaluate.interval_coverage,
                "covered_on_test": covered,
                "mean_set_size": size,
                **contract.chosen,
            },
            "cross_validation": run.fitted.cross_validation,
        },
        tables=tables,
        figures=drawn,
        logged=logged,
    )
    return found | strata.evidence(run, measures, in_set)


def explained(measures: Measures, run: Evaluation) -> Explained:
    """Explain the true class of each row, whose probability masking lowers; see `Measures.explained`."""
    found = measures.columns(run.predictions)
    classes, target, probabilities = found.scoring["classes"], found.target, found.outputs
    predicted = probabilities.argmax(axis=1)

    def lost(before: np.ndarray, after: np.ndarray, of_row: np.ndarray) -> np.ndarray:
        every = np.arange(len(of_row))
        return np.asarray(before[every, of_row] - after[every, of_row])

    def caption(row: int) -> str:
        wrong = f"\n{classes[predicted[row]]}" if target[row] != predicted[row] else ""
        return f"{classes[target[row]]}{wrong} {probabilities[row].max():.2f}"

    return Explained(tuple(classes), target, lost, strata=target, right=target == predicted, caption=caption)
