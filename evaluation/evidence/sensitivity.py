"""Evidence of a classifier of sensitive and resistant pairs: how well the two are told apart, over all and by drug."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score, roc_auc_score

from evaluation.evidence.classes import classified, columns_of, measure
from evaluation.evidence.parts import Evidence
from evaluation.evidence.responses import drug_names, explain_pairs, is_simulated_screen
from evaluation.figures import plots
from pipelines.prepared import Prepared
from pipelines.samples.sensitivity import CLASSES, SensitivitySamples
from pipelines.tasks.pairs_classification import PairsClassification
from training.model.fitted import Fitted
from training.model.predictor import Predictor

DRUG = "drug_id"
_RESISTANT, _SENSITIVE = 0, 1


def sensitivity_evidence(
    task: PairsClassification,
    fitted: Fitted,
    model: Predictor,
    predictions: pd.DataFrame,
    prepared: Prepared,
    *,
    seed: int,
    audit: dict[str, Any] | None = None,
) -> Evidence:
    """Measure and explain a model of family ``response_labels`` on the test rows.

    Test rows are called by the thresholds of the training rows, as all rows are.

    Parameters
    ----------
    task, fitted, model, predictions, prepared
        From the fit stage.
    seed
        Of the bootstrap and of the rows that are explained.
    audit
        What the audit of the data found.
    """
    test: SensitivitySamples = prepared.side("test")
    found = classified(
        task, CLASSES, fitted, predictions, seed=seed, audit=audit, within=DRUG, unlike=model.unlike(test)
    )
    strata = {
        str(study): measure(part, CLASSES, task.evaluate, seed, DRUG)
        for study, part in predictions.groupby("study")
        if part["group"].nunique() > 1
    }
    baseline = columns_of(predictions, "baseline", CLASSES)[:, _SENSITIVE]
    scores = {fitted.architecture: found.probabilities[:, _SENSITIVE]}
    scores |= {f"baseline {task.evaluate.baseline}": baseline}
    title = f"{fitted.architecture}, {task.split.mode}"
    drawn = {"precision_recall": plots.precision_recall_curves(found.target == _SENSITIVE, scores, title)}
    # Of resistance, so that a positive contribution means here what it means where ln IC50 is predicted.
    unit = "log odds of resistance"
    explained = explain_pairs(task, fitted, model.estimator, predictions, prepared, unit, seed=seed, output=_RESISTANT)
    thresholds = test.thresholds
    return Evidence(
        metrics=found.metrics,
        strata=strata,
        test={
            **found.test,
            "by_study": {name: {key: value.as_dict() for key, value in one.items()} for name, one in strata.items()},
            "thresholds": {
                "method": task.data.threshold.method,
                "learnt_on": "training rows",
                "overall": thresholds.overall,
                "drugs": len(thresholds.by_drug),
            },
        },
        sections={**found.sections, "explanation": explained.section},
        simulated=is_simulated_screen(test),
        tables=found.tables | {"by_drug": by_drug(predictions, drug_names(test.drugs))} | explained.tables,
        figures=found.figures | drawn | explained.figures,
        logged=found.logged | explained.logged,
        warnings=[*explained.warnings, *found.warnings],
        drawings=explained.drawings,
    )


def by_drug(predictions: pd.DataFrame, names: dict[str, str]) -> pd.DataFrame:
    """Return a row a drug, the best told apart first: name, threshold, samples, share of sensitive ones, areas.

    Areas are NaN where all samples of a drug are of one class.
    """

    def summary(part: pd.DataFrame) -> pd.Series:
        true, score = part["target"], part[f"probability_{CLASSES[_SENSITIVE]}"]
        both = true.nunique() == 2
        return pd.Series(
            {
                "name": names.get(str(part.name), ""),
                "threshold": part["threshold"].iloc[0],
                "samples": len(part),
                "sensitive": true.mean(),
                "predicted_sensitive": score.mean(),
                "roc_auc": roc_auc_score(true, score) if both else np.nan,
                "pr_auc": average_precision_score(true, score) if both else np.nan,
            }
        )

    columns = ["target", "threshold", f"probability_{CLASSES[_SENSITIVE]}"]
    table = predictions.groupby(DRUG)[columns].apply(summary).reset_index()
    return table.sort_values("roc_auc", ascending=False, kind="stable", na_position="last")
