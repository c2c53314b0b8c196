"""One cell line under the names of several collections: COSMIC, Sanger, DepMap and CCLE identifiers, and plain names.

Nothing is guessed: what fits two lines, or contradicts the one that it fits, is listed and left out. Names decide only
where identifiers do not, since some differ in punctuation alone (TT is a thyroid line, T.T an esophageal one). A line
may be called NA; no other word that says "unknown" is a name.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
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

_DEPMAP = re.compile(r"ACH[-._ ]?(?P<number>[0-9]{6})")  # R makes a dot of the hyphen
_SANGER = re.compile(r"SIDM ?(?P<number>[0-9]{5})")
_COSMIC = re.compile(r"0*(?P<digits>[0-9]+)(?:\.0*)?|(?P<thousands>[0-9]{1,3}(?:,[0-9]{3})+)")
_SCIENTIFIC = re.compile(r"(?P<first>[0-9])(?:\.(?P<more>[0-9]*))?E\+?0*(?P<power>[0-9]+)", re.IGNORECASE)
_ROUNDED = 2  # digits after the point, which spreadsheets leave of an id in scientific notation
_PATTERNS, _STYLES = (
    {"depmap_id": _DEPMAP, "sanger_model_id": _SANGER},
    {"depmap_id": "ACH-", "sanger_model_id": "SIDM"},
)
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
        Of `BY`: an identifier; a name but for case and blanks; a name but for punctuation too.
    reason
        Why there is none: `UNKNOWN`, `AMBIGUOUS` or `CONTRADICTED`.
    candidates
        The lines that it may be.
    """

    line_id: str | None = None
    by: str = ""
    reason: str = ""
    candidates: tuple[str, ...] = ()


class CellLineNames:
    """Cell lines, found by any identifier or name.

    ``loose`` has names that were found although they differ from that of the line in punctuation, and the latter.
    """

    def __init__(self) -> None:
        self.lines: dict[str, CellLine] = {}
        self.loose: dict[str, str] = {}
        self._found: dict[tuple[str, str], set[str]] = {}
        self._described = False

    def add(self, table: Iterable[CellLine]) -> dict[str, Match]:
        """Join the lines of another table to those that are here already, and add the others.

        Tissues and histologies are of the first table that has any, since each collection has words of its own. Returns
        the lines that fit several, or contradict the one that they fit; they are left out.
        """
        lines = list(table)
        describe = not self._described
        self._described |= any(line.tissue for line in lines)
        uncertain = {}
        joined = dict(self.lines)
        matches = dict(enumerate(map(self._match_line, lines)))
        certain = surest(
            matches,
            lambda one, other: _contradict(
                lines[one], lines[other], loose=BY[0] in (matches[one].by, matches[other].by)
            ),
        )
        for place, line in enumerate(lines):
            match = matches[place]
            if match.line_id is not None and place in certain:
                self.note_loose(line.names[0] if line.names else "", match)
                joined[match.line_id] = joined[match.line_id].joined(line, describe=describe)
            elif match.reason == UNKNOWN or (match.line_id is not None and match.by == BY[0]):
                # Another line of the table is the one that the punctuation leaves.
                joined[line.line_id] = line if describe else replace(line, tissue="", histology="")
            else:
                uncertain[line.line_id] = replace(match, line_id=None, reason=match.reason or AMBIGUOUS)
        self.lines = joined
        self._found = {}
        for line in joined.values():
            for key in _keys(line.names, line.ids):
                self._found.setdefault(key, set()).add(line.line_id)
        return uncertain

    def match(self, given: Mapping[str, str]) -> Match:
        """Find the one cell line that fits.

        Candidates have any of the identifiers, or, if there are none, the name but for case and blanks, or else the
        same `stripped` name. Those with another identifier than the given are left out. If several are left, the name
        decides; if it does not, none is returned. ``given`` may have `IDS`, `NAME` and `BARE`.
        """
        by = "identifier"
        fits = set().union(*(self._found.get((kind, given[kind]), ()) for kind in IDS if given.get(kind)))
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


def surest(matches: Mapping[Key, Match], differ: Callable[[Key, Key], bool]) -> set[Key]:
    """Return those that have their line for certain, of all who claim lines of one collection.

    Of two that claim one line and of which ``differ`` says that they cannot be one, it is the one that was found by a
    surer way of `BY`, if there is such.
    """
    claims: dict[str, list[Key]] = {}
    for key, match in matches.items():
        if match.line_id is not None:
            claims.setdefault(match.line_id, []).append(key)
    certain = set()
    for keys in claims.values():
        for key in keys:
            rank = BY.index(matches[key].by)
            if not any(BY.index(matches[other].by) >= rank for other in keys if other != key and differ(key, other)):
                certain.add(key)
    return certain


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
    text = clean(text)
    if both := _BOTH.fullmatch(text):
        return identifiers_of(both["ccle"]) | {"depmap_id": both["depmap"]}
    for kind in ("depmap_id", "sanger_model_id"):
        if _PATTERNS[kind].fullmatch(text.upper()):
            return {kind: identifier(kind, text)}
    if _COSMIC.fullmatch(text):
        return {"cosmic_id": identifier("cosmic_id", text)}
    if ccle := _CCLE.fullmatch(text):
        return {"ccle_name": text, BARE: ccle["name"]}
    return {NAME: text}


def identifier(kind: str, text: str) -> str:
    """Return an identifier of one of `IDS` as its place writes it, undoing what table programs made of it.

    ``sidm00148`` and ``ACH.000019`` are in another style; COSMIC ids, which are numbers, may be ``905940.0``,
    ``905,940`` or ``9.0594E5``. What is of no known style stays. A COSMIC id of 0 or one whose digits a spreadsheet
    rounded off (``9.06E+05``) is none.
    """
    text = clean(text)
    if kind == "cosmic_id":
        if found := _COSMIC.fullmatch(text):
            return (found["digits"] or found["thousands"].replace(",", "")).lstrip("0")
        if found := _SCIENTIFIC.fullmatch(text):
            more, power = (found["more"] or "").rstrip("0"), int(found["power"])
            rounded = len(found["more"] or "") == _ROUNDED and power > _ROUNDED
            if rounded or len(more) > power or power > len("905940") + 4:
                return ""
            return found["first"] + more.ljust(power, "0")
        return text
    if kind in _PATTERNS and (found := _PATTERNS[kind].fullmatch(text.upper())):
        return _STYLES[kind] + found["number"]
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


def _keys(names: Sequence[str], ids: Mapping[str, frozenset[str]]) -> Iterable[tuple[str, str]]:
    yield from ((kind, value) for kind in IDS for value in ids.get(kind, ()))
    for name in names:
        if _is_name(name):
            yield "written", folded(name)
            if (bare := stripped(name)) and not is_unknown(name):
                yield "stripped", bare
