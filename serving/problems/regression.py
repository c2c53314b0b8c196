"""A number is predicted, with an interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import streamlit as st

from pipelines.errors import UserError
from pipelines.units import HIGHEST_LN_IC50
from serving.dashboard.data.loading import charts, tables
from serving.dashboard.data.words import means, micromolar, named, number, plain
from serving.dashboard.pages import frame
from serving.problems import (
    RESISTANCE,
    SENSITIVITY,
    Answer,
    Labels,
    Places,
    Problem,
    Refuse,
    Tell,
    Usual,
    Wording,
    Worth,
)

if TYPE_CHECKING:
    import pandas as pd

    from serving.table_files import TableFile

_LN_IC50 = "ln_ic50"


class Regression(Problem):
    """A number and its interval; of pairs the response to a drug, ranked beside the drug's usual response."""

    measurable = ("r2", "rmse", "mae", "mse", "pearson", "spearman")
    scores = ("r2", "rmse")
    ranks = (
        "Drugs are then ranked by how strongly they are expected to inhibit the cells, each with the range in which "
        "the measurement should lie."
    )

    def read_labels(self, contract: Any, table: TableFile, at: Places, refuse: Refuse, tell: Tell) -> Labels:
        """Read numbers; refuse a logarithm of an IC50 that is too large to be one."""
        made, missing = super().read_labels(contract, table, at, refuse, tell)
        if getattr(contract, "target", "") == _LN_IC50:
            beyond = (np.abs(made["measured"]) > HIGHEST_LN_IC50) & np.isfinite(made["measured"])
            within = f"which is within {HIGHEST_LN_IC50:g} of 0"
            said = f"must be the natural logarithm of the IC50 in micromolar, {within}"
            refuse("units", "target", beyond, said, table.column(at["target"]))
        return made, missing

    def worth(self) -> Worth:
        """Return that the width of the interval tells how large errors are; of equal widths nothing does."""
        return Worth(
            "rmse",
            lambda rows: (rows["high"] - rows["low"]).to_numpy(np.float64),
            lambda rows: (rows["prediction"] - rows["target"].astype(float)).to_numpy(np.float64) ** 2,
            math.sqrt,
        )

    def apart(self, contract: Any, answers: pd.Series, others: pd.Series) -> np.ndarray:
        """See `widths_apart`."""
        some, other = (each.to_numpy(np.float64)[:, None] for each in (answers, others))
        return widths_apart(contract.task, some, other, [contract.half_width])

    def to_score(self, contract: Any, joined: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """Return two rows of numbers, ``(n,)`` each."""
        return joined["measured"].to_numpy(), joined["prediction"].to_numpy()

    def ranked(self, answers: Sequence[Answer], about: pd.DataFrame, usual: Usual) -> pd.DataFrame:
        """Return ``prediction, low, high, usual, against_usual`` of each pair, the smallest response first."""
        known = usual()
        made = about.reset_index(drop=True).assign(**tables.numbers(answers, ["prediction", "low", "high"]))
        made["usual"] = [float(known.get(str(drug), math.nan)) for drug in made["drug_id"]]
        made["against_usual"] = made["prediction"] - made["usual"]
        return tables.in_order(made.assign(**tables.novelty(answers)), "prediction")

    def show_ranked(self, own: pd.DataFrame, sample: str, target: str) -> pd.DataFrame:
        """Draw responses with their intervals."""
        of_ic50, has_usual = target == _LN_IC50, bool(own["usual"].notna().any())
        st.subheader(f"Drugs for {plain(sample)}", help=means("ln_ic50") if of_ic50 else None)
        top, unit = frame.first_drugs(own, "prediction", "low", "high", "usual"), _unit(target)
        title = f"Predicted {unit} – further left is more sensitive"
        drawn = charts.intervals(top, "drug", "known", title, value="prediction", usual="usual")
        said = f"first is {with_ends(own, 'drug')}"
        frame.chart(drawn, alt=f"Predicted {unit} of {len(top)} drugs with intervals; {said}.")
        text = "Point: prediction. Line: its interval. Gray tick: the drug's usual response in the data."
        st.caption(plain(text), help=means("interval", "usual"))
        short, term = ("ln IC50", "ln_ic50") if of_ic50 else (named(target), "")
        ends = zip(own["low"], own["high"], strict=True)
        interval = [f"{number(low, 2)} to {number(high, 2)}" for low, high in ends]
        shown = {short: (own["prediction"], term, "%.2f"), "Interval": (interval, "interval", "")}
        if of_ic50:
            shown["IC50 (µM)"] = ([micromolar(math.exp(value)) for value in own["prediction"]], "ic50", "")
        if has_usual:
            shown["Usual"] = (own["usual"], "usual", "%.2f")
            shown["Difference"] = (own["against_usual"], "usual", "%+.2f")
        frame.drugs(own, shown, f"Predictions for {len(own)} drugs with their intervals")
        return own

    def pair_wording(self, target: str) -> Wording:
        """Return that more of the response is resistance."""
        return Wording("the prediction", RESISTANCE, SENSITIVITY, red=RESISTANCE, unit=_unit(target))


def widths_apart(task: str, some: np.ndarray, others: np.ndarray, half_widths: Sequence[float | None]) -> np.ndarray:
    """Return the mean over targets of ``|some - others|`` ``(n, targets)`` in widths of a target's interval, ``(n,)``.

    A difference is at most 1, also where one is no number. Targets without an interval do not count; `UserError` if
    none has one.
    """
    half = np.array(half_widths, np.float64)  # None becomes NaN
    if not (known := half > 0).any():
        raise UserError(f"{task}: the version in production has no prediction interval to scale errors by")
    away = np.abs(some - others)[:, known] / (2 * half[known])
    return np.minimum(np.nan_to_num(away, nan=1.0), 1.0).mean(axis=1)


def with_ends(table: pd.DataFrame, name: str) -> str:
    """Return the first row by its name in the column ``name``, with its prediction and interval."""
    first = table.iloc[0]
    low, high = number(first["low"], 2), number(first["high"], 2)
    return f"{first[name]} with {number(first['prediction'], 2)} [{low}, {high}]"


def _unit(target: str) -> str:
    return "ln IC50 (µM)" if target == _LN_IC50 else named(target)


PROBLEM = Regression()
