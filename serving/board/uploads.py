"""Files that people bring: profiles as CSV or Parquet, whichever way round."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePath

import numpy as np
import pandas as pd
import pyarrow

from pipelines.faults import UserError
from pipelines.samples.gene_names import match_genes
from pipelines.samples.parquet_size import check_parquet_size
from serving.board.words import listed

TABLES = ("csv", "tsv", "txt", "parquet")
MOST_SAMPLES = 200
MOST_VALUES = 50_000_000  # of a table, whichever way round: 200 samples of 250,000 genes
_IDS = ("sample_id", "cell_line_id", "sample", "id", "name", "gene", "genes", "gene_id", "gene_name", "symbol")
_ABOUT = ("tissue", "label", "patient_id", "sample_type", "simulated", "study", "platform", "library_size")


@dataclass(frozen=True)
class Profiles:
    """Samples and what was measured of them.

    Attributes
    ----------
    values
        float64; index: names of the samples, columns: names of the features as the file has them.
    tissue
        Of each sample that the file gives one for.
    notes
        What was done with the file, in sentences.
    """

    values: pd.DataFrame
    tissue: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def read_profiles(name: str, content: bytes, known: Sequence[str] = ()) -> Profiles:
    """Read a table of profiles: samples in rows and genes in columns, or the other way round.

    Parameters
    ----------
    name, content
        Of the file; the ending says the format.
    known
        Names of the features that a model looks at; by them it is told which way round the table is, and which columns
        must be numbers.

    Raises
    ------
    UserError
        Names the file, and the column and row at fault.
    """
    table = _table(name, content)
    if table.empty or not len(table.columns):
        raise UserError(f"{name}: the table has no rows. It needs a row a sample and a column a gene.")
    ids, body = _named_rows(name, table)
    body.index = pd.Index(ids)
    notes: list[str] = []
    if known and _matches(ids, known) > _matches([str(column) for column in body], known):
        body = body.T
        body.columns = body.columns.astype(str)
        notes.append(f"{name} has a row a gene; it was turned round.")
        _refuse_repeated(name, "gene", list(body.columns))
    body.index = body.index.astype(str)
    _refuse_repeated(name, "sample", list(body.index))
    if len(body) > MOST_SAMPLES:
        raise UserError(f"{name}: {len(body):,} samples; bring at most {MOST_SAMPLES} at a time.")
    tissue = _tissue(body)
    values, left_out = _numbers(name, body.drop(columns=[c for c in _ABOUT if c in body]), known)
    if left_out:
        notes.append(f"Columns without numbers were left out: {listed(left_out)}.")
    if values.shape[1] == 0:
        raise UserError(f"{name}: no column holds numbers. It needs a column a gene, or a row a gene.")
    if known and not _matches([str(column) for column in values], known):
        raise UserError(
            f"{name}: none of its {values.shape[1]:,} columns is a gene that the model knows. It knows "
            f"{listed(list(known), 4)}."
        )
    return Profiles(values, tissue, notes)


def _table(name: str, content: bytes) -> pd.DataFrame:
    ending = PurePath(name).suffix.lower().lstrip(".")
    if not content:
        raise UserError(f"{name}: the file is empty.")
    if ending == "parquet":
        try:
            check_parquet_size(io.BytesIO(content), name, MOST_VALUES)
            found = pd.read_parquet(io.BytesIO(content))
        except UserError:
            raise
        except (ValueError, OSError, pyarrow.ArrowException) as error:
            raise UserError(f"{name}: it cannot be read as Parquet. Was it cut off?") from error
        return found if isinstance(found.index, pd.RangeIndex) else found.reset_index()
    if ending not in TABLES:
        raise UserError(f"{name}: tables are CSV, TSV or Parquet files; save it as one of them.")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{name}: it is no text in UTF-8. Save it as “CSV UTF-8”.") from error
    if "\0" in text:
        raise UserError(f"{name}: it is no text. Save it as “CSV UTF-8”.")
    first = text.split("\n", 1)[0]
    separator = max(",;\t", key=first.count)
    lines = csv.reader(io.StringIO(text), delimiter=separator)
    header, row = next(lines, []), next(lines, [])
    _refuse_repeated(name, "column", [column for column in header if column])
    if len(row) > len(header) + 1:
        raise UserError(f"{name}, row 1: has {len(row)} values, the first line names {len(header)} columns.")
    try:
        # A spreadsheet that separates by semicolons writes decimal commas.
        decimal = "," if separator == ";" else "."
        found = pd.read_csv(io.StringIO(text), sep=separator, decimal=decimal, low_memory=False)
    except (ValueError, pd.errors.ParserError) as error:
        raise UserError(f"{name}: it cannot be read as a table ({str(error).splitlines()[0][:120]}).") from error
    # R leaves out the head of the column of names: pandas makes an index of it.
    return found if isinstance(found.index, pd.RangeIndex) else found.reset_index()


def _named_rows(name: str, table: pd.DataFrame) -> tuple[list[str], pd.DataFrame]:
    """Return what the rows are called, and the table without that column."""
    first = str(table.columns[0])
    named = next((str(c) for c in table.columns if str(c).lower() in _IDS), None)
    if named is None and (first.startswith("Unnamed:") or not pd.api.types.is_numeric_dtype(table[table.columns[0]])):
        named = first
    if named is None:
        return [f"sample {row}" for row in range(1, len(table) + 1)], table.copy()
    column = table[named]
    if column.isna().any():
        row = int(np.flatnonzero(column.isna())[0]) + 1
        raise UserError(f"{name}, column {named}, row {row}: is empty; every row needs a name.")
    return [str(value) for value in column], table.drop(columns=named)


def _matches(names: Sequence[str], known: Sequence[str]) -> int:
    return len(match_genes(names, known).found)


def _refuse_repeated(name: str, what: str, names: list[str]) -> None:
    twice = [each for each, count in Counter(names).items() if count > 1]
    if twice:
        raise UserError(f"{name}: the {what} {listed(twice, 3)} stands twice; keep one.")


def _tissue(body: pd.DataFrame) -> dict[str, str]:
    if "tissue" not in body:
        return {}
    given = body["tissue"].dropna()
    return {str(sample): str(value).strip() for sample, value in given.items() if str(value).strip()}


def _numbers(name: str, body: pd.DataFrame, known: Sequence[str]) -> tuple[pd.DataFrame, list[str]]:
    """Return the columns that hold numbers, and the names of those that do not."""
    wanted = set(match_genes([str(column) for column in body], known).found.values()) if known else set()
    found, left_out = {}, []
    for column in body:
        text = str(column)
        values = pd.to_numeric(body[column], errors="coerce").astype(np.float64)
        wrong = values.isna() & body[column].notna()
        if wrong.any() and (text in wanted or not wrong.all()):
            place = int(np.flatnonzero(wrong)[0])
            shown = str(body[column].iloc[place])[:30]
            raise UserError(f"{name}, column {text}, sample {body.index[place]}: “{shown}” is not a number.")
        infinite = np.isinf(values.to_numpy())
        if infinite.any():
            place = int(np.flatnonzero(infinite)[0])
            raise UserError(f"{name}, column {text}, sample {body.index[place]}: is infinite.")
        if wrong.any():
            left_out.append(text)
        else:
            found[text] = values
    return pd.DataFrame(found, index=body.index), left_out


def omics_of(name: str, omics: Sequence[str]) -> str:
    """Return which table a file is, by its name: ``mutation.csv`` is the mutations; what names none is the first."""
    stem = PurePath(name).stem.lower().replace("-", "_").replace(" ", "_")
    return next((each for each in omics if each in stem), omics[0])
