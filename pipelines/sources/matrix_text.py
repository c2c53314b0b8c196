"""Text of matrices whose rows begin with several cells that are no values, such as ids or a description."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable, Collection, Iterator

from pipelines.faults import DataError, Finding, UserError
from pipelines.sources.expression_folder import Row
from pipelines.sources.official_table import plain
from pipelines.sources.raw_folder import listed


def header_of(lines: Iterator[bytes], separator: bytes, file: str) -> list[str]:
    """Take the header off ``lines`` and return its cells.

    Raises
    ------
    DataError
        A name stands twice.
    """
    line = next(lines, b"").removeprefix(b"\xef\xbb\xbf").rstrip(b"\r\n")
    cells = [cell.strip() for cell in next(csv.reader([decoded(line, file, None)], delimiter=separator.decode()), [])]
    doubled = sorted(name for name, count in Counter(cells).items() if count > 1)
    if doubled:
        raise DataError([Finding("column_unique", file, "the column stands twice; keep one", name) for name in doubled])
    return cells


def lead_of(header: list[str], known: Collection[str]) -> list[str]:
    """Return the `plain` names of the first columns of a header, as long as they are ``known``."""
    names = [plain(name) for name in header]
    length = next((place for place, name in enumerate(names) if name not in known), len(names))
    return names[:length]


def split_lead(
    lines: Iterator[bytes], separator: bytes, count: int, file: str
) -> Iterator[tuple[int, list[str], bytes | None]]:
    """Take the first ``count`` cells off each line; yield its position, these cells, and the others as text or None."""
    position = 0
    for line in lines:
        if not line.strip():
            continue
        line = line.rstrip(b"\r\n")
        cells = line.split(separator, count)
        if b'"' in line:  # a separator may stand within quotes
            text = next(csv.reader(io.StringIO(decoded(line, file, position)), delimiter=separator.decode()))
            cells = [cell.strip().encode() for cell in text]
            cells = [*cells[:count], *([separator.join(cells[count:])] if len(cells) > count else [])]
        lead = [decoded(cell, file, position).strip() for cell in cells[:count]]
        lead += [""] * (count - len(lead))
        yield position, lead, cells[count].replace(b" ", b"") if len(cells) > count else None
        position += 1


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
        f"{file}: holds no screened cell line (it has {listed(names)}); is it the right file, and does a table that is "
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
        message = f"{where} is not UTF-8 (byte {cell[error.start]:#04x}); download the file again"
        raise DataError([Finding("file_encoding", file, message)]) from error
