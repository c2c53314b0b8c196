"""The questions of a folder or table for bulk prediction: a module a modality, found by its name."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd

from pipelines.errors import UserError
from training.contract import Contract

Wanted = Callable[[int], bool]


@dataclass(frozen=True)
class Part:
    """Questions that are asked together, and others that are refused before."""

    about: pd.DataFrame  # `row`, counted from 1, and ids, `sample_id` first; a row a question
    frame: pd.DataFrame  # the request about them, as `Contract.read` takes it
    refused: list[tuple[Any, ...]] = field(default_factory=list)  # row, ids and reason of each


def parts_of(data: Path, contract: Any, wanted: Wanted) -> Iterator[tuple[int, Part]]:
    """Return the parts that are ``wanted`` by their number, with it; they are the same in every run."""
    found: Iterator[tuple[int, Part]] = import_module(f"{__name__}.{contract.modality}").parts(data, contract, wanted)
    return found


@cache
def tell(note: str) -> None:
    """Print what was changed or left out, once."""
    print(f"note: {note}", file=sys.stderr)


def refusals(contract: Contract, frame: pd.DataFrame, first: int = 0) -> dict[int, str]:
    """Return why the model refuses rows of a request, whatever the others are, by their place from ``first`` on."""
    if frame.empty:
        return {}
    try:
        contract.read(frame.reset_index(drop=True))
        return {}
    except UserError as error:
        if len(frame) == 1:
            return {first: str(error).removeprefix("row 0, ")}
    half = len(frame) // 2
    return refusals(contract, frame[:half], first) | refusals(contract, frame[half:], first + half)
