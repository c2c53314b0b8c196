"""Tables of attributions to cell lines and drugs: by feature, omics table and gene, and drug by drug.

Every sum is one of signed contributions, so what is additive stays so: over a drug's rows the mean prediction is the
mean base plus the mean sum of each table, up to the gap of the attribution itself.
"""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from evaluation.metrics import centered
from pipelines.samples.gene_names import parts_of
from pipelines.samples.response import ResponseSamples
from training.estimator import Attribution

TOP = 25  # features of a drug that are listed
OF_DRUG = "the_drug"  # all features of a drug: its mean response, fingerprint, atoms, tokens
LINES = 40  # of a drug: enough that a mutation of one line in twenty is among them in seven cases of eight
FEWEST = 8  # lines that a direction needs

_FLAT = 1e-12  # of a spread: below it nothing varies
_OF_LINE = ("tissue", "cell_line")
_REGION = re.compile(r"(_(chr)?[0-9XYMT]+_\d+_\d+|_promoter)$")
_DIRECTED = ("drug_id", "drug", "rank", "omics", "gene", "mean_abs", "direction", "effect", "rows")

Mask = npt.NDArray[np.bool_]


def ranked(table: pd.DataFrame, count: int | None = None, **labels: Any) -> pd.DataFrame:
    """Return the first ``count`` rows by ``mean_abs``, after columns with the labels and the ``rank``."""
    top = table.sort_values("mean_abs", ascending=False, kind="stable").head(len(table) if count is None else count)
    top = top.reset_index(drop=True)
    for name, value in reversed([*labels.items(), ("rank", np.arange(1, len(top) + 1))]):
        top.insert(0, name, value)
    return top


def drug_names(samples: ResponseSamples) -> pd.Series:
    """Return the names of the drugs, "" where the data has none."""
    return samples.drugs["name"] if "name" in samples.drugs else pd.Series("", index=samples.drugs.index)


def tables_of(names: Sequence[str]) -> npt.NDArray[np.str_]:
    """Return the table of each feature, ``expression`` of ``expression:EGFR``; shape ``(features,)``."""
    return np.array([name.partition(":")[0] for name in names], dtype=str)


def features_of(names: Sequence[str]) -> npt.NDArray[np.str_]:
    """Return each feature without its table, ``EGFR`` of ``expression:EGFR``; shape ``(features,)``."""
    return np.array([name.partition(":")[2] for name in names], dtype=str)


def of_line(names: list[str], samples: ResponseSamples) -> Mask:
    """Return which features are of the cell line, ``(features,)``: of an omics table, its tissue, or its identity."""
    return np.isin(tables_of(names), [*samples.omics, *_OF_LINE])


def measured(names: list[str], samples: ResponseSamples) -> Mask:
    """Return which features are columns of an omics table, ``(features,)``: no tissue, no flag of what is missing."""
    columns = {f"{table}:{column}" for table, values in samples.omics.items() for column in values.columns}
    return np.array([name in columns for name in names], dtype=bool)


def gene_of(name: str) -> str:
    """Return the gene of a feature: ``SKI`` of ``methylation:SKI_1_2159133_2160133``, ``TP53`` of ``TP53|7157``."""
    feature = name.partition(":")[2]
    return next(iter(parts_of(_REGION.sub("", feature))), feature)


def by_feature(attribution: Attribution, samples: ResponseSamples) -> pd.DataFrame:
    """Return ``gene, omics, mean_abs, mean``, a row a feature of the cell line, the largest first."""
    kept = of_line(attribution.names, samples)
    return _by_feature(attribution.values[:, kept], attribution.names, kept)


def by_feature_and_drug(attribution: Attribution, samples: ResponseSamples) -> pd.DataFrame:
    """Return the first `TOP` rows of `by_feature` for each drug, after ``drug_id, drug, rank``; ``rows`` is last."""
    names, kept = drug_names(samples), of_line(attribution.names, samples)
    parts = []
    for drug in np.unique(samples.drug):
        rows = np.flatnonzero(samples.drug == drug)
        table = _by_feature(attribution.values[np.ix_(rows, kept)], attribution.names, kept)
        labels = {"drug_id": samples.drugs.index[drug], "drug": names.iloc[drug]}
        parts.append(ranked(table, TOP, **labels).assign(rows=len(rows)))
    return pd.concat(parts, ignore_index=True)


