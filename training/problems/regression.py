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


@dataclass(frozen=True, kw_only=True)
class Number(Contract):
    """What a model of one number answers; a half width, also that of `unseen` samples, is None for no interval."""

    answered = tuple(ColSpec(DataType.double, name=name) for name in ("prediction", "low", "high", "coverage"))
    logged_by: ClassVar[Mapping[str, str]] = {"calibration/interval_half_width": "half_width"}

    half_width: float | None
    unseen_half_width: float | None = None

    @classmethod
    def calibrate(cls, task: Task, prepared: Prepared, final: FinalFit, refit: Refit | None) -> dict[str, Any]:
        """Return the half widths of the intervals, measured on rows outside the fit."""
        half = float(final.interval_half_widths(prepared, task.evaluate.interval_coverage))
        unseen = None if refit is None else cls.measure_unseen(task, prepared, final, refit)
        return {"half_width": half if math.isfinite(half) else None, "unseen_half_width": unseen}

    def said(self, outputs: np.ndarray, unseen: np.ndarray) -> Columns:
        """Return prediction, interval and its coverage; `unseen` samples have their own interval."""
        half, half_unseen = (np.nan if each is None else each for each in (self.half_width, self.unseen_half_width))
        width = np.where(unseen, half_unseen, half)
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
