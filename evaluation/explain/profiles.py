"""Which genes the answer to a profile relies on: its class or a number, or each of many target genes."""

import copy
import itertools
import math
from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.cluster.hierarchy import leaves_list, linkage
from tqdm import tqdm

from evaluation.evidence.parts import Evaluation, Evidence, Explained
from evaluation.explain import checks
from evaluation.explain.gene_tables import overlap
from evaluation.explain.genes import ranked
from evaluation.figures.plots import heat_map, styled
from evaluation.metrics import centered
from evaluation.modalities import Modality
from evaluation.problems import Measures
from evaluation.problems.multi_target import target_spreads
from pipelines.samples.expression import ExpressionSamples
from pipelines.samples.gene_names import symbol_of
from training.estimator import Attribution, Estimator
from training.model.cross_fit import CrossFitted

TOP = 50  # genes of a class that are listed, and compared between seeds and models
PREDICTORS = 25  # of a target that are listed
RANDOM_TARGETS = 3  # whose explanations are compared with those of random weights
LABEL = "label"  # names the cohort, unless it is predicted

_EACH, _ALONE = 3, 20  # genes of a class in the heat map, and genes where there is one answer
_SHOWN = 40  # predictors of targets in the heat map
_FLAT = 1e-9


def evidence(modality: Modality, run: Evaluation, measures: Measures) -> Evidence:
    """Explain all answers of some profiles, or the one that the problem names; see `Modality.evidence`."""
    explained = measures.explained(run)
    labels = run.predictions.get(LABEL, pd.Series("", index=run.predictions.index))
    rows = explained.rows(run.explained_samples, run.seed, pd.factorize(labels)[0])
    if explained.every:
        return explain_every_target(run, explained, rows)
    seeds = getattr(run.task.evaluate, "stability_seeds", None)
    return explain_one_answer(run, explained, rows, 0 if seeds is None else seeds.of(run.fitted.budget))


def explain_one_answer(run: Evaluation, explained: Explained, rows: np.ndarray, seeds: int) -> Evidence:
    """Explain one answer of each of ``rows`` of the test split, and check the explanation."""
    estimator, samples, of_row = run.model.estimator, run.test.take(rows), explained.of_row[rows]
    attribution = estimator.attribute(samples, explained.output(rows))
    if attribution is None:
        return checks.not_explained()
    importance = attribution.values if len(explained.names) > 1 else np.abs(attribution.values)
    deletion = checks.delete_genes(run, explained, rows, importance=importance, names=attribution.names)
    stable = stability(run, explained, rows, seeds)
    alike = checks.random_correlation(estimator, samples, explained.output(rows), run.seed)
    genes, means = genes_of_classes(attribution, explained.names, of_row)
    first = genes[genes["rank"] <= 5].groupby("class")["gene"]
    section: dict[str, Any] = {
        "stability": None if stable is None else {"top": TOP, "overlap": stable},
        "top": {str(label): part.tolist() for label, part in first},
    }
    named = (means, attribution.names, explained.names, run.title)
    tables, drawn = {"genes_by_class": genes}, {"genes_by_class": genes_by_class(*named)}
    if (layout := layout_of(estimator)) is not None:
        tables["layout"], drawn["layout"] = layout, layout_maps(layout, *named)
    logged = {} if stable is None else {"explanation/stability_top_50": stable}
    found = checks.explanation_evidence(attribution, deletion, alike, section=section)
    return found | Evidence(tables=tables, figures=drawn, logged=logged)


def genes_of_classes(
    attribution: Attribution, names: Sequence[str], of_row: np.ndarray
) -> tuple[pd.DataFrame, np.ndarray]:
    """Return the `TOP` genes of each class, and the mean contributions ``(classes, genes)``, NaN without rows."""
    means = np.full((len(names), len(attribution.names)), np.nan)
    parts = []
    for code, label in enumerate(names):
        values = attribution.values[of_row == code]
        if len(values):
            means[code] = values.mean(axis=0)
            weight = {"mean": means[code], "mean_abs": np.abs(values).mean(axis=0)}
            table = pd.DataFrame({"gene": attribution.names, **weight})
            parts.append(ranked(table, TOP, **{"class": label}).assign(rows=len(values)))
    return pd.concat(parts, ignore_index=True), means


