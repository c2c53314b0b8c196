"""Bound on the size of Parquet files: a few kilobytes can unpack to gigabytes."""

import io
from pathlib import Path

import pyarrow.parquet

from pipelines.errors import UserError

MOST_VALUES = 4_000_000_000  # of a raw table: 16 GB of float32; all of TCGA has 0.7 billion


def check_parquet_size(source: Path | io.BytesIO, name: str, most: int | None = None) -> None:
    """Refuse a file (`UserError`) of more than ``most`` values in rows times columns and in lists, by its footer."""
    most = MOST_VALUES if most is None else most
    about = pyarrow.parquet.ParquetFile(source).metadata
    values = about.num_rows * about.num_columns
    schema = about.schema
    lists = [place for place in range(about.num_columns) if schema.column(place).max_repetition_level > 0]
    groups = [about.row_group(number) for number in range(about.num_row_groups)] if lists else []
    values += sum(group.column(place).num_values for group in groups for place in lists)
    if values > most:
        raise UserError(f"{name}: the file unpacks to {values:,} values, more than {most:,}; bring fewer at a time")
