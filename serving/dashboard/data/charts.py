"""Charts in the colors of the platform's figures; pages add a text alternative and a table of the numbers."""

from collections.abc import Mapping
from typing import Any

import altair as alt
import pandas as pd

BLUE, RED, GRAY, TEXT = "#2b6ca3", "#b5403a", "#5b6472", "#101828"
PALE = "#9fb0c3"
_DECADE = 10.0  # costs that differ by more are on a logarithmic axis
_ROW = 24  # pixels of a bar or point with its surroundings

# Altair imports its readers of tables with the first chart: see `loading`.
alt.Chart(pd.DataFrame({"x": [1.0]})).mark_point().encode(x="x:Q").to_dict()


def intervals(
    table: pd.DataFrame, name: str, color: str, title: str, *, value: str = "value", usual: str | None = None
) -> alt.TopLevelMixin:
    """Return a point a row with its interval ``low`` to ``high``; known values of the column ``usual`` are ticks."""
    base = alt.Chart(table).encode(y=_names(table, name), color=_color(table, color), tooltip=_columns(table))
    scale = alt.Scale(zero=False, nice=True)
    layers: list[Any] = [base.mark_rule(strokeWidth=3, opacity=0.55).encode(x=_x("low", title, scale), x2="high:Q")]
    if usual is not None:
        ticks = base.transform_filter(f"isValid(datum.{usual})").mark_tick(thickness=2, size=16, color=GRAY)
        layers.append(ticks.encode(x=f"{usual}:Q", color=alt.Undefined))
    layers.append(base.mark_point(filled=True, size=90, opacity=1).encode(x=_x(value, title, scale)))
    return _finished(*layers)


def bars(
    table: pd.DataFrame, name: str, value: str, color: str, title: str, *, colors: Mapping[str, str] | None = None
) -> alt.TopLevelMixin:
    """Return a bar a row, as long as ``value``, colored by ``colors`` or `COLORS` of the column ``color``."""
    return _finished(_bars(table, name, _x(value, title, alt.Scale(nice=True)), _color(table, color, colors)))


def probabilities(table: pd.DataFrame, name: str, value: str, color: str, title: str) -> alt.TopLevelMixin:
    """Return `bars` from 0 to 1 with the numbers beside them."""
    made = _bars(table, name, _x(value, title, alt.Scale(domain=[0, 1])), _color(table, color))
    text = alt.Text(f"{value}:Q", format=".2f")
    return _finished(made, made.mark_text(align="left", dx=4, fontSize=12).encode(text=text, color=alt.value(TEXT)))


def _bars(table: pd.DataFrame, name: str, across: alt.X, color: alt.Color) -> alt.Chart:
    return alt.Chart(table).mark_bar().encode(across, _names(table, name), color, tooltip=_columns(table))


def contributions(table: pd.DataFrame, raises: str, lowers: str, red: str = "") -> alt.TopLevelMixin:
    """Return what each feature adds; positive values do ``raises``, negative ``lowers``; ``red`` is one of them."""
    pairs = zip(table["feature"], table["kind"], strict=True)
    names = [f"{name} ({kind})" if kind and kind != "expression" else name for name, kind in pairs]
    shown = table.assign(feature=names, effect=[raises if value > 0 else lowers for value in table["value"]])
    colors = {raises: BLUE, lowers: RED} if red == lowers else {raises: RED, lowers: BLUE}
    return bars(shown, "feature", "value", "effect", "Contribution", colors=colors)


def against_cost(table: pd.DataFrame, cost: str, title: str) -> alt.TopLevelMixin:
    """Return scores with their intervals over the column ``cost`` on a logarithmic axis, each point with its name."""
    across = _x("cost", cost, alt.Scale(type="log", nice=True, padding=40))
    base = alt.Chart(table).encode(x=across, tooltip=_columns(table))
    scale, color = alt.Scale(zero=False, nice=True, padding=10), _color(table, "kind")
    rules = base.mark_rule(strokeWidth=2, opacity=0.6).encode(alt.Y("low:Q", title=title, scale=scale), y2="high:Q")
    points = base.mark_point(filled=True, size=100, opacity=1).encode(y="value:Q", color=color)
    names = base.mark_text(align="left", dx=9, dy=-9, fontSize=13, color=TEXT)
    return _finished(rules.encode(color=color), points, names.encode(y="value:Q", text="architecture:N"), height=380)


