"""Confounders of expression profiles: depth, what is missing, the sequencer, and the batch by TCGA's barcodes."""

from __future__ import annotations

import numpy as np
import pandas as pd

from pipelines.confounders import metadata
from pipelines.samples.expression import ExpressionSamples, library_sizes

# Tissue source site, participant, sample and vial, portion and analyte, plate, center:
# https://docs.gdc.cancer.gov/Encyclopedia/pages/TCGA_Barcode
_BARCODE = r"^TCGA-(?P<site>\w{2})-\w{4}(?:-\d{2}[A-Z]?(?:-\d{2}[A-Z]-(?P<plate>\w{4})-(?P<center>\w{2}))?)?$"
_BARCODES = 0.95  # share of the ids that must be barcodes for their parts to be looked at
_LEVELS = 100  # of a part of a barcode: 20 could not tell 33 cohorts apart


def profile_confounders(samples: ExpressionSamples) -> dict[str, pd.DataFrame]:
    """Return what tells nothing of the tumor, for each probe a row a profile.

    The number of genes that are expressed is left out, since tissues differ in it. Of the parts of a barcode the most
    frequent levels are told apart, and all others are one.

    Parameters
    ----------
    samples
        Standardized values (``as_is``) have no library size.
    """
    values = samples.values[samples.index]
    found = {}
    if samples.scale != "as_is":
        total = library_sizes(values, samples.scale)
        found["library_size"] = pd.DataFrame({"log_total": np.log10(np.maximum(total, 1e-9))})
    found["missing"] = pd.DataFrame({"share": np.isnan(values).mean(axis=1)})
    found["metadata"] = metadata(samples.table)
    return found | _barcodes(samples.table["sample_id"])


def _barcodes(ids: pd.Series) -> dict[str, pd.DataFrame]:
    parts = ids.str.extract(_BARCODE)
    if parts["site"].notna().mean() < _BARCODES:
        return {}
    found = {}
    for name in ("plate", "site", "center"):
        levels = parts[name].value_counts().sort_index().sort_values(ascending=False, kind="stable").index[:_LEVELS]
        if len(levels):
            found[f"barcode_{name}"] = pd.DataFrame({level: (parts[name] == level).astype(float) for level in levels})
    return found
