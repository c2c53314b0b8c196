"""Checks that tables of every kind have in common: keys that are filled and unique, and columns that are true."""

from __future__ import annotations

import math
from collections.abc import Iterator

import great_expectations.expectations as gxe
import pandas as pd

from pipelines.expectations import Check, Tell, tell_rows, tell_table


def keyed_checks(file: str, table: pd.DataFrame, key: str) -> Iterator[Check]:
    """Yield the checks of a table that has a row for each ``key``, for a frame that has the `keys`."""
    message = "the table has no row; add its rows"
    yield Check(gxe.ExpectTableRowCountToBeBetween(min_value=1), tell_table("minimum_rows", file, message))
    yield filled(file, key)
    message = "stands more than once{found}; keep one row of each"
    yield Check(gxe.ExpectColumnValuesToBeUnique(column=key), tell_rows("key_unique", file, key, message, table[key]))


def filled(file: str, key: str) -> Check:
    """Return the check that a key stands in every row."""
    message = "the key is empty; fill it or remove the rows"
    return Check(gxe.ExpectColumnValuesToNotBeNull(column=key), tell_rows("key_filled", file, key, message))


def keys(values: pd.Series) -> pd.Series:
    """Return keys with None for those that are empty or blank."""
    return values.where(values.notna() & (values.astype("str").str.strip() != ""), None)


def all_true(column: str, tell: Tell, tolerated: float = 0.0) -> Check:
    """Return the check that a column is true, but for a ``tolerated`` share that is told as a warning."""
    mostly = math.floor((1.0 - tolerated) * 1e9) / 1e9  # else a share of just `tolerated` may be refused
    return Check(gxe.ExpectColumnValuesToBeInSet(column=column, value_set=[True], mostly=mostly), tell)


def at_least(column: str, least: float, tell: Tell) -> Check:
    """Return the check that no value of a column is below ``least``."""
    return Check(gxe.ExpectColumnValuesToBeBetween(column=column, min_value=least), tell)
