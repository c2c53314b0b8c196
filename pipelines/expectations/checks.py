"""Checks that tables of every kind have in common: keys that are filled and unique, and columns that are true."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from typing import Any

import great_expectations.expectations as gxe
import pandas as pd

from pipelines.expectations import Check, Suite, Tell, tell_rows, tell_table
from pipelines.text_values import folded_id
from pipelines.units import Doubt

ONE_ROW_EACH = "write one row for each, and give different things different ids"


def keyed_checks(file: str, table: pd.DataFrame, key: str) -> Iterator[Check]:
    """Yield the checks of a table that has a row for each ``key``, for a frame that has the `keys`."""
    message = "the table has no row; add its rows"
    yield Check(gxe.ExpectTableRowCountToBeBetween(min_value=1), tell_table("minimum_rows", file, message))
    yield filled(file, key)
    message = f"stands more than once{{found}}; {ONE_ROW_EACH}"
    yield Check(gxe.ExpectColumnValuesToBeUnique(column=key), tell_rows("key_unique", file, key, message, table[key]))


def filled(file: str, key: str) -> Check:
    """Return the check that a key stands in every row."""
    message = "the key is empty; fill it in"
    return Check(gxe.ExpectColumnValuesToNotBeNull(column=key), tell_rows("key_filled", file, key, message))


def alike_ids(missing: Iterable[str], others: Iterable[Any]) -> str:
    """Return, for a message, which of the ids that another table lacks are there in another spelling; else nothing."""
    there = {_spelling(other): other for other in others if isinstance(other, str)}
    pairs = [f"{name!r} looks like {there[_spelling(name)]!r}" for name in missing if _spelling(name) in there]
    more = f" and {len(pairs) - 3} more do" if len(pairs) > 3 else ""
    return f", where {', '.join(pairs[:3])}{more}: write ids in both alike" if pairs else ""


def _spelling(name: str) -> str:
    return re.sub(r"[\W_]+", "-", folded_id(name))


def all_true(column: str, tell: Tell, tolerated: float = 0.0) -> Check:
    """Return the check that a column is true, but for a ``tolerated`` share that is told as a warning."""
    mostly = math.floor((1.0 - tolerated) * 1e9) / 1e9  # else a share of just `tolerated` may be refused
    return Check(gxe.ExpectColumnValuesToBeInSet(column=column, value_set=[True], mostly=mostly), tell)


def doubt_suite(name: str, file: str, doubt: Doubt | None, todo: str, column: str | None = None) -> list[Suite]:
    """Return the suite that refuses a table, or a column, whose scale is certainly another, and warns where it may be.

    Parameters
    ----------
    name
        Of the suite; a part of the raw table's.
    file, column
        Named in the finding.
    doubt
        What speaks against the scale; there is no suite without.
    todo
        What to do about it.
    """
    if doubt is None:
        return []
    frame = pd.DataFrame({"scale_fits": [False]})
    tell = tell_table("scale_fits", file, f"{doubt.message}; {todo}", column)
    return [Suite(name, frame, (all_true("scale_fits", tell, tolerated=0.0 if doubt.certain else 1.0),))]


def at_least(column: str, least: float, tell: Tell) -> Check:
    """Return the check that no value of a column is below ``least``."""
    return Check(gxe.ExpectColumnValuesToBeBetween(column=column, min_value=least), tell)
