"""Confounders of cell lines: level and spread of their profiles, what is missing, and the study."""

from __future__ import annotations

import numpy as np
import pandas as pd

from pipelines.confounders import metadata
from pipelines.samples.response import ResponseSamples


def pair_confounders(samples: ResponseSamples) -> dict[str, pd.DataFrame]:
    """Return what tells nothing of how a cell line responds, for each probe a row a cell line.

    Level and spread of each omics (what a library size or a plate would shift), which omics are missing, in which study
    the line was measured, and the other columns of ``cell_lines.csv``.
    """
    lines = samples.cell_lines.index
    profiles = {}
    for name, table in samples.omics.items():
        wide = table.to_numpy(np.float64)
        summary = pd.DataFrame({"mean": pd.DataFrame(wide).mean(axis=1), "sd": pd.DataFrame(wide).std(axis=1)})
        profiles[f"level_{name}"] = summary.set_axis(lines)
    missing = {name: np.isnan(table.to_numpy()).mean(axis=1) for name, table in samples.omics.items()}
    counts = pd.crosstab(samples.cell, samples.pairs["study"].to_numpy()).reindex(range(len(lines)), fill_value=0)
    total = counts.sum(axis=1)
    study = counts.div(total.clip(lower=1), axis=0).assign(measurements=total).set_axis(lines)
    return {
        **profiles,
        "missing": pd.DataFrame(missing, index=lines),
        "study": study.rename(columns=str),
        "metadata": metadata(samples.cell_lines),
    }
