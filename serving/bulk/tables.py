"""Tables of profiles and of ids, of the raw format or as people bring them, for bulk prediction."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet

from pipelines.errors import UserError
from pipelines.text_values import folded, known, quoted
from serving.dashboard.data.uploads import SAMPLE_IDS, Profiles, fitting, profiles_of, read_named
from serving.table_files import ENDINGS, TableFile, cell_text, read_table_file, repeated

_MOST_VALUES = 400_000_000  # of a table of ids


def table_named(data: Path, name: str) -> Path | None:
    """Return the table ``name`` of a folder, with any ending that is read; None if there is none."""
    found = [path for path in sorted(data.glob(f"{name}.*")) if path.suffix.lower().lstrip(".") in ENDINGS]
    if len(found) > 1:
        raise UserError(f"{data}: {quoted(path.name for path in found)} are both the table {name}; keep one")
    return found[0] if found else None


def read_ids(path: Path, needed: Sequence[str], others: Sequence[str] = ()) -> pd.DataFrame:
    """Return these columns as text, None where unknown; `UserError` if one of ``needed`` is not there."""
    table = read_table_file(str(path), path.read_bytes(), most=_MOST_VALUES)
    at = {folded(name): place for place, name in reversed(list(enumerate(table.names)))}
    if lacking := [name for name in needed if name not in at]:
        raise UserError(f"{path}: lacks the column {', '.join(lacking)}; it has {quoted(table.written, 8)}")
    nothing = [None] * len(table.cells)
    cells = {
        name: [known(cell) for cell in table.column(at[name])] if name in at else nothing for name in (*needed, *others)
    }
    return pd.DataFrame(cells, dtype=object)


class ProfileTable:
    """Profiles, read as the dashboard reads them: Parquet with a column a gene in blocks, any other table at once.

    Of the genes those are read that are among the names ``wanted``.
    """

    def __init__(self, path: Path, wanted: Sequence[str]) -> None:
        self._path, self._wanted = path, wanted
        self._file = _wide_parquet(path, wanted)
        if self._file is None:
            self._whole = profiles_of(read_named(path.name, path.read_bytes(), wanted), wanted)
            self._rows = sorted([*self._whole.rows, *(row for row, *_ in self._whole.faults)])
            self.count = len(self._rows)
            return
        fits, names = fitting(wanted), self._file.schema_arrow.names
        self._columns = [name for name in names if folded(name) in SAMPLE_IDS | {"tissue"} or fits([name])]
        key = next(name for name in names if folded(name) in SAMPLE_IDS)
        ids = [cell_text(cell) for cell in self._file.read(columns=[key])[key].to_pylist()]
        self._doubled = dict(repeated(path.name, "sample", ids))
        self.count = len(ids)

    def blocks(self, numbers: Sequence[int], size: int) -> Iterator[Profiles]:
        """Return the profiles of these blocks of ``size`` rows; ``numbers`` ascend."""
        if self._file is None:
            for number in numbers:
                rows = self._rows[number * size : (number + 1) * size]
                yield _between(self._whole, rows[0], rows[-1])
            return
        batches = self._file.iter_batches(batch_size=size, columns=self._columns)
        for number, batch in enumerate(_even(batches, size)):
            if number in set(numbers):
                yield self._profiles(batch, number * size)
            if number >= numbers[-1]:
                return

    def _profiles(self, batch: pyarrow.Table, start: int) -> Profiles:
        cells = batch.to_pandas(ignore_metadata=True)
        cells = cells.set_axis(range(start, start + len(cells)), axis=0).set_axis(range(cells.shape[1]), axis=1)
        found = profiles_of(TableFile(self._path.name, self._columns, cells), self._wanted)
        new = np.array([row not in self._doubled for row in found.rows], dtype=bool)
        doubled = [
            (row, str(name), self._doubled[row])
            for row, name in zip(found.rows, found.values.index, strict=True)
            if row in self._doubled
        ]
        rows = [row for row, is_new in zip(found.rows, new, strict=True) if is_new]
        return replace(found, values=found.values[new], rows=rows, faults=found.faults + doubled)


def _wide_parquet(path: Path, wanted: Sequence[str]) -> pyarrow.parquet.ParquetFile | None:
    """Return a Parquet file with a column of sample ids and one a gene; None for others."""
    try:
        file = pyarrow.parquet.ParquetFile(path)
    except (OSError, pyarrow.ArrowException):
        return None  # the reader of table files says why
    names = file.schema_arrow.names
    named = any(folded(name) in SAMPLE_IDS for name in names)
    return file if named and fitting(wanted)(names) and len(set(names)) == len(names) else None


def _even(batches: Iterable[pyarrow.RecordBatch], size: int) -> Iterator[pyarrow.Table]:
    """Return batches as tables of ``size`` rows: Parquet's end with each row group."""
    held: pyarrow.Table | None = None
    for batch in batches:
        table = pyarrow.Table.from_batches([batch])
        held = table if held is None else pyarrow.concat_tables([held, table])
        while held.num_rows >= size:
            yield held.slice(0, size)
            held = held.slice(size)
    if held is not None and held.num_rows:
        yield held


def _between(whole: Profiles, first: int, last: int) -> Profiles:
    inside = [first <= row <= last for row in whole.rows]
    rows = [row for row in whole.rows if first <= row <= last]
    faults = [fault for fault in whole.faults if first <= fault[0] <= last]
    return replace(whole, values=whole.values[np.array(inside, dtype=bool)], rows=rows, faults=faults)
