"""What the loaders of expression share: matrices read block by block, and their raw folder ``expression``.

A matrix of the official places is a text table with a name at the start of each row and numbers after it, up to some
gigabytes. Only the values, as float32, are ever in memory as a whole. Parquet stores column by column, so a matrix with
genes in rows is in the order that is written already, and nothing is transposed.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from tqdm import tqdm

from pipelines.faults import DataError, Finding, UserError
from pipelines.samples.expression import EXPRESSION_FILE, GENES_FILE, SAMPLES_FILE
from pipelines.sources.archives import ZIP, only_member, refuse_packed
from pipelines.sources.raw_folder import listed, written_folder

DROPPED_FILE = "dropped.csv"
SAMPLE = "sample_id"
MISSING = ("", "NA", "N/A", "NaN", "nan", "null")
UNKNOWN = (*MISSING, "#N/A", "[Not Available]")
BLOCK_BYTES = 16 * 2**20
ROW_GROUP_SAMPLES = 16_384  # every row group repeats the description of each of the many columns
_BARCODE = re.compile(r"(?P<patient>TCGA-[A-Z0-9]{2}-[A-Z0-9]{4})-(?P<type>[0-9]{2})[A-Z]?(?:-[A-Z0-9-]+)?")
_GZIP = b"\x1f\x8b"
UNPACKED_BYTES, UNPACKED_TIMES = (
    4_000_000_000,
    300,
)  # of compressed text: the larger of the two; it packs to a tenth
LINE_BYTES = 500_000_000  # a matrix of all CpG sites of a genome has lines of this size
ANNOTATION_BYTES = 1_000_000_000

Row = tuple[int, str, bytes | None]
"""Position in the file, name, values as text."""


@dataclass(frozen=True)
class Expression:
    """The expression profiles of a source.

    Attributes
    ----------
    values
        float32 of shape (samples, genes), NaN where missing; columns that are contiguous are written without a copy.
    names
        Column name of each gene.
    samples
        ``sample_id``, ``patient_id``, ``label`` and what else is known; a row for each row of ``values``.
    genes
        ``gene``, ``symbol``, ``entrez``; a row a gene. None where the source's names say nothing.
    dropped
        For each reason the names of what the source holds and this leaves out.
    notes
        What else was done to the values.
    """

    values: np.ndarray
    names: Sequence[str]
    samples: pd.DataFrame
    genes: pd.DataFrame | None = None
    dropped: dict[str, list[str]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def report(self) -> list[str]:
        """Return a line for every reason to drop something, with the first names, and for every note."""
        return [f"dropped {len(names)} {why}: {listed(names)}" for why, names in self.dropped.items()] + [*self.notes]


def write_expression(expression: Expression, out: Path) -> None:
    """Write a raw folder of kind ``expression``, whole or not at all.

    ``expression.parquet`` holds ``sample_id`` and a float32 column a gene, ``samples.csv`` the sample table,
    ``genes.csv`` the gene table where there is one, ``dropped.csv`` what was left out where anything was.

    Raises
    ------
    UserError
        ``out`` is there already, a gene or a sample stands twice or has no usable name, or the disk refuses.
    """
    samples, names = expression.samples, list(expression.names)
    if expression.values.shape != (len(samples), len(names)):
        raise ValueError(f"{expression.values.shape} values of {len(samples)} samples and {len(names)} genes")
    if not expression.values.size:
        raise UserError(f"{len(samples)} samples and {len(names)} genes are left; there is nothing to write")
    for what, known in (("sample", samples[SAMPLE].tolist()), ("gene", [SAMPLE, *names])):
        if doubled := sorted(str(name) for name, count in Counter(known).items() if count > 1):
            raise UserError(f"{listed(doubled)}: the {what} stands twice; keep one")
        if "" in known:
            raise UserError(f"a {what} has no name; name it")
    columns = [pa.array(samples[SAMPLE].astype(str).tolist(), pa.string())]
    columns += [pa.array(np.ascontiguousarray(column, np.float32), from_pandas=True) for column in expression.values.T]
    table = pa.table(columns, names=[SAMPLE, *names])
    with written_folder(out) as whole:
        # Dictionaries and statistics cost more than they give where a column holds few and mostly different values.
        pyarrow.parquet.write_table(
            table,
            whole / EXPRESSION_FILE,
            row_group_size=ROW_GROUP_SAMPLES,
            use_dictionary=False,
            write_statistics=False,
        )
        samples.to_csv(whole / SAMPLES_FILE, index=False)
        if expression.genes is not None:
            expression.genes.to_csv(whole / GENES_FILE, index=False)
        if expression.dropped:
            rows = [(why, name) for why, left in expression.dropped.items() for name in left]
            pd.DataFrame(rows, columns=["reason", "name"]).to_csv(whole / DROPPED_FILE, index=False)


def gene_table(names: Sequence[str]) -> pd.DataFrame:
    """Return the gene table of names such as ``TP53|7157``, ``TP53`` or ``7157``.

    Returns
    -------
    pandas.DataFrame
        ``gene``, ``symbol``, ``entrez``; empty where a name does not say it, as ``?|100130426`` has no symbol.
    """
    rows = []
    for name in names:
        symbol, _, entrez = (
            name.rpartition("|") if "|" in name else ("", "", name) if name.isdecimal() else (name, "", "")
        )
        rows.append((name, "" if symbol == "?" or re.fullmatch(r"ENSG[0-9.]+", symbol) else symbol, entrez))
    return pd.DataFrame(rows, columns=["gene", "symbol", "entrez"])


def tcga(barcode: str) -> tuple[str, int] | None:
    """Return the patient and the sample type (1 primary, 6 metastatic, 11 solid normal, ...) of a TCGA barcode.

    See https://docs.gdc.cancer.gov/Encyclopedia/pages/TCGA_Barcode/. None for any other name.
    """
    found = _BARCODE.fullmatch(barcode)
    return (found["patient"], int(found["type"])) if found else None


@contextlib.contextmanager
def opened(path: Path, *, workbook: bool = False) -> Iterator[io.BufferedReader]:
    """Open a file to read its bytes, unpacked where it is gzipped or a zip archive of one table, whatever its name.

    Parameters
    ----------
    path
        The file.
    workbook
        Whether it may be an Excel workbook; its bytes begin with `ZIP`.

    Raises
    ------
    UserError
        It is missing or cannot be read, its compressed content is broken, or it is an archive of several files, of
        another kind, or a workbook.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        with contextlib.ExitStack() as stack:
            stream = stack.enter_context(path.open("rb"))
            if stream.peek(4).startswith(ZIP):
                archive = stack.enter_context(zipfile.ZipFile(path))
                if member := only_member(archive, path):
                    stream = _unpacked(stack.enter_context(archive.open(member)), path)
            if stream.peek(2).startswith(_GZIP):
                stream = _unpacked(stack.enter_context(gzip.GzipFile(fileobj=stream)), path)
            start = stream.peek(512)[:512]
            refuse_packed(start, path)
            if start.startswith(ZIP) and not workbook:
                raise UserError(f"{path}: is a workbook, or an archive within another; save its sheet as csv")
            yield stream
    except (EOFError, zlib.error, gzip.BadGzipFile, zipfile.BadZipFile, NotImplementedError) as error:
        raise UserError(f"{path}: the compressed file is broken or cut short ({error}); download it again") from error
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error


