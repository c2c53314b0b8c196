"""Which known cell line the rows of a response table and of omics matrices are of; what has none is listed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from pipelines.faults import UserError
from pipelines.sources import gdsc
from pipelines.sources.cell_line_names import NAME, CellLineNames, Match, identifiers_of, kind_of
from pipelines.sources.omics_table import Omics, Wanted
from pipelines.sources.raw_folder import listed

CELL = "cell_line_id"
SHARED = "fits the same cell line as another"
NO_RESPONSE = "without a certain response"


@dataclass
class Unmatched:
    """What has no place in the raw folder, and why.

    Attributes
    ----------
    rows
        ``identifier``, ``kind`` of it, ``rows_lost``, ``file``, ``reason``, and the ``candidates`` that it may be.
    """

    rows: list[tuple[str, str, int, str, str, str]] = field(default_factory=list)

    def add(
        self, identifier: str, kind: str, rows_lost: int, file: str, reason: str, candidates: Iterable[str] = ()
    ) -> None:
        """Add an entry."""
        self.rows.append((identifier, kind, rows_lost, file, reason, ";".join(candidates)))

    def table(self) -> pd.DataFrame:
        """Return all entries."""
        return pd.DataFrame(self.rows, columns=["identifier", "kind", "rows_lost", "file", "reason", "candidates"])

    def report(self) -> list[str]:
        """Return a line for each file and reason: how many, the first of them, and how many rows they cost."""
        told = []
        for (file, reason), rows in self.table().groupby(["file", "reason"], sort=False):
            lost = int(rows["rows_lost"].sum())
            cost = f"; {lost} rows lost" if lost else ""
            told.append(f"{file}: {reason}: {len(rows)} ({listed(rows['identifier'].tolist())}){cost}")
        return told


class ScreenedLines:
    """Which cell line each row of a response table and of an omics matrix is of.

    Parameters
    ----------
    names
        The known cell lines.
    unmatched
        Takes what has no certain cell line.
    """

    def __init__(self, names: CellLineNames, unmatched: Unmatched) -> None:
        self.names = names
        self.unmatched = unmatched
        self.screened: set[str] = set()

    def place(self, response: pd.DataFrame) -> pd.DataFrame:
        """Return the rows whose cell line is certain, with `CELL`.

        Two lines of the source that one known line fits are not told apart: if identifiers speak for one of them and a
        name for the others, it is that one; else none.

        Raises
        ------
        UserError
            No row is left.
        """
        given = [*gdsc.GIVEN.values()]
        counts: dict[tuple[str, ...], dict[str, int]] = {}
        for (*who, file), rows in Counter(response[[*given, gdsc.FILE]].itertuples(index=False, name=None)).items():
            counts.setdefault(tuple(who), {})[file] = rows
        found = {key: self.names.match(_identifiers(key)) for key in counts}
        claims: dict[str | None, list[tuple[str, ...]]] = {}
        for key, match in found.items():
            claims.setdefault(match.line_id, []).append(key)
        lines: dict[tuple[str, ...], str] = {}
        for key, match in found.items():
            rivals = [other for other in claims[match.line_id] if _differ(key, other)] if match.line_id else []
            alone = match.by == "identifier" and all(found[other].by == "name" for other in rivals)
            if match.line_id and (alone or not rivals):
                lines[key] = match.line_id
                continue
            kind, identifier = kind_of(_identifiers(key))
            shown = identifier if kind == NAME else f"{identifier} ({key[-1]})"
            for file, rows in counts[key].items():
                self.unmatched.add(shown, kind, rows, file, match.reason or SHARED, _candidates(match))
        placed = [lines.get(key) for key in response[given].itertuples(index=False, name=None)]
        kept = response.assign(**{CELL: pd.Series(placed, response.index, dtype="str")}).dropna(subset=CELL)
        kept = kept.reset_index(drop=True)
        if kept.empty:
            raise UserError(f"none of {len(found)} cell lines is certain; is the table of models the right one?")
        self.screened = set(kept[CELL])
        return kept

    def wanted(self, file: str) -> Wanted:
        """Return whether a row of ``file`` is of a screened line; each that is not is told once."""

        def is_wanted(name: str) -> bool:
            given = identifiers_of(name)
            match = self.names.match(given)
            if match.line_id in self.screened:
                return True
            lost = 1 if match.reason else 0
            self.unmatched.add(name, kind_of(given)[0], lost, file, match.reason or NO_RESPONSE, _candidates(match))
            return False

        return is_wanted

    def renamed(self, omics: Omics) -> Omics:
        """Return an omics table under cell line ids; rows that are of one line are left out, as nobody says which."""
        lines = [self.names.match(identifiers_of(name)).line_id or "" for name in omics.lines]
        times = pd.Series(lines).map(pd.Series(lines).value_counts()).to_numpy()
        for name, line, count in zip(omics.lines, lines, times, strict=True):
            if count > 1:
                self.unmatched.add(name, kind_of(identifiers_of(name))[0], 1, omics.file, SHARED, [line])
        kept = np.flatnonzero(times == 1)
        if not len(kept):
            raise UserError(f"{omics.file}: no row is of one cell line alone")
        return replace(omics.rows(kept), lines=[lines[row] for row in kept])


def _candidates(match: Match) -> tuple[str, ...]:
    return match.candidates or ((match.line_id,) if match.line_id else ())


def _identifiers(key: tuple[str, ...]) -> dict[str, str]:
    return dict(zip(gdsc.GIVEN, key, strict=True))


def _differ(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Whether two lines of the source have each another value of an identifier."""
    pairs = zip(gdsc.GIVEN, one, other, strict=True)
    return any(a and b and a != b for kind, a, b in pairs if kind != NAME)
