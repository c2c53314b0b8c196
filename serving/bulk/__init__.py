"""The questions of a folder or table for bulk prediction: a module a modality, found by its name."""

import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from pipelines.errors import UserError
from training.contract import Contract

_NAMED_ROW = re.compile(r"row (\d+), ")
_MOST_NOTES = 20


@dataclass(frozen=True)
class Part:
    """Questions that are answered together."""

    asked: pd.DataFrame  # `row`, counted from 1, and ids of the questions that the model takes
    samples: Any  # as `Contract.read` returns them, in the same order; None where it takes none
    refused: pd.DataFrame  # `row`, ids and `reason` of the others


class Questions(ABC):
    """All questions about what lies in ``data``, in parts that are the same in every run."""

    ids: ClassVar[tuple[str, ...]] = ("sample_id",)  # columns of the answers that name a question
    size: ClassVar[int]  # questions of a part
    total: int  # number of questions

    def __init__(self, data: Path, contract: Any) -> None:
        self.data, self.contract = data, contract
        self._noted: set[str] = set()

    @abstractmethod
    def files(self) -> list[Path]:
        """Return the files that the questions are read from."""

    @abstractmethod
    def parts(self, numbers: Sequence[int]) -> Iterator[Part]:
        """Return these parts; ``numbers`` ascend."""

    def note(self, notes: Sequence[str]) -> None:
        """Print what was changed or left out, each sentence once."""
        for each in notes:
            if each not in self._noted and len(self._noted) < _MOST_NOTES:
                self._noted.add(each)
                print(f"note: {each}", file=sys.stderr)

    def part(self, rows: Sequence[int], names: Sequence[Sequence[str]], samples: Any, reasons: dict[int, str]) -> Part:
        """Return the part of questions in ``rows`` of the data, counted from 0, of which some places have a reason."""
        about = pd.DataFrame(list(names), columns=list(self.ids)).astype(object)
        about.insert(0, "row", np.asarray(rows, dtype=np.int64) + 1)
        wrong = np.isin(np.arange(len(about)), list(reasons))
        refused = about[wrong].assign(reason=[reasons[place] for place in sorted(reasons)])
        return Part(about[~wrong].reset_index(drop=True), samples, refused)


@cache
def questions_class(modality: str) -> type[Questions]:
    """Return the questions of a modality, importing its module."""
    found: type[Questions] = import_module(f"{__name__}.{modality}").QUESTIONS
    return found


def read_rows(contract: Contract, frame: pd.DataFrame) -> tuple[Any, np.ndarray, dict[int, str]]:
    """Return the samples of a request without the rows that the model refuses, the others' places, and the reasons."""
    left, reasons = np.arange(len(frame)), dict[int, str]()
    while len(left):
        try:
            return contract.read(frame.iloc[left].reset_index(drop=True)), left, reasons
        except UserError as error:
            alone = {} if reasons else {int(row): read_row(contract, frame.iloc[[row]])[1] for row in left}
            found = {row: why for row, why in alone.items() if why is not None}
            if not found:  # rows that contradict one another
                named = _NAMED_ROW.match(str(error))
                if named is None:
                    raise
                found = {int(left[int(named[1])]): _NAMED_ROW.sub("", str(error), count=1)}
            reasons |= found
            left = np.setdiff1d(left, list(reasons))
    return None, left, reasons


def read_row(contract: Contract, frame: pd.DataFrame) -> tuple[Any, str | None]:
    """Return the samples of a request of one row, and why the model refuses it, if it does."""
    try:
        return contract.read(frame.reset_index(drop=True)), None
    except UserError as error:
        return None, _NAMED_ROW.sub("", str(error), count=1)
