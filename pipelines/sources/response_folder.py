"""The raw folder ``response``: responses, cell lines, drugs and omics, joined by the cell line of their rows.

What has no certain cell line is left out, and listed in ``unmatched.csv`` with the reason and the rows that it costs.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from pipelines.errors import DataError, Finding, UserError
from pipelines.samples.formats import KEYS
from pipelines.samples.raw_files import CELL_LINES_FILE, DRUGS_FILE, RESPONSE_FILE
from pipelines.sources import gdsc
from pipelines.sources.cell_line_names import (
    IDS,
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
from pipelines.sources.raw_folder import write_features, written_folder
from pipelines.text_values import is_unknown, look_alikes, quoted

UNMATCHED_FILE = "unmatched.csv"
SHARING = ("expression", "copy_number")
"""Omics that must hold the same genes where they hold mostly the same."""
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
            cost = f"; {lost} rows lost" if (lost := int(rows["rows_lost"].sum())) else ""
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
        keys = list(response[[*gdsc.GIVEN.values()]].itertuples(index=False, name=None))
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
            self._leave_out(shown, rows, file, reason or SHARED, match, kind=kind)
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
        self._leave_out(name, 1 if match.reason else 0, file, match.reason or NO_RESPONSE, match)
        return False

    def renamed(self, omics: Omics) -> Omics:
        """Return an omics table under cell line ids, of several rows of one line only the one that `surest` finds."""
        found = {row: self.names.match_text(name) for row, name in enumerate(omics.values.index)}
        certain = sorted(surest(found))
        for row, name in enumerate(omics.values.index):
            if row in certain:
                self.names.note_loose(name, found[row])
            else:
                self._leave_out(name, 1, omics.file, SHARED, found[row])
        if not certain:
            raise UserError(f"{omics.file}: no row is of one cell line alone")
        return replace(omics, values=omics.values.iloc[certain].set_axis([found[row].line_id for row in certain]))

    def _leave_out(self, name: str, rows: int, file: str, reason: str, match: Match, *, kind: str = "") -> None:
        candidates = match.candidates or ((match.line_id,) if match.line_id else ())
        kind = kind or kind_of(identifiers_of(name))[0]
        self.unmatched.add(name, kind, rows, file, reason, candidates=candidates)


@dataclass(frozen=True)
class ResponseFolder:
    """The tables of a raw folder; the lines of its omics are cell line ids."""

    response: pd.DataFrame
    cell_lines: pd.DataFrame
    drugs: pd.DataFrame
    omics: dict[str, Omics]
    unmatched: Unmatched
    notes: tuple[str, ...] = ()

    def summary(self) -> str:
        """Return what is in the folder, in a line."""
        counts = self.response["study"].value_counts(sort=False)
        studies = ", ".join(f"{count} of {study}" for study, count in counts.items())
        shapes = {name: table.values.shape for name, table in self.omics.items()}
        omics = ", ".join(f"{name} {lines} x {features}" for name, (lines, features) in shapes.items()) or "no omics"
        lines = self.response[CELL].nunique()
        return f"{len(self.response)} responses ({studies}), {lines} cell lines, {len(self.drugs)} drugs; {omics}"


def refuse_replicates(response: pd.DataFrame) -> None:
    """Refuse several measurements of one study, cell line and drug."""
    several = response[response.duplicated([*KEYS], keep=False)]
    if several.empty:
        return
    first = several.groupby([*KEYS]).head(2)
    file = first[gdsc.FILE].iloc[0]
    rows = first.loc[first[gdsc.FILE] == file, gdsc.ROW] - 1
    pairs = several[[*KEYS]].drop_duplicates()
    message = (
        f"{len(pairs)} pairs of a cell line and a drug have several measurements, such as {'|'.join(pairs.iloc[0])}; "
        "keep one row of each, or correct the lines and drugs"
    )
    raise DataError([Finding.at_rows("measurement_unique", str(file), None, rows, message)])


def agree(omics: Mapping[str, Omics]) -> dict[str, Omics]:
    """Leave out features without a value, and give expression and copy number the same genes if they share most."""
    made = dict(omics)
    for name, table in omics.items():
        measured = ~(table.values.isna() | (table.values == 0)).all()
        if name != "mutation" and not measured.all():
            made[name] = table.only(measured.index[measured], "0 in all cell lines, or no value")
    if all(name in made for name in SHARING):
        first, second = (set(made[name].values.columns) for name in SHARING)
        if 2 * len(first & second) > min(len(first), len(second)):
            for name, other in zip(SHARING, reversed(SHARING), strict=True):
                made[name] = made[name].only(first & second, f"not in the table of {other.replace('_', ' ')}")
            if alike := "; ".join(map(quoted, look_alikes(first ^ second)[:5])):
                note = f"genes that are left out as copy number names them otherwise: {alike}"
                made[SHARING[0]] = made[SHARING[0]].noted(note)
    for name, table in made.items():
        if table.values.columns.empty:
            raise UserError(f"{table.file}: no feature of {name} is left; none had a value but 0")
    return made


def describe_lines(response: pd.DataFrame, names: CellLineNames) -> pd.DataFrame:
    """Return the table of the cell lines of a response table; ``tcga_code`` is its TCGA_DESC."""
    codes = response[response["tcga_desc"] != ""].drop_duplicates(CELL).set_index(CELL)["tcga_desc"]
    rows = []
    for line_id in response[CELL].unique():
        line = names.lines[line_id]
        ids = [";".join(sorted(line.ids.get(kind, ()))) for kind in IDS]
        name = line.names[0] if line.names else line_id
        rows.append((line_id, name, line.tissue, line.histology, codes.get(line_id, ""), *ids))
    return pd.DataFrame(rows, columns=[CELL, "name", "tissue", "histology", "tcga_code", *IDS])


def write_response(folder: ResponseFolder, out: Path) -> None:
    """Write a raw folder of kind ``response`` as `written_folder` does."""
    first = [*KEYS, "ln_ic50"]
    response = folder.response[[*first, *folder.response.columns.drop([*first, gdsc.FILE, gdsc.ROW])]]
    text = [name for name in response.columns if pd.api.types.is_string_dtype(response[name])]
    with written_folder(out) as whole:
        response = response.assign(**{name: response[name].where(response[name] != "", None) for name in text})
        response.to_parquet(whole / RESPONSE_FILE, index=False)
        folder.cell_lines.to_csv(whole / CELL_LINES_FILE, index=False)
        folder.drugs.to_csv(whole / DRUGS_FILE, index=False)
        for name, table in folder.omics.items():
            lines, features = (axis.tolist() for axis in table.values.axes)
            write_features(whole / f"{name}.parquet", CELL, lines, features, table.values.to_numpy().T)
        if folder.unmatched.rows:
            folder.unmatched.table().to_csv(whole / UNMATCHED_FILE, index=False)
