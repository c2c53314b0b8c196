"""Matrices of the official places: a name at the start of each row and numbers after it, up to some gigabytes.

They are read block by block: only the values, as float32, are ever in memory as a whole.
"""

from __future__ import annotations

import codecs
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.csv
from tqdm import tqdm

from pipelines.errors import DataError, Finding
from pipelines.samples.gene_names import spreadsheet_names
from pipelines.sources.annotation_table import plain_header
from pipelines.text_values import UNKNOWN_WORDS, clean, is_unknown, known

MISSING = ("NaN", *sorted({form for word in UNKNOWN_WORDS for form in (word, word.upper(), word.capitalize())}))
"""How a cell of numbers says that there is none, in the spellings that are read fast; others are read too."""
BLOCK_BYTES = 16 * 2**20
_NUMBER = re.compile(rb"[+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?")
_DECIMAL_COMMA = re.compile(r"[+-]?[0-9]*,[0-9]+(?:[eE][+-]?[0-9]+)?")
_COUNTED_APART = re.compile(r"__[a-zA-Z_]+|N_(?:unmapped|multimapping|noFeature|ambiguous)")  # by HTSeq and STAR
Row = tuple[int, str, bytes | None]
"""Position in the file, name, values as text."""


def read_header(lines: Iterator[bytes], file: str, first: Collection[str]) -> tuple[list[str], bytes]:
    """Take the header off ``lines``.

    Parameters
    ----------
    lines
        Of the file.
    file
        Its name, for messages.
    first
        What the first column may be called, in any case; ``""`` is no name.

    Returns
    -------
    columns : list of str
        The names of the columns of values, as `clean` writes them.
    separator : bytes
        What stands between cells: a tab if there is one in the header, else a comma or a semicolon.

    Raises
    ------
    DataError
        The first column has another name, or a name is empty or stands twice.
    """
    line = next(lines, b"").removeprefix(b"\xef\xbb\xbf").rstrip(b"\r\n")
    refuse_utf_16(line, file)
    separator = b"\t" if b"\t" in line else max(b",", b";", key=line.count)
    corner, *columns = [_text(cell, file, 0) for cell in line.split(separator)]
    if plain_header(corner) not in {plain_header(name) for name in first} and corner not in first:
        message = f"the first column must be {' or '.join(name or 'unnamed' for name in first)}, "
        message += f"it is {corner[:40]!r}; " if corner else "it is unnamed; "
        raise DataError([Finding("file_layout", file, f"{message}is this the official file? (R leaves it out)")])
    if not columns or "" in columns:
        message = f"column {columns.index('') + 2} of the header has no name" if columns else "has no columns of values"
        raise DataError([Finding("column_exists", file, f"{message}; download the file again")])
    doubled = sorted(name for name, count in Counter(columns).items() if count > 1)
    if doubled:
        message = "the column stands twice; name the two apart"
        raise DataError([Finding("column_unique", file, message, name) for name in doubled])
    return columns, separator


def refuse_utf_16(line: bytes, file: str) -> None:
    """Refuse a matrix by its first line if it is in UTF-16, as Excel writes "Unicode text".

    Raises
    ------
    DataError
        It is.
    """
    if line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise DataError([Finding("file_encoding", file, "is text in UTF-16; save it as text in UTF-8")])


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
    """Read rows of a name and numbers.

    Parameters
    ----------
    lines
        What follows the header; empty lines are left out.
    columns
        Names of the columns of values.
    file
        Its name, for messages.
    separator
        Between cells; no cell may contain it.
    keep
        Which columns to keep, bool of shape (columns,); all without it. The others are checked as well.
    block
        Bytes of text that are parsed at once.
    unit
        What a row is, for the progress bar.
    no_genes
        Where rows are genes: takes the names of the rows that are none, which are left out. These are words for
        "unknown", what HTSeq and STAR counted apart, and copies of pseudoautosomal genes on Y.

    Returns
    -------
    names : list of str
    values : numpy.ndarray
        float32 of shape (rows, kept columns), NaN where a cell says that nothing is known.

    Raises
    ------
    DataError
        A row is too short or too long, has no name or one that stood before, or a cell is no finite number.
    """
    return read_values(_named_rows(lines, separator, file, no_genes), columns, file, separator, keep, block, unit)


