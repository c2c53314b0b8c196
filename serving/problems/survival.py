"""The time to an event is predicted: a risk until a horizon with its interval, and a survival curve."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import streamlit as st

from pipelines.errors import UserError
from pipelines.params import read_task
from serving.dashboard.data.loading import charts, tables
from serving.dashboard.data.words import means, plain, share
from serving.dashboard.pages import frame
from serving.problems import Answer, Labels, Places, Problem, Refuse, Tell, Wording

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
    tables = (("risk_groups.csv", "group"), ("genes_by_class.csv", "class"))

    def label_columns(self, contract: Any) -> list[str]:
        """Return the columns of time and event, as the task's own data names them."""
        data = read_task(contract.task_text).data
        return [data.time, data.event]

    def read_labels(self, contract: Any, table: TableFile, at: Places, refuse: Refuse, tell: Tell) -> Labels:
        """Read times above 0, and events as 1 or true, 0 or false."""
        made, missing = super().read_labels(contract, table, at, refuse, tell)
        time, event = self.label_columns(contract)
        cells = {name: table.column(at[name]) for name in (time, event)}
        refuse("positive", time, ~missing & (made["measured_0"] <= 0), "must be above 0", cells[time])
        neither = ~missing & np.isfinite(made["measured_1"]) & ~np.isin(made["measured_1"], (0, 1))
        refuse("truth", event, neither, "must be 1 or true for an event, 0 or false for none", cells[event])
        return made, missing

    def apart(self, contract: Any, answers: pd.Series, others: pd.Series) -> np.ndarray:
        """Return absolute differences of risks until the horizon; 1 where one is no number."""
        away = np.abs(answers.to_numpy(np.float64) - others.to_numpy(np.float64))
        return np.minimum(np.nan_to_num(away, nan=1.0), 1.0)

    def lost(self, contract: Any, answers: pd.Series, measured: pd.DataFrame) -> np.ndarray:
        """Refuse labels: who had the event has a label earlier than who has not, so no order of arrival is fair."""
        raise UserError(
            f"{contract.task}: labels cannot decide a trial of risks, since an event is known before its absence is; "
            "leave out LABELS to learn how far the answers of a shadow lie apart, and compare versions by `make score`"
        )

    def to_score(self, contract: Any, joined: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """Return time and event ``(n, 2)``, and log hazard and curve ``(n, 1 + horizons)``, which the risk implies."""
        measured = joined[["measured_0", "measured_1"]].to_numpy(np.float64)
        return measured, contract.of_risk(joined["prediction"].to_numpy(np.float64))

    def table(self, answers: Sequence[Answer], about: pd.DataFrame) -> pd.DataFrame:
        """Return risk with interval, log hazard, time without an event, novelty, and ``survival_<horizon>``."""
        return tables.of_samples(about, answers, tables.numbers(answers, _NUMBERS), ("survival", "survival"))

    def columns(self, table: pd.DataFrame) -> frame.Columns:
        """Return risk, interval and time without an event of each sample."""
        ends = zip(table["low"], table["high"], strict=True)
        return {
            "Risk": (table["prediction"], "risk", "percent"),
            "Interval": ([f"{share(low)} to {share(high)}" for low, high in ends], "risk_interval", ""),
            "No event until": (table["event_free_until"], "event_free_until", "%.0f"),
        }

    def heading(self, answer: Answer) -> str:
        """Draw the risk, until when, and its interval; return the risk."""
        until = f"{float(answer['horizon']):g} {answer['time_unit']}"
        risk, interval = share(answer["prediction"]), ""
        if answer.get("low") is not None:
            interval = f" ({share(answer['low'])} to {share(answer['high'])})"
        st.subheader(plain(f"Risk until {until}: {risk}{interval}"), help=means("risk", "risk_interval"))
        return f"a risk of {risk}"

    def held(self, answer: Answer) -> tuple[str, str] | None:
        """Return until when no event is expected, in a sentence."""
        if answer.get("event_free_until") is None:
            return None
        until = f"{answer['event_free_until']:g} {answer['time_unit']}"
        return f"It expects no event in the first {until}.", "event_free_until"

    def show(self, answer: Answer, own: pd.DataFrame, what: str, file: str) -> None:
        """Draw the survival curve at the horizons, with its numbers."""
        unit, curve = str(answer["time_unit"]), tables.survival_curve(answer)
        said = ", ".join(f"{share(value)} at {time:g}" for time, value in curve.to_numpy())
        drawn = charts.survival(curve, unit)
        frame.chart(drawn, alt=f"Share without the event of {what} by {unit}: {said}.")
        st.caption(plain("Points: the declared horizons. The model does not say how the curve runs between them."))
        shown = curve.set_axis([unit, "share without the event"], axis=1)
        frame.numbers(shown, f"{file}_survival.csv", f"Share without the event of {what} at each horizon")

    def wording(self, answer: Answer, own: pd.DataFrame, key: str) -> Wording:
        """Return what raises the risk, and what lowers it."""
        words: dict[str, str] = {"raises": "raises the risk", "lowers": "lowers the risk", "note": means("log_hazard")}
        return Wording("the log hazard", summed="The log hazard", unit="log hazard", **words)


PROBLEM = Survival()
