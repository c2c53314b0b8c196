"""Tables as the official places publish them: csv, tsv or an Excel workbook, also zipped, read as text by column.

The same table has other column names in other releases (``COSMICID``, ``COSMIC identifier``). `plain` makes them one
style, and readers name the alternatives that they take.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import datetime
import io
import re
import zipfile
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ParseError

import numpy as np
import openpyxl
import pandas as pd
from tqdm import tqdm

from pipelines.errors import DataError, Finding, UserError
from pipelines.sources.archives import ZIP, opened
from pipelines.text_values import clean, known, quoted

BLOCK_ROWS = 50_000
WORKBOOK_BYTES = 2_000_000_000  # of its XML; the largest sheet of GDSC has 0.3 GB
DECIMAL_COMMA = re.compile(r"[+-]?[0-9]+,[0-9]+(?:E[+-]?[0-9]+)?", re.IGNORECASE)
_HEADER_ROWS = 20  # within which the header is looked for: titles and descriptions stand above it
_BROKEN_WORKBOOK = (zipfile.BadZipFile, zlib.error, EOFError, KeyError, ValueError, ParseError)
_LATIN = "oncolineage.latin-1"  # bytes that are not UTF-8, as in tables that were saved long ago
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)

Alternatives = Mapping[str, tuple[str, ...]]
"""Our name of a column to the `plain` names that it has in some release."""


@dataclass(frozen=True)
class OfficialTable:
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
        Whether semicolons part its cells, so that a comma in a number is a decimal one.
    notes
        What was passed over or read otherwise than it is written.
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
        """Refuse empty cells of ``columns``.

        Raises
        ------
        DataError
            Names the first column that has any, and the rows.
        """
        for column in columns:
            if len(rows := np.flatnonzero(self.column(column) == "")):
                raise self.fault(
                    "key_filled",
                    column,
                    rows,
                    "is empty or says that it is unknown; fill it in, or download the file again",
                )

    def unique(self, column: str) -> None:
        """Refuse a value of ``column`` that stands twice; empty cells are none.

        Raises
        ------
        DataError
            Names the rows.
        """
        values = self.column(column)
        if len(rows := np.flatnonzero(values.duplicated(keep=False) & (values != ""))):
            raise self.fault("key_unique", column, rows, "stands twice; remove the row that is not right")

    def numbers(self, columns: Iterable[str]) -> dict[str, pd.Series]:
        """Return those of ``columns`` that the table has as float64, NaN where they are empty.

        Decimal commas are read where semicolons part the cells and no number has a point.

        Raises
        ------
        DataError
            A cell is no finite number, or has a decimal comma that may be another thing; names the rows.
        """
        texts = {column: self.column(column) for column in columns if column in self.frame}
        with_comma = [name for name, text in texts.items() if text.str.contains(",", regex=False).any()]
        with_point = [name for name, text in texts.items() if text.str.contains(".", regex=False).any()]
        if self.semicolons and with_comma and not with_point:
            texts |= {name: texts[name].str.replace(",", ".", regex=False) for name in with_comma}
            self.notes.append(f"{self.file}: numbers have decimal commas; they are read as points")
        found = {}
        for column, text in texts.items():
            values = pd.to_numeric(text.where(text != "", None), errors="coerce").astype(np.float64)
            if len(rows := np.flatnonzero((values.isna() & (text != "")) | np.isinf(values))):
                what = "is no finite number; mend it or download the file again"
                if all(DECIMAL_COMMA.fullmatch(text.iloc[row]) for row in rows):
                    also = f", and {quoted(with_point)} decimal points" if self.semicolons else ""
                    what = f"has decimal commas{also}; save the table with decimal points"
                raise self.fault("column_type", column, rows, what)
            found[column] = values
        return found


def read_official(
    path: Path,
    what: str,
    needed: Sequence[str],
    alternatives: Alternatives,
    *,
    only: bool = False,
    literal: Collection[str] = (),
) -> OfficialTable:
    """Read a table whole; of a workbook all sheets that have the needed columns.

    Parameters
    ----------
    path
        The file; its content, and not its ending, says what it is.
    what
        What it should be, for messages.
    needed
        Our names of the columns that it must have.
    alternatives
        Of every column with a name of ours.
    only
        Whether to leave out the columns that have none.
    literal
        Columns of names, of which ``NA`` may be one and does not say that nothing is known.

    Raises
    ------
    UserError
        The file is missing, broken, something else than a table, or not this one.
    """
    sheets = read_sheets(path, what, needed, alternatives, only=only, literal=literal)
    if len(sheets) == 1:
        return sheets[0]
    frame = pd.concat([each.frame for each in sheets], ignore_index=True).fillna("")
    written = {name: title for each in sheets for name, title in each.written.items()}
    return OfficialTable(path.name, frame, written, notes=[note for each in sheets for note in each.notes])


def read_sheets(
    path: Path,
    what: str,
    needed: Sequence[str],
    alternatives: Alternatives,
    *,
    only: bool = False,
    literal: Collection[str] = (),
) -> list[OfficialTable]:
    """Read a table as `read_official` does, each sheet of a workbook that has the needed columns by itself."""
    blocks: dict[str, list[OfficialTable]] = {}
    for block in read_blocks(path, what, needed, alternatives, only=only, literal=literal):
        blocks.setdefault(block.file, []).append(block)
    return [
        replace(of[0], frame=pd.concat([each.frame for each in of], ignore_index=True)) if len(of) > 1 else of[0]
        for of in blocks.values()
    ]


def read_blocks(
    path: Path,
    what: str,
    needed: Sequence[str],
    alternatives: Alternatives,
    *,
    only: bool = False,
    literal: Collection[str] = (),
) -> Iterator[OfficialTable]:
    """Yield a table in blocks of rows, each as `read_official` returns the whole; their rows count on.

    Raises
    ------
    UserError
        As of `read_official`.
    """
    notes: list[str] = []
    with _sources(path, needed, alternatives, notes) as sources:
        for source in sources:
            yield from _blocks(source, what, needed, alternatives, only, literal, notes)


@dataclass(frozen=True)
class _Source:
    """Rows with the header first, of a file or of a sheet."""

    file: str
    rows: Iterator[list[str]]
    separator: str = ""  # none in a workbook, which leaves out empty cells at the end of a row


def _blocks(
    source: _Source,
    what: str,
    needed: Sequence[str],
    alternatives: Alternatives,
    only: bool,
    literal: Collection[str],
    notes: list[str],
) -> Iterator[OfficialTable]:
    file = source.file
    header, rows = _from_header(source.rows, needed, alternatives, file, notes)
    columns, written = _columns(header, file, what, needed, alternatives)
    width = len(header)
    places = [place for place, name in enumerate(columns) if name in alternatives or not only]
    names = [columns[place] for place in places]
    cell_of = [_name if columns[place] in literal else _known for place in places]
    count = 0
    for block in _blocked(tqdm(rows, desc=file, unit="row", disable=None)):
        for number, cells in enumerate(block):
            if len(cells) == width:
                continue
            if len(cells) < width and not source.separator:
                cells.extend([""] * (width - len(cells)))
            elif len(cells) < width or any(cells[width:]):
                message = f"has {len(cells)} fields, the header {width}; the file may be cut short"
                raise DataError([Finding.at_rows("row_width", file, None, [count + number], message)])
        text = [[read(cells[place]) for read, place in zip(cell_of, places, strict=True)] for cells in block]
        index = pd.RangeIndex(count, count + len(block))
        yield OfficialTable(
            file, pd.DataFrame(text, index, names, dtype="str"), written, source.separator == ";", notes
        )
        count += len(block)
    if not count:
        raise DataError([Finding("file_layout", file, "has no rows; download it again")])


def _from_header(
    rows: Iterator[list[str]], needed: Sequence[str], alternatives: Alternatives, file: str, notes: list[str]
) -> tuple[list[str], Iterator[list[str]]]:
    """Return the first row that has the needed columns, else the first; and the rows that follow it."""
    first = list(islice(rows, _HEADER_ROWS))
    place = next((at for at, cells in enumerate(first) if not _missing(cells, needed, alternatives)), 0)
    if place:
        notes.append(f"{file}: {place} rows above the header were passed over")
    header = first[place] if first else []
    while header and not header[-1]:
        header = header[:-1]  # separators at the end of the line
    return header, chain(first[place + 1 :], rows)


@contextlib.contextmanager
def official_text(path: Path) -> Iterator[io.BufferedReader]:
    """Open a text file, compressed or not, to read its bytes in UTF-8; what is no text is refused.

    UTF-16 becomes UTF-8, and line ends of an old Mac those of Unix. Empty lines, comments that begin with ``#`` (but
    for the one that a GCT begins with), and Excel's ``sep=;`` are taken off the beginning.

    Raises
    ------
    UserError
        It is missing or broken, empty, a web page, or an archive that is not read.
    """
    with opened(path) as raw:
        yield _as_text(raw, path)


def separator_of(line: bytes) -> bytes:
    """Return what parts the cells of a header: tab, comma or semicolon, whichever stands most often outside quotes."""
    bare = re.sub(rb'"[^"]*"', b"", line)
    return max((b"\t", b",", b";"), key=bare.count)


def _as_text(stream: io.BufferedReader, path: Path) -> io.BufferedReader:
    start = stream.peek(2**16)[: 2**16]
    if start.startswith(_UTF_16) or (start[1:2] == b"\0" and start[3:4] == b"\0"):
        encoding = "utf-16" if start.startswith(_UTF_16) else "utf-16-le"
        stream = io.BufferedReader(_Utf8(io.TextIOWrapper(stream, encoding), path), 2**20)
    elif b"\r" in start and b"\n" not in start:
        stream = io.BufferedReader(_Utf8(io.TextIOWrapper(stream, "utf-8", errors=_LATIN), path), 2**20)
    first = True
    while True:
        start = stream.peek(64)[:64].removeprefix(codecs.BOM_UTF8)
        if (
            start.lstrip(b" \t").startswith((b"\n", b"\r"))
            or (start.startswith(b"#") and not start.startswith(b"#1."))
            or (first and start.startswith(b"sep="))
        ):
            next(stream)
        else:
            break
        first = False
    start = start.lstrip()
    if not start:
        raise UserError(f"{path}: is empty; download it again")
    if start.startswith(b"<"):
        raise UserError(
            f"{path}: is a web page or an error message, not the file; download it again, in a browser if need be"
        )
    if b"\0" in start:
        raise UserError(f"{path}: is no text in UTF-8; download it again, or save it as csv in UTF-8")
    return stream


class _Utf8(io.RawIOBase):
    """The text of another encoding in UTF-8, with line ends of Unix."""

    def __init__(self, text: io.TextIOWrapper, path: Path) -> None:
        self._text, self._path = text, path

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            block = self._text.read(max(1, len(buffer) // 4)).encode()
        except UnicodeDecodeError as error:
            raise UserError(f"{self._path}: is no text in UTF-8 or UTF-16; save it as csv in UTF-8") from error
        buffer[: len(block)] = block
        return len(block)


_TWICE = "the column stands twice; rename or remove the one that is not right"


def plain(name: str) -> str:
    """Return a column's name in small letters, with one underscore for whatever is neither letter nor digit."""
    return re.sub(r"[^0-9a-z]+", "_", name.casefold()).strip("_")


