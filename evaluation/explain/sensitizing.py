"""Genes whose high or low values make a model predict that a line is sensitive to a drug."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from evaluation.explain.sums import measured, tables_of
from pipelines.samples.response import ResponseSamples
from training.estimator import Attribution

LINES = 40  # of a drug: enough that a mutation of one line in twenty is among them in seven cases of eight
FEWEST = 8  # lines that a direction needs

_FLAT = 1e-12  # of a spread: below it nothing varies


def rows_by_drug(samples: ResponseSamples, first: Sequence[str], count: int, seed: int) -> npt.NDArray[np.intp]:
    """Return rows that let single drugs be explained: at most `LINES` of a drug, drug after drug."""
    order = np.random.default_rng(seed).permutation(len(samples))
    drug = samples.drug[order]
    place = pd.Series(drug).groupby(drug).cumcount().to_numpy()
    kept = order[place < LINES]
    sizes = pd.Series(samples.drugs.index.to_numpy()[samples.drug[kept]]).value_counts(sort=False)
    sizes = sizes[sizes >= FEWEST].sort_index().sort_values(ascending=False, kind="stable")
    wanted = [each for each in dict.fromkeys(first) if each in sizes.index]
    others = sizes.drop(wanted)
    chosen = {*wanted, *others.index[others.cumsum().to_numpy() <= count]}
    return np.sort(kept[np.isin(samples.drugs.index.to_numpy()[samples.drug[kept]], list(chosen))])


def directed(attribution: Attribution, samples: ResponseSamples) -> pd.DataFrame:
    """Return for each drug every measured feature with its weight and its direction, the largest weight first.

    Drugs with fewer than `FEWEST` rows are left out: their direction is uncertain.

    Returns
    -------
    pandas.DataFrame
        ``drug_id, drug, rank, omics, gene`` (the feature), ``mean_abs`` (mean absolute contribution to the drug's
        predictions), ``direction``: the sign of the correlation between the feature's value and its contribution, 0
        where either does not vary, ``effect``: ``direction * mean_abs``. Below 0 a high value (a mutation) makes lines
        sensitive, above 0 resistant. ``rows`` are the drug's.
    """
    kept = np.flatnonzero(measured(attribution.names, samples))
    names = [attribution.names[place] for place in kept]
    table, gene = tables_of(names), np.array([name.partition(":")[2] for name in names])
    titles = samples.drugs["name"] if "name" in samples.drugs else pd.Series("", index=samples.drugs.index)
    parts = []
    for drug in np.unique(samples.drug):
        rows = np.flatnonzero(samples.drug == drug)
        if len(rows) < FEWEST or not len(kept):
            continue
        contributions = attribution.values[np.ix_(rows, kept)]
        direction = np.sign(_correlation(values_of(samples, names, rows), contributions))
        weight = np.abs(contributions).mean(axis=0)
        part = pd.DataFrame({"omics": table, "gene": gene, "mean_abs": weight, "direction": direction.astype(int)})
        part = part.assign(effect=part["direction"] * part["mean_abs"], rows=len(rows))
        part = part.sort_values("mean_abs", ascending=False, kind="stable")
        part.insert(0, "rank", np.arange(1, len(part) + 1))
        part.insert(0, "drug", titles.iloc[drug])
        part.insert(0, "drug_id", samples.drugs.index[drug])
        parts.append(part)
    if not parts:
        columns = ["drug_id", "drug", "rank", "omics", "gene", "mean_abs", "direction", "effect", "rows"]
        return pd.DataFrame(columns=columns)
    return pd.concat(parts, ignore_index=True)


def sensitizing(table: pd.DataFrame, count: int = 25) -> pd.DataFrame:
    """Return the first ``count`` features of `directed` that have a direction, by drug, with ``sensitive_when``."""
    told = table[table["direction"] != 0].groupby("drug_id", sort=False).head(count)
    lowers = (told["direction"] < 0).to_numpy()
    of_mutation = (told["omics"] == "mutation").to_numpy()
    when = np.where(of_mutation, np.where(lowers, "mutated", "not mutated"), np.where(lowers, "high", "low"))
    return told.assign(sensitive_when=when).reset_index(drop=True)


def values_of(samples: ResponseSamples, names: Sequence[str], rows: npt.NDArray[np.intp]) -> np.ndarray:
    """Return the value of each feature ``<omics>:<column>`` in each row, NaN where unknown; ``(rows, names)``."""
    tables = tables_of(list(names))
    found = np.full((len(rows), len(names)), np.nan)
    for omics, table in samples.omics.items():
        here = np.flatnonzero(tables == omics)
        wanted = pd.Index([names[int(place)].partition(":")[2] for place in here])
        columns = table.columns.astype(str).get_indexer(wanted)
        found[:, here] = table.to_numpy(np.float64)[np.ix_(samples.cell[rows], columns)]
    return found


def _correlation(values: np.ndarray, contributions: np.ndarray) -> np.ndarray:
    """Return the correlation of each column over the rows whose value is known, 0 where one does not vary."""
    known = ~np.isnan(values)
    count = np.maximum(known.sum(axis=0), 1)

    def centered(table: np.ndarray) -> np.ndarray:
        told = np.where(known, table, 0.0)
        return np.where(known, told - told.sum(axis=0) / count, 0.0)

    x, y = centered(values), centered(contributions)
    spread = np.sqrt((x**2).sum(axis=0) * (y**2).sum(axis=0))
    return np.divide((x * y).sum(axis=0), spread, out=np.zeros(len(spread)), where=spread > _FLAT)
