"""Tables as the official places publish them: csv, tsv or an Excel workbook, also compressed, read as text by column.

The same table has other column names in other releases (``COSMICID``, ``COSMIC identifier``); a `Layout` names them.
"""

import contextlib
import csv
import datetime
import io
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ParseError

import numpy as np
import openpyxl
import pandas as pd
from tqdm import tqdm

from pipelines.errors import DataError, Finding, UserError
from pipelines.samples.table_text import letters_of
from pipelines.sources.archives import ZIP, decoded, opened, text_lines
from pipelines.text_values import clean, known, quoted

BLOCK_ROWS = 50_000
CELL_CHARACTERS = 131_072  # more is a quotation mark that nothing closes; other code may raise the limit of csv itself
WORKBOOK_BYTES = 2_000_000_000  # of its XML; the largest sheet of GDSC has 0.3 GB
ANNOTATION_BYTES = 1_000_000_000  # of a table that is read whole
DECIMAL_COMMA = re.compile(r"[+-]?[0-9]*,[0-9]+(?:E[+-]?[0-9]+)?", re.IGNORECASE)
_HEADER_ROWS = 20  # within which the header is looked for: titles and descriptions may be above it
_BROKEN_WORKBOOK = (zipfile.BadZipFile, zlib.error, EOFError, KeyError, ValueError, ParseError)


@dataclass(frozen=True)
class Layout:
    """The columns of a table."""

    what: str  # for messages
    columns: Mapping[str, tuple[str, ...]]  # our name to its names in the releases, the best first
    needed: Sequence[str]  # our names of the columns that the table must have
    only: bool = False  # whether columns without a name of ours are left out
    literal: Collection[str] = ()  # columns of names: ``NA`` may be one there
    comments: str = ""  # characters that begin lines to leave out

    def places(self, header: Sequence[str]) -> dict[str, list[int]]:
        """Return the positions of each column of ours that a header has; several are duplicates."""
        found = {}
        letters = [letters_of(name) for name in header]
        for ours, names in self.columns.items():
            exact = [name for name in names if name in header]
            alike = [name for name in map(letters_of, names) if name and name in letters]
            if exact:
                found[ours] = [at for at, name in enumerate(header) if name == exact[0]]
            elif alike:
                found[ours] = [at for at, name in enumerate(letters) if name == alike[0]]
        return found

    def missing(self, header: Sequence[str]) -> list[str]:
        """Return the needed columns that a header lacks."""
        return sorted(set(self.needed) - set(self.places(header)))


@dataclass(frozen=True)
class Table:
    """A table of text, ``""`` where a cell is empty or says that nothing is known."""

    file: str  # and its sheet where several are read
    frame: pd.DataFrame  # columns by our name (all of the layout), or their `plain` one
    written: dict[str, str]  # each column's name as the file writes it
    semicolons: bool  # separate its cells, so that a comma in a number is a decimal one
    notes: list[str]  # takes what was left out or read otherwise than it is written

    def fault(self, name: str, column: str, rows: Iterable[int], what: str) -> DataError:
        """Return an error that names a column as the file does, zero-based ``rows``, and their first values."""
        rows = list(rows)
        values = self.frame[column].iloc[rows].unique()[:3]
        found = f" (found {quoted(values)})" if any(values) else ""
        return DataError([Finding.at_rows(name, self.file, self.written.get(column, column), rows, what + found)])

    def require(self, *columns: str) -> None:
        """Refuse empty cells of ``columns`` with a `DataError` that names the rows."""
        for column in columns:
            if len(rows := np.flatnonzero(self.frame[column] == "")):
                what = "is empty or says that it is unknown; fill it in, or download the file again"
                raise self.fault("key_filled", column, rows, what)

    def keyed(self, key: str) -> pd.DataFrame:
        """Return the rows with a ``key``, indexed by it, each once; refuse rows of one key that differ."""
        rows = self.frame[self.frame[key] != ""].drop_duplicates()
        if len(several := rows.index[rows[key].duplicated(keep=False)]):
            what = "has several rows, which differ; keep the one that is right"
            raise self.fault("key_unique", key, several, what)
        return rows.set_index(key, drop=False)

    def numbers(self, columns: Iterable[str]) -> dict[str, pd.Series]:
        """Return those of ``columns`` that the table has as float64, NaN where empty; a `DataError` names other cells.

        Decimal commas are read where semicolons separate the cells and no number has a point.
        """
        texts = {column: self.frame[column] for column in columns if column in self.frame}
        with_comma = [name for name, text in texts.items() if text.str.contains(",", regex=False).any()]
        with_point = [name for name, text in texts.items() if text.str.contains(".", regex=False).any()]
        if self.semicolons and with_comma and not with_point:
            texts |= {name: texts[name].str.replace(",", ".", regex=False) for name in with_comma}
            self.notes.append(f"{self.file}: decimal commas are read as points")
        found = {}
        for column, text in texts.items():
            values = pd.to_numeric(text.where(text != "", None), errors="coerce").astype(np.float64)
            if len(rows := np.flatnonzero((values.isna() & (text != "")) | np.isinf(values))):
                what = "is no finite number; correct it or download the file again"
                if all(DECIMAL_COMMA.fullmatch(text.iloc[row]) for row in rows):
                    what = "has decimal commas; save the table with decimal points"
                raise self.fault("column_type", column, rows, what)
            found[column] = values
        return found


