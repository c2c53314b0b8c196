"""Drugs in order: the chart of the first of them, and the table of all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import streamlit as st

from serving.dashboard.data.glossary import means
from serving.dashboard.data.words import yes_no
from serving.dashboard.pages import frame

if TYPE_CHECKING:
    import pandas as pd

RESISTANCE, SENSITIVITY = "towards resistance", "towards sensitivity"
_COUNTS = (15, 30, 60)


def chart(own: pd.DataFrame, draw: Callable[[pd.DataFrame], tuple[Any, str]]) -> None:
    """Let people choose how many drugs the chart shows; ``draw`` returns it and its text for who cannot see it."""
    offered = [count for count in _COUNTS if count < len(own)]
    shown = len(own)
    if offered:
        every = [len(own)] if len(own) <= _COUNTS[-1] else []
        chosen = st.segmented_control("Drugs in the chart", [*offered, *every], default=offered[0], required=True)
        shown = int(chosen)
    made, alt = draw(own.head(shown))
    frame.chart(made, alt=alt)


def table(own: pd.DataFrame, shown: Mapping[str, Any], columns: Mapping[str, Any], alt: str) -> None:
    """Draw a row a drug: rank, name, and ``shown``, columns by their heads, configured by ``columns``."""
    made = own[["rank", "drug"]].set_axis(["Rank", "Drug"], axis=1).assign(**shown)
    if not own["familiar"].eq(True).all():  # where all are, the panel above says so
        made["Familiar"] = yes_no(own["familiar"])
    st.dataframe(
        made,
        hide_index=True,
        height=min(420, 36 * (len(made) + 1) + 2),
        column_config={
            "Rank": st.column_config.NumberColumn(width=45),
            "Drug": st.column_config.TextColumn(width=140),
            **columns,
            "Familiar": st.column_config.TextColumn(help=means("familiar"), width=70),
        },
        placeholder="–",
        alt=alt,
    )