def whole(number: str) -> str:
    """Return an identifier without the ``.0`` that a table program left behind it."""
    return number.removesuffix(".0") if number.removesuffix(".0").isdecimal() else number


@contextlib.contextmanager
def _sources(
    path: Path, needed: Sequence[str], alternatives: Alternatives, notes: list[str]
) -> Iterator[Iterable[_Source]]:
    """Give the rows of the file or of its sheets; rows without any content are left out."""
    with opened(path, workbook=True) as stream:
        if stream.peek(4).startswith(ZIP):
            with _sheets(stream, path, needed, alternatives, notes) as sheets:
                yield sheets
            return
        lines = io.TextIOWrapper(_as_text(stream, path), "utf-8-sig", errors=_LATIN, newline="")
        try:
            first = list(islice(lines, _HEADER_ROWS))
            separator = separator_of(
                max(map(str.encode, first), key=lambda line: line.count(separator_of(line)))
            ).decode()
            reader = csv.reader(chain(first, lines), delimiter=separator)
            rows = ([cell.strip() for cell in cells] for cells in reader if any(map(str.strip, cells)))
            yield [_Source(path.name, rows, separator)]
        except csv.Error as error:
            message = f"not a readable table ({error}); download it again"
            raise DataError([Finding("file_readable", path.name, message)]) from error


