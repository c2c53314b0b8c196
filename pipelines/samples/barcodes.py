"""Barcodes of TCGA, whose parts name the site that took a sample and the plate that it was measured on."""

import pandas as pd

from pipelines.text_values import known_column

# Tissue source site, participant, sample and vial, portion and analyte, plate, center,
# and of what was sequenced twice the sequencer; https://docs.gdc.cancer.gov/Encyclopedia/pages/TCGA_Barcode
_BARCODE = (
    r"^TCGA-(?P<site>\w{2})-\w{4}"
    r"(?:-\d{2}[A-Z]?(?:-\d{2}[A-Z]-(?P<plate>\w{4})-(?P<center>\w{2})(?:-[A-Za-z]+)?)?)?$"
)
_BARCODES = 0.95  # share of the ids that must be barcodes for their parts to be looked at


def barcode_parts(ids: pd.Series) -> pd.DataFrame:
    """Return ``plate, site, center`` of each id, NaN where it has none; no column where ids are no barcodes."""
    parts = ids.str.extract(_BARCODE)[["plate", "site", "center"]]
    return parts.dropna(axis=1, how="all") if parts["site"].notna().mean() >= _BARCODES else parts[[]]


def origin(table: pd.DataFrame, name: str) -> pd.Series | None:
    """Return the ``site``, ``plate`` or ``center`` of each sample, None where it has none.

    It is the column ``name`` of ``samples.csv``, else that part of the samples' barcodes; without both the result is
    None.
    """
    if name in table:
        return known_column(table[name])
    parts = barcode_parts(table["sample_id"])
    return parts[name].astype(object).where(parts[name].notna(), None) if name in parts else None
