"""Charts of the dashboard, in the colors of the platform's figures. Each says in `alt` what it shows.

Pages draw each beside a table of the same numbers, or above one that opens: who cannot see it misses nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import altair as alt
import pandas as pd

BLUE, RED, GRAY, TEXT = "#2b6ca3", "#b5403a", "#5b6472", "#101828"
ROW = 22  # pixels of a bar or point and what is around it
_LABELS: dict[str, Any] = {
    "labelLimit": 260,
    "labelFlush": False,
    "labelFontSize": 13,
    "titleFontSize": 13,
    "labelColor": TEXT,
    "titleColor": TEXT,
}

# Altair imports what it reads tables with when it writes its first chart; here one thread imports at a time.
alt.Chart(pd.DataFrame({"x": [1.0]})).mark_point().encode(x="x:Q").to_dict()


def responses(table: pd.DataFrame, title: str) -> alt.TopLevelMixin:
    """Return predicted responses with their intervals, one row a drug, and the drug's usual response as a tick.

    Parameters
    ----------
    table
        Of `serving.dashboard.data.tables.ranked`, of one sample.
    title
        Of the axis.
    """
    shown = table.assign(known=_known(table))
    order = shown["drug"].tolist()
    row = alt.Y("drug:N", sort=order, title=None, axis=alt.Axis(**_LABELS))
    scale = alt.Scale(zero=False, nice=True)
    across = alt.X("prediction:Q", title=title, scale=scale, axis=_axis())
    hover = [
        alt.Tooltip("drug:N", title="Drug"),
        *(
            alt.Tooltip(f"{name}:Q", title=head, format=".2f")
            for name, head in (("prediction", "Predicted"), ("low", "Low"), ("high", "High"), ("usual", "Usual"))
        ),
        alt.Tooltip("known:N", title="Sample and drug"),
    ]
    base = alt.Chart(shown)
    colors = {"like the training data": BLUE, "unlike the training data": RED, "not known": GRAY}
    color = _color("known", {name: color for name, color in colors.items() if name in set(shown["known"])})
    bars = base.mark_rule(strokeWidth=3, opacity=0.55).encode(
        y=row, x=alt.X("low:Q", title=title, scale=scale, axis=_axis()), x2="high:Q", color=color, tooltip=hover
    )
    usual = base.transform_filter("isValid(datum.usual)").mark_tick(thickness=2, size=16, color=GRAY)
    points = base.mark_point(filled=True, size=90, opacity=1).encode(y=row, x=across, color=color, tooltip=hover)
    return alt.layer(bars, usual.encode(y=row, x="usual:Q", tooltip=hover), points).properties(height=alt.Step(ROW))


def sensitive(table: pd.DataFrame) -> alt.TopLevelMixin:
    """Return the probability that a sample is sensitive, one bar a drug; the color says what is not ruled out.

    Parameters
    ----------
    table
        Of `serving.dashboard.data.tables.ranked_labels`, of one sample.
    """
    shown = table.assign(known=_known(table))
    row = alt.Y("drug:N", sort=shown["drug"].tolist(), title=None, axis=alt.Axis(**_LABELS))
    across = alt.X("sensitive:Q", title="Probability of being sensitive", scale=alt.Scale(domain=[0, 1]), axis=_axis())
    colors = {"sensitive alone": BLUE, "either is possible": "#9fb0c3", "resistant alone": RED, "neither fits": GRAY}
    there = {name: color for name, color in colors.items() if name in set(shown["holds"])}
    hover = [
        alt.Tooltip("drug:N", title="Drug"),
        alt.Tooltip("sensitive:Q", title="Probability of being sensitive", format=".2f"),
        alt.Tooltip("holds:N", title="Not ruled out"),
        alt.Tooltip("known:N", title="Sample and drug"),
    ]
    color = _color("holds", there, "Not ruled out")
    bars = alt.Chart(shown).mark_bar().encode(y=row, x=across, color=color, tooltip=hover)
    return alt.layer(bars, _texts(shown, row, "sensitive")).properties(height=alt.Step(ROW))


def probabilities(table: pd.DataFrame) -> alt.TopLevelMixin:
    """Return the probability of each class; those in the set of classes are filled."""
    shown = table.assign(of=["in the set" if held else "ruled out" for held in table["held"]])
    row = alt.Y("label:N", sort=shown["label"].tolist(), title=None, axis=alt.Axis(**_LABELS))
    across = alt.X("probability:Q", title="Probability", scale=alt.Scale(domain=[0, 1]), axis=_axis())
    color = _color("of", {"in the set": BLUE, "ruled out": "#c3ccd8"}, "Set of classes")
    bars = alt.Chart(shown).mark_bar().encode(y=row, x=across, color=color, tooltip=["label", "probability", "of"])
    return alt.layer(bars, _texts(shown, row, "probability")).properties(height=alt.Step(ROW + 6))


def contributions(table: pd.DataFrame, raises: str, lowers: str, red: str = "") -> alt.TopLevelMixin:
    """Return what each feature adds to a prediction.

    Parameters
    ----------
    table
        Of `serving.dashboard.data.tables.contributions`.
    raises, lowers
        What a positive and a negative contribution mean.
    red
        Which of the two is red, so that resistance always is; ``raises`` unless said otherwise.
    """
    pairs = zip(table["feature"], table["kind"], strict=True)
    names = [f"{name} ({kind})" if kind and kind != "expression" else name for name, kind in pairs]
    shown = table.assign(shown=names, does=[raises if value > 0 else lowers for value in table["value"]])
    color = _color("does", {raises: BLUE, lowers: RED} if red == lowers else {raises: RED, lowers: BLUE})
    hover = [alt.Tooltip("shown:N", title="Feature"), alt.Tooltip("value:Q", title="Adds", format="+.3f")]
    return _bars(shown, "shown", "Contribution", color, hover)


def scores(table: pd.DataFrame, title: str) -> alt.TopLevelMixin:
    """Return each architecture's score with its interval; baselines in gray."""
    row = alt.Y("architecture:N", sort=table["architecture"].tolist(), title=None, axis=alt.Axis(**_LABELS))
    scale = alt.Scale(zero=False, nice=True)
    hover = [alt.Tooltip("architecture:N", title="Architecture"), alt.Tooltip("score:N", title=title)]
    base = alt.Chart(table)
    bars = base.mark_rule(strokeWidth=3, opacity=0.6).encode(
        y=row, x=alt.X("low:Q", title=title, scale=scale, axis=_axis()), x2="high:Q", color=_KIND, tooltip=hover
    )
    points = base.mark_point(filled=True, size=100, opacity=1).encode(
        y=row, x=alt.X("value:Q", scale=scale), color=_KIND, tooltip=hover
    )
    return alt.layer(bars, points).properties(height=alt.Step(ROW + 8))


