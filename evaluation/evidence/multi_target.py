"""The evidence of every model of many targets: errors gene by gene and stratum by stratum, and intervals."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from evaluation.evidence import strata
from evaluation.evidence.parts import Evaluation, Evidence, Explained, worst
from evaluation.figures import plots
from evaluation.figures.plots import BLUE, GRAY, styled
from evaluation.modalities import Modality
from evaluation.problems import Measures, columns_of
from evaluation.problems.multi_target import (
    TargetIntervals,
    bootstrap_each_target,
    mean_over_targets,
    target_metrics,
    target_spreads,
)
from evaluation.results import against, binned
from pipelines.samples.gene_names import symbol_of
from training.features.expression_profile import target_means

_ERRORS = ("rmse", "mae", "mse", "rmse_sd", "mae_sd")  # of each gene
_OF_COHORTS = ("r2", "rmse", "rmse_sd", "margin")
_FLAT = 1e-9  # log2 units: what varies less does not vary
_BINS = 12
_EACH = 15  # of the worst and of the best genes


def evidence(measures: Measures, run: Evaluation, modality: Modality) -> Evidence:
    """Measure the test rows of a model of many targets; see `Measures.evidence`."""
    contract, genes, predictions = run.contract, run.contract.targets, run.predictions
    scale = target_spreads(run.prepared.side("train").target)

    def measure(part: pd.DataFrame) -> TargetIntervals:
        measured, predicted, naive = (columns_of(part, kind, genes) for kind in ("target", "prediction", "baseline"))
        known = {"scale": scale, "baseline": naive, "margin_metric": run.task.evaluate.metric, **run.bootstrap}
        return bootstrap_each_target(measured, predicted, part["group"], **known)

    found = measure(predictions)
    cohorts = {name: (part, measure(part)) for name, part in modality.cohorts(run).items()}
    each_gene = by_gene(found, predictions, genes, scale)
    standard = _standardized(run, genes, scale)
    tables, drawn = {"by_gene": each_gene}, _errors_drawn(run, genes, standard, each_gene)
    tables |= {"calibration": binned(*standard), "predicted": against(*standard, run.seed)}
    test: dict[str, Any] = {"targets": len(genes), "undefined_targets": found.undefined}
    test["by_gene"] = each_gene.to_dict("records")
    if cohorts:
        tables["by_cohort"] = by_cohort(cohorts, genes, scale)
        drawn["error_by_cohort"] = error_by_cohort(tables["by_cohort"], run.title)
    inside = in_interval(predictions, contract)
    interval = interval_check(inside, contract)
    known = (~np.isnan(columns_of(predictions, "target", genes))).sum(axis=0).tolist()
    of_genes = zip(genes, known, found.by_target["r2"], strict=True)
    rows = [{"name": gene, "n": count, **r2.as_dict()} for gene, count, r2 in of_genes]
    covered = interval["covered_on_test"]
    made = Evidence(
        metrics=found.mean,
        test=test,
        sections={
            "cross_validation": run.fitted.cross_validation,
            "worst": worst("gene", "r2", rows),
            "coverage": run.coverage(inside),
            "interval": interval,
        },
        tables=tables,
        figures=drawn,
        logged={} if covered is None else {"test/interval_coverage": covered},
    )
    return made | strata.evidence(run, measures, inside)


def explained(measures: Measures, run: Evaluation) -> Explained:
    """Explain all targets of every row, which may move either way, each in units of its spread."""
    scale = target_spreads(run.prepared.side("train").target)
    unit = np.where(scale > _FLAT, scale, 1.0)

    def moved(before: np.ndarray, after: np.ndarray, of_row: np.ndarray) -> np.ndarray:
        return np.asarray((np.abs(after - before) / unit).mean(axis=1))

    return Explained(tuple(run.contract.targets), np.zeros(len(run.predictions), np.int64), moved, every=True)


def by_gene(found: TargetIntervals, predictions: pd.DataFrame, genes: list[str], scale: np.ndarray) -> pd.DataFrame:
    """Return ``gene, r2, r2_low, r2_high``, errors in log2 units and in ``sd`` of the training rows, the best first."""
    measured, baseline = (columns_of(predictions, kind, genes) for kind in ("target", "baseline"))
    r2 = pd.DataFrame([each.as_dict() for each in found.by_target["r2"]])
    errors = {name: [interval.value for interval in found.by_target[name]] for name in _ERRORS}
    table = pd.DataFrame(
        {"gene": genes, "r2": r2["value"], "r2_low": r2["low"], "r2_high": r2["high"], **errors, "sd": scale}
    ).assign(baseline_rmse=target_metrics(measured, baseline)["rmse"])
    return table.sort_values("r2", ascending=False, kind="stable", na_position="last").reset_index(drop=True)


def by_cohort(
    cohorts: dict[str, tuple[pd.DataFrame, TargetIntervals]], genes: list[str], scale: np.ndarray
) -> pd.DataFrame:
    """Return a row a cohort: its size, means over the genes with intervals, and genes that do not vary in it."""
    rows = []
    for name, (part, found) in cohorts.items():
        measured, baseline = (columns_of(part, kind, genes) for kind in ("target", "baseline"))
        row: dict[str, Any] = {"cohort": name, "samples": len(part), "groups": part["group"].nunique()}
        for metric in _OF_COHORTS:
            interval = found.mean[metric]
            row |= {metric: interval.value, f"{metric}_low": interval.low, f"{metric}_high": interval.high}
        row["baseline_rmse_sd"] = float(mean_over_targets(target_metrics(measured, baseline, scale=scale)["rmse_sd"]))
        rows.append({**row, "constant_genes": found.undefined["r2"]})
    return pd.DataFrame(rows)


def in_interval(predictions: pd.DataFrame, contract: Any) -> np.ndarray:
    """Return 1 where the interval covers the measured value, ``(n, targets)``; NaN where either is unknown."""
    measured, predicted = (columns_of(predictions, kind, contract.targets) for kind in ("target", "prediction"))
    half = np.array(contract.half_widths, dtype=np.float64)  # None becomes NaN
    return np.where(np.isnan(measured) | np.isnan(half), np.nan, np.abs(measured - predicted) <= half)


def interval_check(inside: np.ndarray, contract: Any) -> dict[str, Any]:
    """Return the share of the test values that intervals cover, over all genes and gene by gene."""
    genes, known = contract.targets, ~np.isnan(inside)
    count = np.where(known, inside, 0).sum(axis=0)
    shares = np.where(known.any(axis=0), count / np.maximum(known.sum(axis=0), 1), np.nan)
    declared: dict[str, Any] = {
        "coverage": contract.coverage,
        "half_width": float(np.array(contract.half_widths, np.float64).mean()),
    }
    if np.isnan(shares).all():
        return {**declared, "covered_on_test": None, "worst": None, "by_gene": {}}
    lowest = int(np.nanargmin(shares))
    return {
        **declared,
        "covered_on_test": float(np.nanmean(shares)),
        "worst": {"gene": genes[lowest], "covered": float(shares[lowest])},
        "by_gene": dict(zip(genes, shares.tolist(), strict=True)),
    }


# Figures.


def _standardized(run: Evaluation, genes: list[str], scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return all known values, measured and predicted, in spreads of the gene from its mean over training rows.

    Genes differ in level far more than samples do: unless each is standardized, any baseline lies on the diagonal.
    """
    measured, predicted = (columns_of(run.predictions, kind, genes) for kind in ("target", "prediction"))
    unit, mean = np.where(scale > 0, scale, 1.0), target_means(run.prepared.side("train"))
    known = ~np.isnan(measured)
    return ((measured - mean) / unit)[known], ((predicted - mean) / unit)[known]


