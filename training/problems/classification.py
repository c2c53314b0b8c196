"""Answers of one of several classes, with calibrated probabilities and a conformal set of classes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from mlflow.types import ColSpec, DataType
from mlflow.types.schema import Array, Map

from pipelines.datasets import Prepared
from pipelines.params import Task
from training.contract import Columns, Contract, Refit, named_numbers
from training.model.calibration import (
    SMALLEST,
    apply_temperature,
    fit_temperature,
    prediction_sets,
    true_scores,
)
from training.model.cross_fit import FinalFit
from training.model.limits import Cells, Limits, choose, held_out

CLASS = "class"  # the cells of Mondrian sets


@dataclass(frozen=True, kw_only=True)
class Classes(Contract):
    """What a classifier answers; sets have the true class with probability `coverage`."""

    answered = (
        ColSpec(DataType.string, name="label"),
        ColSpec(DataType.double, name="probability"),
        ColSpec(Map(DataType.double), name="probabilities"),
        ColSpec(Array(DataType.string), name="labels"),
        ColSpec(DataType.double, name="coverage"),
    )
    promised = ("coverage",)
    scored_by: ClassVar[Mapping[str, str]] = {"classes": "classes"}
    logged_by: ClassVar[Mapping[str, str]] = {"calibration/temperature": "temperature"}

    classes: list[str]
    temperature: float  # divides the logits
    threshold: float  # largest score, 1 - probability, of a class in the set; `limits` are those of cells

    @classmethod
    def calibrate(cls, task: Task, prepared: Prepared, final: FinalFit, refit: Refit | None) -> dict[str, Any]:
        """Return classes, temperature (Guo et al., 2017) and threshold (split conformal), on rows outside the fit."""
        measured = prepared.samples.target[final.held_out_rows]
        temperature = fit_temperature(final.held_out, measured)
        calibrated = apply_temperature(final.held_out, temperature)
        rows, classes = final.held_out_rows, [str(each) for each in prepared.samples.classes]
        cells = {CLASS: Cells(np.array(classes)[measured])}
        cells |= {by: Cells(each[rows]) for by, each in cls.cell_columns(task, prepared).items()}

        def size(limits: Limits, part: np.ndarray) -> float:
            own = limits.of(classes) if limits.by == CLASS else limits.overall
            if limits.by not in ("", CLASS):
                own = limits.of(cells[limits.by].of_row[part])[:, None]
            return float(prediction_sets(calibrated[part], own).sum(axis=1).mean())

        scores = true_scores(calibrated, measured)
        coverage, asked = task.evaluate.interval_coverage, task.evaluate.intervals
        limits, tried = choose(held_out(scores, prepared, rows), cells, coverage, asked=asked, size=size)
        return {
            "classes": classes,
            "temperature": temperature,
            "threshold": min(max(limits.overall, 0.0), 1.0),
            **cls.served(limits, prepared),
            "chosen": {"method": limits.method, "by": limits.by, "tried": tried},
        }

    def set_thresholds(self, cells: np.ndarray | None, count: int) -> np.ndarray:
        """Return the threshold of each class, ``(classes,)``, or of each of ``count`` samples, ``(count, 1)``."""
        if self.cells == CLASS:
            return self.limits_of(self.threshold, np.array(self.classes), len(self.classes))
        return self.limits_of(self.threshold, cells, count)[:, None]

    def calibrated(self, outputs: np.ndarray) -> np.ndarray:
        """Return calibrated probabilities, ``(n, classes)``."""
        return apply_temperature(outputs, self.temperature)

    def calibrated_graph(self, module: Any) -> Any:
        """See `Contract.calibrated_graph`."""
        from training.graphs import Formula  # imports PyTorch

        return Formula(lambda found: (found.clamp(min=SMALLEST).log() / self.temperature).softmax(dim=1), module)

    @property
    def outputs_text(self) -> str:
        """Return what the calibrated outputs are."""
        return f"calibrated probabilities (n, {len(self.classes)}), float64, of {', '.join(self.classes)}"

    def said(self, outputs: np.ndarray, unseen: np.ndarray, cells: np.ndarray | None = None) -> Columns:
        """Return label, probabilities and the set of classes; for `unseen` samples without coverage."""
        classes = np.array(self.classes)
        sets = prediction_sets(outputs, self.set_thresholds(cells, len(outputs)))
        return {
            "label": classes[outputs.argmax(axis=1)],
            "probability": outputs.max(axis=1),
            "probabilities": named_numbers(self.classes, outputs),
            "labels": [classes[row].tolist() for row in sets],
            "coverage": np.where(unseen, np.nan, self.coverage),
        }

    def targets_text(self, target: np.ndarray) -> pd.Series:
        """Return the name of each class."""
        return pd.Series(np.array(self.classes, dtype=object)[target])

    def predicted(self, table: pd.DataFrame, samples: Any, outputs: np.ndarray, baseline: np.ndarray) -> pd.DataFrame:
        """See `with_probabilities`."""
        return with_probabilities(table, self.classes, outputs, self.temperature, baseline)


def with_probabilities(
    table: pd.DataFrame, classes: Sequence[str], raw: np.ndarray, temperature: float, baseline: np.ndarray
) -> pd.DataFrame:
    """Return ``table`` with ``prediction``, a code, and ``probability_``, ``raw_`` and ``baseline_`` of each class."""
    columns = {"probability": apply_temperature(raw, temperature), "raw": raw, "baseline": baseline}
    made = {
        f"{kind}_{label}": values[:, code] for kind, values in columns.items() for code, label in enumerate(classes)
    }
    return table.assign(prediction=raw.argmax(axis=1), **made)


ANSWERED = Classes