def against_cost(table: pd.DataFrame, cost: str, title: str) -> alt.TopLevelMixin:
    """Return scores with their intervals over a cost on a logarithmic axis, each point with its name."""
    across = alt.X("cost:Q", title=cost, scale=alt.Scale(type="log", nice=True, padding=40), axis=_axis())
    scale = alt.Scale(zero=False, nice=True, padding=10)
    hover = [
        alt.Tooltip("architecture:N", title="Architecture"),
        alt.Tooltip("score:N", title=title),
        alt.Tooltip("cost:Q", title=cost, format=",.3~r"),
    ]
    base = alt.Chart(table)
    bars = base.mark_rule(strokeWidth=2, opacity=0.6).encode(
        x=across, y=alt.Y("low:Q", title=title, scale=scale, axis=_axis()), y2="high:Q", color=_KIND, tooltip=hover
    )
    points = base.mark_point(filled=True, size=100, opacity=1).encode(
        x=across, y=alt.Y("value:Q", scale=scale), color=_KIND, tooltip=hover
    )
    names = base.mark_text(align="left", dx=9, dy=-9, fontSize=13, color=TEXT).encode(
        x=across, y=alt.Y("value:Q", scale=scale), text="architecture:N"
    )
    return alt.layer(bars, points, names).properties(height=380)


def features(table: pd.DataFrame, shared: list[str], title: str) -> alt.TopLevelMixin:
    """Return the features that an explanation names; those that the other model names, too, are filled."""
    shown = table.assign(of=["named by both" if name in set(shared) else "by this one" for name in table["feature"]])
    color = _color("of", {"named by both": BLUE, "by this one": "#9fb0c3"})
    hover = [alt.Tooltip("feature:N", title="Feature"), alt.Tooltip("value:Q", title=title, format=".3g")]
    return _bars(shown, "feature", title, color, hover)


def unlike(table: pd.DataFrame, time: str, limit: float | None) -> alt.TopLevelMixin:
    """Return the share of unfamiliar rows over time with its interval, and the limit of the policy.

    Parameters
    ----------
    table
        ``share, low, high, version`` and a column of moments.
    time
        Name of that column.
    limit
        None where there is none to show.
    """
    form = _clock(table[time].max() - table[time].min())
    across = alt.X(f"{time}:T", title=None, axis=_axis(format=form, labelOverlap=True, tickCount=_TICKS))
    upright = alt.Y("share:Q", title="Unlike the training data", axis=_axis(format="%"), scale=alt.Scale(domain=[0, 1]))
    color = alt.Color(
        "version:N", title="Version", scale=alt.Scale(range=[BLUE, "#7a4fa3", "#0f7c7c"]), legend=_legend()
    )
    hover = [
        alt.Tooltip(f"{time}:T", title="When", format="%d %b %Y %H:%M"),
        alt.Tooltip("version:N", title="Version"),
        alt.Tooltip("rows:Q", title="Rows", format=","),
        *(alt.Tooltip(f"{end}:Q", title=end.capitalize(), format=".1%") for end in ("share", "low", "high")),
    ]
    base = alt.Chart(table)
    layers: list[Any] = [
        base.mark_line(strokeWidth=2, opacity=0.6).encode(x=across, y=upright, color=color),
        base.mark_rule(strokeWidth=3, opacity=0.6).encode(x=across, y="low:Q", y2="high:Q", color=color, tooltip=hover),
        base.mark_point(filled=True, size=90, opacity=1).encode(x=across, y=upright, color=color, tooltip=hover),
    ]
    if limit is not None:
        line = alt.Chart(pd.DataFrame({"limit": [limit], "text": [f"limit {limit:.0%}"]}))
        layers.append(line.mark_rule(color=RED, strokeDash=[5, 4]).encode(y="limit:Q"))
        layers.append(
            line.mark_text(color=RED, align="left", dy=-7, dx=4, fontSize=12).encode(
                y="limit:Q", x=alt.value(0), text="text:N"
            )
        )
    return alt.layer(*layers).properties(height=260)


