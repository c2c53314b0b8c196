"""Questions about expression profiles: a table with a row a sample."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from pipelines.errors import UserError
from serving.bulk import Part, Questions, read_rows
from serving.bulk.tables import ProfileTable, table_named
from serving.dashboard.data.tables import measured


class ProfileQuestions(Questions):
    """One question a profile; other columns of the table, such as labels, are not read."""

    size = 250

    def __init__(self, data: Path, contract: Any) -> None:
        super().__init__(data, contract)
        path = data if data.is_file() else table_named(data, "expression")
        if path is None:
            raise UserError(f"{data}: there is no table expression.parquet (or .csv, .tsv, .xlsx)")
        self._path = path
        self._known = list(dict.fromkeys([*contract.genes, *contract.known]))
        self._table = ProfileTable(path, self._known)
        self.total = self._table.count

    def files(self) -> list[Path]:
        """Return the table."""
        return [self._path]

    def parts(self, numbers: Sequence[int]) -> Iterator[Part]:
        """Return blocks of profiles."""
        for found in self._table.blocks(numbers, self.size):
            maps, notes = measured(found.values, self._known)
            self.note([*found.notes, *notes])
            frame = pd.DataFrame({"expression": pd.Series(list(maps.values()), dtype=object)})
            samples, _, reasons = read_rows(self.contract, frame)
            asked = [
                (row, name, reasons.get(place)) for place, (row, name) in enumerate(zip(found.rows, maps, strict=True))
            ]
            rows, names, why = zip(*sorted([*asked, *found.faults]), strict=True)
            refused = {place: reason for place, reason in enumerate(why) if reason}
            yield self.part(rows, [(name,) for name in names], samples, refused)


QUESTIONS = ProfileQuestions
