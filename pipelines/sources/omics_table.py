"""An omics table on its way from an official matrix to a raw folder."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from pipelines.errors import DataError, Finding, UserError
from pipelines.samples.gene_names import several_genes, spreadsheet_names
from pipelines.sources.tables import column_of, read_annotation
from pipelines.text_values import is_unknown, quoted
from pipelines.units import Doubt

Wanted = Callable[[str], bool]
"""Returns whether a row or column of a matrix, named as in the file, is of a cell line that is wanted."""
SAMPLED_VALUES = 2_000_000  # of a table, by which its unit is checked
_LINE_VALUES = 499  # of a line; the spread of so few is not judged
_FEW = 50  # values of a line, whose median says little
_ENSEMBL = re.compile(r"(?P<id>ENSG[0-9]+)\.[0-9]+")


@dataclass(frozen=True)
class Omics:
    """Values of an omics of shape (lines, features of the file), float32 with NaN where missing or int8.

    ``columns`` has the position in ``values`` of each of the ``features`` that are kept, so that others are left out
    without a copy; ``dropped`` has these by reason, and ``notes`` what was done to the values.
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
        """Return a table of the features that are one gene each; the others are ambiguous."""
        times = Counter(features)
        spoilt = set(spreadsheet_names(features))
        reasons = {
            "a spreadsheet made a date or a number of the gene": spoilt,
            "names several genes": {name for name in times if several_genes(name)} - spoilt,
            "has no name of its own": {name for name in times if times[name] > 1 or is_unknown(name)} - spoilt,
        }
        dropped = {why: sorted(names) for why, names in reasons.items() if names}
        left = {name for names in dropped.values() for name in names}
        kept = [place for place, name in enumerate(features) if name not in left]
        notes = [note, *(f"{len(names)} features left out: {why}: {quoted(names)}" for why, names in dropped.items())]
        return cls(file, lines, [features[place] for place in kept], np.array(kept, int), values, tuple(notes), dropped)

    def noted(self, note: str) -> Omics:
        """Return it with another note."""
        return replace(self, notes=(*self.notes, note))

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

    def listed(self, genes: GeneList | None) -> Omics:
        """Return it with the genes of a list, of which it must have one; with all if there is no list."""
        if genes is None:
            return self
        chosen = self.only([name for name in self.features if name in genes.genes])
        if not chosen.features:
            raise none_listed(self.file, self.features)
        return chosen

    def rows(self, kept: np.ndarray) -> Omics:
        """Return it with some of its rows (positions)."""
        if len(kept) == len(self.lines):
            return self
        return replace(self, lines=[self.lines[row] for row in kept], values=self.values[kept])

    def unmeasured(self) -> list[str]:
        """Return the features that have no value in any row, or 0 in all: nothing was found of them."""
        found = []
        for name, column in zip(self.features, self.columns, strict=True):
            values = self.values[:, column]
            if not (values[~np.isnan(values)] != 0).any():
                found.append(name)
        return found

    def checked(self, doubt_of: Callable[[np.ndarray], Doubt | None], todo: str) -> Omics:
        """Return it if its values may be in the unit of ``doubt_of``, with a note where that is unlikely.

        Raises
        ------
        DataError
            They cannot be; names the lines, if it is only some, and says ``todo``.
        """
        known = np.array([not np.isnan(row).all() for row in self.values], bool)
        values = self.values if known.all() else self.values[known]
        names = [name for name, some in zip(self.lines, known, strict=True) if some]
        rows = values[:: max(1, values.size // SAMPLED_VALUES)] if values.size else values
        doubt = doubt_of(rows)
        of_lines = {
            name: found
            for name, row in zip(names, values, strict=True)
            if _tells(row) and (found := doubt_of(_few(row)))
        }
        certain = [name for name, found in of_lines.items() if found.certain]
        if certain or (doubt and doubt.certain):
            worst = doubt if doubt and doubt.certain else of_lines[certain[0]]
            some = f" (of {len(certain)} lines, {quoted(certain)})" if 0 < len(certain) < len(names) else ""
            raise DataError([Finding("values", self.file, f"{worst.message}{some}; {todo}")])
        if doubt:
            return self.noted(f"{self.file}: {doubt.message}; if so, {todo}")
        if of_lines and len(of_lines) < len(names) and values.shape[1] >= _FEW:
            message = next(iter(of_lines.values())).message
            return self.noted(f"{self.file}: lines that differ from the others, {quoted(of_lines)}: {message}")
        return self


def _tells(row: np.ndarray) -> bool:
    """Whether a line has so many values that they are not whole by chance."""
    known = row[~np.isnan(row)]
    return len(known) >= _FEW or bool((known != np.rint(known)).any())


def _few(row: np.ndarray) -> np.ndarray:
    """Return values of a line, its lowest and its highest among them, of shape ``(1, n)``."""
    known = row[~np.isnan(row)]
    if len(known) <= _LINE_VALUES:
        return known[None]
    return np.append(known[:: len(known) // (_LINE_VALUES - 2) + 1], [known.min(), known.max()])[None]


@dataclass(frozen=True)
class GeneList:
    """Symbols of the genes to keep; and Ensembl ids to symbols, where the list has them."""

    genes: frozenset[str]
    symbols: dict[str, str]


def read_genes(path: Path) -> GeneList:
    """Read a list of genes: a csv or tsv table with the column ``gene``, and maybe ``ensembl``; it must name one."""

    def columns(header: Collection[str]) -> tuple[str, ...]:
        return ("gene", "ensembl") if column_of(header, ["ensembl"]) else ("gene",)

    table = read_annotation(path, columns)
    if not table:
        raise UserError(f"{path}: names no gene")
    symbols = {gene_of(others[0], None): gene for gene, others in table.items() if others and others[0]}
    return GeneList(frozenset(table), symbols)


def none_listed(file: str, features: Collection[str]) -> UserError:
    """Return the error of a file that has none of the listed genes."""
    return UserError(
        f"{file}: has no feature to keep (it has {quoted(sorted(set(features)))}); name genes in the list as it does"
    )


def gene_of(name: str, genes: GeneList | None) -> str:
    """Return the symbol of an Ensembl id where the list has it, else the id without its version; or the name."""
    found = _ENSEMBL.fullmatch(name)
    bare = found["id"] if found else name
    return genes.symbols.get(bare, bare) if genes else bare


def refuse_unless(correct: bool, file: str, message: str) -> None:
    """Raise a `DataError` about the values of a file unless they are ``correct``."""
    if not correct:
        raise DataError([Finding("values", file, message)])
