"""What the loaders of expression share: matrices read block by block, and their raw folder ``expression``.

A matrix of the official places is a text table with a name at the start of each row and numbers after it, up to some
gigabytes. Only the values, as float32, are ever in memory as a whole. Parquet stores column by column, so a matrix with
genes in rows is in the order that is written already, and nothing is transposed.
"""

from __future__ import annotations

import codecs
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
from typing import IO, Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from tqdm import tqdm

from pipelines.faults import DataError, Finding, UserError
from pipelines.samples.expression import EXPRESSION_FILE, GENES_FILE, SAMPLES_FILE
from pipelines.samples.gene_names import several_genes, spreadsheet_names
from pipelines.sources.archives import ZIP, only_member, refuse_packed
from pipelines.sources.raw_folder import written_folder
from pipelines.text_values import UNKNOWN_WORDS, clean, folded, is_unknown, known, look_alikes, quoted
from pipelines.units import expression_scale

DROPPED_FILE = "dropped.csv"
SAMPLE = "sample_id"
MISSING = ("NaN", *sorted({form for word in UNKNOWN_WORDS for form in (word, word.upper(), word.capitalize())}))
"""How a cell of numbers says that there is none, in the spellings that are read fast; others are read too."""
BLOCK_BYTES = 16 * 2**20
ROW_GROUP_SAMPLES = 16_384  # every row group repeats the description of each of the many columns
_PATIENT = "TCGA-[A-Z0-9]{2}-[A-Z0-9]{4}"
_BARCODE = re.compile(rf"(?P<patient>{_PATIENT})-(?P<type>[0-9]{{2}})[A-Z]?(?:-[A-Z0-9-]+)?")
_NUMBER = re.compile(rb"[+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?")
_DECIMAL_COMMA = re.compile(r"[+-]?[0-9]*,[0-9]+(?:[eE][+-]?[0-9]+)?")
_COUNTED_APART = re.compile(r"__[a-zA-Z_]+|N_(?:unmapped|multimapping|noFeature|ambiguous)")  # by HTSeq and STAR
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
        """Return a line for every reason to drop something, note, group of look-alikes, and for the apparent scale."""
        lines = [f"dropped {len(names)} {why}: {quoted(names)}" for why, names in self.dropped.items()] + [*self.notes]
        for what, names, key in (
            *((f"{name}s", self.samples[column], _alike) for name, column in _NAMED.items() if column in self.samples),
            ("genes", self.names, _gene_alike),
        ):
            if alike := look_alikes(names, key):
                shown = "; ".join(" and ".join(map(repr, group)) for group in alike[:3])
                more = f"; and {len(alike) - 3} more" if len(alike) > 3 else ""
                lines.append(
                    f"warning: {what} that look alike stay apart: {shown}{more}; write them alike if they are one"
                )
        if dates := spreadsheet_names(self.names):
            lines.append(
                f"warning: a spreadsheet made dates or numbers of gene names: {quoted(dates)}; take the original"
            )
        if several := [name for name in self.names if several_genes(name)]:
            lines.append(f"warning: {len(several)} names tell several genes, and stay as they are: {quoted(several)}")
        if missing := sum(np.count_nonzero(np.isnan(column)) for column in self.values.T):
            lines.append(f"{missing} of {self.values.size} values are missing")
        if len(self.samples) > 2 and "label" in self.samples and self.samples["label"].is_unique:
            lines.append("warning: each sample has a label of its own, as names have and classes have not")
        scale, why = expression_scale(self.values)
        return [*lines, f"{why}: data.scale in params.yaml seems to be {scale}"]


_NAMED = {"label": "label", "patient": "patient_id", "sample": SAMPLE}


def _alike(name: str) -> str:
    number = re.sub(r"(?<![0-9.,])0+(?=[0-9])", "", folded(name))  # 04 and 4: a table program eats zeros
    return re.sub(r"[\s._-]+", " ", number)


def _gene_alike(name: str) -> str:
    versioned = re.fullmatch(r"(ENS[A-Z]*[GT][0-9]+)\.[0-9]+", name)
    return re.sub(r"[\s._-]+", " ", folded(versioned[1] if versioned else name))


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
    for what, held in (("sample", samples[SAMPLE].tolist()), ("gene", [SAMPLE, *names])):
        if doubled := sorted(str(name) for name, count in Counter(held).items() if count > 1):
            raise UserError(f"{quoted(doubled)}: the {what} stands twice; name the two apart")
        if "" in held:
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
        told = not is_unknown(symbol) and not re.fullmatch(r"ENS[A-Z]*G[0-9.]+(_PAR_Y)?", symbol)
        rows.append((name, symbol if told else "", entrez))
    return pd.DataFrame(rows, columns=["gene", "symbol", "entrez"])