def read_official(path: Path, layout: Layout, notes: list[str] | None = None) -> Table:
    """Read a table whole, of a workbook the one sheet that fits."""
    table, *others = read_sheets(path, layout, [] if notes is None else notes)
    if others:
        sheets = quoted(each.file for each in (table, *others))
        raise UserError(f"{path}: {sheets} may be the {layout.what}; save the sheet that is meant as csv")
    return table


def read_sheets(path: Path, layout: Layout, notes: list[str]) -> list[Table]:
    """Read a table whole, each sheet of a workbook that has the needed columns by itself."""
    blocks: dict[str, list[Table]] = {}
    for block in read_blocks(path, layout, notes, ANNOTATION_BYTES):
        blocks.setdefault(block.file, []).append(block)
    return [replace(of[0], frame=pd.concat([each.frame for each in of], ignore_index=True)) for of in blocks.values()]


def read_blocks(path: Path, layout: Layout, notes: list[str], most: int | None = None) -> Iterator[Table]:
    """Yield a table in blocks of rows, whose row numbers continue; ``notes`` takes what is to be said of it."""
    with opened(path, workbook=True, most=most) as stream, contextlib.ExitStack() as stack:
        if stream.peek(4).startswith(ZIP):
            book = stack.enter_context(opened_workbook(stream, path, WORKBOOK_BYTES))
            for file, rows in _fitting_sheets(book, path, layout, notes).items():
                yield from _blocks(file, rows, layout, notes)
            return
        text = map(decoded, text_lines(stream, path))
        lines = (line for line in text if not line.startswith(tuple(layout.comments)))
        first = list(islice(lines, _HEADER_ROWS))
        separator = _separator(first, layout)
        yield from _blocks(path.name, _csv_rows(chain(first, lines), separator, path.name), layout, notes, separator)


def _separator(lines: list[str], layout: Layout) -> str:
    """Return what separates the cells of the first line with the needed columns; if none has them, of the widest."""
    for line in lines:
        headers = {sign: [cell.strip(' "\r\n') for cell in line.split(sign)] for sign in "\t,;"}
        if fits := [sign for sign, cells in headers.items() if not layout.missing(cells)]:
            # A header of one column fits every sign; the line's own, or that of another line, is meant.
            return max(
                fits,
                key=lambda sign: (
                    len(layout.places(headers[sign])),
                    line.count(sign),
                    max(each.count(sign) for each in lines),
                ),
            )
    return max(map(separator_of, lines), key=lambda sign: max(line.count(sign) for line in lines))


def line_cells(line: str, separator: str, file: str) -> list[str]:
    """Return the cells of a line; a `DataError` if it is none of a table."""
    with _readable(file):
        return _of_sane_length(next(csv.reader([line], delimiter=separator), []))


