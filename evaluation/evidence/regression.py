"""The evidence of every model of one number: its errors, over all and within strata, and its interval."""

from typing import Any

import numpy as np
import pandas as pd

from evaluation.evidence.parts import Evaluation, Evidence, Explained, worst
from evaluation.figures import plots
from evaluation.metrics import TOLERANCE, Interval, over_groups
from evaluation.modalities import Modality
from evaluation.problems import Measures
from evaluation.results import against, binned


def evidence(measures: Measures, run: Evaluation, modality: Modality) -> Evidence:
    """Measure the test rows of a model of one number; see `Measures.evidence`."""
    task, contract, predictions = run.task, run.contract, run.predictions
    metrics = measures.intervals(predictions, task, run.seed)
    measured, predicted = (predictions[name].to_numpy() for name in ("target", "prediction"))
    half = contract.half_width
    inside = np.full(len(measured), np.nan) if half is None else (np.abs(measured - predicted) <= half).astype(float)
    covered = float(inside.mean())
    every = {"name": "all", "n": len(predictions), **metrics["r2"].as_dict()}
    unit = modality.target_unit(task)
    drawn = {"measured_against_predicted": plots.measured_against_predicted(measured, predicted, run.title, unit)}
    tables = {"calibration": binned(measured, predicted), "predicted": against(measured, predicted, run.seed)}
    interval = {"coverage": task.evaluate.interval_coverage, "half_width": half}
    interval |= {"unseen_half_width": contract.unseen_half_width}
    found = Evidence(
        metrics=metrics,
        sections={
            "worst": worst_drugs(run, modality.part_names(run)) if task.within else worst("test split", "r2", [every]),
            "coverage": run.coverage(inside),
            "interval": {**interval, "covered_on_test": covered},
        },
        tables=tables,
        figures=drawn,
        logged={"test/interval_coverage": covered},
    )
    return found | modality.by_stratum(run, measures)


def explained(measures: Measures, run: Evaluation) -> Explained:
    """Explain the only answer, which may move either way; see `Measures.explained`."""
    first = np.zeros(len(run.predictions), dtype=np.int64)
    return Explained(("prediction",), first, lambda before, after, of_row: np.abs(after - before))


def worst_drugs(run: Evaluation, names: dict[str, str]) -> dict[str, Any]:
    """Return the share of variance between cell lines that is explained of every drug."""
    rows = []
    for drug, part in run.predictions.groupby("drug_id"):
        unit = part["group"] if part["group"].nunique() > 1 else part["cell_line_id"]
        label = {"label": names[str(drug)]} if names.get(str(drug)) else {}
        found = _explained_variance(part, unit.to_numpy(str), **run.bootstrap)
        rows.append({"name": str(drug), **label, "n": len(part), **found.as_dict()})
    return worst("drug", "r2", rows)


def _explained_variance(part: pd.DataFrame, unit: np.ndarray, **bootstrap: Any) -> Interval:
    """Return R2 of some rows with an interval over their units; NaN where the target does not vary."""
    target, prediction = (part[name].to_numpy(np.float64) for name in ("target", "prediction"))
    code = np.unique(unit, return_inverse=True)[1]
    centered = target - target.mean()  # the same R2, and sums that lose no digits
    columns = (np.ones(len(part)), centered, centered**2, (target - prediction) ** 2)
    sums = np.stack([np.bincount(code, each) for each in columns], axis=1)
    flat = (TOLERANCE * max(1.0, float(np.abs(target).max()))) ** 2 * len(part)

    def r2(weighed: np.ndarray) -> np.ndarray:
        rows, first, second, error = weighed.T
        spread = second - first**2 / np.maximum(rows, 1)
        return np.where(spread > flat, 1 - error / np.where(spread > flat, spread, 1), np.nan)

    value = float(r2(sums.sum(axis=0, keepdims=True))[0])
    return over_groups(value, len(sums), lambda counts: r2(counts @ sums), **bootstrap)
