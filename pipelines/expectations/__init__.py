"""Great Expectations suites of the raw formats, and how an expectation that fails becomes findings.

A suite runs on columns of a raw table, or on a summary frame such as one row for each gene with its statistics: Great
Expectations takes milliseconds an expectation, and gene tables have thousands of columns. What no expectation can
state (molecules parse, a scale fits) is a plain function that returns findings.
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

Report = Callable[[Sequence[int], str], list[Finding]]
"""Makes findings from the index entries of the frame that were unexpected, and from their severity."""


@dataclass(frozen=True)
class Check:
    """One expectation, whose ``mostly`` is a tolerance: a failure within it is a warning; and how it is reported."""

    expectation: Expectation
    report: Report


@dataclass(frozen=True)
class Suite:
    """The checks of one frame.

    Attributes
    ----------
    name
        Name in the Data Docs: the raw table and, after a dot, the summary if it is one.
    frame
        What the expectations run on. Its index is the row or the column of the raw table, counted from 0.
    checks
        The checks.
    """

    name: str
    frame: pd.DataFrame
    checks: Sequence[Check]


def report_table(name: str, file: str, message: str, column: str | None = None) -> Report:
    """Return how to report a fault of a whole table or column."""
    return lambda _, severity: [Finding(name, file, message, column, severity=severity)]


def report_rows(name: str, file: str, column: str | None, message: str, values: pd.Series | None = None) -> Report:
    """Return how to report rows of a raw table; ``{found}`` in the message becomes examples of faulty ``values``."""

    def report(rows: Sequence[int], severity: str) -> list[Finding]:
        found = [] if values is None else _written(values.iloc[list(rows[:ROWS_SHOWN])], cells=column is not None)
        return [Finding.at_rows(name, file, column, rows, _with_found(message, found), values=found, severity=severity)]

    return report


def report_columns(
    name: str,
    file: str,
    names: Sequence[str],
    message: str,
    *,
    values: np.ndarray,
    fault: Callable[[np.ndarray], np.ndarray] | None = None,
) -> Report:
    """Return how to report columns of a raw table.

    Parameters
    ----------
    name, file, message
        Of the finding. ``{found}`` in the message is replaced by examples of the faulty values.
    names
        The columns.
    values
        Their values, shape ``(rows, columns)``.
    fault
        Marks the faulty cells of an array; without it no rows are named.
    """

    def report(columns: Sequence[int], severity: str) -> list[Finding]:
        alone = len(columns) <= COLUMNS_ALONE
        findings = []
        for group in [[column] for column in columns] if alone else [list(columns)]:
            part = values[:, group]
            wrong = np.zeros(part.shape, dtype=bool) if fault is None else fault(part)
            found = _written(part[wrong][:ROWS_SHOWN], cells=True)
            what = _with_found(message, found)
            if not alone:
                what = f"{len(group)} of {values.shape[1]} columns: {what}"
            rows = np.flatnonzero(wrong.any(axis=1))
            findings.append(
                Finding.at_rows(
                    name, file, some(names[at] for at in group), rows, what, values=found, severity=severity
                )
            )
        return findings

    return report


def report_names(
    name: str, file: str, names: Sequence[str], message: Callable[[list[str], str], str], column: str | None = None
) -> Report:
    """Return how to report names in one finding, whose message is made of the names and the severity.

    Parameters
    ----------
    name, file
        Of the finding.
    names
        One for each row of the frame.
    column
        Of the finding; the names themselves if they are columns.
    """

    def report(positions: Sequence[int], severity: str) -> list[Finding]:
        found = [names[position] for position in positions]
        values = tuple(found[:ROWS_SHOWN])
        what = message(found, severity)
        return [Finding(name, file, what, column or some(found), severity=severity, values=values)]

    return report


def report_files(name: str, files: Sequence[str], messages: Sequence[str], beyond: str) -> Report:
    """Return how to report files, for a frame with one row for each file.

    Parameters
    ----------
    name
        Of the findings.
    files, messages
        For each row its file and what would be wrong with it.
    beyond
        Folder that stands for the files after the first ``ROWS_SHOWN``, which share a finding.
    """

    def report(positions: Sequence[int], severity: str) -> list[Finding]:
        shown, rest = list(positions[:ROWS_SHOWN]), list(positions[ROWS_SHOWN:])
        findings = [Finding(name, files[one], messages[one], severity=severity) for one in shown]
        if rest:
            what = f"{len(rest)} more files have the fault of {files[shown[-1]]}: {some(files[one] for one in rest)}"
            findings.append(Finding(name, beyond, what, count=len(rest), severity=severity))
        return findings

    return report


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
