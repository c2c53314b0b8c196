"""Tables of profiles and of ids, of the raw format or as people bring them, for bulk prediction."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pyarrow.parquet

from pipelines.errors import UserError
from pipelines.text_values import folded, known, quoted
from serving.dashboard.data.uploads import SAMPLE_IDS, Profiles, fitting, profiles_of, read_named
from serving.table_files import ENDINGS, TableFile, read_table_file

_DUPLICATE = "the sample is a duplicate of one before; keep one"
_MOST_VALUES = 400_000_000  # of a table of ids


def table_named(data: Path, name: str) -> Path | None:
    """Return the table ``name`` of a folder, with any ending that is read; None if there is none."""
    found = [path for path in sorted(data.glob(f"{name}.*")) if path.suffix.lower().lstrip(".") in ENDINGS]
    if len(found) > 1:
        raise UserError(f"{data}: {quoted(path.name for path in found)} are both the table {name}; keep one")
    return found[0] if found else None


def read_ids(path: Path | None, needed: Sequence[str], others: Sequence[str] = ()) -> pd.DataFrame:
    """Return these columns as text, None where unknown, or no row without a file; ``needed`` must be there."""
    columns = [*needed, *others]
    if path is None:
        return pd.DataFrame(columns=columns, dtype=object)
    table = read_table_file(str(path), path.read_bytes(), most=_MOST_VALUES)
    at = {folded(name): place for place, name in reversed(list(enumerate(table.names)))}
    if lacking := [name for name in needed if name not in at]:
        raise UserError(f"{path}: lacks the column {', '.join(lacking)}; it has {quoted(table.written, 8)}")
    unknown = [None] * len(table.cells)
    cells = {name: [known(cell) for cell in table.column(at[name])] if name in at else unknown for name in columns}
    return pd.DataFrame(cells, dtype=object)


def profile_blocks(path: Path, wanted: Sequence[str], size: int) -> Iterator[Profiles]:
    """Return profiles in blocks, read as the dashboard reads them; genes of Parquet are read that look ``wanted``.

    Parquet with a column a gene is streamed; any other table is read at once.
    """
    file, start, seen = _wide_parquet(path, wanted), 0, set[str]()
    if file is None:
        whole = profiles_of(read_named(path.name, path.read_bytes(), wanted), wanted)
        for start in range(0, max(1, len(whole.rows)), size):
            own = slice(start, start + size)
            faults = [] if start else whole.faults
            yield replace(whole, values=whole.values[own], rows=whole.rows[own], faults=faults)
        return
    fits, kept = fitting(wanted), {*SAMPLE_IDS, "tissue"}
    columns = [name for name in file.schema_arrow.names if folded(name) in kept or fits([name])]
    for batch in file.iter_batches(size, columns=columns):
        cells = batch.to_pandas(ignore_metadata=True).set_axis(range(len(columns)), axis=1)
        cells = cells.set_axis(range(start, start + len(cells)), axis=0)
        start += len(cells)
        found = profiles_of(TableFile(path.name, columns, cells), wanted)
        again = found.values.index.isin(seen)
        named = list(zip(found.rows, found.values.index, strict=True))
        doubled = [(row, str(name), _DUPLICATE) for row, name in named if name in seen]
        rows = [row for row, name in named if name not in seen]
        seen |= set(found.values.index)
        yield replace(found, values=found.values[~again], rows=rows, faults=found.faults + doubled)


def _wide_parquet(path: Path, wanted: Sequence[str]) -> pyarrow.parquet.ParquetFile | None:
    """Return a Parquet file with a column of sample ids and one a gene; None for others."""
    try:
        file = pyarrow.parquet.ParquetFile(path)
    except (OSError, pyarrow.ArrowException):
        return None  # the reader of table files says why
    names = file.schema_arrow.names
    named = any(folded(name) in SAMPLE_IDS for name in names) and len(set(names)) == len(names)
    return file if named and fitting(wanted)(names) else None
