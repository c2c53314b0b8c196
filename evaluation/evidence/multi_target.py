"""What the evidence of every model of many targets says: errors target by target and stratum by stratum."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from evaluation.evidence.parts import Evaluation, Evidence
from evaluation.figures import plots, targets
from evaluation.metrics.targets import TargetIntervals, bootstrap_each_target, mean_over_targets, target_metrics
from evaluation.metrics.weakest import of_genes
from evaluation.modalities import Modality
from evaluation.problems import columns_of
from evaluation.problems.multi_target import target_spreads
from training.gene_targets import target_means

_ERRORS = ("rmse", "mae", "mse", "rmse_sd", "mae_sd")  # of each gene
_OF_COHORTS = ("r2", "rmse", "rmse_sd", "margin")  # logged of each cohort: MLflow takes 1000 metrics at once


def target_evidence(run: Evaluation, modality: Modality) -> Evidence:
    """Measure the test rows of a model of many targets; see `evaluation.problems.Measures.evidence`."""
    contract: Any = run.contract
    genes, predictions = contract.targets, run.predictions
    scale = target_spreads(run.prepared.side("train").target)

    def measure(part: pd.DataFrame) -> TargetIntervals:
        measured, predicted, naive = (columns_of(part, kind, genes) for kind in ("target", "prediction", "baseline"))
        known = {"scale": scale, "baseline": naive, "margin_metric": run.task.evaluate.metric, **run.bootstrap}
        return bootstrap_each_target(measured, predicted, part["group"], **known)

    found, parts = measure(predictions), modality.strata(run)
    cohorts = {name: (part, measure(part)) for name, part in (parts or {}).items()}
    each_gene = by_gene(found, predictions, genes, scale)
    tables, drawn = {"by_gene": each_gene}, _errors_drawn(run, genes, scale, each_gene)
    test: dict[str, Any] = {
        "targets": len(genes),
        "undefined_targets": found.undefined,
        "by_gene": each_gene.to_dict("records"),
    }
    if parts is not None:
        test[f"by_{modality.stratum}"] = {
            name: {key: value.as_dict() for key, value in measured.mean.items()}
            for name, (_, measured) in cohorts.items()
        }
    if cohorts:
        tables["by_cohort"] = by_cohort(cohorts, genes, scale)
        drawn["error_by_cohort"] = targets.error_by_cohort(tables["by_cohort"], run.title)
    if history := run.history():
        drawn["learning_curves"] = plots.learning_curves(history, run.title)
    interval = interval_check(predictions, contract)
    known = (~np.isnan(columns_of(predictions, "target", genes))).sum(axis=0)
    covered = interval["covered_on_test"]
    return Evidence(
        metrics=found.mean,
        strata={
            modality.logged_name(name): {metric: measured.mean[metric] for metric in _OF_COHORTS}
            for name, (_, measured) in cohorts.items()
        },
        test=test,
        sections={
            "cross_validation": run.fitted.cross_validation,
            "worst": of_genes(each_gene, dict(zip(genes, known.tolist(), strict=True))),
            "coverage": run.coverage(_held(predictions, contract)),
            "interval": interval,
        },
        tables=tables,
        figures=drawn,
        logged={} if covered is None else {"test_interval_coverage": covered},
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


def interval_check(predictions: pd.DataFrame, contract: Any) -> dict[str, Any]:
    """Return how many of the test values the intervals of the endpoint hold, over all genes and gene by gene."""
    genes = contract.targets
    held = _held(predictions, contract)
    known = ~np.isnan(held)
    inside = np.where(known, held, 0).sum(axis=0)
    shares = np.where(known.any(axis=0), inside / np.maximum(known.sum(axis=0), 1), np.nan)
    said: dict[str, Any] = {"coverage": contract.coverage, "half_width": float(_half_widths(contract).mean())}
    if np.isnan(shares).all():
        return {**said, "covered_on_test": None, "worst": None, "by_gene": {}}
    worst = int(np.nanargmin(shares))
    return {
        **said,
        "covered_on_test": float(np.nanmean(shares)),
        "worst": {"gene": genes[worst], "covered": float(shares[worst])},
        "by_gene": dict(zip(genes, shares.tolist(), strict=True)),
    }


def _half_widths(contract: Any) -> np.ndarray:
    return np.array([np.nan if width is None else width for width in contract.half_widths])


def _held(predictions: pd.DataFrame, contract: Any) -> np.ndarray:
    """Return 1 where the interval holds the measured value, ``(n, targets)``; NaN where there is no value or none."""
    measured, predicted = (columns_of(predictions, kind, contract.targets) for kind in ("target", "prediction"))
    half = _half_widths(contract)
    unknown = np.isnan(measured) | np.isnan(half)
    return np.where(unknown, np.nan, np.abs(measured - predicted) <= half)


def _errors_drawn(run: Evaluation, genes: list[str], scale: np.ndarray, of_genes: pd.DataFrame) -> dict[str, Figure]:
    measured, predicted = (columns_of(run.predictions, kind, genes) for kind in ("target", "prediction"))
    # Genes differ in level far more than samples do: unless each is standardized, any baseline lies on the diagonal.
    unit, mean = np.where(scale > 0, scale, 1.0), target_means(run.prepared.side("train"))
    known = ~np.isnan(measured)
    standard = [((values - mean) / unit)[known] for values in (measured, predicted)]
    what = "expression (SD from the gene's mean)"
    return {
        "measured_against_predicted": plots.measured_against_predicted(standard[0], standard[1], run.title, what),
        "residuals_by_level": targets.residuals_by_level(measured[known], predicted[known], run.title),
        "worst_and_best_genes": targets.worst_and_best_genes(of_genes, run.title),
    }