def _unpacked(stream: IO[bytes] | gzip.GzipFile, path: Path) -> io.BufferedReader:
    return io.BufferedReader(_Unpacked(stream, path), 2**20)


class _Unpacked(io.RawIOBase):
    """The bytes of compressed text, as long as they are not many more than its size and its lines do not go on and on.

    A megabyte of zeros that are gzipped takes a kilobyte: a small file may unpack to more than the memory holds.
    """

    def __init__(self, stream: IO[bytes] | gzip.GzipFile, path: Path) -> None:
        self._stream, self._path = stream, path
        self._most = max(UNPACKED_BYTES, UNPACKED_TIMES * path.stat().st_size)
        self._count = self._line = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        block = self._stream.read(len(buffer))
        buffer[: len(block)] = block
        self._count += len(block)
        end = block.rfind(b"\n")
        self._line = self._line + len(block) if end < 0 else len(block) - end - 1
        if self._count > self._most:
            raise UserError(f"{self._path}: unpacks to more than {self._most / 1e9:g} GB; is it the right file?")
        if self._line > LINE_BYTES:
            raise UserError(f"{self._path}: has a line of more than {LINE_BYTES / 1e6:g} MB; is it the right file?")
        return len(block)


def read_header(lines: Iterator[bytes], file: str, first: str, *, separator: bytes = b"\t") -> list[str]:
    """Take the header off ``lines`` and return the names of the columns of values.

    Raises
    ------
    DataError
        Its first cell is not ``first``, or a name is empty or stands twice.
    """
    line = next(lines, b"").removeprefix(b"\xef\xbb\xbf").rstrip(b"\r\n")
    corner, *columns = [_text(cell, file, 0) for cell in line.split(separator)]
    if corner != first:
        message = f"the first column must be {first or 'unnamed'}, it is {corner[:40] or 'unnamed'}; "
        raise DataError([Finding("file_layout", file, message + "is this the official file?")])
    if not columns or "" in columns:
        message = f"column {columns.index('') + 2} of the header has no name" if columns else "has no columns of values"
        raise DataError([Finding("column_exists", file, f"{message}; download the file again")])
    doubled = sorted(name for name, count in Counter(columns).items() if count > 1)
    if doubled:
        raise DataError([Finding("column_unique", file, "the column stands twice; keep one", n) for n in doubled])
    return columns