def by_omics(attribution: Attribution, samples: ResponseSamples) -> pd.DataFrame:
    """Return ``omics, features, mean_abs, mean, share`` of the sum of each table (all of the drug is one) in a row."""
    group = _grouped(attribution.names, samples)
    summed = _summed(attribution.values, group)
    features = pd.Series(group).value_counts().reindex(summed.columns)
    found = pd.DataFrame({"features": features, "mean_abs": summed.abs().mean(), "mean": summed.mean()})
    total = found["mean_abs"].sum()
    found["share"] = found["mean_abs"] / total if total > 0 else 0.0
    return _largest_first(found.rename_axis("omics").reset_index())


def by_gene(attribution: Attribution, samples: ResponseSamples) -> pd.DataFrame:
    """Return ``gene, mean_abs, mean`` of the sum of each gene's measured features; then ``mean_abs`` of each table."""
    kept = np.flatnonzero(measured(attribution.names, samples))
    names = [attribution.names[place] for place in kept]
    values, tables = attribution.values[:, kept], tables_of(names)
    genes = np.array([gene_of(name) for name in names], dtype=str)
    summed = _summed(values, genes)
    found = pd.DataFrame({"mean_abs": summed.abs().mean(), "mean": summed.mean()})
    for table in dict.fromkeys(tables.tolist()):
        alone = _summed(values[:, tables == table], genes[tables == table])
        found[table] = alone.abs().mean().reindex(found.index, fill_value=0.0)
    return _largest_first(found.rename_axis("gene").reset_index())


def by_drug(attribution: Attribution, samples: ResponseSamples) -> pd.DataFrame:
    """Return ``drug_id, drug, rows, base``, the mean sum of each table, ``prediction``, and their ``gap``."""
    summed = _summed(attribution.values, _grouped(attribution.names, samples))
    tables = list(summed.columns)
    found = summed.assign(base=attribution.base, prediction=attribution.prediction)
    ids = samples.drugs.index.to_numpy()[samples.drug]
    means = found.groupby(ids, sort=True).mean()
    means["gap"] = means["prediction"] - means["base"] - means[tables].sum(axis=1)
    means.insert(0, "rows", pd.Series(ids).value_counts().reindex(means.index).to_numpy())
    means.insert(0, "drug", drug_names(samples).reindex(means.index).fillna("").to_numpy())
    return means[["drug", "rows", "base", *tables, "prediction", "gap"]].rename_axis("drug_id").reset_index()


# Single drugs: which values of a gene make a line sensitive.


def rows_by_drug(samples: ResponseSamples, first: Sequence[str], count: int, seed: int) -> npt.NDArray[np.intp]:
    """Return rows that let single drugs be explained: at most `LINES` of a drug, drug after drug."""
    order = np.random.default_rng(seed).permutation(len(samples))
    kept = order[place_in_drug(samples, order) < LINES]
    ids = samples.drugs.index.to_numpy()[samples.drug[kept]]
    sizes = pd.Series(ids).value_counts(sort=False)
    sizes = sizes[sizes >= FEWEST].sort_index().sort_values(ascending=False, kind="stable")
    wanted = [each for each in dict.fromkeys(first) if each in sizes.index]
    others = sizes.drop(wanted)
    return np.sort(kept[np.isin(ids, [*wanted, *others.index[others.cumsum().to_numpy() <= count]])])


def explained_rows(samples: ResponseSamples, count: int, seed: int) -> np.ndarray:
    """Return about ``count`` rows, spread evenly over the drugs; at least one a drug where ``count`` allows it."""
    order = np.random.default_rng(seed).permutation(len(samples))
    return np.sort(order[np.argsort(place_in_drug(samples, order), kind="stable")[:count]])


