"""Matrices of the official places: names at the start of each row and numbers after them, up to some gigabytes.

They are read block by block: only the values, as float32, are ever in memory as a whole.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.csv
from tqdm import tqdm

from pipelines.errors import DataError, Finding, UserError
from pipelines.samples.gene_names import spreadsheet_names
from pipelines.sources.tables import DECIMAL_COMMA, column_of, refuse_duplicates, separator_of
from pipelines.text_values import UNKNOWN_WORDS, clean, is_unknown, known, quoted

MISSING = ("NaN", *sorted({form for word in UNKNOWN_WORDS for form in (word, word.upper(), word.capitalize())}))
"""How a cell of numbers says that there is none, in the spellings that are read fast; others are read too."""
BLOCK_BYTES = 16 * 2**20
_NUMBER = re.compile(rb"[+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?")
_COUNTED_APART = re.compile(r"__[a-zA-Z_]+|N_(?:unmapped|multimapping|noFeature|ambiguous)")  # by HTSeq and STAR
_TRUTH = re.compile(rb"\b(?:true|false)\b", re.IGNORECASE)
_LETTERS_OF_TRUTH = (b"u", b"U", b"s", b"S")  # found much faster than the words

Row = tuple[int, str, bytes]
"""Position in the file, name, values as text."""


def header_of(line: bytes, file: str) -> tuple[list[str], bytes]:
    """Return the cells of a header as `clean` writes them, without empty ones at its end, and their separator.

    Raises
    ------
    DataError
        It is not UTF-8, or a name is a duplicate.
    """
    text = _decoded(line.rstrip(b"\r\n"), file, None)
    separator = separator_of(text)
    cells = [clean(clean(cell).strip('"')) for cell in next(csv.reader([text], delimiter=separator), [])]
    while len(cells) > 1 and not cells[-1]:
        cells.pop()
    refuse_duplicates(cells, file)
    return cells, separator.encode()


def read_header(lines: Iterator[bytes], file: str, first: Collection[str]) -> tuple[list[str], bytes]:
    """Take the header off ``lines``; return the names of the columns of values, and the separator.

    Raises
    ------
    DataError
        The first column has none of the names ``first``, of which ``""`` is no name; or a name is missing or a
        duplicate.
    """
    cells, separator = header_of(next(lines, b""), file)
    corner, *columns = cells or [""]
    if corner not in first and column_of([corner], first) is None:
        message = f"the first column must be {' or '.join(name or 'unnamed' for name in first)}, "
        message += f"it is {corner[:40]!r}; " if corner else "it is unnamed; "
        raise DataError([Finding("file_layout", file, f"{message}is this the official file? (R leaves it out)")])
    if not columns or "" in columns:
        message = f"column {columns.index('') + 2} of the header has no name" if columns else "has no columns of values"
        raise DataError([Finding("column_exists", file, f"{message}; download the file again")])
    return columns, separator


def split_rows(
    lines: Iterable[bytes], separator: bytes, columns: Sequence[str], file: str, lead: int = 1
) -> Iterator[tuple[int, list[str], bytes]]:
    """Yield the position of each line, its first ``lead`` cells, and the others, one for each of ``columns``, as text.

    Truth values become 1 and 0. Where semicolons separate the cells, commas become decimal points. Lines without
    content and separators beyond the columns are left out.

    Raises
    ------
    DataError
        A row is too short or too long, or its decimal sign is not certain.
    """
    marks: set[bytes] = set()
    for position, line in enumerate(_with_content(lines, separator)):
        cells = line.split(separator, lead)
        if b'"' in line:
            cells = _unquoted(line, separator, columns, file=file, lead=lead, position=position)
        names = [clean(_decoded(cell, file, position)) for cell in cells[:lead]]
        values = _tidied_line(cells[lead], separator, len(columns)) if len(cells) > lead else None
        if separator == b";" and values is not None:
            marks |= {mark for mark in (b",", b".") if mark in values}
            values = values.replace(b",", b".")
        if len(marks) > 1:
            message = "numbers have both decimal commas and points; save the table with decimal points"
            raise DataError([Finding.at_rows("decimal_comma", file, None, [position], message)])
        # Counted by NumPy: a line of a matrix of sites has a million separators.
        count = 0 if values is None else np.count_nonzero(np.frombuffer(values, np.uint8) == separator[0]) + 1
        if values is None or count != len(columns):
            message = f"has {count} values, the header names {len(columns)}; the file may be cut short"
            raise DataError([Finding.at_rows("row_width", file, None, [position], message)])
        yield position, names, values


def _unquoted(
    line: bytes, separator: bytes, columns: Sequence[str], *, file: str, lead: int, position: int
) -> list[bytes]:
    """Split a line with quoted cells, in which a separator is none; one within a number is a comma."""
    cells = [cell.strip() for cell in next(csv.reader([_decoded(line, file, position)], delimiter=separator.decode()))]
    for column, cell in zip(columns, cells[lead:], strict=False):
        if separator.decode() in cell:
            message = f"{cell!r} has a decimal comma, or one between thousands; save the table with decimal points"
            raise DataError([Finding.at_rows("column_type", file, column, [position], message)])
    values = [separator.join(cell.encode() for cell in cells[lead:])] if len(cells) > lead else []
    return [*(cell.encode() for cell in cells[:lead]), *values]


def _tidied_line(values: bytes, separator: bytes, width: int) -> bytes:
    if b" " in values:
        values = separator.join(cell.strip() for cell in values.split(separator))
    if any(letter in values for letter in _LETTERS_OF_TRUTH):
        values = _TRUTH.sub(lambda found: b"1" if len(found[0]) == 4 else b"0", values)
    while values.endswith(separator) and values.count(separator) >= width:
        values = values[:-1]
    return values


def _with_content(lines: Iterable[bytes], separator: bytes) -> Iterator[bytes]:
    for line in lines:
        line = line.rstrip(b"\r\n")
        blank = not line.strip() or (line.startswith((separator, b'"', b" ")) and not line.strip(b'" ' + separator))
        if not blank:
            yield line


def kept_rows(rows: Iterator[Row], wanted: Callable[[str], bool], file: str) -> Iterator[Row]:
    """Yield the rows that are wanted; refuse a file that has none."""
    others = []
    some = False
    for row, name, cells in rows:
        if not name or wanted(name):
            some = True
            yield row, name, cells
        else:
            others.append(name)
    if others and not some:
        raise none_wanted(file, others)


def none_wanted(file: str, names: Collection[str]) -> UserError:
    """Return the error of a file that has no cell line that is wanted."""
    return UserError(
        f"{file}: holds no screened cell line (it has {quoted(names)}); is it the right file, and does a table that is "
        "given with --models (Model.csv or sample_info.csv) name these lines?"
    )


def read_rows(
    lines: Iterable[bytes],
    columns: Sequence[str],
    file: str,
    *,
    separator: bytes = b"\t",
    keep: np.ndarray | None = None,
    block: int = BLOCK_BYTES,
    unit: str = "gene",
    no_genes: list[str] | None = None,
) -> tuple[list[str], np.ndarray]:
    """Read rows of a name and numbers, as `read_values` does, from the lines after the header.

    ``no_genes`` takes the names of rows that are no genes, which are left out: words for "unknown", what HTSeq and STAR
    counted apart, and copies of pseudoautosomal genes on Y.
    """

    def rows() -> Iterator[Row]:
        for row, (name,), values in split_rows(lines, separator, columns, file):
            if no_genes is not None and name and not _is_gene(name):
                no_genes.append(name)
            else:
                yield row, name, values

    return read_values(rows(), columns, file, separator=separator, keep=keep, block=block, unit=unit)


def _is_gene(name: str) -> bool:
    return not (is_unknown(name) or _COUNTED_APART.fullmatch(name) or name.endswith("_PAR_Y"))


def read_values(
    rows: Iterable[Row],
    columns: Sequence[str],
    file: str,
    *,
    separator: bytes,
    keep: np.ndarray | None = None,
    block: int = BLOCK_BYTES,
    unit: str = "gene",
) -> tuple[list[str], np.ndarray]:
    """Read rows of `split_rows`.

    Parameters
    ----------
    rows
        A value for each of ``columns``.
    keep
        Which columns to keep, bool of shape (columns,); all without it. The others are checked as well.
    block
        Bytes of text that are parsed at once.
    unit
        What a row is, for the progress bar.

    Returns
    -------
    names : list of str
    values : numpy.ndarray
        float32 of shape (rows, kept columns), NaN where a cell says that nothing is known.

    Raises
    ------
    DataError
        A row has no name or a duplicate one, or a cell is no finite number.
    """
    chosen = np.arange(len(columns)) if keep is None else np.flatnonzero(keep)
    values = np.empty((0, len(chosen)), np.float32)
    seen: dict[str, int] = {}
    waiting: list[bytes] = []
    places: list[int] = []
    size = 0

    def parse() -> None:
        parsed = _parse(waiting, separator, columns, file, places)
        before = len(values)
        # Grown in place, by what is needed: a list of blocks joined in the end would be there twice.
        values.resize((before + len(parsed), len(chosen)), refcheck=False)
        values[before:] = parsed if len(chosen) == len(columns) else parsed[:, chosen]

    for row, label, text in tqdm(rows, desc=file, unit=unit, disable=None):
        if not label:
            raise DataError([Finding.at_rows("name_exists", file, None, [row], "has no name; download it again")])
        if label in seen:
            todo = "name the two apart"
            if spreadsheet_names([*seen, label])[-1:] == [label]:
                todo = "a spreadsheet made it of two genes: take the original table"
            message = f"duplicate name {label!r}; {todo}"
            raise DataError([Finding.at_rows("name_unique", file, None, [seen[label], row], message)])
        seen[label] = row
        waiting.append(text)
        places.append(row)
        size += len(text)
        if size >= block:
            parse()
            waiting, places, size = [], [], 0
    if waiting:
        parse()
    if not seen:
        raise DataError([Finding("file_layout", file, "has no rows of values; download it again")])
    return list(seen), values


def _parse(rows: list[bytes], separator: bytes, columns: Sequence[str], file: str, places: list[int]) -> np.ndarray:
    # As one column of numbers: a table of ten thousand columns takes three times as long to parse.
    text = b"\n".join(rows).replace(separator, b"\n") + b"\n"
    parsed = _numbers(text, len(rows) * len(columns))
    if parsed is None:
        cells = _tidied(text.split(b"\n")[:-1])
        parsed = _numbers(b"\n".join(cells) + b"\n", len(rows) * len(columns))
    if parsed is None:
        low, high = 0, len(cells)  # all cells before low are numbers, not all before high
        while high - low > 1:
            middle = (low + high) // 2
            good = _numbers(b"\n".join(cells[low:middle]) + b"\n", middle - low) is not None
            low, high = (middle, high) if good else (low, middle)
        row, column = divmod(low, len(columns))
        wrong = cells[low].decode("utf-8", "replace")
        todo = "; correct it or download the file again"
        if DECIMAL_COMMA.fullmatch(wrong):
            todo = ": it has a decimal comma; save the table with decimal points"
        message = f"{wrong!r} is no finite number{todo}"
        raise DataError([Finding.at_rows("column_type", file, columns[column], [places[row]], message)])
    return parsed.reshape(len(rows), len(columns))


def _tidied(cells: list[bytes]) -> list[bytes]:
    """Return the cells without blanks around them, empty where unknown in whatever spelling."""
    tidy = {}
    for cell in {cell for cell in cells if not _NUMBER.fullmatch(cell)}:
        word = known(cell.decode("utf-8", "replace"))
        tidy[cell] = (word or "").replace("\N{MINUS SIGN}", "-").encode()
    return [tidy.get(cell, cell) for cell in cells]


def _numbers(text: bytes, count: int) -> np.ndarray | None:
    # Copied into memory of Arrow's own: a thread that reads ahead may still hold the text when Python ends, and to let
    # go of Python's bytes then ends the program with an abort instead of its message.
    memory = pa.BufferOutputStream()
    memory.write(text)
    try:
        table = pyarrow.csv.read_csv(
            pa.BufferReader(memory.getvalue()),
            pyarrow.csv.ReadOptions(column_names=["value"]),
            pyarrow.csv.ParseOptions(delimiter="\t", quote_char=False, ignore_empty_lines=False),
            pyarrow.csv.ConvertOptions(column_types={"value": pa.float32()}, null_values=list(MISSING)),
        )
    except pa.ArrowInvalid:
        return None
    values = table.column(0).to_numpy()
    return values if len(values) == count and not np.isinf(values).any() else None


def without_missing(names: list[str], values: np.ndarray) -> tuple[list[str], np.ndarray, list[str]]:
    """Leave out the rows without a single value, in place; return names and values of the others, and their names."""
    empty = np.fromiter((np.isnan(row).all() for row in values), bool, len(values))
    if not empty.any():
        return names, values, []
    kept = np.flatnonzero(~empty)
    for to, origin in enumerate(kept):
        values[to] = values[origin]
    return [names[row] for row in kept], values[: len(kept)], [names[row] for row in np.flatnonzero(empty)]


def _decoded(cell: bytes, file: str, row: int | None) -> str:
    try:
        return cell.decode()
    except UnicodeDecodeError as error:
        where = "the header" if row is None else f"row {row + 1}"
        message = f"{where} is not UTF-8 (byte {cell[error.start]:#04x}); save it in UTF-8, or download it again"
        raise DataError([Finding("file_encoding", file, message)]) from error