def tcga(barcode: str) -> tuple[str, int] | None:
    """Return the patient and the sample type (1 primary, 6 metastatic, 11 solid normal, ...) of a TCGA barcode.

    See https://docs.gdc.cancer.gov/Encyclopedia/pages/TCGA_Barcode/. None for any other name.
    """
    found = _BARCODE.fullmatch(barcode)
    return (found["patient"], int(found["type"])) if found else None


def barcode(name: str) -> str:
    """Return a TCGA barcode as the GDC writes it, also of one in small letters or with dots, as R makes of it.

    Any other name is returned as `clean` writes it.
    """
    name = clean(name)
    written = re.sub(r"[._]", "-", name).upper()
    return written if re.fullmatch(_PATIENT, written) or tcga(written) else name


def rewritten(what: str, given: Sequence[str], read: Sequence[str]) -> list[str]:
    """Return a note on names that were not read as they stand, none if all were."""
    changed = {old: new for old, new in zip(given, read, strict=True) if old != new}
    if not changed:
        return []
    (old, new), *_ = changed.items()
    return [f"{len(changed)} {what} were written in another way, such as {old!r}, which is read as {new!r}"]


def read_barcodes(given: Sequence[str], file: str, notes: list[str]) -> list[str]:
    """Return names of samples as `barcode` writes them; ``notes`` takes how many that changes.

    Raises
    ------
    DataError
        Two are one barcode.
    """
    read = [barcode(name) for name in given]
    if doubled := sorted(name for name, count in Counter(read).items() if count > 1):
        message = "the column stands twice, written in two ways; name the two apart"
        raise DataError([Finding("column_unique", file, message, name) for name in doubled])
    notes += rewritten("barcodes", given, read)
    return read


