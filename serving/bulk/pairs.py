"""Questions about pairs of a cell line and a drug: every line with every drug, or the pairs of a table."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipelines.samples.response import ResponseSamples
from serving.bulk import Part, Questions, read_rows
from serving.bulk.tables import ProfileTable, read_ids, table_named
from serving.dashboard.data.tables import measured

_BLOCK = 1000  # lines: the features of lines are computed for each part, those of drugs for each block of lines
_LINES_AT_ONCE, _DRUGS_AT_ONCE = 100, 2000  # of a request
_TWICE = "several rows have this {}; keep one"
_READ_AS = "read_as"  # column of the samples of a request


class PairQuestions(Questions):
    """Lines are those of the omics and ``cell_lines``, drugs those of ``drugs``, pairs those of ``response`` if any.

    Without a table of pairs, rows are counted block by block of lines, and in a block drug by drug.
    """

    ids = ("sample_id", "cell_line_id", "drug_id")
    size = 20_000

    def __init__(self, data: Path, contract: Any) -> None:
        super().__init__(data, contract)
        names = [*contract.features, "cell_lines", "drugs", "response"]
        self._paths = {name: path for name in names if (path := table_named(data, name)) is not None}
        self._tissue: dict[str, str | None] = {}
        self._faults: dict[str, str] = {}  # of lines
        self._omics = {name: self._values(name) for name in contract.features if name in self._paths}
        lines = self._ids("cell_lines", ["cell_line_id"], ["tissue"])
        self._tissue |= {line: tissue for line, tissue in lines.itertuples(index=False) if tissue is not None}
        of_tables = [line for table in self._omics.values() for line in table.index]
        self._lines = list(dict.fromkeys([*lines["cell_line_id"], *of_tables, *self._faults]))
        self._drugs = self._ids("drugs", [], ["drug_id", "smiles"])
        ids = self._drugs["drug_id"]
        self._doubled = set(ids[ids.duplicated() & ids.notna()])
        self._line = self._drug = self._order = np.empty(0, dtype=np.int64)  # of the table of pairs, if there is one
        self.total = len(self._lines) * len(self._drugs)
        if "response" in self._paths:
            pairs = self._ids("response", ["cell_line_id", "drug_id"], [])
            self._line, own = pd.factorize(pairs["cell_line_id"], use_na_sentinel=False)
            self._drug, asked = pd.factorize(pairs["drug_id"], use_na_sentinel=False)
            smiles = dict(zip(ids, self._drugs["smiles"], strict=True))
            self._lines = [line if isinstance(line, str) else None for line in own]
            self._drugs = pd.DataFrame({"drug_id": asked, "smiles": [smiles.get(drug) for drug in asked]}, dtype=object)
            self._order = np.lexsort((self._drug, self._line // _BLOCK))
            self.total = len(pairs)
        self._names = [drug or smiles or "" for drug, smiles in self._drugs.itertuples(index=False)]

    def files(self) -> list[Path]:
        """Return the tables."""
        return list(self._paths.values())

    def parts(self, numbers: Sequence[int]) -> Iterator[Part]:
        """Return pairs; each line is read once a block, each drug once a part."""
        read: dict[int, _Read] = {}  # the blocks of lines of the last part
        for number in numbers:
            rows, line, drug = self._pairs(number * self.size, min((number + 1) * self.size, self.total))
            read = {int(block): read.get(block) or self._read_lines(block) for block in np.unique(line // _BLOCK)}
            lines = [found for block in read.values() for found in block.samples]
            line_at, line_why = _places(read.values())
            drugs = self._read_drugs(np.unique(drug), next(iter(line_at), None))
            drug_at, drug_why = _places([drugs])
            names = [(self._lines[one] or "", self._names[other]) for one, other in zip(line, drug, strict=True)]
            why = [line_why.get(one) or drug_why.get(other) for one, other in zip(line, drug, strict=True)]
            good = np.array([each is None for each in why])
            samples = None
            if good.any():
                samples = _combined(
                    lines, drugs.samples, cell=_codes(line[good], line_at), drug=_codes(drug[good], drug_at)
                )
            reasons = {place: each for place, each in enumerate(why) if each is not None}
            yield self.part(rows, [(f"{one}|{other}", one, other) for one, other in names], samples, reasons)

    def _pairs(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return row, line and drug of pairs, each as a number."""
        if len(self._order):
            rows = self._order[start:stop]
            return rows, self._line[rows], self._drug[rows]
        rows, drugs = np.arange(start, stop), len(self._drugs)
        block, within = np.divmod(rows, _BLOCK * drugs)
        drug, line = np.divmod(within, np.minimum(_BLOCK, len(self._lines) - block * _BLOCK))
        return rows, block * _BLOCK + line, drug

    def _read_lines(self, block: int) -> "_Read":
        lines = range(block * _BLOCK, min((block + 1) * _BLOCK, len(self._lines)))
        wrong = {line: why for line in lines if (why := self._fault(self._lines[line]))}
        found = _Read([], [], wrong)
        for start in lines[::_LINES_AT_ONCE]:
            asked = [line for line in lines[start - lines.start :][:_LINES_AT_ONCE] if line not in wrong]
            found.add(self.contract, self._frame(asked).assign(smiles="C"), asked)
        return found

    def _read_drugs(self, drugs: np.ndarray, line: int | None) -> "_Read":
        """Read drugs in requests about ``line``; nothing without one."""
        wrong = {int(drug): _TWICE.format("drug_id") for drug in drugs if self._drugs["drug_id"][drug] in self._doubled}
        found = _Read([], [], wrong)
        asked = [int(drug) for drug in drugs if drug not in wrong] if line is not None else []
        for start in range(0, len(asked), _DRUGS_AT_ONCE):
            some = asked[start : start + _DRUGS_AT_ONCE]
            of_line = self._frame([line])[[name for name in self._omics if name in self.contract.required]]
            frame = self._drugs.iloc[some].reset_index(drop=True)
            found.add(
                self.contract, frame.assign(**{name: [cells[0]] * len(some) for name, cells in of_line.items()}), some
            )
        return found

    def _fault(self, line: str | None) -> str | None:
        return "cell_line_id is empty" if line is None else self._faults.get(line)

    def _frame(self, lines: Sequence[int]) -> pd.DataFrame:
        """Return what a request says of lines, a row each."""
        names = [self._lines[line] for line in lines]
        columns = {"tissue": pd.Series([self._tissue.get(name) for name in names], dtype=object)}
        for omics, table in self._omics.items():
            rows = table[table.index.isin(names)]
            maps, notes = measured(rows, self.contract.features[omics], whole=omics not in self.contract.required)
            self.note([f"{omics}: {each}" for each in notes])
            columns[omics] = pd.Series([maps.get(name) for name in names], dtype=object)
        return pd.DataFrame(columns)

    def _values(self, omics: str) -> pd.DataFrame:
        """Return the values of a table, float32, by line."""
        table = ProfileTable(self._paths[omics], self.contract.features[omics])
        blocks = list(table.blocks(range(-(-table.count // _BLOCK)), _BLOCK))
        for found in blocks:
            self.note([f"{omics}: {each}" for each in found.notes])
            self._tissue |= found.tissue
            self._faults |= {line: why for _, line, why in found.faults}
        return pd.concat([found.values.astype(np.float32) for found in blocks])

    def _ids(self, name: str, needed: list[str], others: list[str]) -> pd.DataFrame:
        if name in self._paths:
            return read_ids(self._paths[name], needed, others)
        return pd.DataFrame({column: pd.Series(dtype=object) for column in (*needed, *others)})


@dataclass
class _Read:
    """Samples of requests with a row a line (or a drug), which these are, and why others were refused."""

    samples: list[ResponseSamples]
    asked: list[int]
    reasons: dict[int, str]

    def add(self, contract: Any, frame: pd.DataFrame, asked: Sequence[int]) -> None:
        """Read a request about lines or drugs."""
        samples, good, reasons = read_rows(contract, frame)
        self.samples += [] if samples is None else [samples]
        self.asked += [asked[place] for place in good]
        self.reasons |= {asked[place]: why for place, why in reasons.items()}


def _places(read: Iterable[_Read]) -> tuple[dict[int, int], dict[int, str]]:
    """Return the place of each line (or drug) among the samples, and why others were refused."""
    asked, reasons = list[int](), dict[int, str]()
    for each in read:
        asked += each.asked
        reasons |= each.reasons
    return {code: place for place, code in enumerate(asked)}, reasons


def _codes(codes: np.ndarray, places: Mapping[int, int]) -> np.ndarray:
    return np.array([places[code] for code in codes.tolist()], dtype=np.int32)


def _combined(
    lines: Sequence[ResponseSamples], drugs: Sequence[ResponseSamples], cell: np.ndarray, drug: np.ndarray
) -> ResponseSamples:
    """Return the samples of pairs, by places among the rows of requests about lines and about drugs."""
    cell_lines = pd.concat([each.cell_lines.iloc[each.cell] for each in lines])
    cell_lines.index = pd.Index([f"row:{place}" for place in range(len(cell_lines))])
    omics = {
        name: pd.concat([each.omics[name].iloc[each.cell] for each in lines]).set_axis(cell_lines.index)
        for name in lines[0].omics
    }
    of_drugs = pd.concat([each.drugs.iloc[each.drug] for each in drugs])
    read_as = np.concatenate([each.pairs[_READ_AS].to_numpy(object) for each in drugs])
    pairs = {"cell_line_id": cell_lines.index[cell], "drug_id": of_drugs.index[drug], _READ_AS: read_as[drug]}
    return ResponseSamples(pd.DataFrame(pairs), cell_lines, of_drugs, omics, cell, drug).alone()


QUESTIONS = PairQuestions
