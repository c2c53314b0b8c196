"""One of several classes is predicted, by its probability."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pipelines.problems import MARGIN, Metric, Problem, low, of_sklearn

if TYPE_CHECKING:
    import numpy as np

_of_labels = partial(of_sklearn, labels=True)


def _log_loss(target: np.ndarray, probabilities: np.ndarray) -> float:
    from sklearn.metrics import log_loss

    return float(log_loss(target, probabilities, labels=list(range(probabilities.shape[1]))))


def _roc_auc(target: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the area of the second of two classes, or the mean of one against the rest over the classes present."""
    import numpy as np
    from sklearn.metrics import roc_auc_score

    codes = [1] if probabilities.shape[1] == 2 else list(range(probabilities.shape[1]))
    present = [code for code in codes if 0 < (target == code).sum() < len(target)]
    if not present:
        return 0.5  # one class alone cannot be ranked
    return float(np.mean([roc_auc_score(target == code, probabilities[:, code]) for code in present]))


PROBLEM = Problem(
    "classification",
    (
        Metric("accuracy", "share of rows whose class is right", score=_of_labels("accuracy_score")),
        Metric(
            "balanced_accuracy",
            "mean over classes of the share that is recognized",
            score=_of_labels("balanced_accuracy_score"),
        ),
        Metric("macro_f1", "mean over classes of F1", score=_of_labels("f1_score", average="macro"), label="Macro F1"),
        Metric("weighted_f1", "mean over rows of F1", score=_of_labels("f1_score", average="weighted")),
        Metric("roc_auc", "area under the receiver operating characteristic", score=_roc_auc, label="ROC AUC"),
        Metric("pr_auc", "area under precision and recall"),
        Metric("prevalence", "share of rows of the second class, the pr_auc of chance", reported=False),
        Metric(
            "within_drug_roc_auc",
            "mean over drugs of roc_auc within each; a drug of one class has none",
            within=True,
            label="ROC AUC within a drug",
        ),
        Metric("within_drug_pr_auc", "mean over drugs of pr_auc within each", within=True),
        Metric(
            "within_drug_prevalence",
            "mean over the same drugs of the share of the second class",
            reported=False,
            within=True,
        ),
        low("ece", "gap between confidence and how often it is right"),
        low("log_loss", "in nats", _log_loss),
        low("brier", "squared error of probabilities"),
        MARGIN,
    ),
    ("validation_log_loss", "validation_rmse"),
)
