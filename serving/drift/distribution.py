"""Drift of two samples, by effective numbers of independent rows: one cell line is asked about with many drugs."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from evaluation.comparison.paired import holm
from evaluation.metrics import Floats

Kind = Literal["number", "category", "missing"]

BINS = 10  # of the population stability index: the reference's deciles, as credit scoring has it
_LEAST_EXPECTED = 5.0  # rows in a cell of the chi-square test (Cochran 1954)
_LOOKED_AT = 5_000  # rows that show which column determines which


@dataclass(frozen=True)
class Drift:
    """The difference of a column from its reference, in effective numbers of independent rows."""

    column: str
    kind: Kind
    statistic: float  # Kolmogorov-Smirnov distance of numbers, Cramér's V of categories and missing values
    p: float
    adjusted: float  # p corrected for all tests of the report, see `corrected`
    population_stability: float  # the effect size
    reference_rows: float
    logged_rows: float

    def drifted(self, significance: float, population_stability: float) -> bool:
        """Whether the drift is significant and large."""
        return self.adjusted < significance and self.population_stability > population_stability


def column_drifts(reference: pd.DataFrame, logged: pd.DataFrame) -> list[Drift]:
    """Compare every column: numbers as numbers, all else as categories, and the share of missing values if any are."""
    worth = independent_rows(reference, logged)
    found = []
    for column in reference.columns:
        old, new = reference[column], logged[column]
        rows, lacking = worth[column], (old.isna(), new.isna())
        if any(each.any() for each in lacking):
            found.append(category_drift(column, *lacking, rows, kind="missing"))
        if any(each.all() for each in lacking):
            continue
        kept = (rows[0] * (1 - lacking[0].mean()), rows[1] * (1 - lacking[1].mean()))
        if _is_number(old) and _is_number(new):
            found.append(number_drift(column, old.dropna().to_numpy(float), new.dropna().to_numpy(float), kept))
        else:
            found.append(category_drift(column, old.dropna(), new.dropna(), kept))
    return found


def number_drift(column: str, reference: Floats, logged: Floats, rows: tuple[float, float] | None = None) -> Drift:
    """Compare two samples of finite numbers by the two-sample Kolmogorov-Smirnov test, for effective ``rows`` or all.

    Hodges J. L. (1958). The significance probability of the Smirnov two-sample test. Arkiv för Matematik 3, 469-486.
    """
    sizes = rows or (float(len(reference)), float(len(logged)))
    distance = float(stats.ks_2samp(reference, logged, method="asymp").statistic)
    both = sizes[0] * sizes[1] / (sizes[0] + sizes[1])
    p = float(stats.kstwo.sf(distance, max(1, round(both))))
    edges = np.unique(np.quantile(reference, np.linspace(0, 1, BINS + 1)[1:-1]))
    old, new = (np.bincount(np.searchsorted(edges, each), minlength=len(edges) + 1) for each in (reference, logged))
    return Drift(column, "number", distance, p, p, population_stability(old, new, sizes), *sizes)


def category_drift(
    column: str,
    reference: pd.Series,
    logged: pd.Series,
    rows: tuple[float, float] | None = None,
    *,
    kind: Kind = "category",
) -> Drift:
    """Compare two samples of categories by the chi-square test of homogeneity; rare categories are pooled.

    Counts are scaled to the effective ``rows`` (all if None): the first-order correction of Rao J. N. K., Scott A. J.
    (1981). The analysis of categorical data from complex sample surveys. JASA 76, 221-230.
    """
    sizes = rows or (float(len(reference)), float(len(logged)))
    names = sorted({*reference.astype(str), *logged.astype(str)})
    texts = (each.astype(str).value_counts().reindex(names, fill_value=0) for each in (reference, logged))
    old, new = (each.to_numpy(np.float64) for each in texts)
    table = _pooled(np.stack([old / old.sum() * sizes[0], new / new.sum() * sizes[1]]))
    statistic, p = 0.0, 1.0
    if table.shape[1] > 1:
        chi, p, *_ = stats.chi2_contingency(table)
        statistic, p = float(np.sqrt(chi / table.sum())), float(p)
    return Drift(column, kind, statistic, p, p, population_stability(old, new, sizes), *sizes)


def population_stability(reference: npt.ArrayLike, logged: npt.ArrayLike, rows: tuple[float, float]) -> float:
    """Return the population stability index of two rows of counts, ``sum((q - p) ln(q / p))``.

    Half a row is added to each bin, so that the index is finite with an empty bin. The expected index of two samples of
    one distribution, ``(bins - 1)(1 / n + 1 / m)`` for ``rows`` of n and m, is subtracted: Yurdakul B., Naranjo J.
    (2020). Statistical properties of the population stability index. J. Risk Model Validation 14(4).
    """
    counts = (np.asarray(each, dtype=np.float64) for each in (reference, logged))
    weighed = [count / count.sum() * worth + 0.5 for count, worth in zip(counts, rows, strict=True)]
    old, new = (each / each.sum() for each in weighed)
    index = float(((new - old) * np.log(new / old)).sum())
    expected = (len(old) - 1) * (1 / max(rows[0], 1) + 1 / max(rows[1], 1))
    return max(0.0, index - expected)


def corrected(drifts: Iterable[Drift]) -> list[Drift]:
    """Return the drifts with p-values corrected for the number of tests (family-wise error rate), see `holm`."""
    made = list(drifts)
    return [replace(each, adjusted=p) for each, p in zip(made, holm([drift.p for drift in made]), strict=True)]


def independent_rows(reference: pd.DataFrame, logged: pd.DataFrame) -> dict[str, tuple[float, float]]:
    """Return for each column the effective numbers of independent rows of the two samples.

    Rows of one entity (a cell line, a drug, an image sent twice) share their values in all columns that describe it.
    The entities of a column are the values of another continuous column that determines it, the one with the fewest
    values. Without one, equal numbers are one entity, and rows of a category are independent.
    """
    looked = pd.concat([reference.head(_LOOKED_AT), logged[list(reference.columns)].head(_LOOKED_AT)])
    codes = {column: pd.factorize(looked[column], use_na_sentinel=False)[0] for column in reference.columns}
    distinct = {column: int(code.max()) + 1 for column, code in codes.items()}
    continuous = [column for column in reference.columns if _is_continuous(looked[column])]
    continuous.sort(key=lambda column: distinct[column])
    found = {}
    for column in reference.columns:
        others = (each for each in continuous if each != column)
        own = column if column in continuous else None
        by = next((each for each in others if _determines(codes[each], codes[column], distinct[each])), own)
        if by is None:
            found[column] = (float(len(reference)), float(len(logged)))
        else:
            found[column] = (effective_rows(reference[by]), effective_rows(logged[by]))
    return found


def effective_rows(entities: pd.Series) -> float:
    """Return the effective number of entities, one a row (Kish L., Survey Sampling, Wiley 1965: unequal weights)."""
    counts = entities.value_counts(dropna=False).to_numpy(np.float64)
    return float(counts.sum() ** 2 / (counts**2).sum())


def share_beyond(scores: pd.Series, threshold: float, significance: float) -> tuple[float, float, float]:
    """Return the share of scores above the threshold or not finite, with its Clopper-Pearson interval.

    ``significance`` lies on either side of the interval.
    """
    numbers = scores.astype(np.float64)
    share = float((~(numbers.to_numpy() <= threshold)).mean())
    # All rows of one new cell line have the same score and count as one.
    worth = effective_rows(numbers.where(np.isfinite(numbers), numbers.index + 2.0**40))
    hits = share * worth
    low = float(stats.beta.ppf(significance, hits, worth - hits + 1)) if hits > 0 else 0.0
    high = float(stats.beta.ppf(1 - significance, hits + 1, worth - hits)) if hits < worth else 1.0
    return share, low, high


def _determines(finer: npt.NDArray[np.int64], coarser: npt.NDArray[np.int64], distinct: int) -> bool:
    if distinct == len(finer):
        return True
    pairs = finer.astype(np.int64) * (int(coarser.max()) + 1) + coarser
    return len(np.unique(pairs)) == distinct


def _is_number(values: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)


def _is_continuous(values: pd.Series) -> bool:
    """Whether equal values mean the same entity: most numbers are not whole."""
    if not _is_number(values):
        return False
    present = values.dropna().to_numpy(np.float64)
    return bool(len(present)) and bool((present == np.round(present)).mean() < 0.5)


def _pooled(table: Floats) -> Floats:
    """Return the table, ``(2, categories)``, with rare categories pooled until each cell expects enough rows."""
    order = np.argsort(table.sum(axis=0), kind="stable")
    columns = [table[:, place] for place in order]
    smaller = table.sum(axis=1).min() / table.sum()
    while len(columns) > 1 and columns[0].sum() * smaller < _LEAST_EXPECTED:
        pooled = columns[0] + columns[1]
        columns = sorted([pooled, *columns[2:]], key=lambda column: float(column.sum()))
    return np.stack(columns, axis=1)
