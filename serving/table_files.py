"""Table files that people bring: CSV of any program, workbooks, Parquet, packed or not, told by their content.

Names stay text as the file has them (``0012``, ``1E5``); what is read otherwise than it lies there is told in a note.
"""

from __future__ import annotations

import csv
import datetime
import gzip
import io
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import Any
from xml.etree.ElementTree import ParseError

import pandas as pd
import pyarrow

from pipelines.errors import UserError
from pipelines.samples.parquet_size import check_parquet_size
from pipelines.text_values import clean, quoted
from serving.number_cells import has_comma

ENDINGS = ("csv", "tsv", "txt", "parquet", "xlsx", "gz", "zip")
UNPACKED_BYTES = 1_000_000_000
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, KeyError, ValueError, OSError, ParseError)
_ZIP, _GZIP, _OLD_EXCEL = b"PK\x03\x04", b"\x1f\x8b", b"\xd0\xcf\x11\xe0"
_NO_TABLE = ("__macosx/", ".ds_store", "thumbs.db", "desktop.ini")
_HEAD_ROWS = 20
_PAGE = re.compile(r"\s*<(!doctype|html|\?xml|head|body)\b", re.IGNORECASE)


@dataclass(frozen=True)
class TableFile:
    """A table as it lies in a file.

    Attributes
    ----------
    name
        Of the file, for messages.
    written
        Names of the columns as they stand there; empty for the first where the file leaves it out.
    cells
        Columns 0, 1, ...: numbers where a column holds nothing else, else texts and what a workbook holds.
    text
        Returns columns as text, just as the file has them.
    notes
        What was done with the file, in sentences.
    decimal_comma
        Whether numbers have decimal commas where nothing else tells: its columns are separated by semicolons, since
        commas are taken.
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
        Of the file. Archives, workbooks and Parquet are told by their content.
    most
        Values that a Parquet file may have.
    fits
        Says of the names in a sheet's first row and first column how many are looked for; of several sheets the only
        one that has any is taken.

    Raises
    ------
    UserError
        Names the file and what to do.
    """
    ending = PurePath(name).suffix.lower().lstrip(".")
    if ending in ("xlsx", "zip", "gz") and content and not content.startswith((_ZIP, _GZIP, _OLD_EXCEL)):
        raise UserError(f"{name}: its content is none of a {ending} file; was it cut off? Save it as “CSV UTF-8”.")
    name, content, notes = _unpacked(name, content)
    if not content:
        raise UserError(f"{name}: the file is empty.")
    if content.startswith(b"PAR1") or PurePath(name).suffix.lower() == ".parquet":
        table = _parquet(name, content, most)
    elif content.startswith(_ZIP):
        table = _workbook(name, content, fits)
    elif content.startswith(_OLD_EXCEL):
        raise UserError(f"{name}: it is a workbook of Excel 97 to 2003, or locked; save it as .xlsx or “CSV UTF-8”.")
    else:
        table = _csv(name, content)
    return _without_empty(replace(table, notes=[*notes, *table.notes]))


def _unpacked(name: str, content: bytes) -> tuple[str, bytes, list[str]]:
    """Return the file in an archive, and the file itself where it is none."""
    too_large = UserError(f"{name}: it unpacks to more than {UNPACKED_BYTES:,} bytes; bring fewer samples at a time.")
    try:
        if content.startswith(_GZIP):
            with gzip.GzipFile(fileobj=io.BytesIO(content)) as packed:
                found = packed.read(UNPACKED_BYTES + 1)
            if len(found) > UNPACKED_BYTES:
                raise too_large
            return name[: -len(".gz")] if name.lower().endswith(".gz") else name, found, []
        if not content.startswith(_ZIP):
            return name, content, []
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = [each for each in archive.infolist() if not each.is_dir()]
            if sum(each.file_size for each in members) > UNPACKED_BYTES:
                raise too_large
            if any(each.filename == "[Content_Types].xml" for each in members):
                return name, content, []  # a workbook
            tables = [each for each in members if not _is_litter(each.filename)]
            if len(tables) != 1:
                told = quoted([each.filename for each in tables]) if tables else "no table"
                raise UserError(f"{name}: the archive holds {told}; bring one table at a time.")
            inside = PurePath(tables[0].filename.replace("\\", "/")).name
            _, found, _ = _unpacked(inside, archive.read(tables[0]))
            return f"{name}, {inside}", found, []
    except UserError:
        raise
    except (*_BROKEN, RuntimeError, NotImplementedError) as error:  # the last two: a password, another way of packing
        raise UserError(f"{name}: it cannot be unpacked ({error}); unpack it and bring the table.") from error


def _is_litter(path: str) -> bool:
    """Whether a member of an archive is what systems leave beside people's files."""
    parts = path.replace("\\", "/").lower().split("/")
    return "__macosx" in parts or parts[-1] in _NO_TABLE or parts[-1].startswith((".", "~$"))


# Parquet and workbooks


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
    names = [cell_text(column) for column in found.columns]
    return _of_cells(name, names, found.set_axis(range(found.shape[1]), axis=1))


