"""Drugs in the order of their rank: the chart of the first, and the table of all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from serving.dashboard.data.glossary import means
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


def table(
    own: pd.DataFrame,
    shown: Mapping[str, Any],
    alt: str,
    *,
    explained: Mapping[str, str],
    formats: Mapping[str, str],
) -> None:
    """Draw a row a drug: rank, name, and the columns ``shown``; for the others see `frame.rows`."""
    made = own[["rank", "drug"]].set_axis(["Rank", "Drug"], axis=1).assign(**shown)
    if not own["familiar"].eq(True).all():  # else the panel above says so
        made["Familiar"] = yes_no(own["familiar"])
    frame.rows(made, alt, explained={**explained, "Familiar": means("familiar")}, formats=formats)
