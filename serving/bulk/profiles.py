"""Questions about expression profiles: a table with a row a sample. Tables of other modalities are read here too."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet

from pipelines.errors import UserError
from pipelines.text_values import clean, folded, known, quoted
from serving.bulk import Part, tell
from serving.dashboard.data.tables import maps_of
from serving.dashboard.data.uploads import ABOUT, SAMPLE_IDS, Profiles, fitting, profiles_of, read_named, tissues_of
from serving.table_files import ENDINGS, cell_text, read_table_file

_ROWS = 250
_VALUES = 5_000_000  # of a part
_MOST_VALUES = 400_000_000  # of a table of ids


def parts(data: Path, contract: Any) -> Iterator[Callable[[], Part]]:
    """Return blocks of the profiles in a table, with all that it measures: the model says which genes it ignores."""
    path = data if data.is_file() else table_named(data, "expression")
    if path is None:
        raise UserError(f"{data}: there is no table expression.parquet (or .csv, .tsv, .xlsx)")
    for found in profile_blocks(path, [*contract.genes, *contract.known], _ROWS):
        yield partial(_part, found)


def _part(found: Profiles) -> Part:
    names = pd.Series([name or None for name in found.values.index], dtype=object)
    about = pd.DataFrame({"row": found.rows, "sample_id": names})
    return Part(about, pd.DataFrame({"expression": pd.Series(maps_of(found.values), dtype=object)}))


def table_named(data: Path, name: str) -> Path | None:
    """Return the table ``name`` of a folder, with any ending that is read; None if there is none."""
    found = [path for path in sorted(data.glob(f"{name}.*")) if path.suffix.lower().lstrip(".") in ENDINGS]
    if len(found) > 1:
        raise UserError(f"{data}: {quoted(path.name for path in found)} are both the table {name}; keep one")
    return found[0] if found else None


def read_ids(path: Path | None, needed: Sequence[str], others: Sequence[str] = ()) -> pd.DataFrame:
    """Return columns as text, None where unknown, by the numbers of their rows; those ``needed`` must be in a file."""
    columns = [*needed, *others]
    if path is None:
        return pd.DataFrame(columns=columns, dtype=object)
    table = read_table_file(str(path), path.read_bytes(), most=_MOST_VALUES)
    at = {folded(name): place for place, name in reversed(list(enumerate(table.names)))}
    if lacking := [name for name in needed if name not in at]:
        raise UserError(f"{path}: lacks the column {', '.join(lacking)}; it has {quoted(table.written, 8)}")
    unknown = [None] * len(table.cells)
    cells = {name: [known(cell) for cell in table.column(at[name])] if name in at else unknown for name in columns}
    return pd.DataFrame(cells, index=table.cells.index + 1, dtype=object)


def profile_blocks(path: Path, genes: Sequence[str], size: int, *, every: bool = True) -> Iterator[Profiles]:
    """Return profiles in blocks, Parquet streamed, of every column or of those that look like ``genes`` at least."""
    file = _wide_parquet(path, genes)
    if file is None:
        whole = profiles_of(read_named(path.name, path.read_bytes(), genes), genes, strict=False)
        for note in whole.notes:
            tell(note)
        for start in range(0, len(whole.rows), size):
            own = slice(start, start + size)
            yield replace(whole, values=whole.values.iloc[own], rows=whole.rows[own])
        return
    names, fits, start = file.schema_arrow.names, fitting(genes), 0
    (named,) = (name for name in names if folded(name) in SAMPLE_IDS)
    measured = [name for name in names if folded(name) not in ABOUT | SAMPLE_IDS and (every or fits([name]))]
    tissue = [name for name in names if folded(name) == "tissue"]
    try:
        size = max(1, min(size, _VALUES // len(measured)))
        for batch in file.iter_batches(size, columns=[named, *tissue, *measured]):
            cells = batch.to_pandas(ignore_metadata=True)
            cells.index = pd.Index([clean(cell_text(cell)) for cell in cells[named]], dtype=object)
            rows = list(range(start + 1, start + 1 + len(cells)))
            yield Profiles(cells[measured], tissues_of(cells), rows=rows)
            start += len(cells)
    except (OSError, pyarrow.ArrowException) as error:
        raise UserError(f"{path}: it cannot be read as Parquet. Was it cut off?") from error


def _wide_parquet(path: Path, genes: Sequence[str]) -> pyarrow.parquet.ParquetFile | None:
    """Return a Parquet file with a column of sample ids and one of numbers a gene; None for others."""
    try:
        file = pyarrow.parquet.ParquetFile(path)
    except (OSError, pyarrow.ArrowException):
        return None  # the reader of table files says why
    kinds, names = file.schema_arrow.types, file.schema_arrow.names
    rest = [(name, kind) for name, kind in zip(names, kinds, strict=True) if folded(name) not in ABOUT]
    texts = [name for name, kind in rest if not (pyarrow.types.is_floating(kind) or pyarrow.types.is_integer(kind))]
    ids = [name for name in names if folded(name) in SAMPLE_IDS]
    wide = (
        len(ids) == 1 and set(texts) <= set(ids) and len(set(names)) == len(names) and not set(genes).isdisjoint(names)
    )
    return file if wide else None