def stability(table: pd.DataFrame, limit: float) -> alt.TopLevelMixin:
    """Return the stability index of each column in each report; numbers are written, and drifted ones stand bold.

    Parameters
    ----------
    table
        Of `serving.dashboard.data.drift_history.stability`.
    limit
        Of the policy: colors change there.
    """
    columns = list(dict.fromkeys(table["column"]))
    moments = sorted(table["time"].unique())
    minutes = {f"{pd.Timestamp(time):%d %b %H:%M}" for time in moments}
    form = "%d %b %H:%M" if len(minutes) == len(moments) else "%d %b %H:%M:%S.%f"  # two reports are never one column
    order = [pd.Timestamp(time).strftime(form)[:18] for time in moments]
    names = dict(zip(moments, order, strict=True))
    shown = table.assign(report=table["time"].map(names))
    row = alt.Y("column:N", sort=columns, title=None, axis=alt.Axis(**_LABELS))
    across = alt.X("report:N", sort=order, title=None, axis=alt.Axis(labelAngle=0, **_LABELS))
    color = alt.Color(
        "stability:Q",
        title="Stability index",
        scale=alt.Scale(type="threshold", domain=[limit / 2, limit], range=["#e9f2fa", "#f6dfb8", "#f0b8b3"]),
        legend=_legend(),
    )
    hover = [
        alt.Tooltip("column:N", title="Value"),
        alt.Tooltip("report:N", title="Report"),
        alt.Tooltip("stability:Q", title="Stability index", format=".2f"),
        alt.Tooltip("drifted:N", title="Drifted"),
    ]
    base = alt.Chart(shown)
    cells = base.mark_rect(stroke="white").encode(x=across, y=row, color=color, tooltip=hover)
    numbers = base.mark_text(color=TEXT, fontSize=12).encode(
        x=across,
        y=row,
        text=alt.Text("stability:Q", format=".2f"),
        tooltip=hover,
    )
    return alt.layer(cells, numbers).properties(height=alt.Step(ROW + 4))


_TICKS = 5  # of an axis of time


def _clock(span: pd.Timedelta) -> str:
    """Return how moments are written so that no two ticks of an axis over this span read the same (d3-time-format)."""
    for least, form in ((pd.Timedelta(minutes=_TICKS), "%d %b %H:%M"), (pd.Timedelta(seconds=_TICKS), "%H:%M:%S")):
        if span >= least or not span:
            return form
    return "%H:%M:%S.%L"


def _known(table: pd.DataFrame) -> list[str]:
    said = {True: "like the training data", False: "unlike the training data"}
    return [said.get(value, "not known") for value in table["familiar"]]


def _color(column: str, names: Mapping[str, str], title: str | None = None) -> alt.Color:
    """Return the colors of names, told in a legend."""
    scale = alt.Scale(domain=list(names), range=list(names.values()))
    return alt.Color(f"{column}:N", title=title, scale=scale, legend=_legend())


def _bars(table: pd.DataFrame, name: str, title: str, color: alt.Color, hover: list[Any]) -> alt.TopLevelMixin:
    """Return a bar a row, as long as its ``value``."""
    row = alt.Y(f"{name}:N", sort=table[name].tolist(), title=None, axis=alt.Axis(**_LABELS))
    across = alt.X("value:Q", title=title, axis=_axis())
    bars = alt.Chart(table).mark_bar().encode(y=row, x=across, color=color, tooltip=hover)
    return bars.properties(height=alt.Step(ROW))


def _texts(table: pd.DataFrame, row: alt.Y, column: str) -> alt.Chart:
    return (
        alt.Chart(table)
        .mark_text(align="left", dx=4, color=TEXT, fontSize=12)
        .encode(y=row, x=f"{column}:Q", text=alt.Text(f"{column}:Q", format=".2f"))
    )


def _axis(**more: Any) -> alt.Axis:
    look: dict[str, Any] = {"labelColor": TEXT, "titleColor": TEXT, "labelFontSize": 12, "titleFontSize": 13}
    return alt.Axis(grid=True, gridColor="#e6eaf0", **{"tickCount": 8, "labelFlush": False, **look, **more})


def _legend() -> alt.Legend:
    return alt.Legend(
        orient="top", labelColor=TEXT, titleColor=TEXT, labelFontSize=12, titleFontSize=12, labelLimit=240
    )


_KIND = _color("kind", {"model": BLUE, "baseline": GRAY})
