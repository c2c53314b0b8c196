"""An omics table on its way from an official matrix to a raw folder."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from pipelines.errors import DataError, Finding, UserError
from pipelines.samples.gene_names import several_genes, spreadsheet_names
from pipelines.sources.tables import Layout, read_official
from pipelines.text_values import is_unknown, quoted
from pipelines.units import Doubt

Wanted = Callable[[str], bool]
"""Returns whether a row or column of a matrix, named as in the file, is of a cell line that is wanted."""
SAMPLED_VALUES = 2_000_000  # of a table, by which its unit is checked
_LINE_VALUES = 499  # of a line; the spread of so few is not judged
_FEW = 50  # values of a line, whose median says little
_ENSEMBL = re.compile(r"(?P<id>ENSG[0-9]+)\.[0-9]+")
_GENES = Layout("list of genes", {"gene": ("gene",), "ensembl": ("ensembl",)}, needed=("gene",), only=True)


@dataclass(frozen=True)
class Omics:
    """Values of an omics."""

    file: str
    values: pd.DataFrame  # a row a line, a column a feature, float32 with NaN where missing or int8
    notes: tuple[str, ...] = ()  # what was done to the values
    dropped: dict[str, list[str]] = field(default_factory=dict)  # features that are left out, by reason

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
        notes = [note, *(f"{len(names)} features left out: {why}: {quoted(names)}" for why, names in dropped.items())]
        frame = pd.DataFrame(values, lines, list(features))
        return cls(file, frame.loc[:, ~frame.columns.isin(left)] if left else frame, tuple(notes), dropped)

    def noted(self, note: str) -> Omics:
        """Return it with another note."""
        return replace(self, notes=(*self.notes, note))

    def only(self, features: Collection[str], why: str = "") -> Omics:
        """Return it without the features that are not in ``features``; ``why`` lists them under ``dropped``."""
        kept = self.values.columns.isin(list(features))
        dropped = {why: self.values.columns[~kept].tolist()} if why and not kept.all() else {}
        return replace(self, values=self.values.loc[:, kept], dropped=self.dropped | dropped)

    def listed(self, genes: GeneList) -> Omics:
        """Return it with the genes of a list, of which it must have one."""
        chosen = self if genes.genes is None else self.only(list(filter(genes.keeps, self.values.columns)))
        if chosen.values.columns.empty:
            raise none_listed(self.file, self.values.columns)
        return chosen

    def checked(self, doubt_of: Callable[[np.ndarray], Doubt | None], todo: str) -> Omics:
        """Return it, with a note where its values may be in another unit; a `DataError` where they certainly are."""
        known = self.values.dropna(how="all")
        values = known.to_numpy()
        doubt = doubt_of(values[:: max(1, values.size // SAMPLED_VALUES)] if values.size else values)
        doubts = {name: _line_doubt(row, doubt_of) for name, row in zip(known.index, values, strict=True)}
        of_lines = {name: found for name, found in doubts.items() if found}
        certain = [name for name, found in of_lines.items() if found.certain]
        if certain or (doubt and doubt.certain):
            worst = doubt if doubt and doubt.certain else of_lines[certain[0]]
            some = f" (of {len(certain)} lines, {quoted(certain)})" if 0 < len(certain) < len(known) else ""
            raise DataError([Finding("values", self.file, f"{worst.message}{some}; {todo}")])
        if doubt:
            return self.noted(f"{self.file}: {doubt.message}; if so, {todo}")
        if of_lines and len(of_lines) < len(known) and values.shape[1] >= _FEW:
            message = next(iter(of_lines.values())).message
            return self.noted(f"{self.file}: lines that differ from the others, {quoted(of_lines)}: {message}")
        return self


def _line_doubt(row: np.ndarray, doubt_of: Callable[[np.ndarray], Doubt | None]) -> Doubt | None:
    """Return the doubt about some values of a line, its lowest and highest among them; few may be whole by chance."""
    known = row[~np.isnan(row)]
    if len(known) < _FEW and (known == np.rint(known)).all():
        return None
    if len(known) > _LINE_VALUES:
        known = np.append(known[:: len(known) // (_LINE_VALUES - 2) + 1], [known.min(), known.max()])
    return doubt_of(known[None])


@dataclass(frozen=True)
class GeneList:
    """The genes to keep, None for all, and the symbols of Ensembl ids."""

    genes: frozenset[str] | None = None
    symbols: Mapping[str, str] = field(default_factory=dict)
    sites: bool = False  # whether features are sites, which begin with a gene (``TP53_17_7589868_7590868``)

    def keeps(self, feature: str) -> bool:
        """Return whether a feature is of a gene to keep."""
        return self.genes is None or (feature.rsplit("_", 3)[0] if self.sites else feature) in self.genes

    def symbol(self, name: str) -> str:
        """Return the symbol of an Ensembl id if it is known, else the id without its version; or the name."""
        found = _ENSEMBL.fullmatch(name)
        bare = found["id"] if found else name
        return self.symbols.get(bare, bare)


def read_genes(path: Path) -> GeneList:
    """Read a list of genes: a table with the column ``gene``, and maybe ``ensembl``; it must name one."""
    genes = read_official(path, _GENES).keyed("gene")
    if genes.empty:
        raise UserError(f"{path}: names no gene")
    symbol = GeneList().symbol
    named = zip(genes["ensembl"], genes["gene"], strict=True)
    return GeneList(frozenset(genes["gene"]), {symbol(ensembl): gene for ensembl, gene in named if ensembl})


def none_listed(file: str, features: Collection[str]) -> UserError:
    """Return the error of a file that has none of the listed genes."""
    held = quoted(sorted(set(features)))
    return UserError(f"{file}: has no feature to keep (it has {held}); name genes in the list as it does")


def none_wanted(file: str, names: Collection[str]) -> UserError:
    """Return the error of a file that has no cell line that is wanted."""
    return UserError(
        f"{file}: holds no screened cell line (it has {quoted(names)}); is it the right file, and does a table that is "
        "given with --models (Model.csv or sample_info.csv) name these lines?"
    )


def refuse_unless(correct: bool, file: str, message: str) -> None:
    """Raise a `DataError` about the values of a file unless they are ``correct``."""
    if not correct:
        raise DataError([Finding("values", file, message)])
