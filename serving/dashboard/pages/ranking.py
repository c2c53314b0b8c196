"""Drugs in the order of their rank: the chart of the first, and the table of all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from serving.dashboard.data.words import yes_no
from serving.dashboard.pages import frame

if TYPE_CHECKING:
    import pandas as pd

RESISTANCE, SENSITIVITY = "towards resistance", "towards sensitivity"
IN_CHART = 30
_FAMILIAR = {True: "like the training data", False: "unlike the training data"}


def first(own: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """Return the first drugs for a chart: these columns, and in words whether each pair is like the training data."""
    top = own.head(IN_CHART)
    return top[["drug", *columns]].assign(known=[_FAMILIAR.get(value, "not known") for value in top["familiar"]])


def table(own: pd.DataFrame, columns: frame.Columns, alt: str) -> None:
    """Draw a row a drug: rank, name, these columns, and whether it is familiar unless all are, as the panel says."""
    made = {"Rank": (own["rank"], "", ""), "Drug": (own["drug"], "", ""), **columns}
    if not own["familiar"].eq(True).all():
        made["Familiar"] = (yes_no(own["familiar"]), "familiar", "")
    frame.rows(made, alt)
