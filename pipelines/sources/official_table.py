"""Tables as the official places publish them: csv, tsv or an Excel workbook, also gzipped, read as text by column.

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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, cast
from xml.etree.ElementTree import ParseError

import numpy as np
import openpyxl
import pandas as pd
from tqdm import tqdm

from pipelines.faults import DataError, Finding, UserError
from pipelines.sources.expression_folder import UNKNOWN, opened

BLOCK_ROWS = 50_000
WORKBOOK_BYTES = 2_000_000_000  # of its XML; the largest sheet of GDSC has 0.3 GB
_ZIP = b"PK\x03\x04"
_BROKEN_WORKBOOK = (zipfile.BadZipFile, zlib.error, EOFError, KeyError, ValueError, ParseError)
_LATIN = "oncolineage.latin-1"  # bytes that are not UTF-8, as in tables that were saved long ago

Alternatives = Mapping[str, tuple[str, ...]]
"""Our name of a column to the `plain` names that it has in some release."""


@dataclass(frozen=True)
class OfficialTable:
    """A table of text.

    Attributes
    ----------
    file
        Name of its file.
    frame
        Text, ``""`` where a cell is empty or says that nothing is known; columns by our name, or their `plain` one.
    written
        Each column's name as the file writes it.
    """

    file: str
    frame: pd.DataFrame
    written: dict[str, str]

    def column(self, name: str) -> pd.Series:
        """Return a column, empty text in every row where the file has none."""
        return self.frame[name] if name in self.frame else pd.Series("", index=self.frame.index, dtype="str")

    def fault(self, name: str, column: str, rows: Iterable[int], what: str) -> DataError:
        """Return an error that names a column as the file does, zero-based ``rows``, and their first values."""
        rows = list(rows)
        values = self.column(column).iloc[rows].unique()[:3]
        found = f" (found {', '.join(values)})" if any(values) else ""
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
                raise self.fault("key_filled", column, rows, "is empty; the file may be cut short, download it again")

    def unique(self, column: str) -> None:
        """Refuse a value of ``column`` that stands twice; empty cells are none.

        Raises
        ------
        DataError
            Names the rows.
        """
        values = self.column(column)
        if len(rows := np.flatnonzero(values.duplicated(keep=False) & (values != ""))):
            raise self.fault("key_unique", column, rows, "stands twice; keep one row of each")

    def numbers(self, column: str) -> pd.Series:
        """Return a column as float64, NaN where it is empty.

        Raises
        ------
        DataError
            A cell is no finite number; names the rows.
        """
        text = self.column(column)
        values = pd.to_numeric(text.where(text != "", None), errors="coerce").astype(np.float64)
        if len(rows := np.flatnonzero((values.isna() & (text != "")) | np.isinf(values))):
            raise self.fault("column_type", column, rows, "is no finite number; mend it or download the file again")
        return values


def read_official(
    path: Path, what: str, needed: Sequence[str], alternatives: Alternatives, *, only: bool = False
) -> OfficialTable:
    """Read a table whole.

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

    Raises
    ------
    UserError
        The file is missing, broken, something else than a table, or not this one.
    """
    blocks = list(read_blocks(path, what, needed, alternatives, only=only))
    return OfficialTable(path.name, pd.concat([each.frame for each in blocks], ignore_index=True), blocks[0].written)


def read_blocks(
    path: Path, what: str, needed: Sequence[str], alternatives: Alternatives, *, only: bool = False
) -> Iterator[OfficialTable]:
    """Yield a table in blocks of rows, each as `read_official` returns the whole; their rows count on.

    Raises
    ------
    UserError
        As of `read_official`.
    """
    with _rows(path, what, needed, alternatives) as rows:
        header = next(rows, [])
        columns, written = _columns(header, path.name, what, needed, alternatives)
        places = [place for place, name in enumerate(columns) if name in alternatives or not only]
        names = [columns[place] for place in places]
        count = 0
        for block in _blocked(tqdm(rows, desc=path.name, unit="row", disable=None)):
            for number, cells in enumerate(block, start=count):
                if len(cells) != len(header):
                    message = f"has {len(cells)} fields, the header {len(header)}; the file may be cut short"
                    raise DataError([Finding.at_rows("row_width", path.name, None, [number], message)])
            text = [[_known(cells[place]) for place in places] for cells in block]
            index = pd.RangeIndex(count, count + len(block))
            yield OfficialTable(path.name, pd.DataFrame(text, index, names, dtype="str"), written)
            count += len(block)
        if not count:
            raise DataError([Finding("file_layout", path.name, "has no rows; download it again")])


@contextlib.contextmanager
def official_text(path: Path) -> Iterator[io.BufferedReader]:
    """Open a text file, gzipped or not, to read its bytes; what is no text is refused.

    Raises
    ------
    UserError
        It is missing or broken, empty, a web page, or an archive.
    """
    with opened(path) as raw:
        stream = cast(io.BufferedReader, raw)
        start = stream.peek(64)[:64].removeprefix(codecs.BOM_UTF8).lstrip()
        if not start:
            raise UserError(f"{path}: is empty; download it again")
        if start.startswith(b"<"):
            raise UserError(
                f"{path}: is a web page or an error message, not the file; download it again, in a browser if need be"
            )
        if start.startswith(_ZIP):
            raise UserError(f"{path}: is an archive or a workbook; unpack it, or save its sheet as csv")
        if b"\0" in start:
            raise UserError(f"{path}: is no text in UTF-8; download it again, or save it as csv in UTF-8")
        yield stream


def plain(name: str) -> str:
    """Return a column's name in small letters, with one underscore for whatever is neither letter nor digit."""
    return re.sub(r"[^0-9a-z]+", "_", name.casefold()).strip("_")


