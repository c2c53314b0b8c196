"""Questions about pairs of a cell line and a drug: every line with every drug, or the pairs of a table."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from serving.bulk import Part, Wanted, refusals, tell
from serving.bulk.tables import profile_blocks, read_ids, table_named
from serving.dashboard.data.tables import measured

_ROWS = 10_000
_LINES = 250  # of a part, which has few drugs then: the features of a line and of a drug are computed once a part


def parts(data: Path, contract: Any, wanted: Wanted) -> Iterator[tuple[int, Part]]:
    """Return pairs of the lines in ``cell_lines`` and the omics with ``drugs``, or those of ``response`` where it is.

    Without a table of pairs, rows are counted drug by drug.
    """
    pairs, number = _Pairs(data, contract), 0
    for start in range(0, len(pairs.names), _LINES):
        own = np.flatnonzero((pairs.line >= start) & (pairs.line < start + _LINES))
        own = own[np.argsort(pairs.drug[own], kind="stable")]
        lines: tuple[pd.DataFrame, dict[int, str]] | None = None
        for place in range(0, len(own), _ROWS):
            if wanted(number):
                lines = lines or pairs.lines(slice(start, start + _LINES))
                yield number, pairs.part(own[place : place + _ROWS], start, *lines)
            number += 1


class _Pairs:
    """The pairs of a folder. A line or drug is asked about alone first: what is refused then is so in each pair."""

    def __init__(self, data: Path, contract: Any) -> None:
        self._contract, self._values = contract, dict[str, pd.DataFrame]()
        self._tissue, self._faults = dict[str, str](), {"": "cell_line_id is empty"}
        for omics, features in contract.features.items():
            if (path := table_named(data, omics)) is not None:
                blocks = list(profile_blocks(path, features, _LINES))
                self._values[omics] = pd.concat([found.values.astype(np.float32) for found in blocks])
                for found in blocks:
                    self._tissue |= found.tissue
                    self._faults |= {name: why for _, name, why in found.faults}
        listed = read_ids(table_named(data, "cell_lines"), ["cell_line_id"], ["tissue"])
        self._tissue |= {name: tissue for name, tissue in listed.itertuples(index=False) if tissue}
        drugs = read_ids(table_named(data, "drugs"), [], ["drug_id", "smiles"])
        doubled = set(drugs["drug_id"][drugs["drug_id"].duplicated()].dropna())
        if (table := table_named(data, "response")) is None:
            in_tables = (name for values in self._values.values() for name in values.index)
            self.names = list(dict.fromkeys([*listed["cell_line_id"].fillna(""), *in_tables, *list(self._faults)[1:]]))
            codes: Any = np.indices((len(drugs), len(self.names)), dtype=np.int32)
            self.drug, self.line = codes[0].ravel(), codes[1].ravel()
        else:
            asked = read_ids(table, ["cell_line_id", "drug_id"])
            smiles = dict(zip(drugs["drug_id"], drugs["smiles"], strict=True))
            self.line, names = pd.factorize(asked["cell_line_id"].fillna(""))
            self.drug, ids = pd.factorize(asked["drug_id"].fillna(""))
            self.names = list(names)
            drugs = pd.DataFrame([(each or None, smiles.get(each)) for each in ids], columns=[*drugs], dtype=object)
        self._drugs = drugs
        self._called = np.array([drug_id or smiles or "" for drug_id, smiles in drugs.itertuples(index=False)], object)
        # Why drugs are refused, None of those that are not, by place; as far as they were asked about.
        self._of_drugs: dict[int, str | None] = {
            at: "drug_id is a duplicate; keep one" for at, each in enumerate(drugs["drug_id"]) if each in doubled
        }

    def lines(self, some: slice) -> tuple[pd.DataFrame, dict[int, str]]:
        """Return what a request says of lines, a row each, and why some are refused, by place."""
        names = self.names[some]
        columns: dict[str, Any] = {"tissue": [self._tissue.get(name) for name in names]}
        for omics, table in self._values.items():
            features, whole = self._contract.features[omics], omics not in self._contract.required
            maps, notes = measured(table[table.index.isin(names)], features, whole=whole)
            for note in notes:
                tell(f"{omics}: {note}")
            columns[omics] = [maps.get(name) for name in names]
        frame = pd.DataFrame({name: pd.Series(cells, dtype=object) for name, cells in columns.items()})
        found = refusals(self._contract, frame.assign(smiles="C"))
        return frame, found | {at: self._faults[name] for at, name in enumerate(names) if name in self._faults}

    def part(self, rows: np.ndarray, start: int, lines: pd.DataFrame, of_lines: dict[int, str]) -> Part:
        """Return pairs in ``rows`` of `lines`, of which the first is at ``start``, and why some are refused."""
        line, drug = self.line[rows] - start, self.drug[rows]
        new = [at for at in np.unique(drug).tolist() if at not in self._of_drugs]
        if len(taken := lines.drop(index=list(of_lines))) and new:
            found = refusals(self._contract, self._request(taken.iloc[[0] * len(new)], new))
            self._of_drugs |= {at: found.get(place) for place, at in enumerate(new)}
        why = [of_lines.get(a) or self._of_drugs.get(b) for a, b in zip(line.tolist(), drug.tolist(), strict=True)]
        names, called = np.array(self.names, dtype=object)[self.line[rows]], self._called[drug]
        ids = {"sample_id": names + "|" + called, "cell_line_id": names, "drug_id": called}
        about, good = pd.DataFrame({"row": rows + 1, **ids}), np.array([each is None for each in why], dtype=bool)
        refused = about.assign(reason=pd.Series(why, dtype=object))[~good]
        request = self._request(lines.iloc[line[good]], drug[good])
        return Part(about[good].reset_index(drop=True), request, list(refused.itertuples(index=False, name=None)))

    def _request(self, lines: pd.DataFrame, drug: Any) -> pd.DataFrame:
        return pd.concat([lines.reset_index(drop=True), self._drugs.iloc[drug].reset_index(drop=True)], axis=1)
