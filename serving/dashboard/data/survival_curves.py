"""The survival curve of one answer: its points as a table, and as a chart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import altair as alt
import pandas as pd

from serving.dashboard.data.charts import BLUE, TEXT


def table(answer: Mapping[str, Any]) -> pd.DataFrame:
    """Return ``time, survival``, from time 0 on, at which nobody has had the event."""
    points = {0.0: 1.0} | {float(at): float(value) for at, value in (answer.get("survival") or {}).items()}
    return pd.DataFrame(sorted(points.items()), columns=["time", "survival"])


def chart(points: pd.DataFrame, unit: str) -> alt.TopLevelMixin:
    """Return the share without the event over time.

    Parameters
    ----------
    points
        Of `table`.
    unit
        Of the times.
    """
    looks: dict[str, Any] = {"labelColor": TEXT, "titleColor": TEXT, "labelFontSize": 13, "titleFontSize": 13}
    hover = [alt.Tooltip("time:Q", title=unit), alt.Tooltip("survival:Q", title="Without the event", format=".0%")]
    base = alt.Chart(points).encode(
        x=alt.X("time:Q", title=unit, axis=alt.Axis(**looks)),
        y=alt.Y(
            "survival:Q",
            title="Share without the event",
            scale=alt.Scale(domain=[0, 1]),
            axis=alt.Axis(format="%", **looks),
        ),
        tooltip=hover,
    )
    line, dots = base.mark_line(color=BLUE, strokeDash=[4, 3]), base.mark_point(color=BLUE, filled=True, size=80)
    return alt.layer(line, dots).properties(height=260)
