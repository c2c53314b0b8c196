"""What a confounder alone reaches, beside what the model scores: where the two are close, the score says little."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from evaluation.metrics.resample import Interval, group_counts, percentile_interval
from pipelines.samples.response import ResponseSamples

OF_LINES = "r2_over_drug_mean"  # in which `pipelines.probes.probe_response` measures its probes


def beside_model(audit: dict[str, Any] | None, metrics: Mapping[str, Interval], otherwise: str) -> list[dict[str, Any]]:
    """Return the shortcuts that the audit found, each with the model's score."""
    found = []
    for probe in (audit or {}).get("shortcuts", []):
        if not probe.get("finding"):
            continue
        metric = probe["metric"] if probe["metric"] in metrics else otherwise
        model = metrics[metric]
        other = "" if metric == probe["metric"] else f", in another measure, {metric}"
        sentence = (
            f"{probe['probe']} alone reaches {probe['metric']} "
            f"{_told(probe['score'], probe.get('low'), probe.get('high'))} (chance {probe['chance']:.3f}); "
            f"the model reaches{other} {_told(model.value, model.low, model.high)}"
        )
        score = {"model": model.value, "model_low": model.low, "model_high": model.high}
        found.append({**probe, "model_metric": metric, **score, "sentence": sentence})
    return found


def line_score(
    predictions: pd.DataFrame, train: ResponseSamples, *, resamples: int, confidence: float, seed: int
) -> Interval:
    """Return how much of what sets test lines apart the model tells, in the measure of the audit's probes.

    R2 of a line's mean distance from its drugs' means, each line weighted by its number of measurements; 0 is what the
    drug means alone reach. Rows of drugs that were not trained on have no mean and are left out.
    """
    means = pd.Series(train.target.astype(np.float64)).groupby(train.pairs["drug_id"].to_numpy()).mean()
    drug = predictions["drug_id"].map(means)
    rows = pd.DataFrame(
        {
            "group": predictions["group"].astype(str),
            "line": predictions["cell_line_id"],
            "target": predictions["target"] - drug,
            "prediction": predictions["prediction"] - drug,
        }
    )[drug.notna().to_numpy()]
    lines = rows.groupby(["group", "line"]).agg(
        target=("target", "mean"), prediction=("prediction", "mean"), count=("target", "size")
    )
    squares = pd.DataFrame(
        {
            "missed": lines["count"] * (lines["target"] - lines["prediction"]) ** 2,
            "apart": lines["count"] * lines["target"] ** 2,
        }
    )
    missed, apart = squares.groupby("group")[["missed", "apart"]].sum().to_numpy().T
    if not apart.sum() > 0:
        return Interval(math.nan, math.nan, math.nan)
    value = float(1 - missed.sum() / apart.sum())
    if len(apart) < 2:
        return Interval(value, math.nan, math.nan)
    counts = group_counts(len(apart), resamples, seed)
    total = counts @ apart
    scores = np.where(total > 0, 1 - (counts @ missed) / np.where(total > 0, total, 1.0), np.nan)
    return percentile_interval(value, scores, confidence)


def _told(value: float, low: float | None, high: float | None) -> str:
    """Return a score with its interval where it has one."""
    has_ends = low is not None and high is not None and math.isfinite(low) and math.isfinite(high)
    return f"{value:.3f} [{low:.3f}, {high:.3f}]" if has_ends else f"{value:.3f}"
