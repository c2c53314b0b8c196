"""Answers of many numbers, such as the expression of many genes, each with an interval."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from mlflow.types import ColSpec, DataType
from mlflow.types.schema import Array, Map, Object, Property

from pipelines.datasets import Prepared
from pipelines.params import Task
from training.contract import Columns, Contract, Refit, largest_contributions, named_numbers
from training.estimator import Estimator
from training.model.cross_fit import FinalFit

_TOP = 10  # contributions to each of many targets
_OF_TARGETS = Array(
    Object([Property(name, DataType.string) for name in ("target", "feature")] + [Property("value", DataType.double)])
)


@dataclass(frozen=True, kw_only=True)
class Targets(Contract):
    """What a model of many numbers answers; genes are in log2 units."""

    answered = (
        *(ColSpec(Map(DataType.double), name=name) for name in ("prediction", "low", "high")),
        ColSpec(DataType.double, name="coverage"),
    )
    explained = (  # the largest contributions to each target
        ColSpec(Map(DataType.double), name="base", required=False),
        ColSpec(_OF_TARGETS, name="attributions", required=False),
    )
    scored_by: ClassVar[Mapping[str, str]] = {"scale": "spreads"}

    targets: list[str]
    spreads: list[float]  # standard deviations over the training rows
    half_widths: list[float | None]  # of the intervals; None for none

    @classmethod
    def calibrate(cls, task: Task, prepared: Prepared, final: FinalFit, refit: Refit | None) -> dict[str, Any]:
        """Return names and spreads of the targets, and half widths measured on rows outside the fit."""
        half = np.asarray(final.interval_half_widths(prepared, task.evaluate.interval_coverage))
        return {
            "targets": list(prepared.samples.targets),
            "spreads": [float(spread) for spread in np.nanstd(prepared.side("train").target, axis=0)],
            "half_widths": [float(width) if math.isfinite(width) else None for width in half],
        }

    @property
    def outputs_text(self) -> str:
        """Return what the calibrated outputs are."""
        return f"predicted values (n, {len(self.targets)}), float64, of the targets in contract.json, in their order"

    def aimed(self, samples: Any) -> Any:
        """Return samples with the model's targets."""
        return samples.aimed(self.targets, samples.genes)

    def said(self, outputs: np.ndarray, unseen: np.ndarray, cells: np.ndarray | None = None) -> Columns:
        """Return each target with its interval."""
        half = np.array([np.nan if width is None else width for width in self.half_widths])
        parts = {"prediction": outputs}
        if np.isfinite(half).all():
            parts |= {"low": outputs - half, "high": outputs + half}
        columns = {name: named_numbers(self.targets, values) for name, values in parts.items()}
        return {**columns, "coverage": np.full(len(outputs), self.coverage)}

    def targets_text(self, target: np.ndarray) -> pd.Series:
        """Return JSON text of all targets."""
        return pd.Series([json.dumps(row) for row in named_numbers(self.targets, target)], dtype=object)

    def predicted(self, table: pd.DataFrame, samples: Any, outputs: np.ndarray, baseline: np.ndarray) -> pd.DataFrame:
        """See `with_targets`."""
        return with_targets(table, self.targets, samples.target, outputs, baseline)

    def explain(self, estimator: Estimator, samples: Any) -> Columns:
        """Return the largest contributions to each target; ``base`` and they add up to it."""
        rows: list[list[dict[str, Any]]] = [[] for _ in range(len(samples))]
        bases: list[dict[str, float]] = [{} for _ in rows]
        for position, target in enumerate(self.targets):
            attribution = estimator.attribute(samples, np.full(len(samples), position))
            if attribution is None:
                return {}
            named = largest_contributions(attribution, _TOP)
            for row, of_row, found, base in zip(rows, bases, named, attribution.base, strict=True):
                row += [{"target": target, **each} for each in found]
                of_row[target] = float(base)
        return {"base": pd.Series(bases, dtype=object), "attributions": pd.Series(rows, dtype=object)}

    def logged(self) -> dict[str, float]:
        """Return the mean half width, where every target has one."""
        known = [width for width in self.half_widths if width is not None]
        return {"calibration/interval_half_width": float(np.mean(known))} if len(known) == len(self.half_widths) else {}


def with_targets(
    table: pd.DataFrame, targets: Sequence[str], measured: np.ndarray, predicted: np.ndarray, baseline: np.ndarray
) -> pd.DataFrame:
    """Return ``table`` with a column a target: ``target_``, ``prediction_`` and ``baseline_``."""
    columns = {"target": measured, "prediction": predicted, "baseline": baseline}
    made = {
        f"{kind}_{name}": values[:, place] for kind, values in columns.items() for place, name in enumerate(targets)
    }
    return pd.concat([table.reset_index(drop=True), pd.DataFrame(made)], axis=1)


ANSWERED = Targets
