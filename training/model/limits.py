"""Limits of conformal intervals and sets: one for all rows, or one for each cell, chosen on held-out folds.

A cell is a class, a drug, or another value by which errors differ. A limit for each (Mondrian: Vovk et al., 2005,
Algorithmic Learning in a Random World, ch. 4) holds within every cell, and needs rows in each. One in units of the
cell's spread (locally weighted: Lei et al., 2018, JASA) shares the rows of all cells.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import bdtr

from pipelines.datasets import Prepared
from pipelines.errors import UserError
from training.model.calibration import Floats, quantile_of_groups

Method = Literal["one", "mondrian", "scaled"]
_PRIOR_ROWS = 50.0  # weight of the spread of a cell's target on the training rows, beside its held-out errors
_TINY = 1e-9
_LEVEL = 0.05  # of all tests together whether a cell is covered less than declared
_FEW = 0.01  # share of the cells that may be


@dataclass(frozen=True)
class Limits:
    """The largest error, or the largest score of a class in the set."""

    method: Method
    by: str  # column of the cells, empty for none
    overall: float  # where a cell has no limit of its own; infinite where groups are too few for one
    of_cell: dict[str, float]

    def of(self, cells: npt.ArrayLike) -> Floats:
        """Return the limit of each row, ``(n,)``, by its cell."""
        names, code = np.unique(np.asarray(cells).astype(str), return_inverse=True)
        return np.array([self.of_cell.get(name, self.overall) for name in names.tolist()])[code]


Size = Callable[[Limits, npt.NDArray[np.bool_]], float]  # mean of intervals or sets, over the held-out rows of a mask


@dataclass(frozen=True)
class HeldOut:
    """Rows outside the fit: their scores (of numbers absolute errors), groups and folds, ``(n,)`` each."""

    scores: Floats
    groups: npt.NDArray[np.intp]
    folds: npt.NDArray[np.intp]

    def take(self, rows: npt.NDArray[np.bool_]) -> "HeldOut":
        """Return the rows of a mask."""
        return HeldOut(self.scores[rows], self.groups[rows], self.folds[rows])


def held_out(scores: Floats, prepared: Prepared, rows: npt.NDArray[np.intp]) -> HeldOut:
    """Return the ``scores`` of prepared samples outside the fit, at ``rows``, with their groups and folds."""
    groups = np.unique(prepared.table["group"].to_numpy(str)[rows], return_inverse=True)[1]
    return HeldOut(scores, groups.astype(np.intp), prepared.table["fold"].to_numpy(np.intp)[rows])


@dataclass(frozen=True)
class Cells:
    """The cell of each held-out row, text, ``(n,)``, and of numbers the spread of each cell on the training rows."""

    of_row: np.ndarray
    spread: Mapping[str, float] | None = None

    def take(self, rows: npt.NDArray[np.bool_]) -> "Cells":
        """Return the rows of a mask."""
        return Cells(self.of_row[rows], self.spread)


def choose(
    held: HeldOut,
    cells: Mapping[str, Cells],
    coverage: float,
    *,
    asked: str,
    size: Size,
) -> tuple[Limits, list[dict[str, Any]]]:
    """Return limits with which rows of a new group are covered with probability ``coverage``, and what was tried.

    Each method that is ``asked`` for (``auto``: all) is fitted without a fold and measured on it, for every fold.
    Chosen is the one with the smallest ``size`` (of limits, on rows of a mask) of those under which hardly any cell is
    covered significantly less than declared; else the one with the fewest such cells. With too few groups for a limit
    there is one for all.
    """
    tried: list[tuple[Method, str]] = [("one", "")]
    for by, of_cells in cells.items():
        tried.append(("mondrian", by))
        tried += [("scaled", by)] * (of_cells.spread is not None)
    tried = [each for each in tried if asked in ("auto", each[0])]
    if not tried:
        raise UserError(f"evaluate.intervals in params.yaml is {asked}: it is of numbers, with cells of intervals_by")
    if math.isinf((one := _fit(("one", ""), held, cells, coverage)).overall):
        return one, []
    folds, best, record = np.unique(held.folds), tried[0], []
    if len(tried) > 1 and len(folds) > 1:
        record = [_measured(each, held, cells, coverage, size) for each in tried]
        found = min(record, key=lambda row: (row["short"] * (row["short"] > _FEW * row["cells"]), row["size"]))
        best = found["method"], found["by"]
    return _fit(best, held, cells, coverage), record


def _measured(
    tried: tuple[Method, str], held: HeldOut, cells: Mapping[str, Cells], coverage: float, size: Size
) -> dict[str, Any]:
    """Return coverage, mean size, and the number of cells that are covered too little, over all folds."""
    method, by = tried
    covered, sizes = np.zeros(len(held.scores), dtype=bool), 0.0
    for fold in np.unique(held.folds):
        out = held.folds == fold
        limits = _fit(tried, held.take(~out), {name: each.take(~out) for name, each in cells.items()}, coverage)
        covered[out] = held.scores[out] <= (limits.of(cells[by].of_row[out]) if by else limits.overall)
        sizes += size(limits, out) * out.sum()
    every = [np.zeros(len(covered), dtype=int), *(each.of_row for each in cells.values())]
    short, tested = _short(covered, held.groups, every, coverage)
    shown = {"coverage": float(covered.mean()), "size": float(sizes / len(covered))}
    return {"method": method, "by": by, **shown, "short": short, "cells": tested}


def _short(
    covered: npt.NDArray[np.bool_], groups: npt.NDArray[np.intp], columns: Sequence[np.ndarray], coverage: float
) -> tuple[int, int]:
    """Return how many cells of all columns are covered less than declared, by binomial tests, and how many there are.

    Of a group its share of covered rows counts, rounded up over the groups of a cell.
    """
    p: list[Floats] = []
    for cells in columns:
        rows = pd.DataFrame({"cell": cells, "group": groups, "covered": covered})
        of_group = rows.groupby(["cell", "group"])["covered"].mean()
        of_cell = of_group.groupby("cell").agg(["sum", "size"])
        p.append(bdtr(np.ceil(of_cell["sum"] - 1e-9), of_cell["size"], coverage))
    every = np.concatenate(p)
    return int((every < _LEVEL / len(every)).sum()), len(every)  # Bonferroni


def _fit(tried: tuple[Method, str], held: HeldOut, cells: Mapping[str, Cells], coverage: float) -> Limits:
    method, by = tried
    one = quantile_of_groups(held.scores, held.groups, coverage)
    if method == "one" or math.isinf(one):
        return Limits(method, "", one, {})
    of_row = cells[by].of_row
    if method == "mondrian":
        found = {}
        for name, rows in pd.Series(held.scores).groupby(of_row).indices.items():
            own = quantile_of_groups(held.scores[rows], held.groups[rows], coverage)
            if not math.isinf(own):  # with fewer groups the limit for all has to do
                found[str(name)] = own
        return Limits(method, by, one, found)
    unit = np.ones(len(of_row))  # of rows of a fold, by errors in the others
    for fold in np.unique(held.folds):
        out = held.folds == fold
        others = ~out if not out.all() else out
        units = _units(held.scores[others], cells[by].take(others))
        unit[out] = units.reindex(of_row[out]).fillna(float(units.mean())).to_numpy()
    limit = quantile_of_groups(held.scores / unit, held.groups, coverage)
    units = _units(held.scores, cells[by])
    return Limits(method, by, one, {str(name): limit * float(each) for name, each in units.items()})


def _units(scores: Floats, cells: Cells) -> pd.Series:
    """Return the mean score of each cell, shrunk to what the spread of its target lets expect, by cell."""
    prior = pd.Series(cells.spread, dtype=np.float64).clip(lower=_TINY)
    of_cell = pd.Series(scores).groupby(cells.of_row).agg(["sum", "size"])
    prior = prior.reindex(prior.index.union(of_cell.index)).fillna(float(prior.mean()))
    prior *= max(float(scores.mean()), _TINY) / float(prior.reindex(cells.of_row).mean())
    of_cell = of_cell.reindex(prior.index).fillna(0)
    return (of_cell["sum"] + _PRIOR_ROWS * prior) / (of_cell["size"] + _PRIOR_ROWS)
