"""Many numbers are predicted at once, such as the expression of many genes, each with an interval."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import streamlit as st

from pipelines.samples.gene_names import symbol_of
from serving.dashboard.data.loading import charts, tables
from serving.dashboard.data.words import means, plain
from serving.dashboard.pages import frame
from serving.problems import Answer, Problem, Wording
from serving.problems.regression import widths_apart, with_ends

if TYPE_CHECKING:
    import pandas as pd

_IN_CHART = 30
_ENDS = ("prediction", "low", "high")


class MultiTarget(Problem):
    """Genes with their intervals, the most expressed first."""

    measurable = ("r2", "rmse", "mae", "mse")
    scores = ("r2", "margin", "mae")
    says = "which other genes are expressed how strongly"
    behind = "Genes behind one"
    tables = (("predictors_by_target.csv", "target"),)

    def label_columns(self, contract: Any) -> list[str]:
        """Return the names of the targets."""
        return list(contract.targets)

    def predictions(self, contract: Any, rows: pd.DataFrame) -> pd.DataFrame:
        """Return ``prediction_<target>``; the log has all targets in one column, as JSON text."""
        from pandas import DataFrame

        parsed = DataFrame([json.loads(each) for each in rows["prediction"]], index=rows.index)
        return parsed.reindex(columns=contract.targets).add_prefix("prediction_").astype(np.float64)

    def apart(self, contract: Any, answers: pd.Series, others: pd.Series) -> np.ndarray:
        """See `widths_apart`."""
        return self.lost(contract, answers, self.predictions(contract, others.to_frame("prediction")))

    def lost(self, contract: Any, answers: pd.Series, measured: pd.DataFrame) -> np.ndarray:
        """See `widths_apart`."""
        predicted = self.predictions(contract, answers.to_frame("prediction"))
        return widths_apart(contract.task, predicted.to_numpy(), measured.to_numpy(np.float64), contract.half_widths)

    def to_score(self, contract: Any, joined: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """Return two tables of numbers, ``(n, targets)`` each."""
        predicted = joined[[f"prediction_{target}" for target in contract.targets]]
        return joined.filter(regex="^measured").to_numpy(np.float64), predicted.to_numpy(np.float64)

    def table(self, answers: Sequence[Answer], about: pd.DataFrame) -> pd.DataFrame:
        """Return ``sample, target, gene, prediction, low, high`` and novelty, a row a sample and target."""
        every = about[["sample"]].reset_index(drop=True).assign(**tables.novelty(answers))
        pairs = [(row, target) for row, answer in enumerate(answers) for target in answer.get("prediction") or {}]
        made = every.iloc[[row for row, _ in pairs]].reset_index(drop=True)
        made.insert(1, "target", [target for _, target in pairs])
        made.insert(2, "gene", [symbol_of(target) for _, target in pairs])
        for place, end in enumerate(_ENDS, start=3):
            values = [tables.to_float((answers[row].get(end) or {}).get(target)) for row, target in pairs]
            made.insert(place, end, values)
        return made

    def show(self, answer: Answer, own: pd.DataFrame, what: str, file: str) -> None:
        """Draw the targets with their intervals."""
        own = own.sort_values("prediction", ascending=False, kind="stable")
        st.subheader(f"Predicted genes of {plain(what)}", help=f"In log2 units. {means('interval')}")
        top = own[["gene", *_ENDS]].head(_IN_CHART).assign(kind="model")
        drawn = charts.intervals(top, "gene", "kind", "Predicted expression (log2)", value="prediction")
        said = f"the highest is {with_ends(own, 'gene')}"
        frame.chart(drawn, alt=f"Predicted expression of {len(top)} genes with intervals; {said}.")
        heads = {"prediction": "Predicted (log2)", "low": "Low", "high": "High"}
        shown = {"Gene": (own["gene"], "", "")}
        shown |= {head: (own[name], "interval", "%.2f") for name, head in heads.items()}
        frame.rows(shown, f"Predicted expression of {len(own)} genes with intervals")

    def wording(self, answer: Answer, own: pd.DataFrame, key: str) -> Wording:
        """Let people choose one of the targets."""
        own = own.sort_values("prediction", ascending=False, kind="stable")
        genes = dict(zip(own["target"], own["gene"], strict=True))
        target = str(st.selectbox("Predicted gene", list(genes), format_func=lambda one: str(genes[one]), key=key))
        return Wording(f"the prediction of {target}", "raises it", "lowers it", target=target)


PROBLEM = MultiTarget()
