"""Readers of the tables of raw folders; every fault becomes a `DataError` that names file, column and row."""

import csv
import io
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow.parquet

from pipelines.errors import DataError, Finding, UserError
from pipelines.samples.raw_files import CELL_LINES_FILE, DRUGS_FILE, RESPONSE_FILE
from pipelines.samples.table_text import (
    SEPARATORS,
    cleaned_text,
    decoded,
    header_names,
    letters_of,
    missing_file,
    separator,
    tell_alike,
    typed,
)
from pipelines.text_values import quoted

if TYPE_CHECKING:
    from pipelines.modalities.pairs import PairsTask

KEYS = ("study", "cell_line_id", "drug_id")
MOST_VALUES = 4_000_000_000  # of a raw table: 16 GB of float32; all of TCGA has 0.7 billion
_COLUMNS_ALONE = 5  # up to so many columns of a wrong type get a finding each, more share one
_SHOWN = 8  # names of columns in a message

Asked = dict[str, Any]  # columns of a table, as arguments of `read_table`


@dataclass(frozen=True)
class ResponseTables:
    """The tables of a raw folder ``response``, as in the files, and warnings of the reader."""

    response: pd.DataFrame  # `study`, `cell_line_id`, `drug_id` and the target; a row a measurement
    cell_lines: pd.DataFrame  # at least `cell_line_id` and `tissue`
    drugs: pd.DataFrame  # at least `drug_id` and `smiles`
    omics: dict[str, pd.DataFrame]  # `cell_line_id` and one column of numbers a feature
    notes: tuple[Finding, ...] = ()


def read_response_tables(
    folder: Path | str, task: "PairsTask", *, labelled: bool = True, optional: Collection[str] = ()
) -> ResponseTables:
    """Read a raw folder ``response``; `DataError` lists every file and column that is missing or of a wrong type.

    ``labelled``: the target column must be there. ``optional``: omics without a file are returned without rows.
    """
    folder = Path(folder)
    found, notes = read_tables(folder, asked_of_response(folder, task, labelled=labelled, optional=optional))
    nothing = pd.DataFrame({"cell_line_id": pd.Series(dtype=object)})
    omics = {str(name): found.get(f"{name}.parquet", nothing) for name in task.data.omics}
    return ResponseTables(found[RESPONSE_FILE], found[CELL_LINES_FILE], found[DRUGS_FILE], omics, notes)


def asked_of_response(
    folder: Path, task: "PairsTask", *, labelled: bool = True, optional: Collection[str] = ()
) -> dict[str, Asked]:
    """Return the files that a raw folder ``response`` must have, see `read_response_tables`, and their columns."""
    asked: dict[str, Asked] = {
        RESPONSE_FILE: {"text": KEYS, "numbers": (task.data.target,) if labelled else ()},
        CELL_LINES_FILE: {"text": ("cell_line_id", "tissue")},
        DRUGS_FILE: {"text": ("drug_id", "smiles")},
    }
    for name in task.data.omics:
        if name not in optional or (folder / f"{name}.parquet").exists():
            asked[f"{name}.parquet"] = {"text": ("cell_line_id",), "all_other_numbers": True}
    return asked


def read_tables(folder: Path, asked: dict[str, Asked]) -> tuple[dict[str, pd.DataFrame], tuple[Finding, ...]]:
    """Return the tables ``asked`` of a folder and warnings; `DataError` lists the faults of all of them."""
    found, findings = read_sound_tables(folder, asked)
    if errors := [finding for finding in findings if finding.severity == "error"]:
        raise DataError(errors)
    return found, tuple(findings)


def read_sound_tables(folder: Path, asked: dict[str, Asked]) -> tuple[dict[str, pd.DataFrame], list[Finding]]:
    """Return those of the tables ``asked`` that can be read, and errors and warnings about all of them."""
    found, findings = dict[str, pd.DataFrame](), list[Finding]()
    for name, columns in asked.items():
        try:
            found[name] = read_table(folder / name, notes=findings, **columns)
        except DataError as error:
            findings += error.findings
    return found, findings