def front(table: pd.DataFrame, cost: str, title: str) -> alt.TopLevelMixin:
    """Return the ``value`` of trials over their ``cost``, with their numbers; a line joins those of the front."""
    wide = 0 < table["cost"].min() * _DECADE < table["cost"].max()
    across = _x("cost", cost, alt.Scale(type="log" if wide else "linear", zero=False, nice=not wide, padding=20))
    upright = alt.Y("value:Q", title=title, scale=alt.Scale(zero=False, nice=True, padding=20))
    ordered = table.sort_values("place")  # those behind the front lie below the others
    base = alt.Chart(ordered).encode(x=across, y=upright, tooltip=_columns(table))
    on_it = base.transform_filter("datum.place != 'behind the front'")
    line = on_it.mark_line(color=GRAY, strokeDash=[2, 3], strokeWidth=1).encode(order="cost:Q")
    points = base.mark_point(filled=True, size=100, opacity=1).encode(color=_color(table, "place"))
    names = on_it.mark_text(align="left", dx=8, dy=-8, fontSize=12, color=TEXT).encode(text="trial:N")
    return _finished(line, points, names, height=320)


def unlike(table: pd.DataFrame, limit: float) -> alt.TopLevelMixin:
    """Return the share of unfamiliar rows in `monitoring.over_time` with its interval, and the policy's limit."""
    axis = alt.Axis(labelOverlap=True, tickCount=5)
    color = alt.Color("version:N", title="Version", scale=alt.Scale(range=[BLUE, "#7a4fa3", "#0f7c7c"]))
    base = alt.Chart(table).encode(alt.X("time:T", title=None, axis=axis), color=color, tooltip=_columns(table))
    upright = alt.Y(
        "share:Q", title="Unlike the training data", axis=alt.Axis(format="%"), scale=alt.Scale(domain=[0, 1])
    )
    line = alt.Chart(pd.DataFrame({"limit": [limit], "text": [f"limit {limit:.0%}"]})).encode(y="limit:Q")
    return _finished(
        base.mark_line(strokeWidth=2, opacity=0.6).encode(y=upright),
        base.mark_rule(strokeWidth=3, opacity=0.6).encode(y="low:Q", y2="high:Q"),
        base.mark_point(filled=True, size=90, opacity=1).encode(y=upright),
        line.mark_rule(color=RED, strokeDash=[5, 4]),
        line.mark_text(color=RED, align="left", dy=-7, dx=4, fontSize=12).encode(x=alt.value(0), text="text:N"),
        height=260,
    )


def survival(points: pd.DataFrame, unit: str) -> alt.TopLevelMixin:
    """Return the share without the event over time, which has this unit."""
    axis, scale = alt.Axis(format="%"), alt.Scale(domain=[0, 1])
    base = alt.Chart(points).encode(
        x=alt.X("time:Q", title=unit),
        y=alt.Y("survival:Q", title="Share without the event", scale=scale, axis=axis),
        tooltip=_columns(points),
    )
    line, dots = base.mark_line(color=BLUE, strokeDash=[4, 3]), base.mark_point(color=BLUE, filled=True, size=80)
    return _finished(line, dots, height=260)


COLORS = {
    "like the training data": BLUE,
    "unlike the training data": RED,
    "sensitive alone": BLUE,
    "either is possible": PALE,
    "resistant alone": RED,
    "neither fits": GRAY,
    "not known": GRAY,
    "in the set": BLUE,
    "ruled out": PALE,
    "model": BLUE,
    "baseline": GRAY,
    "chosen": RED,
    "on the front": BLUE,
    "behind the front": PALE,
    "named by both": BLUE,
    "by this one": PALE,
}


def _names(table: pd.DataFrame, column: str) -> alt.Y:
    return alt.Y(f"{column}:N", sort=list(dict.fromkeys(table[column])), title=None)


def _x(column: str, title: str, scale: alt.Scale) -> alt.X:
    return alt.X(f"{column}:Q", title=title, scale=scale, axis=alt.Axis(tickCount=8))


def _columns(table: pd.DataFrame) -> list[str]:
    """Return all columns, to be shown where the mouse is, with their types: Altair imports more to infer them."""
    types = {"i": "Q", "f": "Q", "M": "T"}
    return [f"{column}:{types.get(table[column].dtype.kind, 'N')}" for column in table.columns]


def _color(table: pd.DataFrame, column: str, colors: Mapping[str, str] | None = None) -> alt.Color:
    shown = {name: color for name, color in (colors or COLORS).items() if name in set(table[column])}
    return alt.Color(f"{column}:N", title=None, scale=alt.Scale(domain=list(shown), range=list(shown.values())))


def _finished(*layers: Any, height: int | alt.Step | None = None) -> alt.TopLevelMixin:
    """Return the layers as one chart with the look of all: dark text of 13 pixels, pale lines, the legend on top."""
    text: dict[str, Any] = {"labelColor": TEXT, "titleColor": TEXT, "labelFontSize": 13, "titleFontSize": 13}
    made = alt.layer(*layers).properties(height=alt.Step(_ROW) if height is None else height)
    return (
        made.configure(numberFormat=".3~r")
        .configure_axis(labelLimit=260, labelFlush=False, gridColor="#e6eaf0", **text)
        .configure_legend(orient="top", labelLimit=240, **text)
    )
