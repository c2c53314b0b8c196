"""An attribution summed up: by omics table, by gene over all its omics, and by drug.

Every sum is one of signed contributions, so what is additive stays so: over a drug's rows the mean prediction is the
mean start plus the mean sum of each table, up to the gap of the attribution itself.
"""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipelines.samples.gene_names import parts_of
from pipelines.samples.response import ResponseSamples
from training.estimator import Attribution

OF_DRUG = "the_drug"  # all that a model knows of a drug: its mean response, fingerprint, atoms, tokens

_OF_LINE = ("tissue", "cell_line")
_REGION = re.compile(r"(_(chr)?[0-9XYMT]+_\d+_\d+|_promoter)$")

Mask = npt.NDArray[np.bool_]


def tables_of(names: list[str]) -> npt.NDArray[np.str_]:
    """Return the table of each feature, ``expression`` of ``expression:EGFR``; shape ``(features,)``."""
    return np.array([name.partition(":")[0] for name in names], dtype=str)


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


def by_omics(attribution: Attribution, samples: ResponseSamples) -> pd.DataFrame:
    """Return what each table adds to a prediction, the largest first.

    Returns
    -------
    pandas.DataFrame
        ``omics, features, mean_abs, mean, share``: of each row the table's contributions are summed before the mean is
        taken. All that is known of the drug is one table, `OF_DRUG`. ``share`` is that of all ``mean_abs``.
    """
    group = _grouped(attribution.names, samples)
    summed = _summed(attribution.values, group)
    found = pd.DataFrame(
        {
            "omics": summed.columns,
            "features": pd.Series(group).value_counts().reindex(summed.columns).to_numpy(),
            "mean_abs": summed.abs().mean().to_numpy(),
            "mean": summed.mean().to_numpy(),
        }
    )
    total = found["mean_abs"].sum()
    found["share"] = found["mean_abs"] / total if total > 0 else 0.0
    return found.sort_values("mean_abs", ascending=False, kind="stable").reset_index(drop=True)


def by_gene(attribution: Attribution, samples: ResponseSamples) -> pd.DataFrame:
    """Return what each gene adds over all its omics, the largest first.

    Returns
    -------
    pandas.DataFrame
        ``gene, mean_abs, mean`` of the sum of its measured features, then the mean absolute contribution of each omics
        table by itself, 0 where it has no such feature.
    """
    kept = measured(attribution.names, samples)
    names = [name for name, good in zip(attribution.names, kept, strict=True) if good]
    values, tables = attribution.values[:, kept], tables_of(names)
    genes = np.array([gene_of(name) for name in names], dtype=str)
    summed = _summed(values, genes)
    found = pd.DataFrame({"mean_abs": summed.abs().mean(), "mean": summed.mean()})
    for table in dict.fromkeys(tables.tolist()):
        alone = _summed(values[:, tables == table], genes[tables == table])
        found[table] = alone.abs().mean().reindex(found.index, fill_value=0.0)
    found = found.rename_axis("gene").reset_index()
    return found.sort_values("mean_abs", ascending=False, kind="stable").reset_index(drop=True)


def by_drug(attribution: Attribution, samples: ResponseSamples) -> pd.DataFrame:
    """Return how the mean prediction of each drug comes about.

    Returns
    -------
    pandas.DataFrame
        ``drug_id, drug, rows, base``, the mean sum of each table, ``prediction`` and ``gap``: what base and tables
        leave of the prediction.
    """
    summed = _summed(attribution.values, _grouped(attribution.names, samples))
    tables = list(summed.columns)
    found = summed.assign(base=attribution.base, prediction=attribution.prediction)
    ids = samples.drugs.index.to_numpy()[samples.drug]
    means = found.groupby(ids, sort=True).mean()
    means["gap"] = means["prediction"] - means["base"] - means[tables].sum(axis=1)
    named = samples.drugs["name"] if "name" in samples.drugs else pd.Series("", index=samples.drugs.index)
    means.insert(0, "rows", pd.Series(ids).value_counts().reindex(means.index).to_numpy())
    means.insert(0, "drug", named.reindex(means.index).fillna("").to_numpy())
    return means[["drug", "rows", "base", *tables, "prediction", "gap"]].rename_axis("drug_id").reset_index()


def _grouped(names: list[str], samples: ResponseSamples) -> npt.NDArray[np.str_]:
    return np.where(of_line(names, samples), tables_of(names), OF_DRUG)


def _summed(values: np.ndarray, groups: npt.NDArray[np.str_]) -> pd.DataFrame:
    """Return the sums of the columns of ``values`` by group, ``(rows, groups)``."""
    names, group = np.unique(groups, return_inverse=True)
    sums = np.zeros((len(values), len(names)))
    np.add.at(sums.T, group, values.T)
    return pd.DataFrame(sums, columns=names)