def _workbook(name: str, content: bytes, fits: Callable[[Iterable[str]], int] | None) -> TableFile:
    import openpyxl

    try:
        book = openpyxl.load_workbook(io.BytesIO(content), read_only=True, data_only=True)
        sheets = {sheet.title: _sheet_rows(sheet) for sheet in book.worksheets}
    except _BROKEN as error:
        raise UserError(f"{name}: it is no readable workbook ({error}); save it again, or as “CSV UTF-8”.") from error
    filled = {title: rows for title, rows in sheets.items() if rows}
    if not filled:
        raise UserError(f"{name}: no sheet of the workbook holds anything.")
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
    table = _of_cells(name, [cell_text(cell) for cell in rows[0]], pd.DataFrame(rows[1:], columns=range(width)))
    left_out = [f"Of its sheets {title!r} was read, not {quoted(each for each in filled if each != title)}."]
    return replace(table, notes=left_out if len(filled) > 1 else [])


def _sheet_rows(sheet: Any) -> list[list[Any]]:
    """Return the rows of a sheet that hold anything, without the empty cells at their ends."""
    sheet.reset_dimensions()  # what the file says of its size is often wrong
    rows = []
    for values in sheet.iter_rows(values_only=True):
        cells = [None if isinstance(cell, str) and not clean(cell) else cell for cell in values]
        while cells and cells[-1] is None:
            cells.pop()
        if cells:
            rows.append(cells)
    return rows


def _of_cells(name: str, names: list[str], cells: pd.DataFrame) -> TableFile:
    cells = cells.infer_objects()
    return TableFile(name, names, cells, lambda places: cells[places].map(cell_text))


def cell_text(value: Any) -> str:
    """Return a cell of a workbook or of Parquet as text: whole numbers without ``.0``, missing ones as no text."""
    if value is None or value is pd.NA or value is pd.NaT or value != value:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return value.isoformat() if isinstance(value, (datetime.date, datetime.time)) else str(value)


# Text


def _csv(name: str, content: bytes) -> TableFile:
    text, notes = _decoded(name, content)
    text = text.lstrip("\r\n")
    if _PAGE.match(text):
        raise UserError(f"{name}: it is a web page, not a table; download the file itself.")
    separator = ""
    if text[:4].lower() == "sep=" and "\n" in text:  # Excel's own way to name it
        first, text = text.split("\n", 1)
        separator = first.strip("\r")[4:5]
    try:
        separator = separator or max(_SEPARATORS, key=lambda each: _width(text, each))
        header, *rows = _head(text, separator, _HEAD_ROWS + 1)
    except (csv.Error, IndexError) as error:
        raise UserError(f"{name}: it cannot be read as a table ({error}).") from error
    if len(header) == 1 and len(header[0].split()) > 1 and all(len(each[0].split()) > 1 for each in rows if each):
        raise UserError(f"{name}: its columns are not separated by commas, semicolons or tabs; save it as “CSV UTF-8”.")
    names = header
    if rows and len(rows[0]) > len(header) + 1:
        raise UserError(
            f"{name}, row 1: has {len(rows[0])} values, the first line names {len(header)} columns; separated by "
            f"{_SEPARATORS.get(separator, separator)}."
        )
    if rows and len(rows[0]) == len(header) + 1:
        ended = all(len(row) == len(rows[0]) and not row[-1] for row in rows)  # a separator at the end of each row
        names = [*names, ""] if ended else ["", *names]  # R leaves out the head of the column of names

    def read(**how: Any) -> pd.DataFrame:
        try:
            places = range(len(names))
            return pd.read_csv(io.StringIO(text), sep=separator, header=0, names=places, low_memory=False, **how)
        except (ValueError, pd.errors.ParserError) as error:
            raise UserError(f"{name}: it cannot be read as a table ({str(error).splitlines()[0][:120]}).") from error

    cells = read()
    _refuse_cut_off(name, text, separator, len(names), len(cells))
    if short := _short_rows(text, separator, len(header)):
        notes.append(
            f"Rows with fewer values than the first line has names: {', '.join(map(str, short[:5]))}"
            f"{f' and {len(short) - 5:,} more' if len(short) > 5 else ''}. What they lack at their ends is missing."
        )
    texts = [place for place in cells if not pd.api.types.is_numeric_dtype(cells[place])]
    if any(has_comma(cells[place].unique()) for place in texts):
        if separator == ";" and not re.search(r";[\s\"]*[+-]?[0-9]*\.[0-9]|[0-9],[0-9]{3},[0-9]", text):
            cells = read(decimal=",")
            notes.append("Decimal commas were read.")
        else:
            cells = read(dtype=str)  # all of it: ``1.000`` may be a thousand

    def as_text(places: list[int]) -> pd.DataFrame:
        return read(usecols=places, dtype=str, keep_default_na=False)

    return TableFile(name, names, cells, as_text, notes, separator == ";")