def stability(run: Evaluation, explained: Explained, rows: np.ndarray, seeds: int) -> float | None:
    """Return the share of each answer's top genes that fits from different seeds have in common, a mean over pairs.

    The explained model (of an ensemble its first member) and ``seeds`` more differ in the seed alone.
    """
    first = checks.first_member(run.model.estimator)
    settings = first.get_params(deep=False)
    if not seeds or "seed" not in settings:
        return None
    train, validation = run.prepared.side("train"), run.prepared.side("validation")
    if isinstance(run.model.estimator, CrossFitted):  # its first member left the first fold out
        outside = run.prepared.rows("train", "validation")
        folds = run.prepared.table["fold"].to_numpy()[outside]
        both, left_out = run.prepared.samples.take(outside), folds == folds.min()
        train, validation = both.take(~left_out), both.take(left_out)
    fits = [copy.copy(first)]  # the explained model itself keeps its finer integral
    for draw in range(1, seeds + 1):
        fits.append(type(first)(**{**settings, "seed": settings["seed"] + draw}).fit(train, validation))
    tables = []
    for fit in fits:
        checks.integrate_coarsely(fit)
        attribution = fit.attribute(run.test.take(rows), explained.output(rows))
        assert attribution is not None
        tables.append(genes_of_classes(attribution, explained.names, explained.of_row[rows])[0])
    return float(np.mean([overlap(one, other) for one, other in itertools.combinations(tables, 2)]))


def layout_of(estimator: Estimator) -> pd.DataFrame | None:
    """Return where the genes of a network on gene images lie: ``gene, row, column``; of an ensemble the first's."""
    layout_table = getattr(checks.first_member(estimator), "layout_table", None)
    return None if layout_table is None else layout_table()


def genes_by_class(means: np.ndarray, names: Sequence[str], classes: Sequence[str], title: str) -> Figure:
    """Return a heat map of mean contributions: the genes that speak most for each class, over all classes."""
    known = np.flatnonzero(np.isfinite(means).all(axis=1)).tolist()
    each = _EACH if len(known) > 1 else _ALONE
    columns: list[int] = []
    for code in known:
        order = np.argsort(-means[code], kind="stable").tolist()
        columns += [column for column in order if column not in columns][:each]
    shown = means[known][:, columns]
    shown = shown / np.abs(shown).max(axis=1, keepdims=True, initial=1e-12)  # one class must not pale the others
    names, labels = [symbol_of(names[column]) for column in columns], [classes[code] for code in known]
    return heat_map(shown, labels, names, label="mean contribution, over the largest of the row", title=title)