def read_table(
    path: Path,
    *,
    text: tuple[str, ...] = (),
    numbers: tuple[str, ...] = (),
    others: tuple[str, ...] = (),
    all_other_numbers: bool = False,
    verbatim: tuple[str, ...] = (),
    notes: list[Finding] | None = None,
) -> pd.DataFrame:
    """Read a CSV or parquet table, check the presence and type of its columns, and clean its text.

    ``text``, ``numbers`` and ``others`` must be there: as text (returned as ``object``, None for empty and unknown
    cells, and cleaned unless ``verbatim``), as numbers, or of any type. ``all_other_numbers``: every column that is not
    in ``text`` holds numbers. ``notes`` takes warnings. `DataError` for files and columns that are missing or wrong.
    """
    notes = [] if notes is None else notes
    if not path.is_file():
        raise DataError([missing_file(path)])
    frame = _read_csv(path, text, notes) if path.suffix == ".csv" else _read_parquet(path, text, notes)
    needed = [name for name in (*text, *numbers, *others) if name not in frame]
    findings = [_missing_column(name, frame, path.name) for name in needed]
    findings += [found for name in text if name in frame for found in _text_findings(frame[name], path.name)]
    types = dict(frame.dtypes)
    of_numbers = [name for name in types if (name not in text if all_other_numbers else name in numbers)]
    no_numbers = [name for name in of_numbers if not _is_number(types[name])]
    wrong = [finding for name in no_numbers for finding in _number_findings(frame[name], path.name)]
    if len(wrong) > _COLUMNS_ALONE:
        what = f"{len(wrong)} of {len(of_numbers)} columns: {wrong[0].message}"
        wrong = [replace(wrong[0], column=quoted([each.column for each in wrong], _SHOWN), message=what)]
    if findings := findings + wrong:
        raise DataError(findings)
    # A column of nulls has no type in parquet.
    objects = [name for name in types if name not in text and pd.api.types.is_object_dtype(types[name])]
    if untyped := [name for name in objects if frame[name].isna().all()]:  # else pandas would copy each column
        frame = frame.astype(dict.fromkeys(untyped, float))
    for column in text:
        values = frame[column].astype(object)
        frame[column] = values.where(values.notna(), None)
        if column not in verbatim:
            frame[column] = cleaned_text(frame[column], path.name, notes)
    if all_other_numbers:
        tell_alike((str(column) for column in frame.columns), path.name, None, notes)
    return frame


def _missing_column(column: str, frame: pd.DataFrame, file: str) -> Finding:
    alike = [name for name in frame if letters_of(str(name)) == letters_of(column)]
    what = f"rename {alike[0]!r} if it is this one" if alike else f"the file has {quoted(frame, _SHOWN)}"
    return Finding("column_exists", file, f"the column is missing; {what}", column)


def _read_parquet(path: Path, text: tuple[str, ...], notes: list[Finding]) -> pd.DataFrame:
    try:
        names = header_names(pyarrow.parquet.read_schema(path).names, path.name, notes)
        doubled = _doubled(names, path.name)
        if not doubled:
            check_parquet_size(path, path.name)
            frame = pd.read_parquet(path)
            if set(frame.index.names) & set(text):  # pandas wrote the key as its index
                frame = frame.reset_index()
            frame.columns = pd.Index(header_names(frame.columns, path.name, []), dtype=object)
            return frame
    except UserError as error:
        raise DataError([Finding("file_size", path.name, str(error).removeprefix(f"{path.name}: "))]) from error
    except Exception as error:  # pyarrow raises several unrelated types for a broken file
        reason = " ".join(str(error).split())
        message = f"not a readable parquet file ({reason}); it may be truncated, write or copy it again"
        raise DataError([Finding("file_readable", path.name, message)]) from error
    raise DataError(doubled)


