"""Checks that tables of every modality share: keys, ids that two tables name, number columns, names of genes."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import great_expectations.expectations as gxe
import numpy as np
import pandas as pd

from pipelines.errors import ROWS_SHOWN, Finding
from pipelines.expectations import Check, Report, Suite, report_names, report_rows, report_table
from pipelines.samples.gene_names import several_genes, spreadsheet_names
from pipelines.text_values import folded_id, is_unknown, quoted
from pipelines.units import Doubt

ONE_ROW_EACH = "write one row for each, and give different things different ids"


def between(
    column: str,
    report: Report,
    low: float | None = None,
    high: float | None = None,
    *,
    above: float | None = None,
    tolerated: float = 0.0,
) -> Check:
    """Return the check that values lie within ``low`` and ``high`` and ``above`` a bound; missing ones do.

    A ``tolerated`` share outside is a warning.
    """
    expectation = gxe.ExpectColumnValuesToBeBetween(
        column=column,
        min_value=low if above is None else above,
        max_value=high,
        strict_min=above is not None,
        mostly=mostly(tolerated),
    )
    return Check(expectation, report)


def mostly(tolerated: float) -> float:
    """Return the ``mostly`` of an expectation that a ``tolerated`` share may fail, that share itself included."""
    return math.floor((1.0 - tolerated) * 1e9) / 1e9


def filled(column: str, report: Report, *, warn: bool = False) -> Check:
    """Return the check that no value of a column is missing."""
    return Check(gxe.ExpectColumnValuesToNotBeNull(column=column, mostly=0.0 if warn else 1.0), report)


def rows_at_least(least: int, report: Report) -> Check:
    """Return the check that a frame has ``least`` rows."""
    return Check(gxe.ExpectTableRowCountToBeBetween(min_value=least), report)


def keyed_checks(file: str, table: pd.DataFrame, key: str) -> list[Check]:
    """Return the checks of a table with one row for each ``key``."""
    doubled = report_rows("key_unique", file, key, f"occurs more than once{{found}}; {ONE_ROW_EACH}", table[key])
    return [
        rows_at_least(1, report_table("minimum_rows", file, "the table has no row; add its rows")),
        filled_key(file, key),
        Check(gxe.ExpectColumnValuesToBeUnique(column=key), doubled),
    ]


def filled_key(file: str, key: str) -> Check:
    """Return the check that a key is in every row."""
    return filled(key, report_rows("key_filled", file, key, "the key is empty; fill it in"))


def known_ids(
    name: str,
    ids: pd.Series,
    others: pd.Series,
    *,
    files: tuple[str, str],
    noun: str,
    advice: Callable[[str], str],
    tolerated: float = 0.0,
) -> Suite:
    """Return the suite of one row for each id, with the number of rows that another table has of it.

    Parameters
    ----------
    name
        Of the suite.
    ids, others
        The column of ids that is checked, and the one of the other table.
    files
        Their files.
    noun
        What the ids name, plural.
    advice
        What to do, by severity.
    tolerated
        Share of the ids that the other table may lack.
    """
    file, other = files
    frame = pd.DataFrame({"id": ids.dropna().unique()})
    there = f"rows_in_{Path(other).stem}"
    frame[there] = frame["id"].map(others.value_counts()).fillna(0)

    def report(positions: Sequence[int], severity: str) -> list[Finding]:
        lacking = frame["id"].iloc[list(positions)]
        message = (
            f"{len(lacking)} of {len(frame)} {noun} are not in {other} ({quoted(lacking, ROWS_SHOWN)})"
            f"{alike_ids(lacking, others)}; {advice(severity)}"
        )
        rows = np.flatnonzero(ids.isin(lacking))
        expectation = f"{noun.replace(' ', '_')}_known"
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


# Number columns, and the genes that they are named after.


def column_statistics(names: Sequence[str], values: np.ndarray) -> pd.DataFrame:
    """Return one row for each column of ``values``, shape ``(rows, columns)``.

    ``name`` is None if it says nothing; ``range`` is the highest less the lowest value, 0 of a column without values.
    """
    finite = np.isfinite(values)
    lowest = values.min(axis=0, initial=np.inf, where=finite).astype(np.float64)
    highest = values.max(axis=0, initial=-np.inf, where=finite).astype(np.float64)
    measured = finite.any(axis=0)
    named = [None if is_unknown(name) or name.startswith("Unnamed: ") else name for name in names]
    return pd.DataFrame(
        {
            "name": pd.Series(named, dtype=object),
            "infinite": np.isinf(values).sum(axis=0),
            "lowest": np.where(measured, lowest, np.nan),
            "highest": np.where(measured, highest, np.nan),
            "range": np.where(measured, highest - lowest, 0.0),
        }
    )


def column_labels(columns: Iterable[Any], key: str) -> list[str]:
    """Return the names of all columns but ``key`` for messages; a blank one is named by its number in the file."""
    return [
        str(column) if str(column).strip() else f"number {number}"
        for number, column in enumerate(columns, start=1)
        if column != key
    ]


def gene_name_findings(file: str, names: Sequence[str], column: str | None = None) -> list[Finding]:
    """Warn of names that a spreadsheet made of a gene's name, and of names of several genes."""
    changed = set(spreadsheet_names(names))
    kinds = (
        (
            "gene_name_kept",
            [at for at, name in enumerate(names) if name in changed],
            "are a date or a number that a spreadsheet made of a name ({}); no other table has them: take the names "
            "from the source again",
        ),
        (
            "gene_name_single",
            [at for at, name in enumerate(names) if several_genes(name)],
            "name several genes ({}); a model knows none of them by it: name each column by one gene",
        ),
    )
    return [
        finding
        for name, positions, message in kinds
        if positions
        for finding in report_names(
            name,
            file,
            names,
            lambda found, _, message=message: f"{len(found)} genes {message.format(quoted(found))}",  # type: ignore[misc]
            column,
        )(positions, "warning")
    ]