def _errors_drawn(
    run: Evaluation, genes: list[str], standard: tuple[np.ndarray, np.ndarray], of_genes: pd.DataFrame
) -> dict[str, Figure]:
    measured, predicted = (columns_of(run.predictions, kind, genes) for kind in ("target", "prediction"))
    known = ~np.isnan(measured)
    what = "expression (SD from the gene's mean)"
    return {
        "measured_against_predicted": plots.measured_against_predicted(standard[0], standard[1], run.title, what),
        "residuals_by_level": residuals_by_level(measured[known], predicted[known], run.title),
        "worst_and_best_genes": worst_and_best_genes(of_genes, run.title),
    }


@styled
def residuals_by_level(measured: np.ndarray, predicted: np.ndarray, title: str) -> Figure:
    """Return quantiles of the residuals of all targets over the level; of a good model around 0 at a predicted one."""
    residual = measured - predicted
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.4, 3.2), sharey=True)
    for axes, level, name in ((left, predicted, "predicted"), (right, measured, "measured")):
        edges = np.unique(np.quantile(level, np.linspace(0, 1, _BINS + 1)))
        place = np.clip(np.searchsorted(edges, level, side="right") - 1, 0, max(len(edges) - 2, 0))
        filled = np.unique(place)
        middle = np.array([np.median(level[place == one]) for one in filled])
        bands = np.array([np.quantile(residual[place == one], [0.05, 0.25, 0.5, 0.75, 0.95]) for one in filled]).T
        axes.axhline(0, color=GRAY, linewidth=0.8, linestyle=":")
        axes.fill_between(middle, bands[0], bands[4], color=BLUE, alpha=0.15, linewidth=0, label="90 % of values")
        axes.fill_between(middle, bands[1], bands[3], color=BLUE, alpha=0.35, linewidth=0, label="half of them")
        axes.plot(middle, bands[2], color=BLUE, marker="o", markersize=3, label="median")
        axes.set(xlabel=f"{name} expression (log2)")
    left.set(ylabel="measured - predicted (log2)", title=title)
    left.legend(frameon=False, fontsize=7)
    return figure