def check_parquet_size(source: Path | io.BytesIO, name: str, most: int | None = None) -> None:
    """Refuse a file by its footer (`UserError`) if it has more than ``most`` values: few bytes can unpack to many."""
    most = MOST_VALUES if most is None else most
    about = pyarrow.parquet.ParquetFile(source).metadata
    values = about.num_rows * about.num_columns
    schema = about.schema
    lists = [place for place in range(about.num_columns) if schema.column(place).max_repetition_level > 0]
    groups = [about.row_group(number) for number in range(about.num_row_groups)] if lists else []
    values += sum(group.column(place).num_values for group in groups for place in lists)
    if values > most:
        raise UserError(f"{name}: the file unpacks to {values:,} values, more than {most:,}; bring fewer at a time")


def _read_csv(path: Path, text: tuple[str, ...], notes: list[Finding]) -> pd.DataFrame:
    content = decoded(path.read_bytes(), path.name)
    sign = separator(content, text)
    if findings := _csv_shape_findings(content, path.name, sign):
        raise DataError(findings)
    try:
        frame = pd.read_csv(io.StringIO(content), sep=sign, dtype=object, keep_default_na=False, na_values=[""])
    except (pd.errors.ParserError, pd.errors.EmptyDataError, ValueError) as error:
        message = f"not a readable CSV file ({str(error).strip()}); correct the row or write the file again"
        raise DataError([Finding("file_readable", path.name, message)]) from error
    if sign != ",":
        message = f"the fields are separated by {SEPARATORS[sign]}"
        notes.append(Finding("file_separator", path.name, message, severity="warning"))
    frame.columns = pd.Index(header_names(frame.columns, path.name, notes), dtype=object)
    for column in frame.columns:
        if column not in text:
            cells = cleaned_text(frame[column], path.name, notes, words=False)
            frame[column] = typed(cells, decimal_commas=sign != ",")
    return frame


def _csv_shape_findings(content: str, file: str, sign: str) -> list[Finding]:
    """Return doubled columns and rows of a wrong width, which pandas repairs without a warning."""
    try:
        rows = [row for row in csv.reader(io.StringIO(content, newline=""), delimiter=sign) if row and row != [""]]
    except csv.Error:  # pandas raises the error
        return []
    if not rows:
        return []
    header, *body = rows
    positions = [position for position, row in enumerate(body) if len(row) != len(header)]
    findings = _doubled(header_names(header, file, []), file)
    if positions:
        message = f"must hold {len(header)} fields as the header does; correct the row or write the file again"
        findings.append(Finding.at_rows("row_width", file, None, positions, message))
    return findings


def _doubled(names: Iterable[str], file: str) -> list[Finding]:
    doubled = sorted(name for name, count in Counter(names).items() if count > 1)
    message = "duplicate column; keep one, or rename those with different content"
    return [Finding("column_unique", file, message, name) for name in doubled]


def _text_findings(values: pd.Series, file: str) -> list[Finding]:
    if pd.api.types.infer_dtype(values) in ("string", "empty"):
        return []
    is_text = values.astype(object).map(lambda value: isinstance(value, str)).astype(bool)
    positions = np.flatnonzero(values.notna() & ~is_text)
    message = "must be text: numbers lose leading zeros; write it as text where it comes from (dtype=str in pandas)"
    return [Finding.at_rows("column_type", file, str(values.name), positions, message)] if len(positions) else []


def _is_number(dtype: Any) -> bool:
    return pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_bool_dtype(dtype)


def _number_findings(values: pd.Series, file: str) -> list[Finding]:
    if values.isna().all():
        return []
    positions = np.flatnonzero(pd.to_numeric(values, errors="coerce").isna() & values.notna())
    wrong = values.iloc[positions].tolist()
    found = f" (found {quoted(wrong, 3)})" if wrong else ""
    is_truth = pd.api.types.is_bool_dtype(values)
    what = "write 1 for true and 0 for false" if is_truth else "write decimal points"
    message = f"must hold numbers, it is of type {values.dtype}{found}; leave unknown values empty, and {what}"
    return [Finding.at_rows("column_type", file, str(values.name), positions, message, values=wrong)]
