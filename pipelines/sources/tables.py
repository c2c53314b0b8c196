"""Tables as the official places publish them: csv, tsv or an Excel workbook, also compressed, read as text by column.

The same table has other column names in other releases (``COSMICID``, ``COSMIC identifier``); a `Layout` names them.
"""

from __future__ import annotations

import contextlib
import csv
import datetime
import io
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal
from xml.etree.ElementTree import ParseError

import numpy as np
import openpyxl
import pandas as pd
from tqdm import tqdm

from pipelines.errors import DataError, Finding, UserError
from pipelines.sources.archives import LATIN, ZIP, opened, text_lines
from pipelines.text_values import clean, folded, known, quoted

BLOCK_ROWS = 50_000
CELL_CHARACTERS = 131_072  # more is a quotation mark that nothing closes; other code may raise the limit of csv itself
WORKBOOK_BYTES = 2_000_000_000  # of its XML; the largest sheet of GDSC has 0.3 GB
ANNOTATION_BYTES = 1_000_000_000
DECIMAL_COMMA = re.compile(r"[+-]?[0-9]*,[0-9]+(?:E[+-]?[0-9]+)?", re.IGNORECASE)
_HEADER_ROWS = 20  # within which the header is looked for: titles and descriptions may be above it
_BROKEN_WORKBOOK = (zipfile.BadZipFile, zlib.error, EOFError, KeyError, ValueError, ParseError)

Choose = Callable[[list[str]], Sequence[str]]
"""Returns which columns of a header to read; one is found in any case and punctuation."""


