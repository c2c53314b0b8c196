"""Which genes the answer to a profile, its class or a number, relies on."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from evaluation.evidence.parts import Evaluation, Evidence, Explained
from evaluation.explain import checks
from evaluation.explain.genes import ranked
from evaluation.figures.plots import styled
from evaluation.modalities import Modality
from evaluation.problems import Measures
from pipelines.samples.gene_names import symbol_of
from training.estimator import Attribution, Estimator
from training.model.cross_fit import CrossFitted

TOP = 50  # genes of a class that are listed, and compared between seeds and models
LABEL = "label"  # names the cohort, unless it is predicted

_EACH = 3  # genes of a class in the heat map
_ALONE = 20  # genes where there is one answer


def evidence(modality: Modality, run: Evaluation, measures: Measures) -> Evidence:
    """Explain all answers of some profiles, or the one that the problem names; see `Modality.evidence`."""
    explained = measures.explained(run)
    labels = run.predictions.get(LABEL, pd.Series("", index=run.predictions.index))
    rows = explained.rows(run.explained_samples, run.seed, pd.factorize(labels)[0])
    if explained.every:
        from evaluation.explain.targets import explain_every_target

        return explain_every_target(run, explained, rows)
    seeds = getattr(run.task.evaluate, "stability_seeds", None)
    return explain_one_answer(run, explained, rows, 0 if seeds is None else seeds.of(run.fitted.budget))


def explain_one_answer(run: Evaluation, explained: Explained, rows: np.ndarray, seeds: int) -> Evidence:
    """Explain one answer of each of ``rows`` of the test split, and check the explanation."""
    estimator, samples, of_row = run.model.estimator, run.test.take(rows), explained.of_row[rows]
    attribution = estimator.attribute(samples, explained.output(rows))
    if attribution is None:
        return checks.not_explained()
    deletion = checks.delete_genes(
        estimator,
        samples,
        attribution.values if len(explained.names) > 1 else np.abs(attribution.values),
        attribution.names,
        groups=run.groups[rows],
        change=lambda before, after: explained.change(before, after, of_row),
        **run.bootstrap,
    )
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
    logged = {} if stable is None else {"explanation_stability_top_50": stable}
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

    All are single models with the same hyperparameters, fitted on the same rows and integrated alike, so that only the
    seed differs: the explained model, of an ensemble its first member, and ``seeds`` more.
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


def overlap(one: pd.DataFrame, other: pd.DataFrame) -> float:
    """Return the mean share of the top genes of a class that two gene tables have in common."""
    sets = [table.groupby("class")["gene"].agg(set) for table in (one, other)]
    pairs = [(sets[0][label], sets[1][label]) for label in sets[0].index.intersection(sets[1].index)]
    shares = [len(a & b) / max(1, min(len(a), len(b))) for a, b in pairs]
    return float(np.mean(shares)) if shares else float("nan")


def layout_of(estimator: Estimator) -> pd.DataFrame | None:
    """Return where the genes of a network on gene images lie: ``gene, row, column``; of an ensemble the first's."""
    layout_table = getattr(checks.first_member(estimator), "layout_table", None)
    return None if layout_table is None else layout_table()


@styled
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
    figure, axes = plt.subplots(figsize=(1.6 + 0.16 * len(columns), 1.6 + 0.2 * len(known)))
    image = axes.imshow(shown, cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto")
    axes.set_xticks(range(len(columns)), [symbol_of(names[column]) for column in columns], rotation=90, fontsize=6)
    axes.set_yticks(range(len(known)), [classes[code] for code in known], fontsize=7)
    axes.set(title=title)
    figure.colorbar(image, ax=axes, label="mean contribution, over the largest of the row")
    return figure


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
