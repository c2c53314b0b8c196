"""Questions about expression profiles: a table with a row a sample."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from pipelines.errors import UserError
from serving.bulk import Part, Wanted, tell
from serving.bulk.tables import profile_blocks, table_named
from serving.dashboard.data.tables import measured

_ROWS = 250


def parts(data: Path, contract: Any, wanted: Wanted) -> Iterator[tuple[int, Part]]:
    """Return blocks of the profiles in a table; its other columns, such as labels, are not read."""
    path = data if data.is_file() else table_named(data, "expression")
    if path is None:
        raise UserError(f"{data}: there is no table expression.parquet (or .csv, .tsv, .xlsx)")
    genes = list(dict.fromkeys([*contract.genes, *contract.known]))
    for number, found in enumerate(profile_blocks(path, genes, _ROWS)):
        if wanted(number):
            maps, notes = measured(found.values, genes)
            for note in (*found.notes, *notes):
                tell(note)
            frame = pd.DataFrame({"expression": pd.Series(list(maps.values()), dtype=object)})
            about = pd.DataFrame({"row": [row + 1 for row in found.rows], "sample_id": list(maps)})
            yield number, Part(about, frame, [(row + 1, *fault) for row, *fault in found.faults])
