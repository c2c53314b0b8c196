"""How far an answer can be trusted, in sentences: training data, evidence, limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from evaluation.candidates.card_text import NO_USE, USES
from serving.board.tables import unfamiliar
from serving.board.words import share, share_with_interval, with_interval

_SCORES = {  # of each family: what is said of the test rows, the most telling first
    "response": ("margin", "within_drug_pearson", "r2", "rmse"),
    "response_labels": ("margin", "within_drug_roc_auc", "roc_auc", "balanced_accuracy"),
    "images": ("accuracy", "macro_f1", "roc_auc"),
    "profile_labels": ("macro_f1", "accuracy", "roc_auc"),
    "gene_targets": ("r2", "margin", "mae"),
}
_WORDS = {
    "margin": "Margin",
    "within_drug_pearson": "Correlation within a drug",
    "within_drug_roc_auc": "ROC AUC within a drug",
    "r2": "R²",
    "rmse": "RMSE",
    "mae": "Mean absolute error",
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "macro_f1": "Macro F1",
    "roc_auc": "ROC AUC",
}


def familiarity(table: pd.DataFrame, what: str) -> tuple[str, str]:
    """Return what is said of how familiar samples are, and how serious it is: ``fine``, ``warning`` or ``unknown``.

    Parameters
    ----------
    table
        With the column ``familiar``.
    what
        What a row is called, in the plural.
    """
    total, strange = len(table), unfamiliar(table)
    if table["familiar"].isna().all():
        return "This version cannot say whether what it is asked is like its training data.", "unknown"
    if strange == 0:
        return f"All {total:,} {what} are like the training data." if total > 1 else "Like the training data.", "fine"
    head = f"{strange:,} of {total:,} {what} are" if total > 1 else "This is"
    return (
        f"{head} unlike the training data. The model guesses there: intervals and probabilities do not hold.",
        "warning",
    )


def coverage(declared: float | None, evidence: Mapping[str, Any] | None, of_classes: bool) -> str:
    """Return what intervals or sets promise, and what they held on test rows."""
    what = "The set of classes" if of_classes else "Each interval"
    holds = "hold the true class" if of_classes else "hold the measured value"
    if declared is None:
        return f"{what} comes without a promise of how often it is right."
    said = f"{what} is made to {holds} in {share(declared)} of cases"
    found = (evidence or {}).get("coverage") or {}
    if found.get("observed") is None:
        return f"{said}."
    return f"{said}; on test data it did in {share_with_interval(found, 'observed')}."


def scores(evidence: Mapping[str, Any], family: str) -> pd.DataFrame:
    """Return the scores of the test rows that matter most for a family, each with its interval."""
    metrics = evidence["test"]["metrics"]
    chosen = [name for name in _SCORES.get(family, ()) if name in metrics]
    return pd.DataFrame(
        {"metric": chosen, "Score": [score_word(name) for name in chosen], "On test data": _shown(metrics, chosen)}
    )


def score_word(metric: str) -> str:
    """Return how a metric is written."""
    return _WORDS.get(metric, metric.replace("_", " "))


def tested_on(evidence: Mapping[str, Any]) -> str:
    """Return on how much it was tested, and how the test rows were set apart."""
    test = evidence["test"]
    mode = str(test.get("mode", "")).replace("_", " ")
    return (
        f"Tested on {test['samples']:,} rows of {test['groups']:,} groups that it was not trained on ({mode}); "
        f"intervals of {share(test['confidence'])}."
    )


def limits(family: str) -> list[str]:
    """Return what to keep in mind of every model of a family, as its card says."""
    use = USES.get(family, NO_USE)
    return [*use.limits, *(f"Not for: {one[:1].lower()}{one[1:]}" for one in use.not_intended)]


def _shown(metrics: Mapping[str, Any], chosen: list[str]) -> list[str]:
    return [with_interval(metrics[name], sign="+" if name == "margin" else "") for name in chosen]