def stand_alone(patients: Sequence[str], samples: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the patients, each unknown one (``""``) replaced by its sample, and a note that counts them."""
    unknown = [name for name, patient in zip(samples, patients, strict=True) if not patient]
    note = f"{len(unknown)} samples of unknown patients stand for a patient each: {quoted(unknown)}"
    return [patient or name for patient, name in zip(patients, samples, strict=True)], [note] if unknown else []


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
        raise UserError(f"{path}: {'is a folder; name the file' if path.is_dir() else 'no such file'}")
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
    if _plain(corner) not in {_plain(name) for name in first} and corner not in first:
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


def read_annotation(
    path: Path, choose: Callable[[list[str]], Sequence[str]], notes: list[str] | None = None
) -> dict[str, tuple[str, ...]]:
    """Read columns of a csv or tsv table, keyed by the first of them.

    Parameters
    ----------
    path, choose, notes
        As in `annotation_rows`; the key comes first.

    Returns
    -------
    dict
        The key to the other columns' cells, each ``""`` where not known. Rows without a key are left out.

    Raises
    ------
    DataError
        As in `annotation_rows`, or two rows of a key differ.
    """
    found: dict[str, tuple[str, ...]] = {}
    rows: dict[str, int] = {}
    for row, (key, *others) in annotation_rows(path, choose, notes=notes):
        if found.setdefault(key, tuple(others)) != tuple(others) and key:
            message = f"{key!r} stands twice, and differently; give it one row, or write the truth in both"
            raise DataError([Finding.at_rows("key_unique", path.name, None, [rows[key], row], message)])
        rows.setdefault(key, row)
    found.pop("", None)
    return found


def annotation_rows(
    path: Path, choose: Callable[[list[str]], Sequence[str]], *, comments: str = "", notes: list[str] | None = None
) -> list[tuple[int, tuple[str, ...]]]:
    """Read columns of a csv or tsv table.

    Parameters
    ----------
    path
        Table with a header, also gzipped, separated by tabs, commas or semicolons. UTF-8 or UTF-16, else Latin-1, in
        which the PanCanAtlas clinical table is.
    choose
        Given the header, the columns to read. A column is found in any case and whatever stands between its words.
    comments
        Characters that begin a line which is left out.
    notes
        Takes what words of the columns after the first were read as unknown, and how many cells had blanks too many.

    Returns
    -------
    list of tuple
        The position of each row and its cells as `clean` writes them, ``""`` where `is_unknown`.

    Raises
    ------
    DataError
        A column is missing or stands twice, or a row is not as wide as the header.
    """
    content = _annotation(path)
    if comments:
        content = re.sub(rf"^[{re.escape(comments)}].*\n?", "", content, flags=re.MULTILINE)
    first = content.lstrip("\r\n").partition("\n")[0]
    separator = "\t" if "\t" in first else max(",", ";", key=first.count)
    try:
        return _annotation_cells(content, separator, csv.QUOTE_MINIMAL, path.name, choose, notes)
    except DataError:
        if separator != "\t" or '"' not in content:
            raise
        try:  # 5" and the like: a tab-separated table of the official places quotes nothing
            return _annotation_cells(content, separator, csv.QUOTE_NONE, path.name, choose, notes)
        except DataError:
            pass
        raise


def _annotation(path: Path) -> str:
    with opened(path) as stream:
        raw = stream.read(ANNOTATION_BYTES + 1)
    if len(raw) > ANNOTATION_BYTES:
        raise UserError(f"{path}: has more than {ANNOTATION_BYTES / 1e6:g} MB; is it the table of the samples?")
    try:
        return raw.decode("utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _annotation_cells(
    content: str,
    separator: str,
    quoting: Literal[0, 3],
    file: str,
    choose: Callable[[list[str]], Sequence[str]],
    notes: list[str] | None,
) -> list[tuple[int, tuple[str, ...]]]:
    found = []
    blanks = 0
    try:
        reader = csv.reader(io.StringIO(content, newline=""), delimiter=separator, quoting=quoting)
        rows = (cells for cells in reader if cells)
        header = [clean(name) for name in next(rows, [])]
        wanted = [_column(header, name, file) for name in choose(header)]
        unknown = [Counter[str]() for _ in wanted]
        for row, cells in enumerate(rows):
            if len(cells) != len(header):
                message = f"must hold {len(header)} fields as the header does; download the file again"
                raise DataError([Finding.at_rows("row_width", file, None, [row], message)])
            read = []
            for place, words in zip(wanted, unknown, strict=True):
                cell = known(cells[place])
                if cell is None:
                    words[clean(cells[place])] += 1
                elif cell != cells[place]:
                    blanks += 1
                read.append(cell or "")
            found.append((row, tuple(read)))
    except csv.Error as error:
        message = f"not a readable table ({error}); download it again"
        raise DataError([Finding("file_readable", file, message)]) from error
    if notes is not None:
        for place, words in zip(wanted[1:], unknown[1:], strict=True):
            notes += unknown_words(f"{file}, column {header[place]!r}", words)
        if blanks:
            notes.append(f"{file}: blanks too many were taken out of {blanks} cells")
    return found


def unknown_words(where: str, words: Counter[str]) -> list[str]:
    """Return a note on the words that were read as unknown, and how often each stands there; none if only blanks."""
    said = [f"{word!r} ({count})" for word, count in words.most_common() if word]
    return [f"{where}: read as unknown: {', '.join(said)}"] if said else []


def column_of(header: Collection[str], names: Iterable[str]) -> str | None:
    """Return the first of ``names`` that a header has, exactly or else in another case or punctuation, None if none."""
    names = tuple(names)
    alike = {_plain(name): name for name in header if _plain(name)}
    return next((name for name in names if name in header), None) or next(
        (alike[_plain(name)] for name in names if _plain(name) in alike), None
    )


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", folded(name))


def _column(header: list[str], name: str, file: str) -> int:
    found = [place for place, held in enumerate(header) if held == name]
    found = found or [place for place, held in enumerate(header) if name and _plain(held) == _plain(name)]
    if len(found) == 1:
        return found[0]
    if found:
        same = len({header[place] for place in found}) == 1
        message = "the column stands twice; keep one" if same else f"it may be {quoted(header[at] for at in found)}"
        raise DataError([Finding("column_unique", file, message, name)])
    raise DataError([Finding("column_exists", file, f"the column is missing; the file has {quoted(header, 8)}", name)])


def _text(cell: bytes, file: str, row: int) -> str:
    try:
        return clean(clean(cell.decode()).strip('"'))
    except UnicodeDecodeError as error:
        where = f"row {row}" if row else "the header"
        message = f"{where} is not UTF-8 (byte {cell[error.start]:#04x}); download the file again"
        raise DataError([Finding("file_encoding", file, message)]) from error