def read_rows(
    lines: Iterable[bytes],
    columns: Sequence[str],
    file: str,
    *,
    separator: bytes = b"\t",
    keep: np.ndarray | None = None,
    block: int = BLOCK_BYTES,
    unit: str = "gene",
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

    Returns
    -------
    names : list of str
    values : numpy.ndarray
        float32 of shape (rows, kept columns), NaN where a cell is empty or one of `MISSING`.

    Raises
    ------
    DataError
        A row is too short or too long, has no name or one that stood before, or a cell is no finite number.
    """
    return read_values(_named_rows(lines, separator, file), columns, file, separator, keep, block, unit)


def _named_rows(lines: Iterable[bytes], separator: bytes, file: str) -> Iterator[Row]:
    for row, line in enumerate(line for line in lines if line.strip()):
        name, apart, values = line.rstrip(b"\r\n").partition(separator)
        yield row, _text(name, file, row + 1), values if apart else None


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
            message = f"{label} has {found} values, the header names {len(columns)}; the file may be cut short"
            raise DataError([Finding.at_rows("row_width", file, None, [row], message)])
        if not label:
            raise DataError([Finding.at_rows("name_exists", file, None, [row], "has no name; download it again")])
        if label in seen:
            message = f"{label} stands twice; keep one"
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
        cells = text.split(b"\n")[:-1]
        low, high = 0, len(cells)  # all cells before low are numbers, not all before high
        while high - low > 1:
            middle = (low + high) // 2
            good = _numbers(b"\n".join(cells[low:middle]) + b"\n", middle - low) is not None
            low, high = (middle, high) if good else (low, middle)
        row, column = divmod(low, len(columns))
        message = f"{cells[low].decode('utf-8', 'replace')!r} is no finite number; mend it or download the file again"
        raise DataError([Finding.at_rows("column_type", file, columns[column], [places[row]], message)])
    return parsed.reshape(len(rows), len(columns))


def _numbers(text: bytes, count: int) -> np.ndarray | None:
    try:
        table = pyarrow.csv.read_csv(
            pa.BufferReader(text),
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


def read_annotation(path: Path, choose: Callable[[Collection[str]], Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """Read columns of a csv or tsv table, keyed by the first of them.

    Parameters
    ----------
    path
        Table with a header, also gzipped. UTF-8, else Latin-1, in which the PanCanAtlas clinical table is.
    choose
        Given the header, the columns to read, the key first.

    Returns
    -------
    dict
        The key to the other columns' cells, each ``""`` where not known. Rows without a key are left out.

    Raises
    ------
    DataError
        A column is missing or stands twice, a row is not as wide as the header, or two rows of a key differ.
    """
    with opened(path) as stream:
        raw = stream.read(ANNOTATION_BYTES + 1)
    if len(raw) > ANNOTATION_BYTES:
        raise UserError(f"{path}: has more than {ANNOTATION_BYTES / 1e6:g} MB; is it the table of the samples?")
    try:
        content = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        content = raw.decode("latin-1")
    separator = "\t" if "\t" in content.partition("\n")[0] else ","
    found: dict[str, tuple[str, ...]] = {}
    rows: dict[str, int] = {}
    try:
        reader = csv.reader(io.StringIO(content, newline=""), delimiter=separator)
        header = next(reader, [])
        wanted = [_column(header, name, path.name) for name in choose(header)]
        for row, cells in enumerate(cells for cells in reader if cells):
            if len(cells) != len(header):
                message = f"must hold {len(header)} fields as the header does; download the file again"
                raise DataError([Finding.at_rows("row_width", path.name, None, [row], message)])
            key, *others = ("" if cells[place].strip() in UNKNOWN else cells[place].strip() for place in wanted)
            if found.setdefault(key, tuple(others)) != tuple(others) and key:
                message = f"{key} stands twice, and differently; keep one"
                raise DataError([Finding.at_rows("key_unique", path.name, None, [rows[key], row], message)])
            rows.setdefault(key, row)
    except csv.Error as error:
        message = f"not a readable table ({error}); download it again"
        raise DataError([Finding("file_readable", path.name, message)]) from error
    found.pop("", None)
    return found


def _column(header: list[str], name: str, file: str) -> int:
    if header.count(name) == 1:
        return header.index(name)
    if name in header:
        raise DataError([Finding("column_unique", file, "the column stands twice; keep one", name)])
    shown = ", ".join(header[:8]) + (f" and {len(header) - 8} more" if len(header) > 8 else "")
    raise DataError([Finding("column_exists", file, f"the column is missing; the file has {shown}", name)])


def _text(cell: bytes, file: str, row: int) -> str:
    try:
        return cell.decode().strip().strip('"')
    except UnicodeDecodeError as error:
        where = f"row {row}" if row else "the header"
        message = f"{where} is not UTF-8 (byte {cell[error.start]:#04x}); download the file again"
        raise DataError([Finding("file_encoding", file, message)]) from error
