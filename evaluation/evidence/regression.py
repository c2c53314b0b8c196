"""What the evidence of every model of one number says: its errors, over all and within strata, and its interval."""

from __future__ import annotations

from typing import Any

import numpy as np

from evaluation.evidence.parts import Evaluation, Evidence
from evaluation.figures import plots
from evaluation.metrics.weakest import of_drugs
from evaluation.modalities import Modality
from evaluation.problems import Measures


def number_evidence(measures: Measures, run: Evaluation, modality: Modality) -> Evidence:
    """Measure the test rows of a model of one number; see `Measures.evidence`."""
    task, predictions = run.task, run.predictions
    contract: Any = run.contract
    metrics = measures.intervals(predictions, task, run.seed)
    measured, predicted = (predictions[name].to_numpy() for name in ("target", "prediction"))
    error = np.abs(measured - predicted)
    half = contract.half_width
    held = np.full(len(error), np.nan) if half is None else (error <= half).astype(np.float64)
    covered = float(held.mean())
    every = {"name": "all", "n": len(predictions), **metrics["r2"].as_dict()}
    worst = {"unit": "test split", "metric": "r2", "rows": [every]}
    if task.within:
        worst = of_drugs(predictions, modality.part_names(run), **run.bootstrap)
    unit = modality.target_unit(task)
    found = Evidence(
        metrics=metrics,
        sections={
            "worst": worst,
            "coverage": run.coverage(held),
            "interval": {
                "coverage": task.evaluate.interval_coverage,
                "half_width": half,
                "unseen_half_width": contract.unseen_half_width,
                "covered_on_test": covered,
            },
        },
        figures={"measured_against_predicted": plots.measured_against_predicted(measured, predicted, run.title, unit)},
        logged={"test_interval_coverage": covered},
    )
    return found | modality.by_stratum(run, lambda part: measures.intervals(part, task, run.seed))
