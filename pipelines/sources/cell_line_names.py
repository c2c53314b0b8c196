"""One cell line under the names of several collections: COSMIC, Sanger, DepMap and CCLE identifiers, and plain names.

Nothing is guessed: who fits two lines, or contradicts the one that it fits, is told and left out. Names decide only
where identifiers do not, since some differ in punctuation alone (TT is a thyroid line, T.T an esophageal one).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

IDS = ("depmap_id", "sanger_model_id", "cosmic_id", "ccle_name")
NAME = "name"
UNKNOWN = "in no table of cell lines"
AMBIGUOUS = "fits several cell lines"
CONTRADICTED = "bears an identifier that contradicts the cell line it fits"

_DEPMAP = re.compile(r"ACH-[0-9]{6}")
_SANGER = re.compile(r"SIDM[0-9]{5}")
_CCLE = re.compile(r"(?P<name>[0-9A-Z]+)_[A-Z_]{4,}")
_BOTH = re.compile(r"(?P<ccle>\S+) \((?P<depmap>ACH-[0-9]{6})\)")


@dataclass(frozen=True)
class CellLine:
    """A cell line as one table describes it, or several.

    Attributes
    ----------
    line_id
        What the raw folder calls it.
    names
        How it is written; the first is shown.
    ids
        Each of `IDS` to the values that it is known by.
    tissue, histology
        Empty where not known.
    """

    line_id: str
    names: tuple[str, ...] = ()
    ids: Mapping[str, frozenset[str]] = field(default_factory=dict)
    tissue: str = ""
    histology: str = ""

    def contradicts(self, given: Mapping[str, str]) -> bool:
        """Return whether it is known by another value of an identifier that is given."""
        return any(self.ids.get(kind) and given[kind] not in self.ids[kind] for kind in IDS if given.get(kind))

    def joined(self, other: CellLine, *, describe: bool) -> CellLine:
        """Return it with the names and identifiers of ``other`` too, and its tissue and histology if ``describe``."""
        return replace(
            self,
            names=tuple(dict.fromkeys((*self.names, *other.names))),
            ids={kind: self.ids.get(kind, frozenset()) | other.ids.get(kind, frozenset()) for kind in IDS},
            tissue=self.tissue or (other.tissue if describe else ""),
            histology=self.histology or (other.histology if describe else ""),
        )


@dataclass(frozen=True)
class Match:
    """What was found for given identifiers.

    Attributes
    ----------
    line_id
        The cell line; None if it is not certain.
    by
        ``identifier`` or ``name``, by which it was found.
    reason
        Why there is none: `UNKNOWN`, `AMBIGUOUS` or `CONTRADICTED`.
    candidates
        The lines that it is not certain of.
    """

    line_id: str | None = None
    by: str = ""
    reason: str = ""
    candidates: tuple[str, ...] = ()


class CellLineNames:
    """Cell lines, found by any identifier or name.

    Attributes
    ----------
    lines
        Every line by its ``line_id``.
    """

    def __init__(self) -> None:
        self.lines: dict[str, CellLine] = {}
        self._found: dict[tuple[str, str], set[str]] = {}
        self._described = False

    def add(self, table: Iterable[CellLine]) -> dict[str, Match]:
        """Take in the lines of another table: a line that is here already is joined, others are added.

        Tissues and histologies are of the first table that tells any, since each collection has words of its own, and
        one tissue under two would be two.

        Returns
        -------
        dict
            Lines that fit several, or contradict the one that they fit; they are left out.
        """
        lines = list(table)
        describe = not self._described
        self._described |= any(line.tissue for line in lines)
        uncertain = {}
        joined = dict(self.lines)
        for line in lines:
            match = self._match_line(line)
            if match.line_id is not None:
                joined[match.line_id] = joined[match.line_id].joined(line, describe=describe)
            elif match.reason == UNKNOWN:
                joined[line.line_id] = line if describe else replace(line, tissue="", histology="")
            else:
                uncertain[line.line_id] = match
        self.lines = joined
        self._found = {}
        for line in joined.values():
            for key in _keys(line.names, line.ids):
                self._found.setdefault(key, set()).add(line.line_id)
        return uncertain

    def match(self, given: Mapping[str, str]) -> Match:
        """Find the one cell line that fits.

        Lines with any of the identifiers are looked at, or, if there are none, those with the name as it is written,
        or else with the same `stripped` name. Of these, lines that are known by another identifier than the given are
        left out. If several are left, the name decides; if it does not, none is returned.

        Parameters
        ----------
        given
            Any of `IDS` and `NAME`; empty values count as not given.
        """
        name = given.get(NAME, "")
        by = "identifier"
        fits = set().union(*(self._found.get((kind, given[kind]), ()) for kind in IDS if given.get(kind)))
        if not fits:
            by = "name"
            fits = self._named(name)
        if not fits:
            return Match(reason=UNKNOWN)
        certain = {line for line in fits if not self.lines[line].contradicts(given)}
        if not certain:
            return Match(reason=CONTRADICTED, candidates=tuple(sorted(fits)))
        if len(certain) > 1:
            certain = certain & self._named(name) or certain
        if len(certain) > 1:
            return Match(reason=AMBIGUOUS, candidates=tuple(sorted(certain)))
        return Match(certain.pop(), by)

    def _match_line(self, line: CellLine) -> Match:
        if line.line_id in self.lines:
            return Match(line.line_id, "identifier")
        several = [kind for kind in IDS if len(line.ids.get(kind, ())) > 1]
        given = {kind: next(iter(line.ids[kind]), "") for kind in IDS if kind in line.ids and kind not in several}
        return self.match({**given, NAME: line.names[0] if line.names else ""})

    def _named(self, name: str) -> set[str]:
        return self._found.get(("written", name)) or self._found.get(("stripped", stripped(name))) or set()


def stripped(name: str) -> str:
    """Return what is left of a cell line's name when case, accents, spaces and punctuation do not count.

    ``MCF-7``, ``Mcf 7`` and ``MCF7`` are one; so are ``T.T`` and ``TT``, which are two lines.
    """
    folded = unicodedata.normalize("NFKD", name).upper().casefold()
    return "".join(letter for letter in unicodedata.normalize("NFKD", folded) if letter.isalnum())


def identifiers_of(text: str) -> dict[str, str]:
    """Return what a row or column of an official matrix says of its cell line.

    ``ACH-000019`` is of DepMap, ``SIDM00148`` of Sanger, digits are of COSMIC, ``MCF7_BREAST`` is of the CCLE and holds
    the stripped name, ``MCF7_BREAST (ACH-000019)`` is both; anything else is a name.
    """
    if both := _BOTH.fullmatch(text):
        return identifiers_of(both["ccle"]) | {"depmap_id": both["depmap"]}
    if _DEPMAP.fullmatch(text):
        return {"depmap_id": text}
    if _SANGER.fullmatch(text):
        return {"sanger_model_id": text}
    if text.isdecimal():
        return {"cosmic_id": text}
    if ccle := _CCLE.fullmatch(text):
        return {"ccle_name": text, NAME: ccle["name"]}
    return {NAME: text}


def kind_of(given: Mapping[str, str]) -> tuple[str, str]:
    """Return the kind and the value of the first identifier that is given, to tell a line by."""
    return next(((kind, given[kind]) for kind in (*IDS, NAME) if given.get(kind)), (NAME, ""))


def ids_of(given: Mapping[str, str | Collection[str]]) -> dict[str, frozenset[str]]:
    """Return identifiers as `CellLine` holds them, without those that are empty."""
    found = {kind: {value} if isinstance(value, str) else set(value) for kind, value in given.items()}
    return {kind: frozenset(values - {""}) for kind, values in found.items() if values - {""}}


def _keys(names: Sequence[str], ids: Mapping[str, frozenset[str]]) -> Iterable[tuple[str, str]]:
    yield from ((kind, value) for kind in IDS for value in ids.get(kind, ()))
    for name in filter(None, names):
        yield "written", name
        if bare := stripped(name):
            yield "stripped", bare