@styled
def worst_and_best_genes(of_genes: pd.DataFrame, title: str) -> Figure:
    """Return R2 with its interval of the genes that are predicted worst and best; genes without R2 are left out."""
    known = of_genes[np.isfinite(of_genes["r2"])].sort_values("r2", kind="stable").reset_index(drop=True)
    shown = known[(known.index < _EACH) | (known.index >= len(known) - _EACH)]
    figure, axes = plt.subplots(figsize=(5.4, 0.19 * max(len(shown), 1) + 1.1))
    _intervals(axes, shown, "r2")
    axes.axvline(0, color=GRAY, linewidth=0.8, linestyle=":")
    if len(known) > 2 * _EACH:
        axes.axhline(_EACH - 0.5, color=GRAY, linewidth=0.8)
    axes.set_yticks(range(len(shown)), [symbol_of(gene) for gene in shown["gene"]], fontsize=7)
    left_out = len(known) - len(shown)
    between = f"; {left_out} genes between are not shown" if left_out else ""
    axes.set(xlabel=f"test R2 with its interval{between}", title=title)
    axes.margins(y=0.03)
    return figure


@styled
def error_by_cohort(cohorts: pd.DataFrame, title: str) -> Figure:
    """Return the error of each cohort with its interval, and that of the baseline."""
    shown = cohorts.sort_values("rmse_sd", ascending=False, kind="stable")
    figure, axes = plt.subplots(figsize=(5.8, 0.3 * len(shown) + 1.3))
    rows = range(len(shown))
    axes.scatter(shown["baseline_rmse_sd"], rows, color=GRAY, marker="|", s=60, label="baseline")
    _intervals(axes, shown, "rmse_sd", label="model")
    named = [f"{cohort} ({groups})" for cohort, groups in zip(shown["cohort"], shown["groups"], strict=True)]
    axes.set_yticks(rows, named, fontsize=7)
    what = "RMSE (SD of the gene over training samples), mean of the genes"
    axes.set(xlabel=what, ylabel="cohort (groups)", title=title)
    axes.legend(frameon=False, fontsize=7)
    axes.margins(y=0.08)
    return figure


def _intervals(axes: Axes, table: pd.DataFrame, metric: str, label: str | None = None) -> None:
    """Draw a metric with its intervals, one row above the other; an undefined interval is left out."""
    rows = np.arange(len(table))
    low, high = table[f"{metric}_low"].to_numpy(), table[f"{metric}_high"].to_numpy()
    ends = np.isfinite(low) & np.isfinite(high)
    axes.hlines(rows[ends], low[ends], high[ends], color=BLUE, linewidth=2)
    axes.scatter(table[metric], rows, color=BLUE, zorder=3, s=14, label=label)
