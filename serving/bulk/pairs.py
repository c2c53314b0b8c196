"""Questions about pairs of a cell line and a drug: every line with every drug, or the pairs of a table."""

from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipelines.text_values import known
from serving.bulk import Part, bisected, tell
from serving.bulk.profiles import profile_blocks, read_ids, table_named
from serving.dashboard.data.tables import measured

_ROWS = 10_000
_LINES = 250  # of a part, which has few drugs then: the features of a line and of a drug are computed once a part


def parts(data: Path, contract: Any) -> Iterator[Callable[[], Part]]:
    """Return parts of the pairs in ``response``, else of every line with every drug, counted drug by drug."""
    pairs = _Pairs(data, contract)
    for start in range(0, len(pairs.names), _LINES):
        own, lines = pairs.block(start), cache(partial(pairs.lines, start))
        for place in range(0, len(own), _ROWS):
            yield partial(pairs.part, own[place : place + _ROWS], start, lines)


class _Pairs:
    """The pairs of a folder. A line or drug is asked about alone first: what is refused then is so in each pair."""

    def __init__(self, data: Path, contract: Any) -> None:
        self._contract, self._values, self._tissue = contract, dict[str, pd.DataFrame](), dict[str, str]()
        self._faults = {"": "cell_line_id is missing"}
        for omics, features in contract.features.items():
            path = table_named(data, omics)
            if path and (blocks := list(profile_blocks(path, features, _LINES, every=False))):
                values = pd.concat([found.values for found in blocks])
                rows = [row for found in blocks for row in found.rows]
                self._values[omics] = values.set_axis(self._called(path.name, rows, values.index))
                for found in blocks:
                    self._tissue |= found.tissue
        listed = read_ids(table_named(data, "cell_lines"), ["cell_line_id"], ["tissue"])
        lines = self._called("cell_lines", listed.index, listed["cell_line_id"])
        self._tissue |= {name: tissue for name, tissue in zip(lines, listed["tissue"], strict=True) if tissue}
        drugs = read_ids(table_named(data, "drugs"), [], ["drug_id", "smiles"])
        self._doubled = set(drugs["drug_id"][drugs["drug_id"].duplicated()].dropna())
        self._asked: tuple[Any, ...] = ()  # row, line and drug of each pair, of a table
        if (table := table_named(data, "response")) is None:
            in_tables = (name for values in self._values.values() for name in values.index)
            names: Any = list(dict.fromkeys([*lines, *in_tables]))
        else:
            asked = read_ids(table, ["cell_line_id", "drug_id"])
            smiles = dict(zip(drugs["drug_id"], drugs["smiles"], strict=True))
            line, names = pd.factorize(asked["cell_line_id"].fillna(""))
            drug, ids = pd.factorize(asked["drug_id"].fillna(""))
            self._asked = asked.index.to_numpy(), line, drug
            drugs = pd.DataFrame([(each or None, smiles.get(each)) for each in ids], columns=[*drugs], dtype=object)
        self.names, self._drugs = np.array(names, dtype=object), drugs
        self._drug_names = np.array([drug_id or smiles or "" for drug_id, smiles in drugs.to_numpy()], dtype=object)
        self._of_drugs: dict[int, str] | None = None  # why some are refused, by place

    def _called(self, table: str, rows: Iterable[int], named: Iterable[Any]) -> list[str]:
        """Return the names of lines in a table, its row for a line without one; what is wrong is a fault."""
        names = list(map(known, named))
        called = [name or f"{table}, row {row}" for row, name in zip(rows, names, strict=True)]
        twice = pd.Series(called, dtype=object)[lambda each: each.duplicated()]
        self._faults |= dict.fromkeys(twice, f"cell_line_id is a duplicate in {table}; keep one")
        self._faults |= {each: self._faults[""] for each, name in zip(called, names, strict=True) if not name}
        return called

    def block(self, start: int) -> Any:
        """Return the places of the pairs of lines from ``start`` on, drug by drug."""
        if not self._asked:
            return range(len(self._drugs) * len(self.names[start : start + _LINES]))
        _, line, drug = self._asked
        own = np.flatnonzero((line >= start) & (line < start + _LINES))
        return own[np.argsort(drug[own], kind="stable")]

    def _at(self, places: Any, start: int) -> tuple[Any, ...]:
        """Return row, line and drug of pairs of a `block`."""
        if self._asked:
            return tuple(each[places] for each in self._asked)
        drug, line = np.divmod(np.array(places), len(self.names[start : start + _LINES]))
        return drug * len(self.names) + start + line + 1, start + line, drug

    def lines(self, start: int) -> tuple[pd.DataFrame, dict[int, str]]:
        """Return what a request says of lines from ``start`` on, a row each, and why some are refused, by place."""
        names = self.names[start : start + _LINES]
        columns: dict[str, Any] = {"tissue": [self._tissue.get(name) for name in names]}
        for omics, table in self._values.items():
            maps, notes = measured(table[table.index.isin(names)], self._contract.features[omics])
            for note in notes:
                tell(f"{omics}: {note}")
            if omics not in self._contract.required:  # sent whole or not at all, and imputed then
                maps = {name: values for name, values in maps.items() if None not in values.values()}
            columns[omics] = [maps.get(name) for name in names]
        frame = pd.DataFrame({name: pd.Series(cells, dtype=object) for name, cells in columns.items()})
        found = bisected(self._contract.read, frame.assign(smiles="C"))[1]
        return frame, found | {at: self._faults[name] for at, name in enumerate(names) if name in self._faults}

    def _refused_drugs(self, line: pd.DataFrame) -> dict[int, str]:
        """Return why drugs are refused, by place: all are asked about, with one line that is not refused."""
        twice = (at for at, each in enumerate(self._drugs["drug_id"]) if each in self._doubled)
        found = dict.fromkeys(twice, "drug_id is a duplicate; keep one")
        for start in range(0, len(self._drugs), _ROWS):
            some = range(start, min(start + _ROWS, len(self._drugs)))
            found = bisected(self._contract.read, self._request(line.iloc[[0] * len(some)], some), start)[1] | found
        return found

    def part(self, places: Any, start: int, lines_of: Callable[[], tuple[pd.DataFrame, dict[int, str]]]) -> Part:
        """Return pairs of `lines` from ``start`` on, and why some are refused."""
        row, line, drug = self._at(places, start)
        lines, of_lines = lines_of()
        if self._of_drugs is None and len(taken := lines.drop(index=list(of_lines))):
            self._of_drugs = self._refused_drugs(taken)
        of_drugs = self._of_drugs or {}
        of_each = zip((line - start).tolist(), drug.tolist(), strict=True)
        why = [of_lines.get(one) or of_drugs.get(other) for one, other in of_each]
        names, drugs = self.names[line], self._drug_names[drug]
        about = pd.DataFrame({"row": row, "sample_id": names + "|" + drugs, "cell_line_id": names, "drug_id": drugs})
        good = np.array([each is None for each in why], dtype=bool)
        refused = about.assign(reason=pd.Series(why, dtype=object))[~good]
        request = self._request(lines.iloc[(line - start)[good]], drug[good])
        return Part(about[good].reset_index(drop=True), request, list(refused.itertuples(index=False, name=None)))

    def _request(self, lines: pd.DataFrame, drug: Any) -> pd.DataFrame:
        return pd.concat([lines.reset_index(drop=True), self._drugs.iloc[drug].reset_index(drop=True)], axis=1)