@contextlib.contextmanager
def _sheets(
    stream: io.BufferedReader, path: Path, needed: Sequence[str], alternatives: Alternatives, notes: list[str]
) -> Iterator[Iterable[_Source]]:
    """Give the sheets that have the needed columns, the first one if none has; hidden ones are refused."""
    if not stream.seekable():
        stream = io.BufferedReader(io.BytesIO(stream.read(WORKBOOK_BYTES)))
    try:
        with zipfile.ZipFile(stream) as archive:  # which unpacks no more of a member than its directory says
            size = sum(member.file_size for member in archive.infolist())
            if "xl/workbook.xml" not in archive.namelist():
                raise UserError(f"{path}: is an archive within another; unpack it and name the file")
        if size > WORKBOOK_BYTES:
            raise UserError(
                f"{path}: unpacks to {size / 1e9:.1f} GB, more than {WORKBOOK_BYTES / 1e9:g}; save its sheet as csv"
            )
        with contextlib.closing(openpyxl.load_workbook(stream, True, data_only=True)) as book:
            sheets = book.worksheets
            if not sheets:
                raise UserError(f"{path}: has no sheet; download it again")
            fits = [
                sheet
                for sheet in sheets
                if any(not _missing(cells, needed, alternatives) for cells in islice(_sheet_rows(sheet), _HEADER_ROWS))
            ]
            if hidden := [sheet.title for sheet in fits if sheet.sheet_state != "visible"]:
                raise UserError(
                    f"{path}: the sheet {quoted(hidden)} is hidden and has the columns of the table; "
                    "show it in the workbook if it is to be read, else save a copy without it"
                )
            if fits and (others := [sheet.title for sheet in sheets if sheet not in fits]):
                notes.append(f"{path.name}: the sheets {quoted(others)} lack the columns and were passed over")
            chosen = fits or sheets[:1]
            named = len(chosen) > 1
            yield [
                _Source(f"{path.name}, sheet {sheet.title}" if named else path.name, _sheet_rows(sheet))
                for sheet in chosen
            ]
    except (DataError, UserError):
        raise
    except _BROKEN_WORKBOOK as error:
        raise UserError(
            f"{path}: is no readable workbook; it is broken or cut short ({error}), download it again"
        ) from error


