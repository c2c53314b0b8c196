"""Great Expectations suites as code: what each raw format must satisfy, and how a failure is told.

A suite runs on a small frame made of a raw file (its keys, or one row for each of its columns), since Great
Expectations takes milliseconds an expectation and gene tables have thousands of columns. Each check knows the
way back from an entry of that frame to file, column and rows of the raw file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from pipelines.errors import ROWS_SHOWN, Finding

if TYPE_CHECKING:
    from great_expectations.expectations import Expectation

os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")  # read once, when Great Expectations is imported

COLUMNS_ALONE = 5  # up to so many faulty columns get a finding each, more share one
EXAMPLES = 3  # faulty values that a message quotes

Tell = Callable[[Sequence[int], str], list[Finding]]


@dataclass(frozen=True)
class Check:
    """One expectation and how its failure is told.

    Attributes
    ----------
    expectation
        Holds for the suite's frame. Its ``mostly`` is a tolerance: what stays within it is a warning.
    tell
        Makes findings of the positions in the frame that were unexpected, and their severity.
    """

    expectation: Expectation
    tell: Tell


@dataclass(frozen=True)
class Suite:
    """The checks of one frame.

    Attributes
    ----------
    name
        Name in the Data Docs: the raw table and, after a dot, the frame if the table has several.
    frame
        What the expectations run on; its index counts from 0.
    checks
        The checks.
    """

    name: str
    frame: pd.DataFrame
    checks: tuple[Check, ...]


def tell_table(name: str, file: str, message: str, column: str | None = None) -> Tell:
    """Return how to tell a fault of a whole table or column."""
    return lambda _, severity: [Finding(name, file, message, column, severity=severity)]


def tell_rows(name: str, file: str, column: str | None, message: str, values: pd.Series | None = None) -> Tell:
    """Return how to tell rows at fault, for a frame with the rows of the raw file.

    Parameters
    ----------
    name, file, column, message
        Of the finding. ``{found}`` in the message is replaced by examples of the faulty ``values``.
    values
        The raw column.
    """

    def tell(positions: Sequence[int], severity: str) -> list[Finding]:
        found = [] if values is None else _written(values.iloc[list(positions[:ROWS_SHOWN])], cells=column is not None)
        what = _with_found(message, found)
        return [Finding.at_rows(name, file, column, positions, what, found, severity)]

    return tell


def tell_columns(
    name: str,
    file: str,
    names: Sequence[str],
    message: str,
    values: np.ndarray,
    fault: Callable[[np.ndarray], np.ndarray] | None = None,
) -> Tell:
    """Return how to tell columns at fault, for a frame with one row for each column of the raw table.

    Parameters
    ----------
    name, file, message
        Of the finding. ``{found}`` in the message is replaced by examples of the faulty values.
    names
        The columns.
    values
        What they hold, shape ``(rows, columns)``.
    fault
        Marks the faulty cells of an array; without it no rows are told.
    """

    def tell(positions: Sequence[int], severity: str) -> list[Finding]:
        alone = len(positions) <= COLUMNS_ALONE
        findings = []
        for group in [[position] for position in positions] if alone else [list(positions)]:
            part = values[:, group]
            wrong = np.zeros(part.shape, dtype=bool) if fault is None else fault(part)
            found = _written(part[wrong][:ROWS_SHOWN], cells=True)
            what = _with_found(message, found)
            if not alone:
                what = f"{len(group)} of {values.shape[1]} columns: {what}"
            column, rows = some(names[position] for position in group), np.flatnonzero(wrong.any(axis=1))
            findings.append(Finding.at_rows(name, file, column, rows, what, found, severity))
        return findings

    return tell


def tell_files(name: str, files: Sequence[str], messages: Sequence[str], beyond: str) -> Tell:
    """Return how to tell files at fault, for a frame with one row for each file.

    Parameters
    ----------
    name
        Of the findings.
    files, messages
        For each row its file and what would be wrong with it.
    beyond
        Folder that stands for the files after the first ``ROWS_SHOWN``, which share a finding.
    """

    def tell(positions: Sequence[int], severity: str) -> list[Finding]:
        shown, rest = list(positions[:ROWS_SHOWN]), list(positions[ROWS_SHOWN:])
        findings = [Finding(name, files[one], messages[one], severity=severity) for one in shown]
        if rest:
            what = f"{len(rest)} more files, at fault as {files[shown[-1]]} is: {some(files[one] for one in rest)}"
            findings.append(Finding(name, beyond, what, count=len(rest), severity=severity))
        return findings

    return tell


def some(names: Iterable[str]) -> str:
    """Return the first ``ROWS_SHOWN`` names of columns or files, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - ROWS_SHOWN} more" if len(names) > ROWS_SHOWN else ""
    return ", ".join(names[:ROWS_SHOWN]) + more


def _written(values: Iterable[Any], *, cells: bool) -> list[str]:
    """Return values as a message quotes them: text of cells in quotation marks, so that blanks show."""
    text = repr if cells else str
    return [f"{value:g}" if isinstance(value, (float, np.floating)) else text(str(value)) for value in values]


def _with_found(message: str, found: list[str]) -> str:
    examples = list(dict.fromkeys(found))
    more = ", ..." if len(examples) > EXAMPLES else ""
    return message.replace("{found}", f" (found {', '.join(examples[:EXAMPLES])}{more})" if examples else "")
