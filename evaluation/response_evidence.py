"""Evidence of a model of drug response: errors overall, by study and by drug, the genes that it relies on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from evaluation import figures
from evaluation.evidence import Evidence
from evaluation.explain import checks
from evaluation.explain.deletion import Deletion
from evaluation.explain.genes import Explanation, deletion, explain, explained_rows
from evaluation.means import coverage
from evaluation.resample import Interval, bootstrap_regression
from evaluation.weakest import of_drugs
from pipelines.params import ResponseTask
from pipelines.prepare import Prepared
from training.fit import Fitted
from training.predictor import Predictor

ADDITIVE_WITHIN = 0.05  # relative gap up to which attributions are said to add up to the prediction
UNIT = "ln IC50 (µM)"


def response_evidence(
    task: ResponseTask,
    fitted: Fitted,
    model: Predictor,
    predictions: pd.DataFrame,
    prepared: Prepared,
    *,
    seed: int,
) -> Evidence:
    """Measure and explain a model of kind ``response`` on the test rows."""
    metrics = measure(predictions, task, seed)
    strata = {
        str(study): measure(part, task, seed)
        for study, part in predictions.groupby("study")
        if part["group"].nunique() > 1
    }
    test = prepared.side("test")
    rows = explained_rows(test, task.evaluate.explained_samples.of(fitted.budget), seed)
    explained = test.take(rows)
    explanation = explain(model.estimator, explained)
    bootstrap: dict[str, Any] = {
        "resamples": task.evaluate.resamples,
        "confidence": task.evaluate.confidence,
        "seed": seed,
    }
    interval = _interval_check(predictions, fitted, task)
    per_drug = by_drug(predictions)
    title = f"{fitted.architecture}, {task.split.mode}"
    measured, predicted = (predictions[name].to_numpy() for name in ("target", "prediction"))
    drawn = {"measured_against_predicted": figures.measured_against_predicted(measured, predicted, title, UNIT)}
    tables = {"by_drug": per_drug}
    logged = {"test_interval_coverage": interval["covered_on_test"]}
    summary, warnings = checks.NOT_EXPLAINED, []
    if explanation is not None:
        groups = predictions["group"].to_numpy()[rows]
        fell = deletion(model.estimator, explained, explanation, prepared.side("train"), groups, **bootstrap)
        alike = checks.random_correlation(model.estimator, explained, None, seed, set(explanation.names))
        summary = _explanation_summary(explanation, fell, alike)
        logged["explanation_additivity_error"] = explanation.relative_error
        if fell is not None:
            logged |= {
                "explanation_deletion_drop": fell.drop_top,
                "explanation_deletion_drop_random": fell.drop_random,
            }
            if not fell.passed:
                warnings.append("masking the named genes moves predictions no more than masking random ones")
        if alike is not None:
            logged["explanation_random_correlation"] = alike
        if not summary["additive"]:
            warnings.append(f"attributions miss the prediction by {explanation.relative_error:.1%}")
    if explanation is not None and len(explanation.genes):
        tables |= {"top_genes": explanation.genes, "top_genes_by_drug": explanation.by_drug}
        drawn["top_genes"] = figures.largest_contributions(explanation.genes, title, UNIT)
        drawn["top_genes_by_drug"] = figures.contributions_by_drug(explanation.by_drug, title)
    by_study = {study: {key: value.as_dict() for key, value in found.items()} for study, found in strata.items()}
    return Evidence(
        metrics=metrics,
        strata=strata,
        test={"by_study": by_study},
        sections={
            "worst": of_drugs(predictions, _drug_names(test.drugs), **bootstrap),
            "coverage": coverage(
                task.evaluate.interval_coverage, _held(predictions, fitted), predictions["group"], **bootstrap
            ),
            "interval": interval,
            "explanation": summary,
        },
        simulated=bool(test.cell_lines.get("simulated", pd.Series([False])).any()),
        tables=tables,
        figures=drawn,
        logged=logged,
        warnings=warnings,
    )


def measure(predictions: pd.DataFrame, task: ResponseTask, seed: int) -> dict[str, Interval]:
    """Return every metric of a table of ``target, prediction, baseline, group, drug_id`` with its interval."""
    return bootstrap_regression(
        predictions["target"],
        predictions["prediction"],
        predictions["group"],
        within=predictions["drug_id"],
        baseline=predictions["baseline"],
        resamples=task.evaluate.resamples,
        confidence=task.evaluate.confidence,
        seed=seed,
    )


def by_drug(predictions: pd.DataFrame) -> pd.DataFrame:
    """Return for each drug: samples, RMSE, RMSE of the baseline, and Pearson's correlation (0 if constant)."""

    def summary(part: pd.DataFrame) -> pd.Series:
        constant = part["prediction"].std() < 1e-9 or part["target"].std() < 1e-9
        return pd.Series(
            {
                "samples": len(part),
                "rmse": np.sqrt(np.mean((part["target"] - part["prediction"]) ** 2)),
                "baseline_rmse": np.sqrt(np.mean((part["target"] - part["baseline"]) ** 2)),
                "pearson": 0.0 if len(part) < 3 or constant else part["target"].corr(part["prediction"]),
            }
        )

    columns = ["target", "prediction", "baseline"]
    return predictions.groupby("drug_id")[columns].apply(summary).reset_index().sort_values("pearson", ascending=False)


def _interval_check(predictions: pd.DataFrame, fitted: Fitted, task: ResponseTask) -> dict[str, Any]:
    held = _held(predictions, fitted)
    return {
        "coverage": task.evaluate.interval_coverage,
        "half_width": fitted.half_width,
        "covered_on_test": float(held.mean()),
    }


def _held(predictions: pd.DataFrame, fitted: Fitted) -> np.ndarray:
    """Return 1 where the interval holds the measured value, ``(n,)``; NaN where there is no interval."""
    error = (predictions["target"] - predictions["prediction"]).abs().to_numpy()
    return np.where(np.isnan(fitted.half_width), np.nan, error <= fitted.half_width)


def _drug_names(drugs: pd.DataFrame) -> dict[str, str]:
    named = drugs["name"].dropna() if "name" in drugs else pd.Series(dtype=object)
    return {str(drug): str(name) for drug, name in named.items()}


def _explanation_summary(explanation: Explanation, fell: Deletion | None, alike: float | None) -> dict[str, Any]:
    done = [checks.completeness(explanation.relative_error)]
    done += [] if fell is None else [checks.deletion(fell.difference)]
    done += [] if alike is None else [checks.random_weights(alike)]
    return {
        "method": explanation.method,
        "rows": explanation.rows,
        "additivity_relative_error": explanation.relative_error,
        "additive": explanation.relative_error < ADDITIVE_WITHIN,
        "by_table": explanation.groups,
        "deletion": None if fell is None else fell.as_dict(),
        "top": explanation.genes.head(10).to_dict("records"),
        "checks": done,
    }