def _sheet_rows(sheet: Any) -> Iterator[list[str]]:
    sheet.reset_dimensions()  # what the file says of its size is often wrong
    for values in sheet.iter_rows(values_only=True):
        cells = [_cell_text(value) for value in values]
        while cells and not cells[-1]:
            cells.pop()  # a workbook leaves out empty cells at the end of a row, or has some beyond the header
        if cells:
            yield cells


def _cell_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return value.isoformat() if isinstance(value, (datetime.date, datetime.time)) else str(value).strip()


def _columns(
    header: list[str], file: str, what: str, needed: Sequence[str], alternatives: Alternatives
) -> tuple[list[str], dict[str, str]]:
    """Return our name of each column of the header, and for each of these the name in the file."""
    if missing := _missing(header, needed, alternatives):
        message = f"the column is missing; the file has {quoted(header, 8)}; is it the {what}?"
        raise DataError([Finding("column_exists", file, message, alternatives[name][0]) for name in missing])
    known = _chosen(header, alternatives)
    columns = [known.get(place, plain(name)) for place, name in enumerate(header)]
    columns = [name or f"column_{place}" for place, name in enumerate(columns, start=1)]
    doubled = sorted({name for name in columns if columns.count(name) > 1})
    if doubled:
        raise DataError([Finding("column_unique", file, _TWICE, name) for name in doubled])
    return columns, dict(zip(columns, header, strict=True))


def _chosen(header: list[str], alternatives: Alternatives) -> dict[int, str]:
    """Return the position of each column with a name of ours: its first alternative that the header has."""
    names = [plain(name) for name in header]
    found = {ours: next((name for name in theirs if name in names), None) for ours, theirs in alternatives.items()}
    return {names.index(name): ours for ours, name in found.items() if name is not None}


def _missing(header: list[str], needed: Sequence[str], alternatives: Alternatives) -> list[str]:
    return sorted(set(needed) - set(_chosen(header, alternatives).values()))


def _blocked(rows: Iterable[list[str]]) -> Iterator[list[list[str]]]:
    block: list[list[str]] = []
    for cells in rows:
        block.append(cells)
        if len(block) == BLOCK_ROWS:
            yield block
            block = []
    if block:
        yield block


def _known(cell: str) -> str:
    if cell[-1:].isdigit() and cell.isascii() and " " not in cell:
        return cell  # most cells are numbers, and no word for unknown ends so
    return known(cell) or ""


def _name(cell: str) -> str:
    return "NA" if clean(cell) == "NA" else _known(cell)


def _latin(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return error.object[error.start : error.end].decode("latin-1"), error.end


codecs.register_error(_LATIN, _latin)
