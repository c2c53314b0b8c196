"""Table files that people bring: CSV of any program, workbooks, Parquet, compressed or not, recognized by content.

Names stay text as the file has them (``0012``, ``1E5``); cells are read as numbers also with decimal commas and words
for a missing value. A note says what is read otherwise than it is written.
"""

import csv
import io
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow

from pipelines.errors import UserError
from pipelines.samples.formats import check_parquet_size
from pipelines.sources.archives import GZIP, ZIP, text_lines, unpacked
from pipelines.sources.tables import cell_text, opened_workbook, separator_of, sheet_rows
from pipelines.text_values import clean, is_unknown, quoted

_PLAIN = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_COMMA = re.compile(r"[+-]?\d*,\d+(?:[eE][+-]?\d+)?")
_EITHER = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")  # 1,234 may be a little more than one, or a thousand
_TRUTH = {"true": 1.0, "false": 0.0}
ENDINGS = ("csv", "tsv", "txt", "parquet", "xlsx", "gz", "zip")
UNPACKED_BYTES = 1_000_000_000
_FIRST = 20  # rows that tell how a table is laid out


def with_point(cell: Any) -> Any:
    """Return a text with a plain minus sign and a decimal point in place of a comma; any other cell as it is."""
    if not isinstance(cell, str):
        return cell
    text = _tidy(cell)
    return text.replace(",", ".") if _COMMA.fullmatch(text) else text


def _tidy(cell: Any) -> str:
    return clean(str(cell)).replace("\u2212", "-")


class Numbers(NamedTuple):
    """A table's cells as float64, NaN where missing or no number; where they are no number; and notes in sentences."""

    values: np.ndarray
    wrong: np.ndarray
    notes: list[str]


def read_numbers(table: pd.DataFrame, name: str, *, decimal_comma: bool = False) -> Numbers:
    """Return the cells of a table (numbers, texts, missing) as numbers; all cells together decide what a comma is.

    Where none decides, ``decimal_comma`` says whether ``1,234`` is a little more than one. Cells that contradict one
    another, or leave it open, are a `UserError`. Signs between thousands are not read: such a cell is no number.
    """
    objects = [place for place, dtype in enumerate(table.dtypes) if not pd.api.types.is_numeric_dtype(dtype)]
    values = np.full(table.shape, np.nan)
    wrong = np.zeros(table.shape, dtype=bool)
    plain = sorted(set(range(table.shape[1])) - set(objects))
    values[:, plain] = table.iloc[:, plain].astype(np.float64).to_numpy()
    if not objects:
        return Numbers(values, wrong, [])
    codes, cells = pd.factorize(table.iloc[:, objects].to_numpy(dtype=object).ravel())  # each text is read once
    found = pd.to_numeric(pd.Series(cells, dtype=object), errors="coerce").astype(np.float64).to_numpy().copy()
    failed = np.flatnonzero(np.isnan(found))
    tidy = [_tidy(cells[place]) for place in failed]
    commas = [text for text in tidy if _COMMA.fullmatch(text)]
    if commas:
        points = [cell for cell in cells if isinstance(cell, str) and "." in cell and _PLAIN.fullmatch(_tidy(cell))]
        _refuse_uncertain(name, commas, points, decimal_comma)
    found[failed] = [_number(text) for text in tidy]
    unknown = failed[[is_unknown(text) for text in tidy]] if len(failed) else failed
    bad = np.zeros(len(cells) + 1, dtype=bool)  # the last is that of missing cells, whose code is -1
    bad[failed] = np.isnan(found[failed])
    bad[unknown] = False
    shape = (len(table), len(objects))
    values[:, objects] = np.append(found, np.nan)[codes].reshape(shape)
    wrong[:, objects] = bad[codes].reshape(shape)
    notes = []
    if commas:
        notes.append(f"Decimal commas were read: {commas[0]!r} as {_number(commas[0]):g}.")
    if count := int(np.isin(codes, unknown).sum()):
        words = quoted(sorted(str(cells[place]) for place in unknown), 3)
        notes.append(f"Cells with a word for unknown ({words}) are missing values: {count:,}.")
    return Numbers(values, wrong, notes)


def _refuse_uncertain(name: str, commas: Sequence[str], points: Sequence[str], decimal_comma: bool) -> None:
    todo = "save it with decimal points, and without signs between thousands"
    if points:
        both = quoted([commas[0], points[0]])
        raise UserError(f"{name}: with {both} in one table the decimal sign is not certain; {todo}")
    if not decimal_comma and all(_EITHER.fullmatch(text) for text in commas):
        either = f"{commas[0].replace(',', '.')} or {commas[0].replace(',', '')}"
        raise UserError(f"{name}: {commas[0]!r} may be {either}, and no other cell decides; {todo}")


