"""Great Expectations suites of the raw formats, and how an expectation that fails becomes findings.

A suite runs on columns of a raw table, or on a summary frame such as one row for each gene with its statistics: Great
Expectations takes milliseconds an expectation, and gene tables have thousands of columns. What no expectation can
state (molecules parse, a scale fits) is a plain function that returns findings.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from pipelines.errors import ROWS_SHOWN, Finding
from pipelines.formatting import listed

if TYPE_CHECKING:
    from great_expectations.expectations import Expectation

os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")  # read once, when Great Expectations is imported

EXAMPLES = 3  # faulty values that a message quotes

some = partial(listed, most=ROWS_SHOWN)
"""Return the first names of columns or files, and how many more there are."""

Report = Callable[[Sequence[int], str], list[Finding]]
"""Makes findings from the index entries of the frame that were unexpected, and from their severity."""


@dataclass(frozen=True)
class Check:
    """An expectation and how it is reported; a failure within the expectation's ``mostly`` is a warning."""

    expectation: Expectation
    report: Report


@dataclass(frozen=True)
class Suite:
    """The checks of one frame, whose index is the row or the column of the raw table, counted from 0."""

    name: str  # in the Data Docs: the raw table and, after a dot, the summary if it is one
    frame: pd.DataFrame
    checks: Sequence[Check]


def report_table(name: str, file: str, message: str, column: str | None = None) -> Report:
    """Report a fault of a whole table or column."""
    return lambda _, severity: [Finding(name, file, message, column, severity=severity)]


def report_rows(name: str, file: str, column: str | None, message: str, values: pd.Series | None = None) -> Report:
    """Report rows of a raw table; ``{found}`` in the message becomes examples of the faulty ``values``."""

    def report(rows: Sequence[int], severity: str) -> list[Finding]:
        faulty: Iterable[Any] = () if values is None else values.iloc[list(rows[:ROWS_SHOWN])]
        what, found = with_found(message, faulty, cells=column is not None)
        return [Finding.at_rows(name, file, column, rows, what, values=found, severity=severity)]

    return report


def report_names(
    name: str, file: str, names: Sequence[str], message: Callable[[list[str]], str], column: str | None = None
) -> Report:
    """Report names, one for each row of the frame, in one finding; without ``column`` they are names of columns."""

    def report(positions: Sequence[int], severity: str) -> list[Finding]:
        found = [names[position] for position in positions]
        values = tuple(found[:ROWS_SHOWN])
        return [Finding(name, file, message(found), column or some(found), severity=severity, values=values)]

    return report


def report_files(name: str, files: Sequence[str], messages: Sequence[str], beyond: str) -> Report:
    """Report files, one for each row; those after the first `ROWS_SHOWN` share a finding on the folder ``beyond``."""

    def report(positions: Sequence[int], severity: str) -> list[Finding]:
        shown, rest = list(positions[:ROWS_SHOWN]), list(positions[ROWS_SHOWN:])
        findings = [Finding(name, files[one], messages[one], severity=severity) for one in shown]
        if rest:
            what = f"{len(rest)} more files have the fault of {files[shown[-1]]}: {some(files[one] for one in rest)}"
            findings.append(Finding(name, beyond, what, count=len(rest), severity=severity))
        return findings

    return report


def with_found(message: str, values: Iterable[Any], *, cells: bool = True) -> tuple[str, list[str]]:
    """Return a message with examples in place of ``{found}``, and values as text; text of cells is quoted."""
    text = repr if cells else str
    found = [f"{value:g}" if isinstance(value, (float, np.floating)) else text(str(value)) for value in values]
    examples = list(dict.fromkeys(found))
    more = ", ..." if len(examples) > EXAMPLES else ""
    return message.replace("{found}", f" (found {', '.join(examples[:EXAMPLES])}{more})" if examples else ""), found
