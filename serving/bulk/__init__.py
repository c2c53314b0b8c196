"""The questions of a folder or table for bulk prediction: a module a modality, found by its name."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.exceptions import MlflowException

from pipelines.errors import UserError

FAILED = "the model failed: "


@dataclass(frozen=True)
class Part:
    """Questions that are asked together, and others that are refused before."""

    about: pd.DataFrame  # `row`, counted from 1, and ids, `sample_id` first; a row a question
    frame: pd.DataFrame  # the request about them, as `Contract.read` takes it
    refused: list[tuple[Any, ...]] = field(default_factory=list)  # row, ids and reason of each


def parts_of(data: Path, contract: Any) -> Iterator[Callable[[], Part]]:
    """Return what makes each part, to be called before the next is taken; the parts are the same in every run."""
    found: Iterator[Callable[[], Part]] = import_module(f"{__name__}.{contract.modality}").parts(data, contract)
    return found


@cache
def tell(note: str) -> None:
    """Print what was changed or left out, once."""
    print(f"note: {note}", file=sys.stderr)


def bisected(
    call: Callable[[pd.DataFrame], Any], frame: pd.DataFrame, first: int = 0
) -> tuple[list[Any], dict[int, str]]:
    """Return what ``call`` returns on halves of a request that it refuses, and why it refuses rows alone, by place."""
    if frame.empty:
        return [], {}
    try:
        return [call(frame.reset_index(drop=True))], {}
    except Exception as error:  # its rows may contradict one another, or be too large together
        if len(frame) == 1:
            told = isinstance(error, (UserError, MlflowException))
            return [], {first: str(error).removeprefix("row 0, ") if told else FAILED + type(error).__name__}
    half = len(frame) // 2
    (some, why), (others, more) = bisected(call, frame[:half], first), bisected(call, frame[half:], first + half)
    return some + others, why | more