def _named_rows(
    lines: Iterable[bytes], separator: bytes, file: str, no_genes: list[str] | None = None
) -> Iterator[Row]:
    for row, line in enumerate(line for line in lines if line.strip()):
        name, apart, values = line.rstrip(b"\r\n").partition(separator)
        text = _text(name, file, row + 1)
        if no_genes is not None and text and not is_gene(text):
            no_genes.append(text)
        else:
            yield row, text, values if apart else None


def is_gene(name: str) -> bool:
    """Return whether a row's name may be a gene's, and not one of those that `read_rows` leaves out."""
    return not (is_unknown(name) or _COUNTED_APART.fullmatch(name) or name.endswith("_PAR_Y"))


def read_values(
    rows: Iterable[Row],
    columns: Sequence[str],
    file: str,
    separator: bytes,
    keep: np.ndarray | None = None,
    block: int = BLOCK_BYTES,
    unit: str = "gene",
) -> tuple[list[str], np.ndarray]:
    """Read rows whose name was taken off already; as `read_rows` does, which says what is returned and raised.

    Parameters
    ----------
    rows
        The position of each in the file, for messages; its name; its values as text, None where there is none.
    columns, file, separator, keep, block, unit
        As in `read_rows`.
    """
    chosen = np.arange(len(columns)) if keep is None else np.flatnonzero(keep)
    everything = len(chosen) == len(columns)
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
        values[before:] = parsed if everything else parsed[:, chosen]

    for row, label, rest in tqdm(rows, desc=file, unit=unit, disable=None):
        found = 0 if rest is None else np.count_nonzero(np.frombuffer(rest, np.uint8) == separator[0]) + 1
        if rest is None or found != len(columns):
            message = f"{label!r} has {found} values, the header names {len(columns)}; the file may be cut short"
            raise DataError([Finding.at_rows("row_width", file, None, [row], message)])
        if not label:
            raise DataError([Finding.at_rows("name_exists", file, None, [row], "has no name; download it again")])
        if label in seen:
            message = f"{label!r} stands twice; name the two apart"
            if spreadsheet_names([*seen, label])[-1:] == [label]:
                message = f"{label!r} stands twice: a spreadsheet made it of two genes; take the original table"
            raise DataError([Finding.at_rows("name_unique", file, None, [seen[label], row], message)])
        seen[label] = row
        waiting.append(rest)
        places.append(row)
        size += len(rest)
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
    text = b"\n".join(rows).replace(separator, b"\n").replace(b'"', b"") + b"\n"
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
        todo = "; mend it or download the file again"
        if _DECIMAL_COMMA.fullmatch(wrong):
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
    """Leave out the rows without a single value; ``values`` is overwritten, so that there is no second copy.

    Returns
    -------
    names, values
        Of the rows that are left.
    dropped : list of str
        Names of the others.
    """
    empty = np.fromiter((np.isnan(row).all() for row in values), bool, len(values))
    if not empty.any():
        return names, values, []
    kept = np.flatnonzero(~empty)
    for to, origin in enumerate(kept):
        values[to] = values[origin]
    return [names[row] for row in kept], values[: len(kept)], [names[row] for row in np.flatnonzero(empty)]


def _text(cell: bytes, file: str, row: int) -> str:
    try:
        return clean(clean(cell.decode()).strip('"'))
    except UnicodeDecodeError as error:
        where = f"row {row}" if row else "the header"
        message = f"{where} is not UTF-8 (byte {cell[error.start]:#04x}); download the file again"
        raise DataError([Finding("file_encoding", file, message)]) from error
