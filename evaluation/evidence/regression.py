"""The evidence of every model of one number: its errors, over all and within strata, and its interval."""

from typing import Any

import numpy as np
import pandas as pd
from scipy.special import bdtr

from evaluation.evidence import strata
from evaluation.evidence.parts import Evaluation, Evidence, Explained, worst
from evaluation.evidence.strata import LEAST_GROUPS
from evaluation.figures import plots
from evaluation.metrics import TOLERANCE, Interval, over_groups
from evaluation.modalities import Modality
from evaluation.problems import Measures
from evaluation.results import against, binned

_NEAR = 0.05  # of the declared coverage


def evidence(measures: Measures, run: Evaluation, modality: Modality) -> Evidence:
    """Measure the test rows of a model of one number; see `Measures.evidence`."""
    task, contract, predictions = run.task, run.contract, run.predictions
    metrics = measures.intervals(predictions, task, run.seed)
    measured, predicted = (predictions[name].to_numpy() for name in ("target", "prediction"))
    half = run.model.per_row(run.test, lambda by, rows: by.half_widths(run.test.take(rows)))
    inside = np.where(np.isnan(half), np.nan, np.abs(measured - predicted) <= half)
    covered = float(inside.mean())
    every = {"name": "all", "n": len(predictions), **metrics["r2"].as_dict()}
    unit = modality.target_unit(task)
    drawn = {"measured_against_predicted": plots.measured_against_predicted(measured, predicted, run.title, unit)}
    tables = {"calibration": binned(measured, predicted), "predicted": against(measured, predicted, run.seed)}
    interval = {"coverage": task.evaluate.interval_coverage, "half_width": contract.half_width}
    interval |= {"unseen_half_width": contract.unseen_half_width, "mean_half_width": float(half.mean())}
    interval |= {**contract.chosen, **(held_by_drug(run, inside) if task.within else {})}
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
    return found | strata.evidence(run, measures, inside)


def held_by_drug(run: Evaluation, inside: np.ndarray) -> dict[str, Any]:
    """Return of how many drugs with ten groups the covered share of rows is near the declared one, and would be.

    ``expected`` is that share of drugs if every row were covered with just the declared probability.
    """
    rows = pd.DataFrame({"drug": run.predictions["drug_id"], "group": run.groups, "inside": inside})
    found = rows.groupby("drug").agg(n=("inside", "size"), groups=("group", "nunique"), covered=("inside", "mean"))
    found, declared = found[found["groups"] >= LEAST_GROUPS], run.task.evaluate.interval_coverage
    if found.empty or found["covered"].isna().any():
        return {}
    low, high = (np.array([declared - _NEAR, declared + _NEAR])[:, None] * found["n"].to_numpy()).round(9)
    near = bdtr(np.floor(high), found["n"], declared) - bdtr(np.ceil(low) - 1, found["n"], declared)
    share = float(((found["covered"] - declared).abs() <= _NEAR + 1e-9).mean())
    about = {"drugs": len(found), "near": _NEAR, "share": share, "expected": float(near.mean())}
    return {"by_drug": {**about, "lowest": float(found["covered"].min())}}


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
