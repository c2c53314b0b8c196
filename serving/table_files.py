"""Table files that people bring: CSV of any program, workbooks, Parquet, compressed or not, recognized by content.

Names stay text as the file has them (``0012``, ``1E5``); a note says what is read otherwise than it is written.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow

from pipelines.errors import UserError
from pipelines.samples.parquet_size import check_parquet_size
from pipelines.sources.archives import GZIP, ZIP, text_lines, unpacked
from pipelines.sources.tables import cell_text as cell_text
from pipelines.sources.tables import opened_workbook, separator_of, sheet_rows
from pipelines.text_values import clean, quoted
from serving.number_cells import has_comma

ENDINGS = ("csv", "tsv", "txt", "parquet", "xlsx", "gz", "zip")
UNPACKED_BYTES = 1_000_000_000
_HEAD_ROWS = 20


@dataclass(frozen=True)
class TableFile:
    """A table as a file has it.

    Attributes
    ----------
    name
        Of the file, for messages.
    written
        Names of the columns as the file has them; empty for the first where the file leaves it out.
    cells
        Columns 0, 1, ...: numbers where a column holds nothing else, else texts and what a workbook holds.
    text
        Returns columns as text, just as the file has them.
    notes
        What was done with the file, in sentences.
    decimal_comma
        Whether ``1,234`` is a little more than one where no cell decides: semicolons separate the columns.
    """

    name: str
    written: list[str]
    cells: pd.DataFrame
    text: Callable[[list[int]], pd.DataFrame]
    notes: list[str] = field(default_factory=list)
    decimal_comma: bool = False

    @property
    def names(self) -> list[str]:
        """Return the names of the columns without blanks at their ends."""
        return [clean(each) for each in self.written]

    def column(self, place: int) -> list[str]:
        """Return a column as text."""
        return [str(cell) for cell in self.text([place])[place][self.cells.index]]

    def row(self, label: int, places: list[int]) -> list[str]:
        """Return cells of a row, by its label in ``cells``, as text."""
        return [str(cell) for cell in self.text(places).loc[label, places]]


def read_table_file(
    name: str, content: bytes, *, most: int, fits: Callable[[Iterable[str]], int] | None = None
) -> TableFile:
    """Read a table.

    Parameters
    ----------
    name, content
        Of the file.
    most
        Values that a Parquet file may have.
    fits
        Counts the names in a sheet's first row or first column that are looked for; of several sheets the only one that
        has any is read.

    Raises
    ------
    UserError
        Names the file and what to do.
    """
    if not content:
        raise UserError(f"{name}: the file is empty.")
    ending = Path(name).suffix.lower().lstrip(".")
    if ending in ("xlsx", "zip", "gz") and not content.startswith((ZIP, GZIP)):
        raise UserError(f"{name}: its content is none of a {ending} file; was it cut off? Save it as “CSV UTF-8”.")
    if content.startswith(b"PAR1") or ending == "parquet":
        return _without_empty(_parquet(name, content, most))
    file = io.BufferedReader(io.BytesIO(content))
    with unpacked(file, Path(name), len(content), workbook=True, most=UNPACKED_BYTES) as stream:
        if stream.peek(4).startswith(ZIP):
            return _without_empty(_workbook(name, stream, fits))
        return _without_empty(_csv(name, b"".join(text_lines(stream, Path(name)))))


def _parquet(name: str, content: bytes, most: int) -> TableFile:
    try:
        check_parquet_size(io.BytesIO(content), name, most)
        found = pd.read_parquet(io.BytesIO(content))
    except UserError:
        raise
    except (ValueError, OSError, pyarrow.ArrowException) as error:
        raise UserError(f"{name}: it cannot be read as Parquet. Was it cut off?") from error
    if not isinstance(found.index, pd.RangeIndex):
        found = found.reset_index()
    return _of_cells(name, found.columns, found.set_axis(range(found.shape[1]), axis=1))


def _workbook(name: str, stream: io.BufferedReader, fits: Callable[[Iterable[str]], int] | None) -> TableFile:
    with opened_workbook(stream, Path(name), UNPACKED_BYTES) as book:
        filled = {sheet.title: rows for sheet in book.worksheets if (rows := list(sheet_rows(sheet)))}
    fitting = filled
    if len(filled) > 1 and fits is not None:
        fitting = {
            title: rows
            for title, rows in filled.items()
            if max(fits(map(cell_text, rows[0])), fits(cell_text(row[0]) for row in rows)) > 0
        }
    if len(fitting) != 1:
        raise UserError(f"{name}: the sheets {quoted(fitting or filled)} may be meant; save the one as “CSV UTF-8”.")
    ((title, rows),) = fitting.items()
    width = max(map(len, rows))
    rows = [[*row, *[None] * (width - len(row))] for row in rows]
    table = _of_cells(name, rows[0], pd.DataFrame(rows[1:], columns=range(width)))
    left_out = [f"Of its sheets {title!r} was read, not {quoted(each for each in filled if each != title)}."]
    return replace(table, notes=left_out if len(filled) > 1 else [])


def _of_cells(name: str, names: Iterable[Any], cells: pd.DataFrame) -> TableFile:
    cells = cells.infer_objects()
    return TableFile(name, list(map(cell_text, names)), cells, lambda places: cells[places].map(cell_text))


def _csv(name: str, content: bytes) -> TableFile:
    notes = []
    try:
        text = content.decode()
    except UnicodeDecodeError:
        try:
            text = content.decode("cp1252")
        except UnicodeDecodeError as error:
            raise UserError(f"{name}: it is no text in UTF-8. Save it as “CSV UTF-8”.") from error
        notes.append("Its text is not UTF-8; it was read as Windows-1252. Look at names with accents.")
    if "\0" in text:
        raise UserError(f"{name}: it is no text, it holds zero bytes. Save it as “CSV UTF-8”.")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    separator = separator_of(text.split("\n", 1)[0])
    try:
        head = csv.reader(io.StringIO(text), delimiter=separator)
        header, *rows = [row for row, _ in zip(filter(None, head), range(_HEAD_ROWS + 1), strict=False)]
    except csv.Error as error:
        raise UserError(f"{name}: it cannot be read as a table ({error}).") from error
    if len(header) == 1 and all(len(row[0].split()) > 1 for row in (header, *rows)):
        raise UserError(f"{name}: its columns are not separated by commas, semicolons or tabs; save it as “CSV UTF-8”.")
    names = header
    if rows and len(rows[0]) == len(header) + 1:
        ended = all(len(row) == len(rows[0]) and not row[-1] for row in rows)  # a separator at the end of each row
        names = [*names, ""] if ended else ["", *names]  # R leaves out the head of the column of names
    widths = _widths(text, separator)
    if widths and max(widths) > len(names):
        row = next(row for row, width in enumerate(widths) if width > len(names))
        what = f"has {widths[row]} values, the first line names {len(header)} columns"
        raise UserError(f"{name}, row {row}: {what}; it cannot be read as a table separated by {separator!r}.")
    if len(widths) > 2 and 1 < widths[-1] < len(names):
        raise UserError(f"{name}: the last row has {widths[-1]} values of {len(names)}; was it cut off? Save it again.")
    if short := [row for row, width in enumerate(widths) if row and width < len(header)]:
        notes.append(f"Rows with fewer values than the first line has names lack the last ones: {quoted(short)}.")

    def read(**how: Any) -> pd.DataFrame:
        try:
            places = range(len(names))
            return pd.read_csv(io.StringIO(text), sep=separator, header=0, names=places, low_memory=False, **how)
        except (ValueError, pd.errors.ParserError) as error:
            raise UserError(f"{name}: it cannot be read as a table ({str(error).splitlines()[0][:120]}).") from error

    cells = read()
    if any(has_comma(cells[place].unique()) for place in cells if not pd.api.types.is_numeric_dtype(cells[place])):
        if separator == ";" and not re.search(r";[\s\"]*[+-]?[0-9]*\.[0-9]|[0-9],[0-9]{3},[0-9]", text):
            cells = read(decimal=",")
            notes.append("Decimal commas were read.")
        else:
            cells = read(dtype=str)  # all of it: ``1.000`` may be a thousand

    def as_text(places: list[int]) -> pd.DataFrame:
        return read(usecols=places, dtype=str, keep_default_na=False)

    return TableFile(name, names, cells, as_text, notes, separator == ";")


def _widths(text: str, separator: str) -> list[int]:
    """Return how many values each line has that is not empty; none where a field is too long."""
    if '"' not in text:
        return [line.count(separator) + 1 for line in text.split("\n") if line]
    try:
        return [len(row) for row in csv.reader(io.StringIO(text), delimiter=separator) if row]
    except csv.Error:
        return []


def _without_empty(table: TableFile) -> TableFile:
    """Return the table without rows that hold nothing, and without columns that have neither name nor values."""
    empty = table.cells.isna()
    for place in table.cells:
        if not pd.api.types.is_numeric_dtype(table.cells[place]):
            blank = [isinstance(cell, str) and not cell.strip() for cell in table.cells[place]]
            empty[place] |= pd.Series(blank, index=empty.index)
    rows, columns = empty.all(axis=1), empty.all(axis=0)
    nameless = [place for place, column in enumerate(table.names) if not column]
    if named := [place for place in nameless if place > 0 and not columns[place]]:
        raise UserError(f"{table.name}: column {named[0] + 1} has values and no name; name it, or take it out.")
    kept = [place for place in range(len(table.written)) if place not in nameless or not columns[place]]
    cells = table.cells.loc[~rows, kept].set_axis(range(len(kept)), axis=1)
    if cells.empty:
        raise UserError(f"{table.name}: the table has no rows. It needs a row a sample and a column a gene.")
    notes = list(table.notes)
    if gone := len(table.written) - len(kept):
        notes.append(f"Columns without name and values were left out: {gone}.")
    if rows.any():
        notes.append(f"Rows without values were left out: {int(rows.sum())}.")
    now = {before: place for place, before in enumerate(kept)}

    def text(places: list[int]) -> pd.DataFrame:
        return table.text([kept[place] for place in places]).rename(columns=now)

    return replace(table, written=[table.written[place] for place in kept], cells=cells, text=text, notes=notes)


def refuse_shifted(table: TableFile, named: int) -> None:
    """Refuse a first line that is one name short, since every name would be above the column before its own.

    R leaves out the head of its row names. Where these are names and the column of names, ``named``, holds numbers, or
    its numbers are not whole, the row names are the names, and the last column is the one without a head.
    """
    column = table.cells[named]
    if named == 0 or table.names[0] or not pd.api.types.is_numeric_dtype(column):
        return
    if not pd.api.types.is_numeric_dtype(table.cells[0]) or (column.dropna() % 1 != 0).any():
        raise UserError(
            f"{table.name}: the rows have {len(table.names)} values, the first line names {len(table.names) - 1} "
            f"columns, and the cells under {table.names[named]!r} are numbers; correct the first line."
        )


def refuse_repeated(name: str, what: str, written: Sequence[str]) -> None:
    """Refuse names that are the same but for blanks; the message shows how each is written."""
    first: dict[str, str] = {}
    for each in written:
        other = first.get(clean(each))
        first[clean(each)] = each
        if other is not None:
            beside = "" if other == each else f" ({other!r} and {each!r})"
            raise UserError(f"{name}: the {what} {clean(each)} is a duplicate{beside}; keep one.")
