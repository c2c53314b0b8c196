"""Text of matrices whose rows begin with several cells that are no values, such as ids or a description."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator

from pipelines.errors import DataError, Finding, UserError
from pipelines.sources.expression_matrix import Row
from pipelines.sources.official_table import plain
from pipelines.text_values import clean, quoted

_TRUTH = re.compile(rb"\b(?:true|false)\b", re.IGNORECASE)
_PARTS_OF_TRUTH = (b"rue", b"RUE", b"alse", b"ALSE")  # found much faster than the whole


def header_of(lines: Iterator[bytes], separator: bytes, file: str) -> list[str]:
    """Take the header off ``lines`` and return its cells, without empty ones at its end.

    Raises
    ------
    DataError
        A name stands twice.
    """
    line = next(lines, b"").removeprefix(b"\xef\xbb\xbf").rstrip(b"\r\n")
    cells = [clean(cell) for cell in next(csv.reader([decoded(line, file, None)], delimiter=separator.decode()), [])]
    while len(cells) > 1 and not cells[-1]:
        cells.pop()
    doubled = sorted(name for name, count in Counter(cells).items() if count > 1)
    if doubled:
        what = "the column stands twice; rename or remove the one that is not right"
        raise DataError([Finding("column_unique", file, what, name) for name in doubled])
    return cells


def lead_of(header: list[str], known: Collection[str]) -> list[str]:
    """Return the `plain` names of the first columns of a header, as long as they are ``known``."""
    names = [plain(name) for name in header]
    length = next((place for place, name in enumerate(names) if name not in known), len(names))
    return names[:length]


def split_lead(
    lines: Iterator[bytes], separator: bytes, count: int, width: int, file: str
) -> Iterator[tuple[int, list[str], bytes | None]]:
    """Take the first ``count`` cells off each line; yield its position, these cells, and the others as text or None.

    Truth values become 1 and 0. Decimal commas become points where semicolons part the cells and no number has a point.
    Rows without any content and separators beyond the ``width`` values are left out.

    Raises
    ------
    DataError
        A number has a decimal comma that may be another thing.
    """
    marks: set[bytes] = set()
    for position, line in enumerate(_with_content(lines, separator)):
        cells = line.split(separator, count)
        if b'"' in line:  # a separator may stand within quotes
            text = next(csv.reader(io.StringIO(decoded(line, file, position)), delimiter=separator.decode()))
            cells = [cell.strip().encode() for cell in text]
            if any(separator in cell for cell in cells[count:]):
                raise _decimal_commas(file, position)
            cells = [*cells[:count], *([separator.join(cells[count:])] if len(cells) > count else [])]
        lead = [clean(decoded(cell, file, position)) for cell in cells[:count]]
        lead += [""] * (count - len(lead))
        values = cells[count].replace(b" ", b"") if len(cells) > count else None
        if values is not None:
            if separator != b"," and b"," in values:
                marks |= {mark for mark in (b",", b".") if mark in values}
                values = values.replace(b",", b".")
            elif separator == b";" and b"." in values:
                marks.add(b".")
            if (separator == b"\t" and marks) or len(marks) > 1:
                raise _decimal_commas(file, position)
            if any(part in values for part in _PARTS_OF_TRUTH):
                values = _TRUTH.sub(lambda found: b"1" if len(found[0]) == 4 else b"0", values)
            while values.endswith(separator) and values.count(separator) >= width:
                values = values[:-1]
        yield position, lead, values


def _with_content(lines: Iterator[bytes], separator: bytes) -> Iterator[bytes]:
    for line in lines:
        line = line.rstrip(b"\r\n")
        blank = not line.strip() or (line.startswith((separator, b'"', b" ")) and not line.strip(b'" ' + separator))
        if not blank:
            yield line


def _decimal_commas(file: str, row: int) -> DataError:
    message = "numbers have decimal commas, or commas between thousands; save the table with decimal points"
    return DataError([Finding.at_rows("decimal_comma", file, None, [row], message)])


def kept_rows(
    rows: Iterator[Row], wanted: Callable[[str], bool], separator: bytes, width: int, file: str
) -> Iterator[Row]:
    """Yield the rows that are wanted; the others are checked for their width alone.

    Raises
    ------
    UserError
        None is wanted, or as of `check_width`.
    """
    others = []
    some = False
    for row, name, cells in rows:
        if not name or wanted(name):
            some = True
            yield row, name, cells
        else:
            others.append(name)
            check_width(row, name, cells, separator, width, file)
    if others and not some:
        raise none_wanted(file, others)


def none_wanted(file: str, names: Collection[str]) -> UserError:
    """Return the error of a file that has no cell line that is wanted."""
    return UserError(
        f"{file}: holds no screened cell line (it has {quoted(names)}); is it the right file, and does a table that is "
        "given with --models (Model.csv or sample_info.csv) name these lines?"
    )


def check_width(row: int, name: str, cells: bytes | None, separator: bytes, width: int, file: str) -> None:
    """Refuse a row that is not read otherwise and has not ``width`` values; it may be where the file is cut short.

    Raises
    ------
    DataError
        Names the row.
    """
    found = 0 if cells is None else cells.count(separator) + 1
    if found != width:
        message = f"{name} has {found} values, the header names {width}; the file may be cut short"
        raise DataError([Finding.at_rows("row_width", file, None, [row], message)])


def decoded(cell: bytes, file: str, row: int | None) -> str:
    """Return text of UTF-8.

    Raises
    ------
    DataError
        It is not.
    """
    try:
        return cell.decode().strip('"')
    except UnicodeDecodeError as error:
        where = "the header" if row is None else f"row {row + 1}"
        message = f"{where} is not UTF-8 (byte {cell[error.start]:#04x}); save it in UTF-8, or download it again"
        raise DataError([Finding("file_encoding", file, message)]) from error
