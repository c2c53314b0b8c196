"""Evidence of a model that predicts genes from genes: errors gene by gene and cohort by cohort, what it relies on."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from evaluation.evidence.classes import columns_of, is_simulated, learning_history
from evaluation.evidence.parts import Evidence
from evaluation.evidence.shortcuts import beside_model
from evaluation.explain import checks
from evaluation.explain.cells import chosen_rows
from evaluation.explain.deletion import Deletion
from evaluation.explain.targets import (
    TargetExplanation,
    attention_agreement,
    attention_by_window,
    deletion,
    explain_targets,
    orders_of_genes,
)
from evaluation.figures import plots, targets
from evaluation.metrics.means import coverage
from evaluation.metrics.resample import Interval
from evaluation.metrics.targets import TargetIntervals, bootstrap_each_target, mean_over_targets, target_metrics
from evaluation.metrics.weakest import of_genes
from pipelines.prepared import Prepared
from pipelines.samples.expression import ExpressionSamples
from pipelines.tasks.profiles_multi_target import ProfilesMultiTarget
from training.estimator import Estimator
from training.gene_targets import target_means
from training.modalities.profiles import GeneContract
from training.model.fitted import Fitted
from training.model.predictor import Predictor

ADDITIVE_WITHIN = 0.05  # relative gap up to which attributions are said to add up to the prediction
RANDOM_TARGETS = 3  # whose explanations are compared with those of random weights
_ERRORS = ("rmse", "mae", "mse", "rmse_sd", "mae_sd")  # of each gene
_OF_COHORTS = ("r2", "rmse", "rmse_sd", "margin")  # logged of each cohort: MLflow takes 1000 metrics at once


def gene_evidence(
    task: ProfilesMultiTarget,
    fitted: Fitted,
    model: Predictor,
    predictions: pd.DataFrame,
    prepared: Prepared,
    *,
    seed: int,
    audit: dict[str, Any] | None = None,
) -> Evidence:
    """Measure and explain a model of family ``gene_targets`` on the test rows.

    Parameters
    ----------
    task, fitted, model, predictions, prepared
        From the fit stage.
    seed
        Of the bootstrap and of the rows that are explained.
    audit
        What the audit of the data found.
    """
    contract = model.contract
    assert isinstance(contract, GeneContract)
    genes, test = contract.targets, prepared.side("test")
    scale = target_spreads(prepared.side("train"))
    found = measure(predictions, genes, scale, task, seed)
    cohorts = {
        str(cohort): (part, measure(part, genes, scale, task, seed))
        for cohort, part in predictions.groupby("label")
        if part["group"].nunique() > 1
    }
    tables = {"by_gene": by_gene(found, predictions, genes, scale)}
    if (order := orders_of_genes(model.estimator)) is not None:
        tables["gene_order"] = order
    title = f"{fitted.architecture}, {task.split.mode}"
    drawn = _errors_drawn(predictions, genes, prepared.side("train"), scale, tables["by_gene"], title)
    if cohorts:
        tables["by_cohort"] = by_cohort(cohorts, genes, scale)
        drawn["error_by_cohort"] = targets.error_by_cohort(tables["by_cohort"], title)
    if history := learning_history(fitted.run_id):
        drawn["learning_curves"] = plots.learning_curves(history, title)
    interval = interval_check(predictions, contract, fitted)
    logged = {}
    if interval["covered_on_test"] is not None:
        logged["test_interval_coverage"] = interval["covered_on_test"]

    cohort_of = pd.factorize(predictions["label"])[0]
    rows = chosen_rows(cohort_of, cohort_of, task.evaluate.explained_samples.of(fitted.budget), seed)
    explained = test.take(rows)
    explanation = explain_targets(model.estimator, explained, scale, progress=True)
    summary, warnings = checks.NOT_EXPLAINED, []
    bootstrap: dict[str, Any] = {
        "resamples": task.evaluate.resamples,
        "confidence": task.evaluate.confidence,
        "seed": seed,
    }
    if explanation is not None:
        fell = deletion(model.estimator, explained, explanation, predictions["group"].to_numpy()[rows], **bootstrap)
        alike = _random_correlation(model.estimator, explained, seed)
        summary = _summary(explanation, fell, alike)
        if fell is not None:
            logged |= {
                "explanation_deletion_drop": fell.drop_top,
                "explanation_deletion_drop_random": fell.drop_random,
            }
            if not fell.passed:
                warnings.append("masking the named genes moves predictions no more than masking random ones")
        if alike is not None:
            logged["explanation_random_correlation"] = alike
        logged["explanation_additivity_error"] = explanation.relative_error
        tables["predictors_by_target"] = explanation.predictors_by_target()
        tables["top_predictors"] = explanation.top_predictors()
        drawn["predictors_by_target"] = targets.predictors_by_target(
            explanation.standardized, explanation.direction, title
        )
        windows = attention_by_window(model.estimator, explained, explanation.standardized.mean(axis=1))
        if windows is not None:
            summary["attention"] = _attention_summary(windows)
            tables["attention"] = windows
            drawn["attention"] = targets.attention(windows, title)
        if not summary["additive"]:
            worst = summary["worst_target"]
            warnings.append(
                f"attributions miss the prediction by {explanation.relative_error:.1%}, of {worst['gene']} by "
                f"{worst['additivity_relative_error']:.1%}"
            )
    shortcuts = beside_model(audit, found.mean, task.evaluate.metric)
    return Evidence(
        metrics=found.mean,
        strata={f"cohort_{_loggable(name)}": _some(measured.mean) for name, (_, measured) in cohorts.items()},
        test={
            "targets": len(genes),
            "undefined_targets": found.undefined,
            "by_gene": tables["by_gene"].to_dict("records"),
            "by_cohort": {
                name: {key: value.as_dict() for key, value in measured.mean.items()}
                for name, (_, measured) in cohorts.items()
            },
        },
        sections={
            "cross_validation": fitted.cross_validation,
            "worst": of_genes(tables["by_gene"], _measured(predictions, genes)),
            "coverage": coverage(
                contract.coverage,
                _held(predictions, contract),
                predictions["group"],
                unlike=model.unlike(test),
                **bootstrap,
            ),
            "interval": interval,
            "explanation": summary,
            "audit": None if audit is None else {"findings": audit.get("findings", []), "shortcuts": shortcuts},
        },
        simulated=is_simulated(test.table),
        tables=tables,
        figures=drawn,
        logged=logged,
        warnings=[*warnings, *(each["sentence"] for each in shortcuts)],
    )


def target_spreads(train: ExpressionSamples) -> np.ndarray:
    """Return the standard deviation of each target over the training rows where it is known, ``(targets,)``."""
    distance = train.target - target_means(train)
    known = ~np.isnan(distance)
    squares = np.where(known, distance, 0) ** 2
    spreads: np.ndarray = np.sqrt(squares.sum(axis=0) / np.maximum(known.sum(axis=0), 1))
    return spreads


def measure(
    predictions: pd.DataFrame, genes: list[str], scale: np.ndarray, task: ProfilesMultiTarget, seed: int
) -> TargetIntervals:
    """Return every metric of a table of ``target_<gene>, prediction_<gene>, baseline_<gene>, group`` with intervals."""
    return bootstrap_each_target(
        columns_of(predictions, "target", genes),
        columns_of(predictions, "prediction", genes),
        predictions["group"],
        scale=scale,
        baseline=columns_of(predictions, "baseline", genes),
        margin_metric=task.evaluate.metric,
        resamples=task.evaluate.resamples,
        confidence=task.evaluate.confidence,
        seed=seed,
    )


def by_gene(found: TargetIntervals, predictions: pd.DataFrame, genes: list[str], scale: np.ndarray) -> pd.DataFrame:
    """Return ``gene, r2, r2_low, r2_high``, errors, ``sd`` and ``baseline_rmse``, the best first.

    ``sd`` is that of the training rows. ``rmse``, ``mae``, ``sd`` and ``baseline_rmse`` are in log2 units, ``mse`` in
    their square, ``rmse_sd`` and ``mae_sd`` in units of ``sd``, by which genes can be compared.
    """
    measured, baseline = (columns_of(predictions, kind, genes) for kind in ("target", "baseline"))
    r2 = found.by_target["r2"]
    table = pd.DataFrame(
        {
            "gene": genes,
            "r2": [interval.value for interval in r2],
            "r2_low": [interval.low for interval in r2],
            "r2_high": [interval.high for interval in r2],
            **{name: [interval.value for interval in found.by_target[name]] for name in _ERRORS},
            "sd": scale,
            "baseline_rmse": target_metrics(measured, baseline)["rmse"],
        }
    )
    return table.sort_values("r2", ascending=False, kind="stable", na_position="last").reset_index(drop=True)


def by_cohort(
    cohorts: dict[str, tuple[pd.DataFrame, TargetIntervals]], genes: list[str], scale: np.ndarray
) -> pd.DataFrame:
    """Return a row a cohort: its size, means over the genes with intervals, and genes that do not vary in it.

    A gene varies less within a cohort than over all, so R2 within cohorts is lower; errors can be compared.
    """
    rows = []
    for name, (part, found) in cohorts.items():
        measured, baseline = (columns_of(part, kind, genes) for kind in ("target", "baseline"))
        row: dict[str, Any] = {"cohort": name, "samples": len(part), "groups": part["group"].nunique()}
        for metric in _OF_COHORTS:
            interval = found.mean[metric]
            row |= {metric: interval.value, f"{metric}_low": interval.low, f"{metric}_high": interval.high}
        naive = target_metrics(measured, baseline, scale=scale)["rmse_sd"]
        rows.append(
            {**row, "baseline_rmse_sd": float(mean_over_targets(naive)), "constant_genes": found.undefined["r2"]}
        )
    return pd.DataFrame(rows)


def interval_check(predictions: pd.DataFrame, contract: GeneContract, fitted: Fitted) -> dict[str, Any]:
    """Return how many of the test values the intervals of the endpoint hold, over all genes and gene by gene."""
    genes = contract.targets
    held = _held(predictions, contract)
    known = ~np.isnan(held)
    inside = np.where(known, held, 0).sum(axis=0)
    shares = np.where(known.any(axis=0), inside / np.maximum(known.sum(axis=0), 1), np.nan)
    said: dict[str, Any] = {"coverage": contract.coverage, "half_width": fitted.half_width}
    if np.isnan(shares).all():
        return {**said, "covered_on_test": None, "worst": None, "by_gene": {}}
    worst = int(np.nanargmin(shares))
    return {
        **said,
        "covered_on_test": float(np.nanmean(shares)),
        "worst": {"gene": genes[worst], "covered": float(shares[worst])},
        "by_gene": dict(zip(genes, shares.tolist(), strict=True)),
    }


def _held(predictions: pd.DataFrame, contract: GeneContract) -> np.ndarray:
    """Return 1 where the interval holds the measured value, ``(n, targets)``; NaN where there is no value or none."""
    measured, predicted = (columns_of(predictions, kind, contract.targets) for kind in ("target", "prediction"))
    half = np.array([np.nan if width is None else width for width in contract.half_widths])
    unknown = np.isnan(measured) | np.isnan(half)
    return np.where(unknown, np.nan, np.abs(measured - predicted) <= half)


def _measured(predictions: pd.DataFrame, genes: list[str]) -> dict[str, int]:
    """Return in how many rows each gene was measured."""
    return dict(zip(genes, (~np.isnan(columns_of(predictions, "target", genes))).sum(axis=0).tolist(), strict=True))


def _random_correlation(estimator: Estimator, samples: ExpressionSamples, seed: int) -> float | None:
    """Return the mean of `checks.random_correlation` over the first few targets, None where there is no network."""
    found = []
    for position in range(min(RANDOM_TARGETS, len(samples.targets))):
        alike = checks.random_correlation(estimator, samples, np.full(len(samples), position), seed + position)
        if alike is None:
            return None
        found.append(alike)
    return float(np.mean(found))


def _errors_drawn(
    predictions: pd.DataFrame,
    genes: list[str],
    train: ExpressionSamples,
    scale: np.ndarray,
    of_genes: pd.DataFrame,
    title: str,
) -> dict[str, Figure]:
    measured, predicted = (columns_of(predictions, kind, genes) for kind in ("target", "prediction"))
    # Genes differ in level far more than samples do: unless each is standardized, any baseline lies on the diagonal.
    unit, mean = np.where(scale > 0, scale, 1.0), target_means(train)
    known = ~np.isnan(measured)
    standard = [((values - mean) / unit)[known] for values in (measured, predicted)]
    what = "expression (SD from the gene's mean)"
    return {
        "measured_against_predicted": plots.measured_against_predicted(standard[0], standard[1], title, what),
        "residuals_by_level": targets.residuals_by_level(measured[known], predicted[known], title),
        "worst_and_best_genes": targets.worst_and_best_genes(of_genes, title),
    }


def _summary(explanation: TargetExplanation, fell: Deletion | None, alike: float | None) -> dict[str, Any]:
    done = [checks.completeness(explanation.relative_error)]
    done += [] if fell is None else [checks.deletion(fell.difference)]
    done += [] if alike is None else [checks.random_weights(alike)]
    worst = str(explanation.error_by_target.idxmax())
    return {
        "method": explanation.method,
        "rows": explanation.rows,
        "additivity_relative_error": explanation.relative_error,
        "additive": explanation.relative_error < ADDITIVE_WITHIN,
        "worst_target": {"gene": worst, "additivity_relative_error": float(explanation.error_by_target[worst])},
        "predictors": len(explanation.mean_abs),
        "deletion": None if fell is None else fell.as_dict(),
        "top": explanation.top_predictors().head(10).to_dict("records"),
        "checks": done,
    }


def _attention_summary(windows: pd.DataFrame) -> dict[str, Any]:
    first = windows.loc[windows.groupby("member", sort=False)["attention"].idxmax()]
    return {
        "windows": int(windows["window"].max()),
        "correlation_with_attribution": attention_agreement(windows),
        "most_attended": first[["member", "window", "first", "last", "attention"]].to_dict("records"),
    }


def _some(metrics: dict[str, Interval]) -> dict[str, Interval]:
    return {name: interval for name, interval in metrics.items() if name in _OF_COHORTS}


def _loggable(name: str) -> str:
    """Return a name that MLflow takes in that of a metric."""
    return re.sub(r"[^\w\-. /:]", "_", name)