def _csv_rows(lines: Iterable[str], separator: str, file: str) -> Iterator[list[str]]:
    """Yield the cells of rows that hold anything; quotes that nothing closes, or text after them, are refused."""
    with _readable(file):
        for cells in csv.reader(lines, delimiter=separator, strict=True):
            stripped = [cell.strip() for cell in _of_sane_length(cells)]
            if any(stripped):
                yield stripped


def _of_sane_length(cells: list[str]) -> list[str]:
    if any(len(cell) > CELL_CHARACTERS for cell in cells):
        raise csv.Error(f"a cell has more than {CELL_CHARACTERS:,} characters")
    return cells


@contextlib.contextmanager
def _readable(file: str) -> Iterator[None]:
    try:
        yield
    except csv.Error as error:
        message = f"not a readable table ({error}); download it again"
        raise DataError([Finding("file_readable", file, message)]) from error


def _blocks(
    file: str, rows: Iterator[list[str]], layout: Layout, notes: list[str], separator: str = ""
) -> Iterator[Table]:
    """Yield the rows below the header, which is the first of the first rows that has the needed columns."""
    first = list(islice(rows, _HEADER_ROWS))
    at = next((place for place, cells in enumerate(first) if not layout.missing(cells)), 0)
    if at:
        notes.append(f"{file}: {at} rows above the header were left out")
    header = list(map(clean, first[at])) if first else []
    while header and not header[-1]:
        header.pop()
    places = _places(header, file, layout)
    cell_of = {name: _name if name in layout.literal else _known for name in places}
    written = {name: header[place] for name, place in places.items()}
    count = 0
    below = tqdm(chain(first[at + 1 :], rows), desc=file, unit="row", disable=None)
    checked = _of_width(below, len(header), file, ragged=not separator)
    while block := list(islice(checked, BLOCK_ROWS)):
        text = [[cell_of[name](cells[place]) for name, place in places.items()] for cells in block]
        frame = pd.DataFrame(text, pd.RangeIndex(count, count + len(block)), list(places), dtype="str")
        frame = frame.assign(**dict.fromkeys([name for name in layout.columns if name not in places], ""))
        yield Table(file, frame, written, separator == ";", notes)
        count += len(block)
    if not count:
        raise DataError([Finding("file_layout", file, "has no rows; download it again")])


def _of_width(rows: Iterable[list[str]], width: int, file: str, *, ragged: bool) -> Iterator[list[str]]:
    """Yield rows of ``width`` cells; empty ones beyond it are cut, and where ``ragged`` missing ones are empty."""
    for number, cells in enumerate(rows):
        if len(cells) < width and ragged:
            cells.extend([""] * (width - len(cells)))
        if len(cells) < width or any(cells[width:]):
            message = f"has {len(cells)} fields, the header {width}; the file may be cut short"
            raise DataError([Finding.at_rows("row_width", file, None, [number], message)])
        yield cells


def _places(header: list[str], file: str, layout: Layout) -> dict[str, int]:
    """Return the position of each column that is read, by our name or its `plain` one."""
    if missing := [layout.columns[name] for name in layout.missing(header)]:
        held = f"is missing; the file has {quoted(header, 8)}; is it the {layout.what}?"
        faults = [(name, f", or {' or '.join(map(repr, others))}," if others else "") for name, *others in missing]
        raise DataError([Finding("column_exists", file, f"the column{also} {held}", name) for name, also in faults])
    found = layout.places(header)
    for name, places in found.items():
        if len(places) > 1:
            message = f"duplicate column ({quoted(header[at] for at in places)}); keep one"
            raise DataError([Finding("column_unique", file, message, layout.columns[name][0])])
    columns = [(name, at) for name, (at,) in found.items()]
    read = {at for _, at in columns}
    if not layout.only:
        columns += [(plain(name) or f"column_{at + 1}", at) for at, name in enumerate(header) if at not in read]
    refuse_duplicates((name for name, _ in columns), file)
    return dict(sorted(columns, key=lambda column: column[1]))


def refuse_duplicates(names: Iterable[str], file: str) -> None:
    """Refuse names of columns that are not unique with a `DataError` that names each."""
    message = "duplicate column; rename or remove the one that is not right"
    if doubled := sorted(name for name, count in Counter(names).items() if count > 1):
        raise DataError([Finding("column_unique", file, message, name) for name in doubled])


