"""An omics table on its way from an official matrix to a raw folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from pipelines.faults import DataError, Finding, UserError
from pipelines.sources.expression_folder import read_annotation
from pipelines.sources.raw_folder import listed

Wanted = Callable[[str], bool]
"""Whether a row or column of a matrix, named as in the file, is of a cell line that is wanted."""
HIGHEST_LOG = 25.0  # TPM add up to a million a sample, so log2(TPM + 1) stays below 20


@dataclass(frozen=True)
class Omics:
    """Values of an omics, and which of them are kept.

    Attributes
    ----------
    file
        Whence they are.
    lines
        What each row is called there.
    features
        Names of the features that are kept.
    columns
        Where each of them stands in ``values``; so features are left out without a copy.
    values
        Shape (lines, features of the file); float32 with NaN where missing, or int8.
    notes
        What was done to the values.
    dropped
        For each reason the features that were left out.
    """

    file: str
    lines: list[str]
    features: list[str]
    columns: np.ndarray
    values: np.ndarray
    notes: tuple[str, ...] = ()
    dropped: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, file: str, lines: list[str], features: Sequence[str], values: np.ndarray, note: str) -> Omics:
        """Return a table of all features but those whose name several bear: nobody could tell which is meant."""
        times = Counter(features)
        several = sorted({name for name in features if times[name] > 1 or not name})
        kept = [place for place, name in enumerate(features) if times[name] == 1 and name]
        dropped = {"has no name of its own": several} if several else {}
        return cls(file, lines, [features[place] for place in kept], np.array(kept, int), values, (note,), dropped)

    def only(self, features: Collection[str], why: str = "") -> Omics:
        """Return it without the features that are not in ``features``; ``why`` lists them under ``dropped``."""
        wanted = set(features)
        kept = np.array([name in wanted for name in self.features], bool)
        if kept.all():
            return self
        left = [name for name, keep in zip(self.features, kept, strict=True) if not keep]
        return replace(
            self,
            features=[name for name in self.features if name in wanted],
            columns=self.columns[kept],
            dropped=self.dropped | ({why: left} if why else {}),
        )

    def rows(self, kept: np.ndarray) -> Omics:
        """Return it with some of its rows (positions)."""
        if len(kept) == len(self.lines):
            return self
        return replace(self, lines=[self.lines[row] for row in kept], values=self.values[kept])

    def constant(self) -> list[str]:
        """Return the features that have one value in all rows, or none; there is nothing to learn from them."""
        found = []
        for name, column in zip(self.features, self.columns, strict=True):
            values = self.values[:, column]
            values = values[~np.isnan(values)]
            if len(values) == 0 or values.min() == values.max():
                found.append(name)
        return found

    def range(self) -> tuple[float, float]:
        """Return the lowest and the highest value of the file; 0 and 0 if there is none."""
        known = [row[~np.isnan(row)] for row in self.values]  # row by row: a mask of the whole is a quarter of its size
        bounds = [(row.min(), row.max()) for row in known if len(row)]
        return (float(min(low for low, _ in bounds)), float(max(high for _, high in bounds))) if bounds else (0.0, 0.0)

    def is_whole(self) -> bool:
        """Return whether no value has a fraction."""
        return all(bool((np.isnan(row) | (row == np.rint(row))).all()) for row in self.values)


@dataclass(frozen=True)
class GeneList:
    """Genes to keep.

    Attributes
    ----------
    genes
        Their symbols.
    symbols
        Ensembl ids to symbols, where the list tells them.
    """

    genes: frozenset[str]
    symbols: dict[str, str]


def read_genes(path: Path) -> GeneList:
    """Read a list of genes: a csv or tsv table with the column ``gene``, and maybe ``ensembl``.

    Raises
    ------
    UserError
        It cannot be read, or names no gene.
    """

    def columns(header: Collection[str]) -> tuple[str, ...]:
        return ("gene", "ensembl") if "ensembl" in header else ("gene",)

    table = read_annotation(path, columns)
    if not table:
        raise UserError(f"{path}: names no gene")
    return GeneList(frozenset(table), {others[0]: gene for gene, others in table.items() if others and others[0]})


def none_listed(file: str, features: Collection[str]) -> UserError:
    """Return the error of a file of which nothing is to be kept."""
    return UserError(
        f"{file}: has no feature to keep (it has {listed(set(features))}); name genes in the list as the file does"
    )


def refuse_unless(what: bool, file: str, message: str) -> None:
    """Refuse values that are not of what they should be.

    Raises
    ------
    DataError
        ``what`` does not hold.
    """
    if not what:
        raise DataError([Finding("values", file, message)])