@styled
def layout_maps(
    layout: pd.DataFrame, means: np.ndarray, names: Sequence[str], classes: Sequence[str], title: str
) -> Figure:
    """Return for each class the mean contributions where the genes lie in the gene image."""
    place = layout.set_index("gene").reindex(list(names))
    rows, columns = (place[name].to_numpy(np.int64) - place[name].min() for name in ("row", "column"))
    side = int(max(rows.max(), columns.max())) + 1  # of the genes' own square
    known = np.flatnonzero(np.isfinite(means).all(axis=1)).tolist()
    across = min(8, len(known))
    down = math.ceil(len(known) / across)
    figure, grid = plt.subplots(down, across, figsize=(1.25 * across, 1.4 * down + 0.4), squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for axes, code in zip(grid.flat, known, strict=False):
        pixels = np.zeros((side, side))
        pixels[rows, columns] = means[code]
        size = np.quantile(np.abs(means[code]), 0.995) or 1e-12  # each class on its own scale
        axes.imshow(pixels, cmap="RdBu_r", vmin=-size, vmax=size)
        axes.set_title(classes[code], fontsize=7)
    figure.suptitle(f"{title}: mean contribution where the genes lie, each class on its own scale", fontsize=9)
    return figure


# Many targets.


def explain_every_target(run: Evaluation, explained: Explained, rows: np.ndarray) -> Evidence:
    """Explain all targets of ``rows`` of the test split, and check the explanation."""
    estimator, samples = run.model.estimator, run.test.take(rows)
    order = orders_of_genes(estimator)
    found = Evidence(tables={} if order is None else {"gene_order": order})
    scale = target_spreads(run.prepared.side("train").target)
    unit = np.where(scale > _FLAT, scale, 1.0)
    parts: dict[str, dict[str, pd.Series]] = {"mean": {}, "mean_abs": {}, "direction": {}}
    errors: dict[str, float] = {}
    gap = size = 0.0
    importance = pd.DataFrame()
    for position, target in enumerate(tqdm(samples.targets, desc="explained genes", leave=False)):
        attribution = estimator.attribute(samples, np.full(len(samples), position))
        if attribution is None:
            return found | checks.not_explained()
        genes, values = [name.removeprefix("expression:") for name in attribution.names], attribution.values
        importance = importance.add(pd.DataFrame(np.abs(values) / unit[position], columns=genes), fill_value=0.0)
        moved = np.sign((_centered(samples, genes) * values).sum(axis=0))
        for name, numbers in zip(parts, (values.mean(axis=0), np.abs(values).mean(axis=0), moved), strict=True):
            parts[name][target] = pd.Series(numbers, genes)
        errors[target] = attribution.relative_error
        gap += np.abs(attribution.base + values.sum(axis=1) - attribution.prediction).mean() / unit[position]
        size += np.abs(attribution.prediction - attribution.base).mean() / unit[position]
    importance = importance.fillna(0.0)
    named: dict[str, Any] = {"importance": importance.to_numpy(), "names": importance.columns.tolist()}
    deletion = checks.delete_genes(run, explained, rows, **named)
    likeness = [
        checks.random_correlation(estimator, samples, np.full(len(samples), position), run.seed + position)
        for position in range(min(RANDOM_TARGETS, len(samples.targets)))
    ]
    alike = None if None in likeness else float(np.mean(np.array(likeness)))
    mean, mean_abs, direction = (pd.DataFrame(part).fillna(0.0) for part in parts.values())
    standardized = mean_abs / pd.Series(unit, index=list(samples.targets))
    by_target = predictors_by_target(mean, mean_abs)
    predictors = top_predictors(mean_abs, standardized, by_target)
    worst = max(errors, key=lambda target: (math.isnan(errors[target]), errors[target]))
    known: dict[str, Any] = {
        "section": {
            "worst_target": {"gene": worst, "additivity_relative_error": errors[worst]},
            "predictors": len(mean_abs),
            "top": predictors.head(10).to_dict("records"),
        },
        "relative_error": float(gap / max(size, _FLAT)),
        "at_worst": f", of {worst} by {errors[worst]:.1%}",
    }
    tables = {"predictors_by_target": by_target, "top_predictors": predictors}
    drawn = {"predictors_by_target": predictor_map(standardized, direction, run.title)}
    found |= Evidence(tables=tables, figures=drawn)
    assert attribution is not None
    return found | checks.explanation_evidence(attribution, deletion, alike, **known)


def predictors_by_target(mean: pd.DataFrame, mean_abs: pd.DataFrame) -> pd.DataFrame:
    """Return ``target, rank, gene, mean, mean_abs``: the `PREDICTORS` predictors of each target, in log2 units."""
    tables = {
        target: pd.DataFrame({"gene": mean.index, "mean": mean[target].array, "mean_abs": mean_abs[target].array})
        for target in mean_abs
    }
    return pd.concat([ranked(table, PREDICTORS, target=target) for target, table in tables.items()], ignore_index=True)


def top_predictors(mean_abs: pd.DataFrame, standardized: pd.DataFrame, by_target: pd.DataFrame) -> pd.DataFrame:
    """Return ``gene, mean_abs_sd, mean_abs, targets`` (that list it among their `PREDICTORS`), the largest first."""
    listed = by_target["gene"].value_counts().reindex(mean_abs.index).fillna(0).astype(int)
    found = pd.DataFrame(
        {"mean_abs_sd": standardized.mean(axis=1), "mean_abs": mean_abs.mean(axis=1), "targets": listed}
    )
    return found.sort_values("mean_abs_sd", ascending=False, kind="stable").rename_axis("gene").reset_index()


def orders_of_genes(estimator: Estimator) -> pd.DataFrame | None:
    """Return ``member, position, window, gene`` of networks that read genes in an order, ``all`` if all in the same."""
    orders: dict[str, tuple[list[str], list[int]]] = {}
    for number, member in enumerate(getattr(estimator, "members_", [estimator])):
        if (genes := getattr(member, "gene_order", None)) is not None:
            steps = getattr(member, "steps", [genes])
            orders[str(number)] = (genes, [at for at, step in enumerate(steps, start=1) for _ in step])
    if not orders:
        return None
    first = next(iter(orders.values()))
    if all(order == first for order in orders.values()):
        orders = {"all": first}
    parts = [
        pd.DataFrame({"member": member, "position": np.arange(1, len(genes) + 1), "window": windows, "gene": genes})
        for member, (genes, windows) in orders.items()
    ]
    return pd.concat(parts, ignore_index=True)


def _centered(samples: ExpressionSamples, genes: list[str]) -> np.ndarray:
    """Return the expression of ``genes`` less its mean; 0 where it is unknown, or where it is no gene's."""
    known = set(samples.genes)
    values = np.zeros((len(samples), len(genes)))
    columns = [column for column, gene in enumerate(genes) if gene in known]
    measured = samples.logged([genes[column] for column in columns]).astype(np.float64)
    values[:, columns] = centered(measured, ~np.isnan(measured))
    return values


def predictor_map(importance: pd.DataFrame, direction: pd.DataFrame, title: str) -> Figure:
    """Return a heat map of the most important predictors over all targets, similar ones beside each other."""
    top = importance.mean(axis=1).sort_values(ascending=False, kind="stable").head(_SHOWN).index
    signed = (importance * direction).loc[top].to_numpy()
    rows, columns = (
        leaves_list(linkage(table, "average", optimal_ordering=True)).tolist()
        if len(table) > 2
        else [*range(len(table))]
        for table in (signed, signed.T)
    )
    label = "mean |contribution| (SD), red: rises with the predictor"
    titles: dict[str, Any] = {"xlabel": "predicted gene", "ylabel": "predictor", "title": title}
    limit = float(np.quantile(np.abs(signed), 0.99))
    predictors, targets = ([symbol_of(each) for each in names] for names in (top[rows], importance.columns[columns]))
    return heat_map(signed[np.ix_(rows, columns)], predictors, targets, label=label, limit=limit, **titles)
