"""The time to an event is predicted: a risk until a horizon with its interval, and a survival curve."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import streamlit as st

from pipelines.params import read_task
from serving.dashboard.data.glossary import means
from serving.dashboard.data.loading import load
from serving.dashboard.data.words import plain, share, yes_no
from serving.dashboard.pages import frame
from serving.problems import Answer, Problem, Refuse, Wording

if TYPE_CHECKING:
    import pandas as pd

    from serving.table_files import TableFile

_NUMBERS = ("prediction", "low", "high", "log_hazard", "event_free_until")


class Survival(Problem):
    """Risks, and the curve that they lie on."""

    measurable = ("concordance", "uno_concordance", "integrated_brier", "brier", "ece")
    scores = ("concordance", "integrated_brier", "ece", "margin")
    promise = ("The time without an event", "hold")
    says = "how high the risk of the event is until a time, and how the risk unfolds"
    tables = (("risk_groups.csv", "group", "Risk group"), ("genes_by_class.csv", "class", "Answer"))

    def label_columns(self, contract: Any) -> list[str]:
        """Return the columns of time and event, as the task's own data names them."""
        data = read_task(contract.task_text).data
        return [data.time, data.event]

    def read_labels(
        self, contract: Any, table: TableFile, at: Mapping[str, int], refuse: Refuse, tell: Callable[[str], None]
    ) -> tuple[dict[str, Any], np.ndarray]:
        """Read times above 0, and events as 1 or true, 0 or false."""
        made, missing = super().read_labels(contract, table, at, refuse, tell)
        time, event = self.label_columns(contract)
        cells = {name: table.column(at[name]) for name in (time, event)}
        refuse("positive", time, ~missing & (made["measured_0"] <= 0), "must be above 0", cells[time])
        neither = ~missing & np.isfinite(made["measured_1"]) & ~np.isin(made["measured_1"], (0, 1))
        refuse("truth", event, neither, "must be 1 or true for an event, 0 or false for none", cells[event])
        return made, missing

    def predictions(self, contract: Any, rows: pd.DataFrame) -> pd.DataFrame:
        """Return ``prediction``: the risk until the horizon."""
        return rows[["prediction"]]

    def to_score(self, contract: Any, joined: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """Return time and event ``(n, 2)``, and log hazard and curve ``(n, 1 + horizons)``, which the risk implies."""
        measured = joined[["measured_0", "measured_1"]].to_numpy(np.float64)
        return measured, contract.of_risk(joined["prediction"].to_numpy(np.float64))

    def table(self, answers: Sequence[Answer], about: pd.DataFrame) -> pd.DataFrame:
        """Return risk with interval, log hazard, time without an event, ``survival_<horizon>`` and novelty."""
        tables = load("serving.dashboard.data.tables")
        of = [answer.get("survival") or {} for answer in answers]
        every = dict.fromkeys(str(horizon) for found in of for horizon in found)
        made: pd.DataFrame = (
            about[["sample"]]
            .reset_index(drop=True)
            .assign(
                **{name: [tables.to_float(answer.get(name)) for answer in answers] for name in _NUMBERS},
                **tables.novelty(answers),
                **{f"survival_{at}": [tables.to_float(found.get(at)) for found in of] for at in every},
            )
        )
        return made

    def overview(self, table: pd.DataFrame, what: str) -> None:
        """Draw risk, interval and time without an event of each sample."""
        ends = zip(table["low"], table["high"], strict=True)
        shown = table[["sample", "prediction"]].assign(
            interval=[f"{share(low)} to {share(high)}" for low, high in ends],
            free=table["event_free_until"],
            familiar=yes_no(table["familiar"]),
        )
        heads = [what, "Risk", "Interval", "No event until", "Like the training data"]
        number, text = st.column_config.NumberColumn, st.column_config.TextColumn
        st.dataframe(
            shown.set_axis(heads, axis=1),
            hide_index=True,
            height=min(320, 36 * (len(table) + 1) + 2),
            column_config={
                "Risk": number(format="percent", help=means("risk")),
                "Interval": text(help=means("risk_interval")),
                "No event until": number(format="%.0f", help=means("event_free_until")),
                "Like the training data": text(help=means("familiar")),
            },
            alt=f"Predicted risks of {len(table)} samples",
        )

    def heading(self, answer: Answer) -> str:
        """Draw the risk, until when, and its interval; return the risk."""
        until = f"{float(answer['horizon']):g} {answer['time_unit']}"
        risk, interval = share(answer["prediction"]), ""
        if answer.get("low") is not None:
            interval = f" ({share(answer['low'])} to {share(answer['high'])})"
        st.subheader(plain(f"Risk until {until}: {risk}{interval}"), help=means("risk") + " " + means("risk_interval"))
        return f"a risk of {risk}"

    def held(self, answer: Answer) -> tuple[str, str] | None:
        """Return until when no event is expected, in a sentence."""
        if answer.get("event_free_until") is None:
            return None
        return (
            f"It expects no event in the first {answer['event_free_until']:g} {answer['time_unit']}.",
            "event_free_until",
        )

    def show(self, answer: Answer, own: pd.DataFrame, what: str, file: str) -> None:
        """Draw the survival curve at the horizons, with its numbers."""
        curves, unit = load("serving.dashboard.data.survival_curves"), str(answer["time_unit"])
        curve = curves.table(answer)
        said = ", ".join(f"{share(row.survival)} at {row.time:g}" for row in curve.itertuples())
        frame.chart(curves.chart(curve, unit), alt=f"Share without the event of {what} by {unit}: {said}.")
        st.caption(plain("Points: the declared horizons. The curve between them is not drawn by the model."))
        shown = curve.set_axis([unit, "share without the event"], axis=1)
        frame.numbers(shown, f"{file}_survival.csv", f"Share without the event of {what} at each horizon")

    def wording(self, answer: Answer, own: pd.DataFrame, key: str) -> Wording:
        """Return what raises the risk, and what lowers it."""
        return Wording(
            "the log hazard",
            "raises the risk",
            "lowers the risk",
            summed="The log hazard",
            unit="log hazard",
            note=means("log_hazard"),
        )


PROBLEM = Survival()