def _number(text: str) -> float:
    if text.lower() in _TRUTH:
        return _TRUTH[text.lower()]
    text = with_point(text)
    return float(text) if _PLAIN.fullmatch(text) else np.nan


@dataclass(frozen=True)
class TableFile:
    """A table as a file has it; cells are texts or what a workbook or Parquet holds, None or NaN for nothing."""

    name: str
    written: list[str]  # names of the columns; empty for the first where the file leaves it out
    cells: pd.DataFrame
    notes: list[str] = field(default_factory=list)  # what was done with the file, in sentences
    decimal_comma: bool = False  # whether 1,234 is a little more than one where no cell decides

    @property
    def names(self) -> list[str]:
        """Return the names of the columns without blanks at their ends."""
        return [clean(each) for each in self.written]

    def column(self, place: int) -> list[str]:
        """Return a column as text."""
        return [cell_text(cell) for cell in self.cells[place]]

    def numbers(self, place: int) -> pd.Series | None:
        """Return the known cells of a column that holds numbers and nothing else; None of any other."""
        known = [with_point(cell) for cell in self.cells[place] if not is_unknown(cell)]
        found = pd.to_numeric(pd.Series(known, dtype=object), errors="coerce")
        return None if found.isna().any() else found.astype(float)


def read_table_file(
    name: str, content: bytes, *, most: int, fits: Callable[[Iterable[str]], int] | None = None
) -> TableFile:
    """Read a table with at most ``most`` values; a `UserError` names the file and what to do.

    ``fits`` counts the names that are looked for in a row or column: of several sheets the only one with any is read.
    """
    if not content:
        raise UserError(f"{name}: the file is empty.")
    ending = Path(name).suffix.lower().lstrip(".")
    if ending in ("xlsx", "zip", "gz") and not content.startswith((ZIP, GZIP)):
        raise UserError(f"{name}: its content is none of a {ending} file; was it cut off? Save it as “CSV UTF-8”.")
    if content.startswith(b"PAR1") or ending == "parquet":
        return _without_empty(_parquet(name, content, most))
    file = io.BufferedReader(io.BytesIO(content))
    with unpacked(file, Path(name), len(content), workbook=True, most=UNPACKED_BYTES) as stream:
        if stream.peek(4).startswith(ZIP):
            return _without_empty(_workbook(name, stream, fits))
        return _without_empty(_csv(name, b"".join(text_lines(stream, Path(name))), most))


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
    return TableFile(name, list(map(cell_text, found.columns)), found.set_axis(range(found.shape[1]), axis=1))


def _workbook(name: str, stream: io.BufferedReader, fits: Callable[[Iterable[str]], int] | None) -> TableFile:
    with opened_workbook(stream, Path(name), UNPACKED_BYTES) as book:
        filled = {sheet.title: rows for sheet in book.worksheets if (rows := list(sheet_rows(sheet)))}
    fitting = filled
    if len(filled) > 1 and fits is not None:
        fitting = {
            title: rows
            for title, rows in filled.items()
            if max(fits(map(cell_text, rows[0])), fits(cell_text(row[0]) for row in rows)) > 0
        }
    if len(fitting) != 1:
        raise UserError(f"{name}: the sheets {quoted(fitting or filled)} may be meant; save the one as “CSV UTF-8”.")
    ((title, (header, *rows)),) = fitting.items()
    names = [*map(cell_text, header), *[""] * (max(map(len, [header, *rows])) - len(header))]
    left_out = [f"Of its sheets {title!r} was read, not {quoted(each for each in filled if each != title)}."]
    return TableFile(name, names, _frame(rows, len(names)), left_out if len(filled) > 1 else [])


def _frame(rows: Sequence[Sequence[Any]], width: int) -> pd.DataFrame:
    return pd.DataFrame([[*row, *[None] * (width - len(row))] for row in rows], columns=range(width), dtype=object)


