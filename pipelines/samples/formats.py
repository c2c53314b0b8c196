"""Reading raw folders: every fault of a file becomes a `DataError` that names file, column and row."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet

from pipelines.faults import DataError, Finding, UserError
from pipelines.params import ResponseTask
from pipelines.samples.parquet_size import check_parquet_size
from pipelines.samples.raw_files import CELL_LINES_FILE as CELL_LINES_FILE
from pipelines.samples.raw_files import DRUGS_FILE as DRUGS_FILE
from pipelines.samples.raw_files import RESPONSE_FILE as RESPONSE_FILE

KEYS = ("study", "cell_line_id", "drug_id")


@dataclass(frozen=True)
class ResponseTables:
    """The tables of a raw folder of kind ``response``, as they stand in the files.

    Attributes
    ----------
    response
        Columns ``study``, ``cell_line_id``, ``drug_id`` and the target; a row a measurement.
    cell_lines
        At least ``cell_line_id`` and ``tissue``.
    drugs
        At least ``drug_id`` and ``smiles``.
    omics
        For each omics its table: ``cell_line_id`` and one number column a feature.
    """

    response: pd.DataFrame
    cell_lines: pd.DataFrame
    drugs: pd.DataFrame
    omics: dict[str, pd.DataFrame]


def read_response_tables(
    folder: Path | str, task: ResponseTask, *, labelled: bool = True, optional: Collection[str] = ()
) -> ResponseTables:
    """Read a raw folder of kind ``response``.

    Parameters
    ----------
    folder
        Folder that holds ``response.parquet``, ``cell_lines.csv``, ``drugs.csv`` and a parquet file an omics.
    task
        Says which omics and which target column are read.
    labelled
        Whether the response table must have the target column.
    optional
        Omics whose file may be missing; they come back without rows.

    Returns
    -------
    ResponseTables

    Raises
    ------
    DataError
        Lists every file that is missing or unreadable and every column that is missing or of a wrong type.
    """
    folder = Path(folder)
    findings: list[Finding] = []
    target = (task.data.target,) if labelled else ()

    def read(name: str, text: tuple[str, ...], numbers: tuple[str, ...] = (), wide: bool = False) -> pd.DataFrame:
        try:
            return read_table(folder / name, text=text, numbers=numbers, all_other_numbers=wide)
        except DataError as error:
            findings.extend(error.findings)
            return pd.DataFrame()

    tables = ResponseTables(
        response=read(RESPONSE_FILE, KEYS, target),
        cell_lines=read(CELL_LINES_FILE, ("cell_line_id", "tissue")),
        drugs=read(DRUGS_FILE, ("drug_id", "smiles")),
        omics={
            name: pd.DataFrame({"cell_line_id": pd.Series(dtype=object)})
            if name in optional and not (folder / f"{name}.parquet").exists()
            else read(f"{name}.parquet", ("cell_line_id",), wide=True)
            for name in task.data.omics
        },
    )
    if findings:
        raise DataError(findings)
    return tables


def read_table(
    path: Path, *, text: tuple[str, ...] = (), numbers: tuple[str, ...] = (), all_other_numbers: bool = False
) -> pd.DataFrame:
    """Read a CSV or parquet table and check the presence and type of its columns.

    Parameters
    ----------
    path
        File; its ending says the format.
    text, numbers
        Columns that must be there, as text or as numbers.
    all_other_numbers
        Whether every column that is not in ``text`` must hold numbers.

    Returns
    -------
    pandas.DataFrame
        Text columns as ``object`` with None for empty cells; every column of the file is kept.

    Raises
    ------
    DataError
        The file is missing or unreadable, or columns are missing, doubled or of a wrong type.
    """
    if not path.is_file():
        raise DataError([Finding("file_exists", path.name, f"the file is missing in {path.parent}; add it")])
    frame = _read_csv(path, text) if path.suffix == ".csv" else _read_parquet(path)
    findings = []
    if missing := [column for column in (*text, *numbers) if column not in frame.columns]:
        findings += [
            Finding(
                "column_exists",
                path.name,
                f"the column is missing; the file has {_some(frame.columns)}",
                column,
            )
            for column in missing
        ]
    for column in text:
        if column in frame.columns:
            findings += _text_findings(frame, column, path.name)
    for column in numbers if not all_other_numbers else [c for c in frame.columns if c not in text]:
        if column in frame.columns:
            findings += _number_findings(frame, column, path.name)
    if findings:
        raise DataError(findings)
    # A column of nothing but nulls has no type of its own in parquet.
    untyped = [column for column in frame.columns if column not in text and frame[column].dtype == object]
    frame = frame.astype({column: float for column in untyped if frame[column].isna().all()})
    for column in text:
        values = frame[column]
        frame[column] = values.astype(object).where(values.notna(), None)
    return frame


def _read_parquet(path: Path) -> pd.DataFrame:
    try:
        doubled = _doubled(pyarrow.parquet.read_schema(path).names, path.name)
        if not doubled:
            check_parquet_size(path, path.name)
            return pd.read_parquet(path)
    except UserError as error:
        raise DataError([Finding("file_size", path.name, str(error).removeprefix(f"{path.name}: "))]) from error
    except Exception as error:  # pyarrow raises several unrelated types for a broken file
        reason = " ".join(str(error).split())
        message = f"not a readable parquet file ({reason}); it may be truncated, write or copy it again"
        raise DataError([Finding("file_readable", path.name, message)]) from error
    raise DataError(doubled)


def _read_csv(path: Path, text: tuple[str, ...]) -> pd.DataFrame:
    raw = path.read_bytes()
    try:
        content = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row = raw[: error.start].count(b"\n")
        message = f"not UTF-8 (byte {raw[error.start]:#04x}); save the file in UTF-8"
        raise DataError([Finding.at_rows("file_encoding", path.name, None, [max(row - 1, 0)], message)]) from error
    if findings := _csv_shape_findings(content, path.name):
        raise DataError(findings)
    try:
        return pd.read_csv(
            path,
            dtype=dict.fromkeys(text, "str"),
            encoding="utf-8-sig",
            keep_default_na=False,
            na_values=["", "NA", "N/A", "NaN", "nan", "null"],
            low_memory=False,
        )
    except (pd.errors.ParserError, pd.errors.EmptyDataError, ValueError) as error:
        message = f"not a readable CSV file ({str(error).strip()}); mend the row or write the file again"
        raise DataError([Finding("file_readable", path.name, message)]) from error


def _csv_shape_findings(content: str, file: str) -> list[Finding]:
    # pandas renames doubled columns, fills short rows and makes overlong rows' first column the index.
    try:
        rows = [row for row in csv.reader(io.StringIO(content, newline="")) if row and row != [""]]
    except csv.Error:  # what pandas cannot read either, and says why
        return []
    if not rows:
        return []
    header, *body = rows
    positions = [position for position, row in enumerate(body) if len(row) != len(header)]
    findings = _doubled(header, file)
    if positions:
        message = f"must hold {len(header)} fields as the header does; mend the row or write the file again"
        findings.append(Finding.at_rows("row_width", file, None, positions, message))
    return findings


def _doubled(names: list[str], file: str) -> list[Finding]:
    doubled = sorted(name for name, count in Counter(names).items() if count > 1)
    return [Finding("column_unique", file, "the column stands twice; keep one", name) for name in doubled]


def _text_findings(frame: pd.DataFrame, column: str, file: str) -> list[Finding]:
    values = frame[column]
    wrong = values.notna() & ~values.map(lambda value: isinstance(value, str))
    if not wrong.any():
        return []
    positions = np.flatnonzero(wrong.to_numpy())
    kind = type(values.iloc[positions[0]]).__name__
    return [Finding.at_rows("column_type", file, column, positions, f"must hold text, it holds {kind}")]


def _number_findings(frame: pd.DataFrame, column: str, file: str) -> list[Finding]:
    if pd.api.types.is_numeric_dtype(frame[column]) and not pd.api.types.is_bool_dtype(frame[column]):
        return []
    values = frame[column]
    if values.isna().all():
        return []
    wrong = pd.to_numeric(values, errors="coerce").isna() & values.notna()
    positions = np.flatnonzero(wrong.to_numpy())
    message = f"must hold numbers, it is of type {values.dtype}"
    return [Finding.at_rows("column_type", file, column, positions, message, values=values.iloc[positions].tolist())]


def _some(names: pd.Index, count: int = 8) -> str:
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(map(str, names[:count])) + more