def _decoded(name: str, content: bytes) -> tuple[str, list[str]]:
    notes = []
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16"
    elif content[1:200:2].count(0) > 50 or (len(content) < 200 and content[1::2] and not any(content[1::2])):
        encoding = "utf-16-le"
    else:
        encoding = "utf-8-sig"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        try:
            text = content.decode("cp1252")
        except UnicodeDecodeError:
            raise UserError(f"{name}: it is no text in UTF-8. Save it as “CSV UTF-8”.") from error
        notes.append("Its text is not UTF-8; it was read as Windows-1252. Look at names with accents.")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if any(character < " " and character not in "\n\t\f" for character in set(text[:100_000])) or "\0" in text:
        raise UserError(f"{name}: it is no text. Save it as “CSV UTF-8”.")
    if encoding.startswith("utf-16"):
        notes.append("Its text is UTF-16, which Excel calls “Unicode Text”.")
    return text, notes


def _width(text: str, separator: str) -> int:
    """Return into how many names a separator divides the first line; none where one would be longer than names are."""
    try:
        return len(_head(text, separator, 1)[0])
    except csv.Error:
        return 0


def _head(text: str, separator: str, count: int) -> list[list[str]]:
    rows = []
    for row in csv.reader(io.StringIO(text), delimiter=separator):
        if row:
            rows.append(row)
        if len(rows) == count:
            break
    return rows


def _refuse_cut_off(name: str, text: str, separator: str, width: int, rows: int) -> None:
    """Refuse a table whose last row is shorter than the others."""
    last = text.rstrip("\n").rsplit("\n", 1)[-1]
    if rows > 1 and '"' not in last and 0 < last.count(separator) < width - 1:
        raise UserError(
            f"{name}: the last row has {last.count(separator) + 1} values of {width}; was it cut off? Save it again."
        )


def _short_rows(text: str, separator: str, width: int) -> list[int]:
    """Return the rows, from 1, that have fewer values than the first line has names."""
    if '"' in text:
        try:
            found = [len(row) for row in csv.reader(io.StringIO(text), delimiter=separator) if row]
        except csv.Error:  # a field longer than csv reads
            return []
    else:
        found = [line.count(separator) + 1 for line in text.split("\n") if line]
    return [place for place, count in enumerate(found) if place and count < width]


def _without_empty(table: TableFile) -> TableFile:
    """Return the table without rows that hold nothing, and without columns that have neither name nor values."""
    if table.cells.empty:
        raise UserError(f"{table.name}: the table has no rows. It needs a row a sample and a column a gene.")
    empty = table.cells.isna()
    for place in table.cells:
        if not pd.api.types.is_numeric_dtype(table.cells[place]):
            blank = [isinstance(cell, str) and not cell.strip() for cell in table.cells[place]]
            empty[place] |= pd.Series(blank, index=empty.index)
    rows, columns = empty.all(axis=1), empty.all(axis=0)
    nameless = [place for place, column in enumerate(table.names) if not column]
    if named := [place for place in nameless if place > 0 and not columns[place]]:
        raise UserError(f"{table.name}: column {named[0] + 1} has values and no name; name it, or take it out.")
    gone = {place for place in nameless if columns[place]}
    notes = list(table.notes)
    if gone:
        notes.append(f"Columns without name and values were left out: {len(gone)}.")
    if rows.any():
        notes.append(f"Rows without values were left out: {int(rows.sum())}.")
    if not gone and not rows.any():
        return table
    kept = [place for place in range(len(table.written)) if place not in gone]
    cells = table.cells.loc[~rows, kept].set_axis(range(len(kept)), axis=1)
    if cells.empty:
        raise UserError(f"{table.name}: the table has no rows. It needs a row a sample and a column a gene.")
    written, text = [table.written[place] for place in kept], table.text
    now = {before: place for place, before in enumerate(kept)}
    return replace(
        table,
        written=written,
        cells=cells,
        text=lambda places: text([kept[place] for place in places]).rename(columns=now),
        notes=notes,
    )


def refuse_shifted(table: TableFile, named: int) -> None:
    """Refuse a first line that is one name short, since every name would stand above the column before its own.

    R leaves out the head of its row names. Where these are names and the column of names, ``named``, holds numbers, or
    its numbers are not whole, the row names are the names, and the last column is the one without a head.
    """
    column = table.cells[named]
    if named == 0 or table.names[0] or not pd.api.types.is_numeric_dtype(column):
        return
    if not pd.api.types.is_numeric_dtype(table.cells[0]) or (column.dropna() % 1 != 0).any():
        raise UserError(
            f"{table.name}: the rows have {len(table.names)} values, the first line names {len(table.names) - 1} "
            f"columns, and under {table.names[named]!r} stand numbers; mend the first line."
        )


def refuse_repeated(name: str, what: str, written: Sequence[str]) -> None:
    """Refuse names that are the same but for blanks; the message shows how each is written."""
    first: dict[str, str] = {}
    for each in written:
        other = first.get(clean(each))
        first[clean(each)] = each
        if other is not None:
            beside = "" if other == each else f" ({other!r} and {each!r})"
            raise UserError(f"{name}: the {what} {clean(each)} stands twice{beside}; keep one.")