def directed(attribution: Attribution, samples: ResponseSamples) -> pd.DataFrame:
    """Return every measured feature of each drug with `FEWEST` rows or more, the largest ``mean_abs`` first.

    ``direction`` is the sign of the correlation between the feature's value and its contribution, 0 where either does
    not vary; ``effect`` is ``direction * mean_abs``: below 0 a high value (a mutation) makes lines sensitive.
    """
    kept = np.flatnonzero(measured(attribution.names, samples))
    names, titles = [attribution.names[place] for place in kept], drug_names(samples)
    parts = [pd.DataFrame(columns=list(_DIRECTED))]
    for drug in np.unique(samples.drug):
        rows = np.flatnonzero(samples.drug == drug)
        if len(rows) < FEWEST or not len(kept):
            continue
        contributions = attribution.values[np.ix_(rows, kept)]
        direction = np.sign(_correlation(values_of(samples, names, rows), contributions)).astype(int)
        weight = np.abs(contributions).mean(axis=0)
        table = {"omics": tables_of(names), "gene": features_of(names), "mean_abs": weight, "direction": direction}
        part = pd.DataFrame({**table, "effect": direction * weight, "rows": len(rows)})
        parts.append(ranked(part, drug_id=samples.drugs.index[drug], drug=titles.iloc[drug]))
    return pd.concat(parts[1:] or parts, ignore_index=True)


def sensitizing(table: pd.DataFrame, count: int = TOP) -> pd.DataFrame:
    """Return the first ``count`` features of `directed` that have a direction, by drug, with ``sensitive_when``."""
    first = table[table["direction"] != 0].groupby("drug_id", sort=False).head(count)
    lowers = (first["direction"] < 0).to_numpy()
    of_mutation = (first["omics"] == "mutation").to_numpy()
    when = np.where(of_mutation, np.where(lowers, "mutated", "not mutated"), np.where(lowers, "high", "low"))
    return first.assign(sensitive_when=when).reset_index(drop=True)


def values_of(samples: ResponseSamples, names: Sequence[str], rows: npt.NDArray[np.intp]) -> np.ndarray:
    """Return the value of each feature ``<omics>:<column>`` in each row, NaN where unknown; ``(rows, names)``."""
    tables, features = tables_of(names), features_of(names)
    found = np.full((len(rows), len(names)), np.nan)
    for omics, table in samples.omics.items():
        here = np.flatnonzero(tables == omics)
        columns = table.columns.astype(str).get_indexer(pd.Index(features[here]))
        found[:, here] = table.to_numpy(np.float64)[np.ix_(samples.cell[rows], columns)]
    return found


def _by_feature(values: np.ndarray, names: list[str], kept: Mask) -> pd.DataFrame:
    features, tables = features_of(names)[kept], tables_of(names)[kept]
    weight = {"mean_abs": np.abs(values).mean(axis=0), "mean": values.mean(axis=0)}
    return _largest_first(pd.DataFrame({"gene": features, "omics": tables, **weight}))


def _largest_first(table: pd.DataFrame) -> pd.DataFrame:
    return table.sort_values("mean_abs", ascending=False, kind="stable").reset_index(drop=True)


def place_in_drug(samples: ResponseSamples, order: np.ndarray) -> np.ndarray:
    """Return how many rows of the same drug come before each row of an order."""
    drug = samples.drug[order]
    return pd.Series(drug).groupby(drug).cumcount().to_numpy()


def _grouped(names: list[str], samples: ResponseSamples) -> npt.NDArray[np.str_]:
    return np.where(of_line(names, samples), tables_of(names), OF_DRUG)


def _summed(values: np.ndarray, groups: npt.NDArray[np.str_]) -> pd.DataFrame:
    """Return the sums of the columns of ``values`` by group, ``(rows, groups)``."""
    names, group = np.unique(groups, return_inverse=True)
    sums = np.zeros((len(values), len(names)))
    np.add.at(sums.T, group, values.T)
    return pd.DataFrame(sums, columns=names)


def _correlation(values: np.ndarray, contributions: np.ndarray) -> np.ndarray:
    """Return the correlation of each column over the rows whose value is known, 0 where one does not vary."""
    known = ~np.isnan(values)
    x, y = centered(values, known), centered(contributions, known)
    spread = np.sqrt((x**2).sum(axis=0) * (y**2).sum(axis=0))
    return np.divide((x * y).sum(axis=0), spread, out=np.zeros(len(spread)), where=spread > _FLAT)
