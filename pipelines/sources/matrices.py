"""Matrices of the official places: names at the start of each row and numbers after them, up to some gigabytes.

They are read block by block: only the values, as float32, are ever in memory as a whole.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.csv
from tqdm import tqdm

from pipelines.errors import DataError, Finding
from pipelines.samples.gene_names import spreadsheet_names
from pipelines.samples.table_text import letters_of
from pipelines.sources.tables import DECIMAL_COMMA, line_cells, refuse_duplicates, separator_of
from pipelines.text_values import UNKNOWN_WORDS, clean, known

MISSING = ("NaN", *sorted({form for word in UNKNOWN_WORDS for form in (word, word.upper(), word.capitalize())}))
"""How a cell of numbers says that there is none, in the spellings that are read fast; others are read too."""
BLOCK_BYTES = 16 * 2**20  # of text that are parsed at once
_NUMBER = re.compile(rb"[+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?")

Row = tuple[int, str, bytes]
"""Position in the file, name, values as text."""


def header_of(line: bytes, file: str) -> tuple[list[str], bytes]:
    """Return the cells of a header as `clean` writes them, without empty ones at its end, and their separator."""
    text = _decoded(line.rstrip(b"\r\n"), file, None)
    separator = separator_of(text)
    cells = [clean(clean(cell).strip('"')) for cell in line_cells(text, separator, file)]
    while len(cells) > 1 and not cells[-1]:
        cells.pop()
    refuse_duplicates(cells, file)
    return cells, separator.encode()


class Matrix:
    """A matrix whose rows begin with ``lead`` cells of text, by default a name, before the values of `columns`."""

    def __init__(self, lines: Iterator[bytes], file: str, corner: Collection[str] = ()) -> None:
        """Take the header off ``lines``; its first cell must be of ``corner`` if given, where ``""`` is no name."""
        self.header, self.separator = header_of(next(lines, b""), file)
        self.lines, self.file, self.lead = lines, file, 1
        first = self.header[0] if self.header else ""
        if not corner:
            return
        if first not in corner and letters_of(first) not in {letters_of(name) or None for name in corner}:
            names = " or ".join(name or "unnamed" for name in corner)
            message = f"the first column must be {names}, it is {first[:40]!r}; is this the official file?"
            raise DataError([Finding("file_layout", file, message)])
        if not self.columns or "" in self.columns:
            unnamed = f"column {self.columns.index('') + 2} of the header has no name" if self.columns else ""
            message = f"{unnamed or 'has no columns of values'}; download the file again"
            raise DataError([Finding("column_exists", file, message)])

    @property
    def columns(self) -> list[str]:
        """Return the names of the columns of values."""
        return self.header[self.lead :]

    def rows(self) -> Iterator[tuple[int, list[str], bytes]]:
        """Yield the position of each line with content, its first `lead` cells, and the text of its others."""
        separator, lead, width = self.separator, self.lead, len(self.columns)
        filled = (line for line in (line.rstrip(b"\r\n") for line in self.lines) if line.strip(b'" ' + separator))
        for position, line in enumerate(filled):
            cells = self._unquoted(line, position) if b'"' in line else line.split(separator, lead)
            names = [clean(_decoded(cell, self.file, position)) for cell in cells[:lead]]
            values = cells[lead] if len(cells) > lead else b""
            while values.endswith(separator) and values.count(separator) >= width:
                values = values[:-1]
            # Counted by NumPy: a line of a matrix of sites has a million separators.
            count = np.count_nonzero(np.frombuffer(values, np.uint8) == separator[0]) + (len(cells) > lead)
            if count != width:
                message = f"has {count} values, the header names {width}; the file may be cut short"
                raise DataError([Finding.at_rows("row_width", self.file, None, [position], message)])
            yield position, names, values

    def _unquoted(self, line: bytes, position: int) -> list[bytes]:
        """Split a line with quoted cells, in which a separator is none; one within a number is a comma."""
        sign, lead = self.separator.decode(), self.lead
        cells = [cell.strip() for cell in line_cells(_decoded(line, self.file, position), sign, self.file)]
        for column, cell in zip(self.columns, cells[lead:], strict=False):
            if sign in cell:
                message = f"{cell!r} has a decimal comma, or one between thousands; save the table with decimal points"
                raise DataError([Finding.at_rows("column_type", self.file, column, [position], message)])
        return [cell.encode() for cell in (*cells[:lead], *([sign.join(cells[lead:])] if len(cells) > lead else []))]

    def read(
        self, rows: Iterable[Row] | None = None, *, keep: np.ndarray | None = None, unit: str = "gene"
    ) -> tuple[list[str], np.ndarray]:
        """Return the names of rows, by default of all, and their values in the columns to ``keep`` (all without it).

        float32 of shape (rows, kept columns), NaN where unknown. A `DataError` names faulty names and cells.
        """
        if rows is None:
            rows = ((row, name, values) for row, (name,), values in self.rows())
        columns = self.columns
        chosen = np.arange(len(columns)) if keep is None else np.flatnonzero(keep)
        values = np.empty((0, len(chosen)), np.float32)
        seen: dict[str, int] = {}
        for block in _blocks(tqdm(rows, desc=self.file, unit=unit, disable=None)):
            for row, name, _ in block:
                if not name:
                    message = "has no name; download it again"
                    raise DataError([Finding.at_rows("name_exists", self.file, None, [row], message)])
                if name in seen:
                    todo = "name the two apart"
                    if name in spreadsheet_names([*seen, name]):
                        todo = "a spreadsheet made it of two genes: take the original table"
                    message = f"duplicate name {name!r}; {todo}"
                    raise DataError([Finding.at_rows("name_unique", self.file, None, [seen[name], row], message)])
                seen[name] = row
            parsed = self._parse(block, columns)
            before = len(values)
            # Grown in place, by what is needed: a list of blocks joined in the end would be there twice.
            values.resize((before + len(parsed), len(chosen)), refcheck=False)
            values[before:] = parsed if len(chosen) == len(columns) else parsed[:, chosen]
        if not seen:
            raise DataError([Finding("file_layout", self.file, "has no rows of values; download it again")])
        return list(seen), values

    def _parse(self, block: list[Row], columns: Sequence[str]) -> np.ndarray:
        """Return the values of a block as float32 of shape (rows, columns)."""
        # As one column of numbers: a table of ten thousand columns takes three times as long to parse.
        text = b"\n".join(values for *_, values in block).replace(self.separator, b"\n")
        width = len(columns)
        parsed = _numbers(text, len(block) * width)
        if parsed is None:
            cells = _tidied(text.split(b"\n"))
            parsed = _numbers(b"\n".join(cells), len(cells))
        if parsed is None:
            starts = range(0, len(cells), width)
            at = next(at for at in starts if _numbers(b"\n".join(cells[at : at + width]), width) is None)
            at = next(place for place in range(at, at + width) if _numbers(cells[place], 1) is None)
            wrong = cells[at].decode("utf-8", "replace")
            todo = "correct it or download it again"
            if DECIMAL_COMMA.fullmatch(wrong):
                todo = "it has a decimal comma; save the table with decimal points"
            message = f"{wrong!r} is no finite number: {todo}"
            row = block[at // width][0]
            raise DataError([Finding.at_rows("column_type", self.file, columns[at % width], [row], message)])
        return parsed.reshape(len(block), width)


def _blocks(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Yield rows together, as many as have `BLOCK_BYTES` of text."""
    block: list[Row] = []
    size = 0
    for row in rows:
        block.append(row)
        size += len(row[2])
        if size >= BLOCK_BYTES:
            yield block
            block, size = [], 0
    if block:
        yield block


