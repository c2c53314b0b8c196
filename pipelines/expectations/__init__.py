"""Great Expectations suites of the raw formats, checks that several of them share, and the findings of failures.

A suite runs on columns of a raw table, or on a summary frame such as a row a gene: an expectation takes milliseconds,
and gene tables have thousands of columns. What no expectation can state is a plain function that returns findings.
"""

import math
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")  # read once, when Great Expectations is imported

import great_expectations.expectations as gxe
import numpy as np
import pandas as pd

from pipelines.errors import ROWS_SHOWN, Finding
from pipelines.formatting import listed
from pipelines.samples.gene_names import several_genes, spreadsheet_names
from pipelines.text_values import folded_id, is_unknown, quoted
from pipelines.units import Doubt

EXAMPLES = 3  # faulty values that a message quotes
_COLUMNS_ALONE = 5  # up to so many faulty columns get a finding each, more share one

some = partial(listed, most=ROWS_SHOWN)  # the first names, and how many more there are

Report = Callable[[Sequence[int], str], list[Finding]]
"""Makes findings from the index entries of the frame that were unexpected, and from their severity."""


@dataclass(frozen=True)
class Check:
    """An expectation and how it is reported; a failure within the expectation's ``mostly`` is a warning."""

    expectation: gxe.Expectation
    report: Report


@dataclass(frozen=True)
class Suite:
    """The checks of one frame, whose index is the row or the column of the raw table, counted from 0."""

    name: str  # in the Data Docs: the raw table and, after a dot, the summary if it is one
    frame: pd.DataFrame
    checks: Sequence[Check]


def table_sizes(tables: dict[str, pd.DataFrame]) -> dict[str, Any]:
    """Return the counts of rows and columns of each table."""
    return {
        "rows": {file: len(table) for file, table in tables.items()},
        "columns": {file: table.shape[1] for file, table in tables.items()},
    }


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


def between(
    column: str,
    report: Report,
    low: float | None = None,
    high: float | None = None,
    *,
    above: float | None = None,
    tolerated: float = 0.0,
) -> Check:
    """Return the check that values lie within bounds, or above one; a ``tolerated`` share outside is a warning."""
    expectation = gxe.ExpectColumnValuesToBeBetween(
        column=column,
        min_value=low if above is None else above,
        max_value=high,
        strict_min=above is not None,
        mostly=math.floor((1.0 - tolerated) * 1e9) / 1e9,  # the share itself is tolerated, whatever its rounding
    )
    return Check(expectation, report)


def filled(column: str, report: Report, *, warn: bool = False) -> Check:
    """Return the check that no value of a column is missing."""
    return Check(gxe.ExpectColumnValuesToNotBeNull(column=column, mostly=0.0 if warn else 1.0), report)


def filled_key(file: str, key: str) -> Check:
    """Return the check that a key is in every row."""
    return filled(key, report_rows("key_filled", file, key, "the key is empty; fill it in"))


def rows_at_least(least: int, report: Report) -> Check:
    """Return the check that a frame has ``least`` rows."""
    return Check(gxe.ExpectTableRowCountToBeBetween(min_value=least), report)


def keyed_checks(file: str, table: pd.DataFrame, key: str) -> list[Check]:
    """Return the checks of a table with one row for each ``key``."""
    doubled = "occurs more than once{found}; write one row for each, and give different things different ids"
    return [
        rows_at_least(1, report_table("minimum_rows", file, "the table has no row; add its rows")),
        filled_key(file, key),
        Check(gxe.ExpectColumnValuesToBeUnique(column=key), report_rows("key_unique", file, key, doubled, table[key])),
    ]


def known_ids(
    name: str,
    ids: pd.Series,
    others: pd.Series,
    *,
    files: tuple[str, str],
    noun: str,
    advice: str,
    tolerated: float = 0.0,
) -> Suite:
    """Return the suite of ids of the first of ``files`` that the second must have, but for a ``tolerated`` share."""
    file, other = files
    frame = pd.DataFrame({"id": ids.dropna().unique()})
    there = f"rows_in_{Path(other).stem}"
    frame[there] = frame["id"].map(others.value_counts()).fillna(0)

    def report(positions: Sequence[int], severity: str) -> list[Finding]:
        lacking = frame["id"].iloc[list(positions)]
        named = f"{len(lacking)} of {len(frame)} {noun} are not in {other} ({quoted(lacking, ROWS_SHOWN)})"
        message = f"{named}{alike_ids(lacking, others)}; {advice}"
        rows, expectation = np.flatnonzero(ids.isin(lacking)), f"{noun.replace(' ', '_')}_known"
        return [Finding.at_rows(expectation, file, str(ids.name), rows, message, values=lacking, severity=severity)]

    return Suite(name, frame, [between(there, report, low=1, tolerated=tolerated)])


def alike_ids(missing: Iterable[Any], others: Iterable[Any]) -> str:
    """Return, for a message, which ids another table spells differently; empty if there are none."""
    there = {_spelling(other): other for other in others if isinstance(other, str)}
    pairs = [f"{name!r} looks like {there[_spelling(name)]!r}" for name in missing if _spelling(name) in there]
    more = f" and {len(pairs) - 3} more do" if len(pairs) > 3 else ""
    return f", where {', '.join(pairs[:3])}{more}: write the ids alike in both" if pairs else ""


