"""The known cell lines of the rows of a response table and of omics matrices; rows without one are listed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from pipelines.errors import UserError
from pipelines.sources import gdsc
from pipelines.sources.cell_line_names import BY, NAME, UNKNOWN, CellLineNames, Match, identifiers_of, kind_of, surest
from pipelines.sources.omics_table import Omics, Wanted
from pipelines.text_values import folded, is_unknown, quoted

CELL = "cell_line_id"
SHARED = "fits the same cell line as another"
NO_NAME = "no cell line is named"
NO_IDENTIFIER = "may be a name, or say that none is known: give a COSMIC, Sanger or DepMap identifier"
NO_RESPONSE = "without a certain response"


@dataclass
class Unmatched:
    """What is left out of the raw folder: identifier, its kind, rows lost, file, reason, and what it may be."""

    rows: list[tuple[str, str, int, str, str, str]] = field(default_factory=list)

    def add(
        self, identifier: str, kind: str, rows_lost: int, file: str, reason: str, *, candidates: Iterable[str] = ()
    ) -> None:
        """Add an entry."""
        self.rows.append((identifier, kind, rows_lost, file, reason, ";".join(candidates)))

    def table(self) -> pd.DataFrame:
        """Return all entries."""
        return pd.DataFrame(self.rows, columns=["identifier", "kind", "rows_lost", "file", "reason", "candidates"])

    def report(self) -> list[str]:
        """Return a line for each file and reason: the count, the first identifiers, and the rows lost."""
        lines = []
        for (file, reason), rows in self.table().groupby(["file", "reason"], sort=False):
            lost = int(rows["rows_lost"].sum())
            cost = f"; {lost} rows lost" if lost else ""
            lines.append(f"{file}: {reason}: {len(rows)} ({quoted(rows['identifier'])}){cost}")
        return lines


class ScreenedLines:
    """Finds the cell line of each row of a response table and of an omics matrix; ``unmatched`` takes the others."""

    def __init__(self, names: CellLineNames, unmatched: Unmatched) -> None:
        self.names = names
        self.unmatched = unmatched
        self.screened: set[str] = set()

    def place(self, response: pd.DataFrame) -> pd.DataFrame:
        """Return the rows whose cell line is certain, with `CELL`; raise a `UserError` if none is left."""
        given = [*gdsc.GIVEN.values()]
        counts: dict[tuple[str, ...], dict[str, int]] = {}
        for (*who, file), rows in Counter(response[[*given, gdsc.FILE]].itertuples(index=False, name=None)).items():
            counts.setdefault(tuple(who), {})[file] = rows
        found = {key: self.names.match(_identifiers(key)) for key in counts}
        certain = surest(found, lambda one, other: _differ(one, other, loose=BY[0] in (found[one].by, found[other].by)))
        for key in found:  # in the order of the file: that of a set differs from run to run
            if key in certain:
                self.names.note_loose(key[-1], found[key])
        lines = {key: found[key].line_id for key in certain}
        for key, match in found.items():
            if key in certain:
                continue
            kind, identifier = kind_of(_identifiers(key))
            shown = identifier if kind == NAME else f"{identifier} ({key[-1]})"
            for file, rows in counts[key].items():
                reason = match.reason if any(key) or match.line_id else NO_NAME
                if reason == UNKNOWN and not any(key[:-1]) and is_unknown(key[-1]):
                    reason = NO_IDENTIFIER
                self.unmatched.add(shown, kind, rows, file, reason or SHARED, candidates=_candidates(match))
        placed = [lines.get(key) for key in response[given].itertuples(index=False, name=None)]
        kept = response.assign(**{CELL: pd.Series(placed, response.index, dtype="str")}).dropna(subset=CELL)
        kept = kept.reset_index(drop=True)
        if kept.empty:
            raise UserError(f"none of {len(found)} cell lines is certain; is the table of models the right one?")
        self.screened = set(kept[CELL])
        return kept

    def wanted(self, file: str) -> Wanted:
        """Return a function that says whether a row of ``file`` is of a screened line, and lists it if not."""

        def is_wanted(name: str) -> bool:
            match = self.names.match_text(name)
            if match.line_id in self.screened:
                return True
            lost = 1 if match.reason else 0
            self.unmatched.add(
                name,
                kind_of(identifiers_of(name))[0],
                lost,
                file,
                match.reason or NO_RESPONSE,
                candidates=_candidates(match),
            )
            return False

        return is_wanted

    def renamed(self, omics: Omics) -> Omics:
        """Return an omics table under cell line ids, of several rows of one line only the one that `surest` finds."""
        found = {row: self.names.match_text(name) for row, name in enumerate(omics.lines)}
        certain = surest(found, lambda one, other: True)
        for row, match in found.items():
            name = omics.lines[row]
            if row in certain:
                self.names.note_loose(name, match)
            else:
                self.unmatched.add(
                    name, kind_of(identifiers_of(name))[0], 1, omics.file, SHARED, candidates=_candidates(match)
                )
        if not certain:
            raise UserError(f"{omics.file}: no row is of one cell line alone")
        kept = sorted(certain)
        return replace(omics.rows(np.array(kept)), lines=[found[row].line_id or "" for row in kept])


def _candidates(match: Match) -> tuple[str, ...]:
    return match.candidates or ((match.line_id,) if match.line_id else ())


def _identifiers(key: tuple[str, ...]) -> dict[str, str]:
    return dict(zip(gdsc.GIVEN, key, strict=True))


def _differ(one: tuple[str, ...], other: tuple[str, ...], *, loose: bool) -> bool:
    """Whether two lines of the source differ in an identifier, or, where they share none and are ``loose``, by name."""
    pairs = [(a, b) for kind, a, b in zip(gdsc.GIVEN, one, other, strict=True) if kind != NAME and a and b]
    if any(a != b for a, b in pairs):
        return True
    return loose and not pairs and folded(one[-1]) != folded(other[-1])
