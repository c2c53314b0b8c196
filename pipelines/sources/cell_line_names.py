"""One cell line under the names of several collections: COSMIC, Sanger, DepMap and CCLE identifiers, and plain names.

Nothing is guessed: what fits two lines, or contradicts the one that it fits, is listed and left out. Names decide only
where identifiers do not, since some differ in punctuation alone (TT is a thyroid line, T.T an esophageal one).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import TypeVar

from pipelines.text_values import clean, folded, is_unknown

IDS = ("depmap_id", "sanger_model_id", "cosmic_id", "ccle_name")
Key = TypeVar("Key", bound=Hashable)
NAME, BARE = "name", "stripped_name"
"""A name as it is written, and one that is known as `stripped` alone."""
BY = ("stripped", "written", "identifier")
"""How a line was found, the surest last."""
UNKNOWN = "in no table of cell lines"
AMBIGUOUS = "fits several cell lines"
CONTRADICTED = "has an identifier that contradicts the cell line it fits"

_STYLES = {  # R makes a dot of the hyphen
    "depmap_id": (re.compile(r"ACH[-._ ]?([0-9]{6})"), r"ACH-\1"),
    "sanger_model_id": (re.compile(r"SIDM ?([0-9]{5})"), r"SIDM\1"),
}
_COSMIC = re.compile(r"0*(?P<digits>[0-9]+)(?:\.0*)?|(?P<thousands>[0-9]{1,3}(?:,[0-9]{3})+)")
_SCIENTIFIC = re.compile(r"[0-9](?:\.(?P<more>[0-9]*))?E\+?[0-9]{1,9}", re.IGNORECASE)
_ROUNDED = 2  # digits after the point, which spreadsheets leave of an id in scientific notation
_LONGEST = 10  # the power of ten of a COSMIC id
_CCLE = re.compile(r"(?P<name>[0-9A-Z]+)_[A-Z_]{4,}")
_BOTH = re.compile(r"(?P<ccle>\S+) \((?P<depmap>ACH-[0-9]{6})\)")


@dataclass(frozen=True)
class CellLine:
    """A cell line; ``ids`` has for each of `IDS` the values that it is known by, the first of ``names`` is shown."""

    line_id: str
    names: tuple[str, ...] = ()
    ids: Mapping[str, frozenset[str]] = field(default_factory=dict)
    tissue: str = ""
    histology: str = ""

    def contradicts(self, given: Mapping[str, str]) -> bool:
        """Return whether it is known by another value of an identifier that is given."""
        return any(self.ids.get(kind) and given[kind] not in self.ids[kind] for kind in IDS if given.get(kind))

    def joined(self, other: CellLine) -> CellLine:
        """Return it with the names and identifiers of ``other`` too, and its tissue and histology if it has none."""
        return replace(
            self,
            names=tuple(dict.fromkeys((*self.names, *other.names))),
            ids={kind: self.ids.get(kind, frozenset()) | other.ids.get(kind, frozenset()) for kind in IDS},
            tissue=self.tissue or other.tissue,
            histology=self.histology or other.histology,
        )


@dataclass(frozen=True)
class Match:
    """The line that was found for given identifiers, and how (of `BY`); or why there is none, and which it may be."""

    line_id: str | None = None
    by: str = ""
    reason: str = ""
    candidates: tuple[str, ...] = ()


class CellLineNames:
    """Cell lines, found by any identifier or name; ``loose`` has names that were found but for their punctuation."""

    def __init__(self) -> None:
        self.lines: dict[str, CellLine] = {}
        self.loose: dict[str, str] = {}
        self._found: dict[tuple[str, str], set[str]] = {}
        self._described = False

    def add(self, table: Iterable[CellLine]) -> dict[str, Match]:
        """Join the lines of another table to those that are here, or add them; return those that are left out."""
        lines = dict(enumerate(table))
        describe = not self._described  # tissues are of the first table that has any: each has words of its own
        self._described |= any(line.tissue for line in lines.values())
        uncertain, joined = {}, dict(self.lines)
        matches = {place: self._match_line(line) for place, line in lines.items()}
        certain = surest(matches, lines)
        for place, match in matches.items():
            line = lines[place] if describe else replace(lines[place], tissue="", histology="")
            if match.line_id is not None and place in certain:
                self.note_loose(line.names[0] if line.names else "", match)
                joined[match.line_id] = joined[match.line_id].joined(line)
            elif match.reason == UNKNOWN or (match.line_id is not None and match.by == BY[0]):
                # Another line of the table is the one that the punctuation leaves.
                joined[line.line_id] = line
            else:
                uncertain[line.line_id] = replace(match, line_id=None, reason=match.reason or AMBIGUOUS)
        self.lines = joined
        self._found = {}
        for line in joined.values():
            keys = {(kind, value) for kind in IDS for value in line.ids.get(kind, ())}
            keys |= {("written", folded(name)) for name in line.names if _is_name(name)}
            keys |= {("stripped", stripped(name)) for name in line.names if not is_unknown(name) and stripped(name)}
            for key in keys:
                self._found.setdefault(key, set()).add(line.line_id)
        return uncertain

    def match(self, given: Mapping[str, str]) -> Match:
        """Find the one cell line that fits ``given``, which may have `IDS`, `NAME` and `BARE`.

        Of several with one of the identifiers that no other contradicts, the name decides.
        """
        by, fits = "identifier", set().union(*(self._found.get((kind, given.get(kind, "")), ()) for kind in IDS))
        if not fits:
            by, fits = self._named(given)
        if not fits:
            return Match(reason=UNKNOWN)
        certain = {line for line in fits if not self.lines[line].contradicts(given)}
        if not certain:
            return Match(reason=CONTRADICTED, candidates=tuple(sorted(fits)))
        if len(certain) > 1:
            certain = certain & self._named(given)[1] or certain
        if len(certain) > 1:
            return Match(reason=AMBIGUOUS, candidates=tuple(sorted(certain)))
        return Match(certain.pop(), by)

    def note_loose(self, name: str, match: Match) -> None:
        """Add a name to `loose` if it was found but for its punctuation."""
        if match.by == BY[0] and match.line_id is not None:
            self.loose[name] = next(iter(self.lines[match.line_id].names), match.line_id)

    def match_text(self, text: str) -> Match:
        """Find the one cell line that a row or column of a matrix is of, as `match` does."""
        given = identifiers_of(text)
        match = self.match(given)
        if match.reason == UNKNOWN and "cosmic_id" in given:
            return self.match({NAME: text})  # some lines are called by a number, such as 697
        return match

    def _match_line(self, line: CellLine) -> Match:
        if line.line_id in self.lines:
            return Match(line.line_id, "identifier")
        several = [kind for kind in IDS if len(line.ids.get(kind, ())) > 1]
        given = {kind: next(iter(line.ids[kind]), "") for kind in IDS if kind in line.ids and kind not in several}
        return self.match({**given, NAME: line.names[0] if line.names else ""})

    def _named(self, given: Mapping[str, str]) -> tuple[str, set[str]]:
        name = given.get(NAME, "")
        if _is_name(name) and (found := self._found.get(("written", folded(name)))):
            return "written", found
        bare = "" if is_unknown(name) else stripped(name)
        return "stripped", self._found.get(("stripped", bare or given.get(BARE, "").casefold()), set())


def surest(matches: Mapping[Key, Match], lines: Mapping[Key, CellLine] | None = None) -> set[Key]:
    """Return those that have their line for certain, of all who claim lines of one collection.

    Of two that cannot be one, as ``lines`` describes them, the surer way of `BY` decides; without it no two are one.
    """
    claims: dict[str, list[Key]] = {}
    for key, match in matches.items():
        if match.line_id is not None:
            claims.setdefault(match.line_id, []).append(key)

    def yields(one: Key, other: Key) -> bool:
        ways = (matches[one].by, matches[other].by)
        differ = lines is None or _contradict(lines[one], lines[other], loose=BY[0] in ways)
        return one != other and differ and BY.index(ways[1]) >= BY.index(ways[0])

    return {key for keys in claims.values() for key in keys if not any(yields(key, other) for other in keys)}


def stripped(name: str) -> str:
    """Return a cell line's name without case, accents, spaces and punctuation: ``mcf7`` of ``MCF-7``."""
    folded = unicodedata.normalize("NFKD", name).upper().casefold()
    return "".join(letter for letter in unicodedata.normalize("NFKD", folded) if letter.isalnum())


