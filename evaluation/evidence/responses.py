"""Evidence of a model of drug response: errors overall, by study and by drug, the genes that it relies on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from evaluation.evidence.drugs import explain_drugs
from evaluation.evidence.parts import Evidence
from evaluation.evidence.shortcuts import OF_LINES, beside_model, line_score
from evaluation.explain import atoms, checks
from evaluation.explain.deletion import Deletion
from evaluation.explain.genes import Explanation, deletion, explain, explained_rows
from evaluation.figures import plots
from evaluation.figures.responses import omics_contributions
from evaluation.metrics.means import coverage
from evaluation.metrics.resample import Interval, bootstrap_regression
from evaluation.metrics.weakest import of_drugs
from pipelines.modalities.pairs import PairsTask
from pipelines.prepared import Prepared
from pipelines.samples.response import ResponseSamples
from training.adapters.pairs_classification import Sensitivity
from training.estimator import Estimator
from training.model.final import CrossFitted
from training.model.fitted import Fitted
from training.model.predictor import Predictor

ROWS_FOR_DRUGS = 2  # times the rows that are spread over all drugs: so many more explain single drugs
ADDITIVE_WITHIN = 0.05  # relative gap up to which attributions are said to add up to the prediction
UNITS = {"ln_ic50": "ln IC50 (µM)", "auc": "area under the dose-response curve"}


def response_evidence(
    task: PairsTask,
    fitted: Fitted,
    model: Predictor,
    predictions: pd.DataFrame,
    prepared: Prepared,
    *,
    seed: int,
    audit: dict[str, Any] | None = None,
) -> Evidence:
    """Measure and explain a model of kind ``response`` on the test rows.

    Parameters
    ----------
    task, fitted, model, predictions, prepared
        From the fit stage.
    seed
        Of the bootstrap and of the rows that are explained.
    audit
        What the audit of the data found.
    """
    metrics = measure(predictions, task, seed)
    strata = {
        str(study): measure(part, task, seed)
        for study, part in predictions.groupby("study")
        if part["group"].nunique() > 1
    }
    test = prepared.side("test")
    unit = UNITS.get(task.data.target, task.data.target)
    explained = explain_pairs(task, fitted, model.estimator, predictions, prepared, unit, seed=seed)
    bootstrap = _bootstrap(task, seed)
    interval = _interval_check(predictions, fitted, task)
    lines = line_score(predictions, prepared.side("train"), **bootstrap)
    shortcuts = beside_model(audit, {**metrics, OF_LINES: lines}, task.evaluate.metric)
    per_drug = by_drug(predictions)
    title = f"{fitted.architecture}, {task.split.mode}"
    measured, predicted = (predictions[name].to_numpy() for name in ("target", "prediction"))
    drawn = {"measured_against_predicted": plots.measured_against_predicted(measured, predicted, title, unit)}
    by_study = {study: {key: value.as_dict() for key, value in found.items()} for study, found in strata.items()}
    return Evidence(
        metrics=metrics,
        strata=strata,
        test={"by_study": by_study},
        sections={
            "worst": of_drugs(predictions, drug_names(test.drugs), **bootstrap),
            "coverage": coverage(
                task.evaluate.interval_coverage,
                _held(predictions, fitted),
                predictions["group"],
                unlike=model.unlike(test),
                **bootstrap,
            ),
            "interval": interval,
            "explanation": explained.section,
            "audit": None if audit is None else {"findings": audit.get("findings", []), "shortcuts": shortcuts},
        },
        simulated=is_simulated_screen(test),
        tables={"by_drug": per_drug} | explained.tables,
        figures=drawn | explained.figures,
        logged={"test_interval_coverage": interval["covered_on_test"]} | explained.logged,
        warnings=[*explained.warnings, *(each["sentence"] for each in shortcuts)],
        drawings=explained.drawings,
    )


def is_simulated_screen(samples: ResponseSamples) -> bool:
    """Return whether the cell lines of some pairs are simulated."""
    return bool(samples.cell_lines.get("simulated", pd.Series([False])).any())


@dataclass(frozen=True)
class ExplainedPairs:
    """What the evidence says of why a model predicts what it does: see `evaluation.evidence.parts.Evidence`."""

    section: dict[str, Any]
    tables: dict[str, pd.DataFrame]
    figures: dict[str, Figure]
    logged: dict[str, float]
    warnings: list[str]
    drawings: dict[str, str] = field(default_factory=dict)


def explain_pairs(
    task: PairsTask,
    fitted: Fitted,
    estimator: Estimator,
    predictions: pd.DataFrame,
    prepared: Prepared,
    unit: str,
    *,
    seed: int,
    output: int | None = None,
) -> ExplainedPairs:
    """Explain a model on some test rows, spread over the drugs, and check whether that can be believed.

    Parameters
    ----------
    task, fitted, predictions, prepared
        From the fit stage.
    estimator
        Of the model.
    unit
        Of what is explained, for figures.
    seed
        Of rows, random features and weights.
    output
        Of a classifier the code of the class whose log odds are explained.
    """
    test = prepared.side("test")
    rows = explained_rows(test, task.evaluate.explained_samples.of(fitted.budget), seed)
    explained = test.take(rows)
    explanation = explain(estimator, explained, output)
    if explanation is None:
        return ExplainedPairs(checks.NOT_EXPLAINED, {}, {}, {}, [])
    groups = predictions["group"].to_numpy()[rows]
    fell = deletion(estimator, explained, explanation, prepared.side("train"), groups, **_bootstrap(task, seed))
    alike = checks.random_correlation(_regressor(estimator), explained, None, seed, set(explanation.names))
    section = _explanation_summary(explanation, fell, alike)
    logged, warnings = {"explanation_additivity_error": explanation.relative_error}, []
    if fell is not None:
        logged |= {"explanation_deletion_drop": fell.drop_top, "explanation_deletion_drop_random": fell.drop_random}
        if not fell.passed:
            warnings.append("masking the named genes moves predictions no more than masking random ones")
    if alike is not None:
        logged["explanation_random_correlation"] = alike
    if not section["additive"]:
        warnings.append(f"attributions miss the prediction by {explanation.relative_error:.1%}")
    if not len(explanation.genes):
        return ExplainedPairs(section, {}, {}, logged, warnings)
    title = f"{fitted.architecture}, {task.split.mode}"
    single = explain_drugs(task, estimator, prepared, ROWS_FOR_DRUGS * len(rows), title, unit, seed=seed, output=output)
    by_atom = atoms.explain_atoms(estimator, test, seed=seed, output=output)
    if biomarkers := single.section.get("biomarkers"):
        logged |= {f"biomarkers_{key}": float(biomarkers[key]) for key in ("found", "looked_up")}
    return ExplainedPairs(
        section | single.section,
        {
            "top_genes": explanation.genes,
            "top_genes_by_drug": explanation.by_drug,
            "contributions_by_omics": explanation.by_omics,
            "contributions_by_gene": explanation.by_gene,
            "contributions_by_drug": explanation.sums_by_drug,
            **single.tables,
            **({"atoms": atoms.table(by_atom)} if by_atom else {}),
        },
        {
            "top_genes": plots.largest_contributions(explanation.genes, title, unit),
            "top_genes_by_drug": plots.contributions_by_drug(explanation.by_drug, title),
            "contributions_by_omics": omics_contributions(explanation.by_omics, title, unit),
            **single.figures,
        },
        logged,
        warnings,
        atoms.drawings(by_atom, unit),
    )


def _regressor(estimator: Estimator) -> Estimator:
    """Return what may be a network: of a classifier of responses the regressor, of an ensemble that of its first."""
    first = estimator.members_[0] if isinstance(estimator, CrossFitted) else estimator
    return first.regressor_ if isinstance(first, Sensitivity) else first


def _bootstrap(task: PairsTask, seed: int) -> dict[str, Any]:
    return {"resamples": task.evaluate.resamples, "confidence": task.evaluate.confidence, "seed": seed}


def measure(predictions: pd.DataFrame, task: PairsTask, seed: int) -> dict[str, Interval]:
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


def _interval_check(predictions: pd.DataFrame, fitted: Fitted, task: PairsTask) -> dict[str, Any]:
    held = _held(predictions, fitted)
    return {
        "coverage": task.evaluate.interval_coverage,
        "half_width": fitted.half_width,
        "unseen_half_width": fitted.unseen_half_width,
        "covered_on_test": float(held.mean()),
    }


def _held(predictions: pd.DataFrame, fitted: Fitted) -> np.ndarray:
    """Return 1 where the interval holds the measured value, ``(n,)``; NaN where there is no interval."""
    error = (predictions["target"] - predictions["prediction"]).abs().to_numpy()
    return np.where(np.isnan(fitted.half_width), np.nan, error <= fitted.half_width)


def drug_names(drugs: pd.DataFrame) -> dict[str, str]:
    """Return the names of the drugs that have one, by id."""
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