def _tidied(cells: list[bytes]) -> list[bytes]:
    """Return the cells without blanks around them, empty where unknown in whatever spelling, truth as 1 and 0."""
    tidy = {}
    for cell in set(cells):
        if not _NUMBER.fullmatch(cell):
            word = (known(cell.decode("utf-8", "replace")) or "").replace("\N{MINUS SIGN}", "-")
            tidy[cell] = {"true": "1", "false": "0"}.get(word.casefold(), word).encode()
    return [tidy.get(cell, cell) for cell in cells]


def _numbers(text: bytes, count: int) -> np.ndarray | None:
    """Return the numbers of ``count`` lines, None if a line is no finite number."""
    # Copied into memory of Arrow's own: a thread that reads ahead may still hold the text when Python ends, and to let
    # go of Python's bytes then ends the program with an abort instead of its message.
    memory = pa.BufferOutputStream()
    memory.write(text + b"\n")
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


def _decoded(cell: bytes, file: str, row: int | None) -> str:
    try:
        return cell.decode()
    except UnicodeDecodeError as error:
        where = "the header" if row is None else f"row {row + 1}"
        message = f"{where} is not UTF-8 (byte {cell[error.start]:#04x}); save it in UTF-8, or download it again"
        raise DataError([Finding("file_encoding", file, message)]) from error
