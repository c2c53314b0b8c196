"""The known cell lines of the rows of a response table and of omics matrices; rows without one are listed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import pandas as pd

from pipelines.errors import UserError
from pipelines.sources import gdsc
from pipelines.sources.cell_line_names import (
    NAME,
    UNKNOWN,
    CellLine,
    CellLineNames,
    Match,
    identifiers_of,
    ids_of,
    kind_of,
    surest,
)
from pipelines.sources.omics_table import Omics
from pipelines.text_values import is_unknown, quoted

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
        keys = list(response[given].itertuples(index=False, name=None))
        counts = Counter(zip(keys, response[gdsc.FILE], strict=True))
        identified = {key: dict(zip(gdsc.GIVEN, key, strict=True)) for key in dict.fromkeys(keys)}
        found = {key: self.names.match(ids) for key, ids in identified.items()}
        described = {key: CellLine("", (ids[NAME],), ids_of(ids)) for key, ids in identified.items()}
        certain = surest(found, described)
        for key, match in found.items():
            if key in certain:
                self.names.note_loose(key[-1], match)
        place = {key: at for at, key in enumerate(found)}
        for (key, file), rows in sorted(counts.items(), key=lambda item: place[item[0][0]]):
            if key in certain:
                continue
            match, (kind, identifier) = found[key], kind_of(identified[key])
            reason = match.reason if any(key) or match.line_id else NO_NAME
            if reason == UNKNOWN and not any(key[:-1]) and is_unknown(key[-1]):
                reason = NO_IDENTIFIER
            shown = identifier if kind == NAME else f"{identifier} ({key[-1]})"
            self._leave_out((kind, shown), rows, file, reason or SHARED, match)
        lines = {key: found[key].line_id for key in certain}
        placed = pd.Series([lines.get(key) for key in keys], response.index, dtype="str")
        kept = response.assign(**{CELL: placed}).dropna(subset=CELL).reset_index(drop=True)
        if kept.empty:
            raise UserError(f"none of {len(found)} cell lines is certain; is the table of models the right one?")
        self.screened = set(kept[CELL])
        return kept

    def is_wanted(self, name: str, file: str) -> bool:
        """Return whether a row of ``file`` is of a screened line, and list it if not."""
        match = self.names.match_text(name)
        if match.line_id in self.screened:
            return True
        self._leave_out((_kind(name), name), 1 if match.reason else 0, file, match.reason or NO_RESPONSE, match)
        return False

    def renamed(self, omics: Omics) -> Omics:
        """Return an omics table under cell line ids, of several rows of one line only the one that `surest` finds."""
        found = {row: self.names.match_text(name) for row, name in enumerate(omics.values.index)}
        certain = sorted(surest(found))
        for row, name in enumerate(omics.values.index):
            if row in certain:
                self.names.note_loose(name, found[row])
            else:
                self._leave_out((_kind(name), name), 1, omics.file, SHARED, found[row])
        if not certain:
            raise UserError(f"{omics.file}: no row is of one cell line alone")
        return replace(omics, values=omics.values.iloc[certain].set_axis([found[row].line_id for row in certain]))

    def _leave_out(self, named: tuple[str, str], rows: int, file: str, reason: str, match: Match) -> None:
        kind, name = named
        candidates = match.candidates or ((match.line_id,) if match.line_id else ())
        self.unmatched.add(name, kind, rows, file, reason, candidates=candidates)


def _kind(name: str) -> str:
    return kind_of(identifiers_of(name))[0]