def whole(number: str) -> str:
    """Return an identifier without the ``.0`` that a table program left behind it."""
    return number.removesuffix(".0") if number.removesuffix(".0").isdecimal() else number


@contextlib.contextmanager
def _rows(path: Path, what: str, needed: Sequence[str], alternatives: Alternatives) -> Iterator[Iterator[list[str]]]:
    """Give the rows, the header first; rows without any content are left out."""
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    with path.open("rb") as raw:
        workbook = raw.read(4) == _ZIP
    if workbook:
        with _sheet(path, what, needed, alternatives) as rows:
            yield rows
        return
    with official_text(path) as stream:
        lines = io.TextIOWrapper(stream, "utf-8-sig", errors=_LATIN, newline="")
        try:
            first = lines.readline()
            separator = max("\t,;", key=first.count)
            reader = csv.reader(chain([first], lines), delimiter=separator)
            yield ([cell.strip() for cell in cells] for cells in reader if any(cells))
        except csv.Error as error:
            message = f"not a readable table ({error}); download it again"
            raise DataError([Finding("file_readable", path.name, message)]) from error


@contextlib.contextmanager
def _sheet(path: Path, what: str, needed: Sequence[str], alternatives: Alternatives) -> Iterator[Iterator[list[str]]]:
    """Give the rows of the first sheet that has the needed columns."""
    try:
        with zipfile.ZipFile(path) as archive:  # which unpacks no more of a member than its directory says
            size = sum(member.file_size for member in archive.infolist())
        if size > WORKBOOK_BYTES:
            raise UserError(
                f"{path}: unpacks to {size / 1e9:.1f} GB, more than {WORKBOOK_BYTES / 1e9:g}; save its sheet as csv"
            )
        with path.open("rb") as raw, contextlib.closing(openpyxl.load_workbook(raw, True, data_only=True)) as book:
            sheets = book.worksheets
            if not sheets:
                raise UserError(f"{path}: has no sheet; download it again")
            headers = [next(_sheet_rows(sheet), []) for sheet in sheets]
            fits = [not _missing(header, needed, alternatives) for header in headers]
            yield _sheet_rows(sheets[fits.index(True) if any(fits) else 0])
    except (DataError, UserError):
        raise
    except _BROKEN_WORKBOOK as error:
        unpacked = zipfile.is_zipfile(path) and "xl/workbook.xml" not in zipfile.ZipFile(path).namelist()
        todo = "unpack it" if unpacked else f"it is broken or cut short ({error}), download it again"
        raise UserError(f"{path}: is no readable workbook; {todo}") from error


def _sheet_rows(sheet: Any) -> Iterator[list[str]]:
    sheet.reset_dimensions()  # what the file says of its size is often wrong
    width = 0
    for values in sheet.iter_rows(values_only=True):
        cells = [_cell_text(value) for value in values]
        while cells and not cells[-1]:
            cells.pop()  # a workbook leaves out empty cells at the end of a row, or has some beyond the header
        if cells:
            width = width or len(cells)
            yield cells + [""] * (width - len(cells))


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
        shown = ", ".join(header[:8]) + (f" and {len(header) - 8} more" if len(header) > 8 else "")
        message = f"the column is missing; the file has {shown}; is it the {what}?"
        raise DataError([Finding("column_exists", file, message, alternatives[name][0]) for name in missing])
    known = _chosen(header, alternatives)
    columns = [known.get(place, plain(name)) for place, name in enumerate(header)]
    columns = [name or f"column_{place}" for place, name in enumerate(columns, start=1)]
    doubled = sorted({name for name in columns if columns.count(name) > 1})
    if doubled:
        raise DataError([Finding("column_unique", file, "the column stands twice; keep one", name) for name in doubled])
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
    return "" if cell in UNKNOWN else cell


def _latin(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return error.object[error.start : error.end].decode("latin-1"), error.end


codecs.register_error(_LATIN, _latin)