@dataclass(frozen=True)
class Layout:
    """The columns of a table.

    Attributes
    ----------
    what
        What the table is, for messages.
    columns
        Our name of a column to the `plain` names that it has in some release.
    needed
        Our names of the columns that the table must have.
    only
        Whether columns without a name of ours are left out.
    literal
        Columns of names: ``NA`` may be one there.
    """

    what: str
    columns: Mapping[str, tuple[str, ...]]
    needed: Sequence[str]
    only: bool = False
    literal: Collection[str] = ()

    def places(self, header: list[str]) -> dict[int, str]:
        """Return the position of each column with a name of ours: its first alternative that the header has."""
        names = [plain(name) for name in header]
        found = {ours: next((name for name in theirs if name in names), None) for ours, theirs in self.columns.items()}
        return {names.index(name): ours for ours, name in found.items() if name is not None}

    def missing(self, header: list[str]) -> list[str]:
        """Return the needed columns that a header lacks."""
        return sorted(set(self.needed) - set(self.places(header).values()))


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes
    ----------
    file
        Name of its file, and of its sheet where several are read.
    frame
        Text, ``""`` where a cell is empty or says that nothing is known; columns by our name, or their `plain` one.
    written
        Each column's name as the file writes it.
    semicolons
        Whether semicolons separate its cells, so that a comma in a number is a decimal one.
    notes
        What was left out or read otherwise than it is written.
    """

    file: str
    frame: pd.DataFrame
    written: dict[str, str]
    semicolons: bool = False
    notes: list[str] = field(default_factory=list)

    def column(self, name: str) -> pd.Series:
        """Return a column, empty text in every row where the file has none."""
        return self.frame[name] if name in self.frame else pd.Series("", index=self.frame.index, dtype="str")

    def fault(self, name: str, column: str, rows: Iterable[int], what: str) -> DataError:
        """Return an error that names a column as the file does, zero-based ``rows``, and their first values."""
        rows = list(rows)
        values = self.column(column).iloc[rows].unique()[:3]
        found = f" (found {quoted(values)})" if any(values) else ""
        return DataError([Finding.at_rows(name, self.file, self.written.get(column, column), rows, what + found)])

    def require(self, *columns: str) -> None:
        """Refuse empty cells of ``columns`` with a `DataError` that names the rows."""
        for column in columns:
            if len(rows := np.flatnonzero(self.column(column) == "")):
                what = "is empty or says that it is unknown; fill it in, or download the file again"
                raise self.fault("key_filled", column, rows, what)

    def unique(self, column: str) -> None:
        """Refuse a duplicate value of ``column`` with a `DataError` that names the rows; empty cells are none."""
        values = self.column(column)
        if len(rows := np.flatnonzero(values.duplicated(keep=False) & (values != ""))):
            raise self.fault("key_unique", column, rows, "is a duplicate; remove the row that is not right")

    def numbers(self, columns: Iterable[str]) -> dict[str, pd.Series]:
        """Return those of ``columns`` that the table has as float64, NaN where they are empty.

        Decimal commas are read where semicolons separate the cells and no number has a point.

        Raises
        ------
        DataError
            A cell is no finite number, or has a comma that may not be a decimal one; names the rows.
        """
        texts = {column: self.column(column) for column in columns if column in self.frame}
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
                    also = f", and {quoted(with_point)} decimal points" if self.semicolons else ""
                    what = f"has decimal commas{also}; save the table with decimal points"
                raise self.fault("column_type", column, rows, what)
            found[column] = values
        return found


def read_official(path: Path, layout: Layout) -> Table:
    """Read a table whole; of a workbook the one sheet that has the needed columns.

    Raises
    ------
    UserError
        The file is missing, broken, no table, not of the layout, or has it in several sheets.
    """
    table, *others = read_sheets(path, layout)
    if others:
        sheets = quoted(each.file for each in (table, *others))
        raise UserError(f"{path}: {sheets} may be the {layout.what}; save the sheet that is meant as csv")
    return table


def read_sheets(path: Path, layout: Layout) -> list[Table]:
    """Read a table whole, each sheet of a workbook that has the needed columns by itself."""
    blocks: dict[str, list[Table]] = {}
    for block in read_blocks(path, layout):
        blocks.setdefault(block.file, []).append(block)
    return [replace(of[0], frame=pd.concat([each.frame for each in of], ignore_index=True)) for of in blocks.values()]


def read_blocks(path: Path, layout: Layout) -> Iterator[Table]:
    """Yield a table in blocks of rows, whose row numbers continue; raises as `read_official`."""
    notes: list[str] = []
    with opened(path, workbook=True) as stream, contextlib.ExitStack() as stack:
        if stream.peek(4).startswith(ZIP):
            book = stack.enter_context(opened_workbook(stream, path, WORKBOOK_BYTES))
            for file, rows in _fitting_sheets(book, path, layout, notes).items():
                yield from _blocks(file, rows, layout, notes)
            return
        lines = (line.decode("utf-8", LATIN) for line in text_lines(stream, path))
        first = list(islice(lines, _HEADER_ROWS))
        separator = max(map(separator_of, first), key=lambda sign: max(line.count(sign) for line in first))
        yield from _blocks(path.name, _csv_rows(chain(first, lines), separator, path.name), layout, notes, separator)


def _csv_rows(
    lines: Iterable[str], separator: str, file: str, quoting: Literal[0, 3] = csv.QUOTE_MINIMAL
) -> Iterator[list[str]]:
    """Yield the cells of rows that hold anything."""
    try:
        for cells in csv.reader(lines, delimiter=separator, quoting=quoting):
            if any(len(cell) > CELL_CHARACTERS for cell in cells):
                raise csv.Error(f"a cell has more than {CELL_CHARACTERS:,} characters")
            stripped = [cell.strip() for cell in cells]
            if any(stripped):
                yield stripped
    except csv.Error as error:
        message = f"not a readable table ({error}); download it again"
        raise DataError([Finding("file_readable", file, message)]) from error


def _blocks(
    file: str, rows: Iterator[list[str]], layout: Layout, notes: list[str], separator: str = ""
) -> Iterator[Table]:
    header, rows = _from_header(rows, layout, file, notes)
    columns, written = _columns(header, file, layout)
    places = [place for place, name in enumerate(columns) if name in layout.columns or not layout.only]
    names = [columns[place] for place in places]
    cell_of = [_name if columns[place] in layout.literal else _known for place in places]
    count = 0
    checked = _of_width(tqdm(rows, desc=file, unit="row", disable=None), len(header), file, ragged=not separator)
    while block := list(islice(checked, BLOCK_ROWS)):
        text = [[read(cells[place]) for read, place in zip(cell_of, places, strict=True)] for cells in block]
        frame = pd.DataFrame(text, pd.RangeIndex(count, count + len(block)), names, dtype="str")
        yield Table(file, frame, written, separator == ";", notes)
        count += len(block)
    if not count:
        raise DataError([Finding("file_layout", file, "has no rows; download it again")])


def _of_width(rows: Iterable[list[str]], width: int, file: str, *, ragged: bool = False) -> Iterator[list[str]]:
    """Yield rows of ``width`` cells; empty ones beyond it are cut, and where ``ragged`` missing ones are empty."""
    for number, cells in enumerate(rows):
        if len(cells) < width and ragged:
            cells.extend([""] * (width - len(cells)))
        if len(cells) < width or any(cells[width:]):
            message = f"has {len(cells)} fields, the header {width}; the file may be cut short"
            raise DataError([Finding.at_rows("row_width", file, None, [number], message)])
        yield cells


def _from_header(
    rows: Iterator[list[str]], layout: Layout, file: str, notes: list[str]
) -> tuple[list[str], Iterator[list[str]]]:
    """Return the first row that has the needed columns, else the first; and the rows that follow it."""
    first = list(islice(rows, _HEADER_ROWS))
    place = next((at for at, cells in enumerate(first) if not layout.missing(cells)), 0)
    if place:
        notes.append(f"{file}: {place} rows above the header were left out")
    return _without_ends(first[place]) if first else [], chain(first[place + 1 :], rows)


def _without_ends(cells: list[str]) -> list[str]:
    """Return cells without empty ones at their end."""
    while cells and not cells[-1]:
        cells = cells[:-1]
    return cells


def _columns(header: list[str], file: str, layout: Layout) -> tuple[list[str], dict[str, str]]:
    """Return our name of each column of the header, and for each of these the name in the file."""
    if missing := layout.missing(header):
        message = f"the column is missing; the file has {quoted(header, 8)}; is it the {layout.what}?"
        raise DataError([Finding("column_exists", file, message, layout.columns[name][0]) for name in missing])
    ours = layout.places(header)
    columns = [ours.get(place) or plain(name) or f"column_{place + 1}" for place, name in enumerate(header)]
    refuse_duplicates(columns, file)
    return columns, dict(zip(columns, header, strict=True))


def refuse_duplicates(names: Iterable[str], file: str) -> None:
    """Refuse names of columns that are not unique with a `DataError` that names each."""
    message = "duplicate column; rename or remove the one that is not right"
    if doubled := sorted(name for name, count in Counter(names).items() if count > 1):
        raise DataError([Finding("column_unique", file, message, name) for name in doubled])


@contextlib.contextmanager
def opened_workbook(stream: io.BufferedReader, path: Path, most: int) -> Iterator[Any]:
    """Give the workbook of openpyxl, which reads it as a stream.

    Raises
    ------
    UserError
        It is no workbook, broken, or unpacks to more than ``most`` bytes.
    """
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


# Tables that describe samples, probes or genes by a key.


def read_annotation(path: Path, choose: Choose, notes: list[str] | None = None) -> dict[str, tuple[str, ...]]:
    """Read columns of a csv or tsv table, keyed by the first of them; rows without a key are left out.

    Raises
    ------
    DataError
        As in `annotation_rows`, or two rows of a key differ.
    """
    found: dict[str, tuple[str, ...]] = {}
    rows: dict[str, int] = {}
    for row, (key, *others) in annotation_rows(path, choose, notes=notes):
        if found.setdefault(key, tuple(others)) != tuple(others) and key:
            message = f"{key!r} has several rows, which differ; give it one row, or correct the one that is wrong"
            raise DataError([Finding.at_rows("key_unique", path.name, None, [rows[key], row], message)])
        rows.setdefault(key, row)
    found.pop("", None)
    return found


def annotation_rows(
    path: Path, choose: Choose, *, comments: bytes = b"", notes: list[str] | None = None
) -> list[tuple[int, tuple[str, ...]]]:
    """Read columns of a csv or tsv table with the header in its first line.

    Parameters
    ----------
    path
        Table, also compressed, separated by tabs, commas or semicolons; UTF-8, UTF-16 or Latin-1.
    choose
        Given the header, the columns to read.
    comments
        Characters that begin a line which is left out.
    notes
        Takes which words of the columns after the first were read as unknown.

    Returns
    -------
    list of tuple
        The position of each row and its cells as `clean` writes them, ``""`` where `is_unknown`.

    Raises
    ------
    DataError
        A column is missing or a duplicate, or a row is not as wide as the header.
    """
    with opened(path, most=ANNOTATION_BYTES) as stream:
        lines = [
            line.decode("utf-8", LATIN)
            for line in text_lines(stream, path)
            if not line.startswith(tuple(comments[at : at + 1] for at in range(len(comments))))
        ]
    separator = separator_of(lines[0]) if lines else ","
    try:
        return _annotation_cells(_csv_rows(lines, separator, path.name), path.name, choose, notes)
    except DataError:
        if separator == "\t" and any('"' in line for line in lines):  # 5" and the like, where nothing is quoted
            rows = _csv_rows(lines, separator, path.name, csv.QUOTE_NONE)
            with contextlib.suppress(DataError):
                return _annotation_cells(rows, path.name, choose, notes)
        raise


def _annotation_cells(
    rows: Iterator[list[str]], file: str, choose: Choose, notes: list[str] | None
) -> list[tuple[int, tuple[str, ...]]]:
    header = [clean(name) for name in _without_ends(next(rows, []))]
    wanted = [_place(header, name, file) for name in choose(header)]
    unknown = [Counter[str]() for _ in wanted]
    found = []
    for row, cells in enumerate(_of_width(rows, len(header), file)):
        read = tuple(known(cells[place]) or "" for place in wanted)
        for place, cell, words in zip(wanted, read, unknown, strict=True):
            if not cell:
                words[clean(cells[place])] += 1
        found.append((row, read))
    if notes is not None:
        for place, words in zip(wanted[1:], unknown[1:], strict=True):
            notes += unknown_words(f"{file}, column {header[place]!r}", words)
    return found


def unknown_words(where: str, words: Counter[str]) -> list[str]:
    """Return a note on the words that were read as unknown and their counts; none if only blanks."""
    said = [f"{word!r} ({count})" for word, count in words.most_common() if word]
    return [f"{where}: read as unknown: {', '.join(said)}"] if said else []


def column_of(header: Collection[str], names: Iterable[str]) -> str | None:
    """Return the first of ``names`` that a header has, exactly or else in another case or punctuation, None if none."""
    names = tuple(names)
    alike = {_letters(name): name for name in header if _letters(name)}
    return next((name for name in names if name in header), None) or next(
        (alike[_letters(name)] for name in names if _letters(name) in alike), None
    )


def _place(header: list[str], name: str, file: str) -> int:
    found = [place for place, held in enumerate(header) if held == name]
    found = found or [place for place, held in enumerate(header) if name and _letters(held) == _letters(name)]
    if len(found) == 1:
        return found[0]
    if found:
        message = f"duplicate column ({quoted(header[at] for at in found)}); keep one"
        raise DataError([Finding("column_unique", file, message, name)])
    raise DataError([Finding("column_exists", file, f"the column is missing; the file has {quoted(header, 8)}", name)])


# Text of headers and ids.


def separator_of(line: str) -> str:
    """Return what separates the cells of a header: the tab if it has one, else comma or semicolon, outside quotes."""
    bare = re.sub(r'"[^"]*"', "", line)
    return "\t" if "\t" in bare else max(",;", key=bare.count)


def plain(name: str) -> str:
    """Return a column's name in small letters, with one underscore for whatever is neither letter nor digit."""
    return re.sub(r"[^0-9a-z]+", "_", name.casefold()).strip("_")


def _letters(name: str) -> str:
    """Return a column's name as letters and digits alone."""
    return re.sub(r"[\W_]+", "", folded(name))


def whole(number: str) -> str:
    """Return an identifier without the ``.0`` that a table program left behind it."""
    return number.removesuffix(".0") if number.removesuffix(".0").isdecimal() else number
