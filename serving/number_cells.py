"""Cells of a table that people bring as numbers: decimal commas, thousands separators, words for a missing value."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from pipelines.errors import UserError
from pipelines.text_values import clean, is_unknown, quoted

_EXPONENT = r"(?:[eE][+-]?\d+)?"
_PLAIN = re.compile(rf"[+-]?(?:\d+\.?\d*|\.\d+){_EXPONENT}")
_COMMA = re.compile(rf"[+-]?\d*,\d+{_EXPONENT}|[+-]?[1-9]\d{{0,2}}(?:\.\d{{3}})+,\d+")  # 5,12 or 1.234,5
_GROUPS = re.compile(r"[+-]?[1-9]\d{0,2}(?:,\d{3})+")  # 1,234 or 1,234,567
_POINT_AFTER_GROUPS = re.compile(r"[+-]?[1-9]\d{0,2}(?:,\d{3})+\.\d+")  # 1,234.5
_GAP = re.compile(r"(?<=\d)[ '’](?=\d{3}(?!\d))")  # 1 234 and 1'234
_TRUTH = {"true": 1.0, "false": 0.0}


class Numbers(NamedTuple):
    """A table's cells as float64, NaN where missing or no number; where they are no number; and notes in sentences."""

    values: np.ndarray
    wrong: np.ndarray
    notes: list[str]


def has_comma(cells: Iterable[Any]) -> bool:
    """Return whether a text among the cells is a number with a comma, as a decimal sign or between thousands."""
    return any(isinstance(cell, str) and "," in cell and _commas(_tidy(cell)) for cell in cells)


def read_numbers(table: pd.DataFrame, name: str, *, decimal_comma: bool = False) -> Numbers:
    """Return the cells of a table as numbers; all cells together decide what a comma is.

    Parameters
    ----------
    table
        Numbers, texts and missing cells; of a text file that `has_comma` all cells as text, since ``1.000`` is a
        thousand there.
    name
        Of the file, for messages.
    decimal_comma
        Whether ``1,234`` is a little more than one where no cell decides.

    Raises
    ------
    UserError
        The cells contradict one another, or leave open what the comma is.
    """
    objects = [place for place, dtype in enumerate(table.dtypes) if not pd.api.types.is_numeric_dtype(dtype)]
    values = np.full(table.shape, np.nan)
    wrong = np.zeros(table.shape, dtype=bool)
    plain = sorted(set(range(table.shape[1])) - set(objects))
    values[:, plain] = table.iloc[:, plain].astype(np.float64).to_numpy()
    if not objects:
        return Numbers(values, wrong, [])
    codes, cells = pd.factorize(table.iloc[:, objects].to_numpy(dtype=object).ravel())  # each text is read once
    found = pd.to_numeric(pd.Series(cells, dtype=object), errors="coerce").astype(np.float64).to_numpy().copy()
    failed = np.flatnonzero(np.isnan(found))
    tidy = [_tidy(str(cells[place])) for place in failed]
    comma = _comma_of(tidy, (cell for cell in cells if isinstance(cell, str)), name, decimal_comma)
    found[failed] = [_number(text, comma) for text in tidy]
    unknown = failed[[is_unknown(text) for text in tidy]] if len(failed) else failed
    bad = np.zeros(len(cells) + 1, dtype=bool)  # the last is that of missing cells, whose code is -1
    bad[failed] = np.isnan(found[failed])
    bad[unknown] = False
    shape = (len(table), len(objects))
    values[:, objects] = np.append(found, np.nan)[codes].reshape(shape)
    wrong[:, objects] = bad[codes].reshape(shape)
    notes = []
    if comma:
        shown = next(place for place in failed if "," in str(cells[place]) and not np.isnan(found[place]))
        what = "Decimal commas" if comma == "decimal" else "Commas between thousands"
        notes.append(f"{what} were read: {cells[shown]!r} as {found[shown]:g}.")
    if count := int(np.isin(codes, unknown).sum()):
        words = quoted(sorted(str(cells[place]) for place in unknown), 3)
        notes.append(f"Cells with a word for unknown ({words}) are missing values: {count:,}.")
    return Numbers(values, wrong, notes)


def _tidy(text: str) -> str:
    return _GAP.sub("", clean(text).replace("\u2212", "-"))


def _commas(text: str) -> bool:
    return any(pattern.fullmatch(text) for pattern in (_COMMA, _POINT_AFTER_GROUPS, _GROUPS))


def _comma_of(texts: Iterable[str], every: Iterable[str], name: str, decimal_comma: bool) -> str:
    """Return what a comma is: ``decimal``, ``thousands``, or nothing where no number has any."""
    commas = sorted(text for text in texts if _commas(text))
    if not commas:
        return ""
    todo = "save it with decimal points, and without signs between thousands"
    decimal = [t for t in commas if not _GROUPS.fullmatch(t) and not _POINT_AFTER_GROUPS.fullmatch(t)]
    thousands = [t for t in commas if _POINT_AFTER_GROUPS.fullmatch(t) or t.count(",") > 1]
    points = [t for t in (_tidy(cell) for cell in every if "." in cell) if _PLAIN.fullmatch(t)][:1]
    if decimal and (thousands or points):
        both = quoted([decimal[0], (thousands or points)[0]])
        raise UserError(f"{name}: with {both} in one table the decimal sign is not certain; {todo}")
    if decimal or thousands or points:
        return "decimal" if decimal else "thousands"
    if decimal_comma:
        return "decimal"
    first = commas[0]
    either = f"{first.replace(',', '.')} or {first.replace(',', '')}"
    raise UserError(f"{name}: {first!r} may be {either}, and no other cell decides; {todo}")


def _number(text: str, comma: str) -> float:
    if comma == "decimal" and "," in text and _commas(text):
        text = text.replace(".", "").replace(",", ".")
    elif comma == "thousands" and (_POINT_AFTER_GROUPS.fullmatch(text) or _GROUPS.fullmatch(text)):
        text = text.replace(",", "")
    if text.lower() in _TRUTH:
        return _TRUTH[text.lower()]
    return float(text) if _PLAIN.fullmatch(text) else np.nan