def _spelling(name: str) -> str:
    return re.sub(r"[\W_]+", "-", folded_id(name))


def scale_findings(file: str, doubt: Doubt | None, advice: str, column: str | None = None) -> list[Finding]:
    """Refuse a table or column whose scale is certainly another, and warn where it may be."""
    if doubt is None:
        return []
    severity = "error" if doubt.certain else "warning"
    return [Finding("scale_fits", file, f"{doubt.message}; {advice}", column, severity=severity)]


class Columns:
    """The number columns of a raw table, ``values`` of shape ``(rows, columns)``, and their checks.

    ``frame`` has a row for each column: its name (None if it says nothing), its infinite values, the lowest and highest
    finite one, and their ``range``, 0 of a column without values. ``labels`` are the names for messages.
    """

    def __init__(self, file: str, table: pd.DataFrame, key: str, values: np.ndarray) -> None:
        self.file, self.values = file, values
        numbered = [(number, str(name)) for number, name in enumerate(table.columns, start=1) if name != key]
        self.names = [name for _, name in numbered]
        self.labels = [name if name.strip() else f"number {number}" for number, name in numbered]
        named = [None if is_unknown(name) or name.startswith("Unnamed: ") else name for name in self.names]
        finite = np.isfinite(values)
        lowest = values.min(axis=0, initial=np.inf, where=finite).astype(np.float64)
        highest = values.max(axis=0, initial=-np.inf, where=finite).astype(np.float64)
        measured = finite.any(axis=0)
        self.frame = pd.DataFrame(
            {
                "name": pd.Series(named, dtype=object),
                "infinite": np.isinf(values).sum(axis=0),
                "lowest": np.where(measured, lowest, np.nan),
                "highest": np.where(measured, highest, np.nan),
                "range": np.where(measured, highest - lowest, 0.0),
            }
        )

    def report(self, name: str, message: str, fault: Callable[[np.ndarray], np.ndarray] | None = None) -> Report:
        """Report columns; ``fault`` marks faulty cells, whose rows are named and whose values replace ``{found}``."""

        def report(columns: Sequence[int], severity: str) -> list[Finding]:
            findings, alone = [], len(columns) <= _COLUMNS_ALONE
            for group in [[column] for column in columns] if alone else [list(columns)]:
                part = self.values[:, group]
                wrong = np.zeros(part.shape, dtype=bool) if fault is None else fault(part)
                what, found = with_found(message, part[wrong][:ROWS_SHOWN])
                if not alone:
                    what = f"{len(group)} of {len(self.labels)} columns: {what}"
                rows, column = np.flatnonzero(wrong.any(axis=1)), some(self.labels[at] for at in group)
                findings.append(Finding.at_rows(name, self.file, column, rows, what, values=found, severity=severity))
            return findings

        return report

    def sound(self, noun: str) -> list[Check]:
        """Return the checks that columns are named after what ``noun`` says, and finite."""
        unnamed = f"the column has no name, or a word that means unknown; name it after its {noun}"
        infinite = self.report("values_finite", "must be finite; leave unknown values empty", np.isinf)
        return [filled("name", self.report("column_named", unnamed)), between("infinite", infinite, high=0)]

    def at_least(self, low: float, why: str) -> Check:
        """Return the check that no value lies below ``low``; ``why`` says that none does and what to do."""
        report = self.report(
            "values_not_below", f"below {low:g}{{found}}, {why}", lambda cells: np.isfinite(cells) & (cells < low)
        )
        return between("lowest", report, low=low)

    def at_most(self, high: float, why: str) -> Check:
        """Return the check that no value lies above ``high``, as `at_least`."""
        report = self.report(
            "values_not_above", f"above {high:g}{{found}}, {why}", lambda cells: np.isfinite(cells) & (cells > high)
        )
        return between("highest", report, high=high)

    def varied(self, advice: str, tolerated: float) -> list[Check]:
        """Return the check that columns vary, of a table with several rows; a ``tolerated`` share may not."""
        constant = self.report("column_varies", f"has one value in all rows, or none; {advice}")
        return [between("range", constant, above=0, tolerated=tolerated)] if len(self.values) > 1 else []


def gene_name_findings(file: str, names: Sequence[str], column: str | None = None) -> list[Finding]:
    """Warn of names that a spreadsheet made of a gene's name, and of names of several genes."""
    changed = "are a date or a number that a spreadsheet made of a name ({}); take the names from the source again"
    several = "name several genes ({}); a model knows none of them by it: name each column by one gene"
    return [
        Finding(
            expectation,
            file,
            f"{len(found)} genes {message.format(quoted(found))}",
            column or some(found),
            severity="warning",
            values=tuple(found[:ROWS_SHOWN]),
        )
        for expectation, found, message in (
            ("gene_name_kept", spreadsheet_names(names), changed),
            ("gene_name_single", [name for name in names if several_genes(name)], several),
        )
        if found
    ]