def identifiers_of(text: str) -> dict[str, str]:
    """Return what a row or column of an official matrix says of its cell line, such as ``MCF7_BREAST (ACH-000019)``."""
    text = clean(text)
    if both := _BOTH.fullmatch(text):
        return identifiers_of(both["ccle"]) | {"depmap_id": both["depmap"]}
    for kind, (pattern, _) in _STYLES.items():
        if pattern.fullmatch(text.upper()):
            return {kind: identifier(kind, text)}
    if _COSMIC.fullmatch(text):
        return {"cosmic_id": identifier("cosmic_id", text)}
    if ccle := _CCLE.fullmatch(text):
        return {"ccle_name": text, BARE: ccle["name"]}
    return {NAME: text}


def identifier(kind: str, text: str) -> str:
    """Return an identifier of one of `IDS` as its place writes it; ``""`` of a COSMIC id that a spreadsheet rounded."""
    text = clean(text)
    if kind in _STYLES and (found := _STYLES[kind][0].fullmatch(text.upper())):
        return found.expand(_STYLES[kind][1])
    if kind == "cosmic_id" and (found := _COSMIC.fullmatch(text)):
        return (found["digits"] or found["thousands"].replace(",", "")).lstrip("0")
    if kind == "cosmic_id" and (found := _SCIENTIFIC.fullmatch(text)):
        number = Decimal(text)
        rounded = len(found["more"] or "") == _ROUNDED and number.adjusted() > _ROUNDED
        return "" if rounded or number.adjusted() > _LONGEST or number % 1 else str(int(number))
    return text


def kind_of(given: Mapping[str, str]) -> tuple[str, str]:
    """Return the kind and the value of the first identifier that is given."""
    return next(((kind, given[kind]) for kind in (*IDS, NAME) if given.get(kind)), (NAME, given.get(BARE, "")))


def ids_of(given: Mapping[str, str | Collection[str]]) -> dict[str, frozenset[str]]:
    """Return identifiers as `CellLine` holds them, without those that are empty."""
    found = {kind: {value} if isinstance(value, str) else set(value) for kind, value in given.items()}
    return {kind: frozenset(values - {""}) for kind, values in found.items() if values - {""}}


def _contradict(one: CellLine, other: CellLine, *, loose: bool) -> bool:
    """Whether two lines of a table differ in an identifier, or, if they share none and are ``loose``, in all names."""
    shared = [kind for kind in IDS if one.ids.get(kind) and other.ids.get(kind)]
    if any(one.ids[kind].isdisjoint(other.ids[kind]) for kind in shared):
        return True
    return loose and not shared and set(map(folded, one.names)).isdisjoint(map(folded, other.names))


def _is_name(name: str) -> bool:
    return name == "NA" or not is_unknown(name)
