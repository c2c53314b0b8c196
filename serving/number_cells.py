"""Cells of a table that people bring as numbers: decimal commas, and words for a missing value."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from pipelines.errors import UserError
from pipelines.text_values import clean, is_unknown, quoted

_PLAIN = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_COMMA = re.compile(r"[+-]?\d*,\d+(?:[eE][+-]?\d+)?")
_EITHER = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")  # 1,234 may be a little more than one, or a thousand
_TRUTH = {"true": 1.0, "false": 0.0}


def with_point(cell: Any) -> Any:
    """Return a text with a plain minus sign and a decimal point in place of a comma; any other cell as it is."""
    if not isinstance(cell, str):
        return cell
    text = _tidy(cell)
    return text.replace(",", ".") if _COMMA.fullmatch(text) else text


def _tidy(cell: Any) -> str:
    return clean(str(cell)).replace("\u2212", "-")


class Numbers(NamedTuple):
    """A table's cells as float64, NaN where missing or no number; where they are no number; and notes in sentences."""

    values: np.ndarray
    wrong: np.ndarray
    notes: list[str]


def read_numbers(table: pd.DataFrame, name: str, *, decimal_comma: bool = False) -> Numbers:
    """Return the cells of a table (numbers, texts, missing) as numbers; all cells together decide what a comma is.

    Where none decides, ``decimal_comma`` says whether ``1,234`` is a little more than one. Cells that contradict one
    another, or leave it open, are a `UserError`. Signs between thousands are not read: such a cell is no number.
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
    tidy = [_tidy(cells[place]) for place in failed]
    commas = [text for text in tidy if _COMMA.fullmatch(text)]
    if commas:
        points = [cell for cell in cells if isinstance(cell, str) and "." in cell and _PLAIN.fullmatch(_tidy(cell))]
        _refuse_uncertain(name, commas, points, decimal_comma)
    found[failed] = [_number(text) for text in tidy]
    unknown = failed[[is_unknown(text) for text in tidy]] if len(failed) else failed
    bad = np.zeros(len(cells) + 1, dtype=bool)  # the last is that of missing cells, whose code is -1
    bad[failed] = np.isnan(found[failed])
    bad[unknown] = False
    shape = (len(table), len(objects))
    values[:, objects] = np.append(found, np.nan)[codes].reshape(shape)
    wrong[:, objects] = bad[codes].reshape(shape)
    notes = []
    if commas:
        notes.append(f"Decimal commas were read: {commas[0]!r} as {_number(commas[0]):g}.")
    if count := int(np.isin(codes, unknown).sum()):
        words = quoted(sorted(str(cells[place]) for place in unknown), 3)
        notes.append(f"Cells with a word for unknown ({words}) are missing values: {count:,}.")
    return Numbers(values, wrong, notes)


def _refuse_uncertain(name: str, commas: Sequence[str], points: Sequence[str], decimal_comma: bool) -> None:
    todo = "save it with decimal points, and without signs between thousands"
    if points:
        both = quoted([commas[0], points[0]])
        raise UserError(f"{name}: with {both} in one table the decimal sign is not certain; {todo}")
    if not decimal_comma and all(_EITHER.fullmatch(text) for text in commas):
        either = f"{commas[0].replace(',', '.')} or {commas[0].replace(',', '')}"
        raise UserError(f"{name}: {commas[0]!r} may be {either}, and no other cell decides; {todo}")


def _number(text: str) -> float:
    if text.lower() in _TRUTH:
        return _TRUTH[text.lower()]
    text = with_point(text)
    return float(text) if _PLAIN.fullmatch(text) else np.nan
