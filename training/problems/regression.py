"""Answers of one number, with a prediction interval."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from mlflow.types import ColSpec, DataType

from pipelines.datasets import Prepared
from pipelines.params import Task
from training.contract import Columns, Contract, Refit
from training.model.cross_fit import FinalFit
from training.model.limits import Cells, choose, held_out

_FEWEST = 5  # training rows of a cell whose spread is known


@dataclass(frozen=True, kw_only=True)
class Number(Contract):
    """What a model of one number answers; a half width, also that of `unseen` samples, is None for no interval.

    `limits` are half widths of cells, `half_width` that of samples of no such cell.
    """

    answered = tuple(ColSpec(DataType.double, name=name) for name in ("prediction", "low", "high", "coverage"))
    logged_by: ClassVar[Mapping[str, str]] = {"calibration/interval_half_width": "half_width"}

    half_width: float | None
    unseen_half_width: float | None = None

    @classmethod
    def calibrate(cls, task: Task, prepared: Prepared, final: FinalFit, refit: Refit | None) -> dict[str, Any]:
        """Return the half widths of the intervals, measured on rows outside the fit; see `limits.choose`."""
        unseen = None if refit is None else cls.measure_unseen(task, prepared, final, refit)
        half = float(final.interval_half_widths(prepared, task.evaluate.interval_coverage))
        found: dict[str, Any] = {"half_width": half if math.isfinite(half) else None, "unseen_half_width": unseen}
        if found["half_width"] is None:
            return found
        rows, train = final.held_out_rows, prepared.rows("train")
        target, cells = pd.Series(prepared.samples.target), {}
        for by, of_sample in cls.cell_columns(task, prepared).items():
            spread = target.iloc[train].groupby(of_sample[train]).agg(["std", "size"])
            known = spread["std"].where(spread["size"] >= _FEWEST).dropna()
            cells[by] = Cells(of_sample[rows], {str(cell): float(each) for cell, each in known.items()} or None)
        limits, tried = choose(
            held_out(np.abs(target.to_numpy()[rows] - final.held_out), prepared, rows),
            cells,
            task.evaluate.interval_coverage,
            asked=task.evaluate.intervals,
            size=lambda limits, rows: (
                2 * float(limits.of(cells[limits.by].of_row[rows]).mean()) if limits.by else 2 * limits.overall
            ),
        )
        if math.isfinite(limits.overall):  # with too few groups the largest error has to do
            found |= {"half_width": limits.overall, **cls.served(limits, prepared)}
            found["chosen"] = {"method": limits.method, "by": limits.by, "tried": tried}
        return found

    def half_widths(self, samples: Any) -> np.ndarray:
        """Return the half width of each sample's interval, ``(n,)``, as of a drug that is not `unseen`."""
        return self.limits_of(self.half_width, self.cell_of(samples), len(samples))

    def said(self, outputs: np.ndarray, unseen: np.ndarray, cells: np.ndarray | None = None) -> Columns:
        """Return prediction, interval and its coverage; `unseen` samples have their own interval."""
        half_unseen = np.nan if self.unseen_half_width is None else self.unseen_half_width
        width = np.where(unseen, half_unseen, self.limits_of(self.half_width, cells, len(outputs)))
        coverage = np.where(np.isnan(width), np.nan, self.coverage)
        return {"prediction": outputs, "low": outputs - width, "high": outputs + width, "coverage": coverage}

    @property
    def promises_unseen(self) -> bool:
        """Whether `unseen` samples have an interval."""
        return self.unseen_half_width is not None

    def predicted(self, table: pd.DataFrame, samples: Any, outputs: np.ndarray, baseline: np.ndarray) -> pd.DataFrame:
        """Return ``table`` with ``prediction`` and ``baseline``."""
        return table.assign(prediction=outputs, baseline=baseline)


ANSWERED = Number