def _csv(name: str, content: bytes, most: int) -> TableFile:
    text, notes = _decoded(name, content)
    separator = separator_of(text.split("\n", 1)[0])
    if text.count(separator) + text.count("\n") > most:
        raise UserError(f"{name}: the file holds more than {most:,} values.")
    try:
        lines = csv.reader(io.StringIO(text), delimiter=separator, strict=True)
        header, *rows = [row for row in lines if row]
    except csv.Error as error:
        raise UserError(f"{name}: it cannot be read as a table ({error}).") from error
    if len(header) == 1 and all(len(row[0].split()) > 1 for row in (header, *rows)):
        raise UserError(f"{name}: its columns are not separated by commas, semicolons or tabs; save it as “CSV UTF-8”.")
    names, widths = header, list(map(len, rows))
    if rows and widths[0] == len(header) + 1:
        # A separator at the end of each row; a later row with more is at fault.
        ended = all(len(row) == widths[0] and not row[-1] for row in rows[:_FIRST])
        names = [*names, ""] if ended else ["", *names]  # R leaves out the head of the column of names
    if rows and max(widths) > len(names):
        row = next(row for row, width in enumerate(widths, start=1) if width > len(names))
        what = f"has {widths[row - 1]} values, the first line names {len(header)} columns"
        raise UserError(f"{name}, row {row}: {what}; it cannot be read as a table separated by {separator!r}.")
    if len(rows) > 1 and 1 < widths[-1] < len(names):
        raise UserError(f"{name}: the last row has {widths[-1]} values of {len(names)}; was it cut off? Save it again.")
    if short := [row for row, width in enumerate(widths, start=1) if width < len(header)]:
        notes.append(f"Rows with fewer values than the first line has names lack the last ones: {quoted(short)}.")
    filled = [[None if not cell or cell.isspace() else cell for cell in row] for row in rows]
    return TableFile(name, names, _frame(filled, len(names)), notes, separator == ";")


def _decoded(name: str, content: bytes) -> tuple[str, list[str]]:
    """Return the text of a file with line ends of one kind, and notes."""
    notes = []
    try:
        text = content.decode()
    except UnicodeDecodeError:
        try:
            text = content.decode("cp1252")
        except UnicodeDecodeError as error:
            raise UserError(f"{name}: it is no text in UTF-8. Save it as “CSV UTF-8”.") from error
        notes.append("Its text is not UTF-8; it was read as Windows-1252. Look at names with accents.")
    if "\0" in text:
        raise UserError(f"{name}: it is no text, it holds zero bytes. Save it as “CSV UTF-8”.")
    return text.replace("\r\n", "\n").replace("\r", "\n"), notes


def _without_empty(table: TableFile) -> TableFile:
    """Return the table without rows that hold nothing, and without columns that have neither name nor values."""
    empty = table.cells.isna()
    rows, columns = empty.all(axis=1), empty.all(axis=0)
    nameless = [place for place, column in enumerate(table.names) if not column]
    if named := [place for place in nameless if place > 0 and not columns[place]]:
        raise UserError(f"{table.name}: column {named[0] + 1} has values and no name; name it, or take it out.")
    kept = [place for place in range(len(table.written)) if place not in nameless or not columns[place]]
    cells = table.cells.loc[~rows, kept].set_axis(range(len(kept)), axis=1)
    if cells.empty:
        raise UserError(f"{table.name}: the table has no rows. It needs a row a sample and a column a gene.")
    notes = list(table.notes)
    if gone := len(table.written) - len(kept):
        notes.append(f"Columns without name and values were left out: {gone}.")
    if rows.any():
        notes.append(f"Rows without values were left out: {int(rows.sum())}.")
    return replace(table, written=[table.written[place] for place in kept], cells=cells, notes=notes)


def refuse_shifted(table: TableFile, named: int) -> None:
    """Refuse a first line that is one name short, since every name would be above the column before its own.

    R leaves out the head of row names. They are the names where ``named`` holds numbers and they, or its own, do not.
    """
    if named == 0 or table.names[0] or (numbers := table.numbers(named)) is None:
        return
    if table.numbers(0) is None or (numbers % 1 != 0).any():
        raise UserError(
            f"{table.name}: the rows have {len(table.names)} values, the first line names {len(table.names) - 1} "
            f"columns, and the cells under {table.names[named]!r} are numbers; correct the first line."
        )


def refuse_repeated(name: str, what: str, written: Sequence[str]) -> None:
    """Refuse names that are the same but for blanks; the message shows how each is written."""
    first: dict[str, str] = {}
    for each in written:
        other = first.get(clean(each))
        first[clean(each)] = each
        if other is not None:
            beside = "" if other == each else f" ({other!r} and {each!r})"
            raise UserError(f"{name}: the {what} {clean(each)} is a duplicate{beside}; keep one.")