@contextlib.contextmanager
def opened_workbook(stream: io.BufferedReader, path: Path, most: int) -> Iterator[Any]:
    """Give the workbook of openpyxl, read as a stream; a `UserError` if broken or of more than ``most`` bytes."""
    if not stream.seekable():
        stream = io.BufferedReader(io.BytesIO(stream.read(most)))
    try:
        with zipfile.ZipFile(stream) as archive:  # which unpacks no more of a member than its directory says
            size = sum(member.file_size for member in archive.infolist())
            if "xl/workbook.xml" not in archive.namelist():
                raise UserError(f"{path}: is an archive within another; unpack it and name the file")
        if size > most:
            limit = f"{size / 1e9:.1f} GB, more than {most / 1e9:g}"
            raise UserError(f"{path}: unpacks to {limit}; save its sheet as csv")
        with contextlib.closing(openpyxl.load_workbook(stream, True, data_only=True)) as book:
            if not book.worksheets:
                raise UserError(f"{path}: has no sheet; download it again")
            yield book
    except UserError:
        raise
    except _BROKEN_WORKBOOK as error:
        message = f"is no readable workbook; it is broken or cut short ({error}), download it again"
        raise UserError(f"{path}: {message}") from error


def _fitting_sheets(book: Any, path: Path, layout: Layout, notes: list[str]) -> dict[str, Iterator[list[str]]]:
    """Return the rows of the sheets that have the needed columns, of the first one if none has; refuse hidden ones."""
    sheets = book.worksheets
    fits = [
        sheet for sheet in sheets if any(not layout.missing(cells) for cells in islice(_text_rows(sheet), _HEADER_ROWS))
    ]
    if hidden := [sheet.title for sheet in fits if sheet.sheet_state != "visible"]:
        todo = "unhide it in the workbook to have it read, or save a copy without it"
        raise UserError(f"{path}: the sheet {quoted(hidden)} is hidden and has the columns of the table; {todo}")
    if fits and (others := [sheet.title for sheet in sheets if sheet not in fits]):
        notes.append(f"{path.name}: the sheets {quoted(others)} lack the columns and were left out")
    return {
        f"{path.name}, sheet {sheet.title}" if len(fits) > 1 else path.name: _text_rows(sheet)
        for sheet in fits or sheets[:1]
    }


def sheet_rows(sheet: Any) -> Iterator[list[Any]]:
    """Yield the cells of each row of a sheet that holds anything, without empty ones at its end."""
    sheet.reset_dimensions()  # what the file says of its size is often wrong
    for values in sheet.iter_rows(values_only=True):
        cells = [None if isinstance(cell, str) and not clean(cell) else cell for cell in values]
        while cells and cells[-1] is None:
            cells.pop()
        if cells:
            yield cells


def _text_rows(sheet: Any) -> Iterator[list[str]]:
    return ([cell_text(value).strip() for value in cells] for cells in sheet_rows(sheet))


def cell_text(value: Any) -> str:
    """Return a cell of a workbook or of Parquet as text: whole numbers without ``.0``, missing ones as no text."""
    if value is None or value is pd.NA or value is pd.NaT or value != value:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return value.isoformat() if isinstance(value, (datetime.date, datetime.time)) else str(value)


def _known(cell: str) -> str:
    if cell[-1:].isdigit() and cell.isascii() and " " not in cell:
        return cell  # most cells are numbers, and no word for unknown ends so
    return known(cell) or ""


def _name(cell: str) -> str:
    return "NA" if clean(cell) == "NA" else _known(cell)


def separator_of(line: str) -> str:
    """Return what separates the cells of a header: the tab if it has one, else comma or semicolon, outside quotes."""
    bare = re.sub(r'"[^"]*"', "", line)
    return "\t" if "\t" in bare else max(",;", key=bare.count)


def plain(name: str) -> str:
    """Return a column's name in small letters, with one underscore for whatever is neither letter nor digit."""
    return re.sub(r"[^0-9a-z]+", "_", name.casefold()).strip("_")


def whole(number: str) -> str:
    """Return an identifier without the ``.0`` that a table program left behind it."""
    return number.removesuffix(".0") if number.removesuffix(".0").isdecimal() else number
