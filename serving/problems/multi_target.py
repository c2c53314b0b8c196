"""Many numbers are predicted at once, such as the expression of many genes, each with an interval."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import streamlit as st

from pipelines.samples.gene_names import symbol_of
from serving.dashboard.data.glossary import means
from serving.dashboard.data.loading import load
from serving.dashboard.data.words import plain
from serving.dashboard.pages import frame
from serving.problems import Answer, Problem, Wording
from serving.problems.regression import with_ends

if TYPE_CHECKING:
    import pandas as pd

_SHOWN = 30  # targets in a chart


class MultiTarget(Problem):
    """Genes with their intervals, the most expressed first."""

    measurable = ("r2", "rmse", "mae", "mse")
    scores = ("r2", "margin", "mae")
    says = "which other genes are expressed how strongly"
    behind = "Genes behind one"
    tables = (("predictors_by_target.csv", "target", "Predicted gene"),)

    def label_columns(self, contract: Any) -> list[str]:
        """Return the names of the targets."""
        return list(contract.targets)

    def predictions(self, contract: Any, rows: pd.DataFrame) -> pd.DataFrame:
        """Return ``prediction_<target>``; all targets stand in one column of the log, as JSON text."""
        from pandas import DataFrame

        parsed = DataFrame([json.loads(each) for each in rows["prediction"]], index=rows.index)
        return parsed.reindex(columns=contract.targets).add_prefix("prediction_").astype(np.float64)

    def to_score(self, contract: Any, joined: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """Return two tables of numbers, ``(n, targets)`` each."""
        predicted = joined[[f"prediction_{target}" for target in contract.targets]]
        return joined.filter(regex="^measured").to_numpy(np.float64), predicted.to_numpy(np.float64)

    def table(self, answers: Sequence[Answer], about: pd.DataFrame) -> pd.DataFrame:
        """Return ``sample, target, gene, prediction, low, high`` and novelty, a row a sample and target."""
        tables = load("serving.dashboard.data.tables")
        every = about[["sample"]].reset_index(drop=True).assign(**tables.novelty(answers))
        pairs = [(row, target) for row, answer in enumerate(answers) for target in answer.get("prediction") or {}]
        ends = {
            end: [tables.to_float((answers[row].get(end) or {}).get(target)) for row, target in pairs]
            for end in ("prediction", "low", "high")
        }
        named = {"target": [target for _, target in pairs], "gene": [symbol_of(target) for _, target in pairs]}
        made = every.iloc[[row for row, _ in pairs]].reset_index(drop=True).assign(**named, **ends)
        found: pd.DataFrame = made[["sample", *named, *ends, *every.columns[1:]]]
        return found

    def show(self, answer: Answer, own: pd.DataFrame, what: str, file: str) -> None:
        """Draw the targets with their intervals, and beside them what was measured, where the profile has it."""
        own = _in_order(own)
        two = st.column_config.NumberColumn(format="%.2f")
        heads = {"gene": "Gene", "prediction": "Predicted (log2)", "low": "Low", "high": "High"}
        st.subheader(f"Predicted genes of {plain(what)}", help="In log2 units. " + means("interval"))
        top = own.rename(columns={"measured": "usual"}).assign(drug=own["gene"]).head(_SHOWN)
        frame.chart(
            load("serving.dashboard.data.charts").responses(top, "Predicted expression (log2)"),
            alt=f"Predicted expression of {len(top)} genes with intervals; the highest is {with_ends(own, 'gene')}.",
        )
        if own["measured"].notna().any():
            st.caption("Point: prediction. Line: its interval. Gray tick: what was measured.")
            heads["measured"] = "Measured (log2)"
        st.dataframe(
            own[list(heads)].rename(columns=heads),
            hide_index=True,
            height=min(360, 36 * (len(own) + 1) + 2),
            column_config={
                **dict.fromkeys(("Predicted (log2)", "High", "Measured (log2)"), two),
                "Low": st.column_config.NumberColumn(format="%.2f", help=means("interval")),
            },
            alt=f"Predicted expression of {len(own)} genes with intervals",
        )

    def wording(self, answer: Answer, own: pd.DataFrame, key: str) -> Wording:
        """Let people choose one of the targets."""
        own = _in_order(own)
        genes = dict(zip(own["target"], own["gene"], strict=True))
        target = str(st.selectbox("Predicted gene", list(genes), format_func=lambda one: str(genes[one]), key=key))
        return Wording(f"the prediction of {target}", "raises it", "lowers it", target=target)


def _in_order(own: pd.DataFrame) -> pd.DataFrame:
    return own.sort_values("prediction", ascending=False, kind="stable")


PROBLEM = MultiTarget()
