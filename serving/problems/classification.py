"""One of several classes is predicted, with a set of classes that covers the true one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import streamlit as st

from pipelines.text_values import folded, is_unknown
from serving.dashboard.data.loading import charts, tables
from serving.dashboard.data.words import counted, means, micromolar, named, number, plain, share
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

_SENSITIVE = "sensitive"  # the class of pairs that is ranked and explained
_SETS = {
    frozenset({_SENSITIVE}): "sensitive alone",
    frozenset({_SENSITIVE, "resistant"}): "either is possible",
    frozenset({"resistant"}): "resistant alone",
    frozenset[str](): "neither fits",
}
_MOST_BARS = 10


class Classification(Problem):
    """Classes with their probabilities; of pairs, drugs ranked by the probability of being sensitive."""

    # The log keeps the label and its probability, not those of all classes: no areas, and no calibration.
    measurable = ("balanced_accuracy", "accuracy", "macro_f1", "weighted_f1")
    scores = ("macro_f1", "accuracy", "roc_auc")
    scores_within = ("roc_auc", "balanced_accuracy")
    promise = ("The set of classes", "hold the true class")
    says = "what each sample is"
    ranks = (
        "Drugs are then ranked by how probable it is that the cells are sensitive to them, each with what is not "
        "ruled out."
    )
    tables = (("genes_by_class.csv", "class"),)
    tried = "label"

    def label_columns(self, contract: Any) -> list[str]:
        """Return ``label``."""
        return ["label"]

    def read_labels(self, contract: Any, table: TableFile, at: Places, refuse: Refuse, tell: Tell) -> Labels:
        """Read names of classes; a difference in case or blanks alone is accepted, and reported."""
        classes, written = contract.classes, table.column(at["label"])
        by_text = {folded(name): name for name in classes}
        if len(by_text) < len(classes):
            by_text = {}
        labels = [each if each in classes else by_text.get(folded(each)) for each in written]
        pairs = list(zip(written, labels, strict=True))
        missing = np.array([label is None and is_unknown(each) for each, label in pairs])
        if other := {each: label for each, label in pairs if label not in (None, each)}:
            read = ", ".join(f"{one!r} as {name}" for one, name in other.items())
            tell(f"labels were read in another spelling: {read}")
        wrong = np.array([label is None for label in labels]) & ~missing
        refuse("known", "label", wrong, f"must be one of {', '.join(classes)}", written)
        return {"measured": labels}, missing

    def predictions(self, contract: Any, rows: pd.DataFrame) -> pd.DataFrame:
        """Return ``label`` and its ``probability``."""
        return rows[["label", "probability"]]

    def worth(self) -> Worth:
        """Return that the probability of the label tells how often it is right."""
        return Worth(
            "accuracy",
            lambda rows: rows["probability"].to_numpy(np.float64),
            lambda rows: (rows["label"].astype(str) == rows["target"].astype(str)).to_numpy(np.float64),
            probability=True,
        )

    def to_score(self, contract: Any, joined: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """Return codes of the true classes, ``(n,)``, and the predicted ones as certain, ``(n, classes)``."""
        code = {name: place for place, name in enumerate(contract.classes)}
        return joined["measured"].map(code).to_numpy(), np.eye(len(code))[joined["label"].map(code).to_numpy()]

    def table(self, answers: Sequence[Answer], about: pd.DataFrame) -> pd.DataFrame:
        """Return ``sample, label, probability, labels`` (the set, as text), novelty, and ``probability_<class>``."""
        own = {"label": [answer.get("label", "") for answer in answers], **tables.numbers(answers, ["probability"])}
        own["labels"] = _sets(answers)
        return tables.of_samples(about, answers, own, ("probabilities", "probability"))

    def columns(self, table: pd.DataFrame) -> frame.Columns:
        """Return label, probability and set of each sample."""
        return {
            "Class": (table["label"].astype(str).map(named), "", ""),
            "Probability": (table["probability"], "probability", "%.2f"),
            "Not ruled out": (table["labels"], "label_set", ""),
        }

    def heading(self, answer: Answer) -> str:
        """Draw the class and its probability; return the class."""
        label = named(str(answer["label"]))
        st.subheader(f"{plain(label)} – {share(answer['probability'])}", help=means("probability"))
        return label

    def held(self, answer: Answer) -> tuple[str, str]:
        """Return the set of classes in a sentence."""
        held = [named(str(label)) for label in answer.get("labels") or []]
        if not held:
            return "It rules out every class: this is like no sample that it knows.", "label_set"
        if len(held) == 1:
            return f"It rules out every class but {held[0]}.", "label_set"
        return f"It does not rule out {', '.join(held[:-1])} or {held[-1]}.", "label_set"

    def show(self, answer: Answer, own: pd.DataFrame, what: str, file: str) -> None:
        """Draw the probability of each class, with all of them as a table and as a CSV file."""
        every = tables.probabilities(answer)
        every = every.assign(
            label=every["label"].astype(str).map(named),
            held=["in the set" if held else "ruled out" for held in every["held"]],
        )
        top = every.head(_MOST_BARS)
        said = ", ".join(f"{label} {share(value)}" for label, value, _ in top.head(3).to_numpy())
        bars = charts.probabilities(top, "label", "probability", "held", "Probability")
        frame.chart(bars, alt=f"Probabilities of the classes of {what}: {said}.")
        shown = every.set_axis(["class", "probability", "set of classes"], axis=1)
        frame.numbers(shown, f"{file}_probabilities.csv", f"Probability of each class of {what}")

    def wording(self, answer: Answer, own: pd.DataFrame, key: str) -> Wording:
        """Return that contributions are for or against the answered class."""
        label = named(str(answer["label"]))
        return Wording(f"the answer {label}", f"for {label}", f"against {label}")

    def ranked(self, answers: Sequence[Answer], about: pd.DataFrame, usual: Usual) -> pd.DataFrame:
        """Return ``label``, probability ``sensitive``, set ``labels``, in words ``holds``, threshold, best first."""
        made = about.reset_index(drop=True).assign(
            label=[row.get("label", "") for row in answers],
            sensitive=[float((row.get("probabilities") or {}).get(_SENSITIVE, math.nan)) for row in answers],
            labels=_sets(answers),
            holds=["not known" if row.get("labels") is None else _SETS[frozenset(row["labels"])] for row in answers],
            called_below=tables.numbers(answers, ["threshold"])["threshold"],
            **tables.novelty(answers),
        )
        return tables.in_order(made, "sensitive", ascending=False)

    def show_ranked(self, own: pd.DataFrame, sample: str, target: str) -> pd.DataFrame:
        """Draw the probability that the sample is sensitive to each drug, and what is not ruled out."""
        st.subheader(f"Drugs for {plain(sample)}", help=means("sensitive"))
        sets = ", ".join(f"{held}: {count:,}" for held, count in own["holds"].value_counts().items())
        st.markdown(plain(f"Of {counted(len(own), 'drug')}, {sets}."), help=means("label_set"))
        top, first = frame.first_drugs(own, "sensitive", "holds"), own.iloc[0]
        drawn = charts.probabilities(top, "drug", "sensitive", "holds", "Probability of being sensitive")
        said = f"first is {first['drug']} with {number(first['sensitive'], 2)}, {first['holds']}"
        frame.chart(drawn, alt=f"Probability that {sample} is sensitive, for {len(top)} drugs; {said}.")
        st.caption(plain("Bar: how probable it is that the cells are sensitive. Color: what is not ruled out."))
        shown: dict[str, tuple[Any, str, str]] = {
            "Answer": (own["label"].map(named), "sensitive", ""),
            "Sensitive": (own["sensitive"], "probability", "%.2f"),
            "Not ruled out": (own["holds"], "label_set", ""),
        }
        if own["called_below"].notna().any():
            of_ic50, limits = target == "ln_ic50", own["called_below"]
            below = [micromolar(math.exp(each)) if of_ic50 else number(each, 2) for each in limits]
            shown["Below (µM)" if of_ic50 else "Below"] = (below, "called_below", "")
        frame.drugs(own, shown, f"Predicted classes for {len(own)} drugs, with what is not ruled out")
        return own

    def pair_wording(self, target: str) -> Wording:
        """Return that more of the log odds is sensitivity."""
        odds, meaning = "log odds of being sensitive", means("log_odds")
        words = {"raises": SENSITIVITY, "lowers": RESISTANCE, "red": RESISTANCE, "unit": f"the {odds}"}
        note = f"Log odds: {meaning[:1].lower()}{meaning[1:]}"
        return Wording("the prediction", **words, summed=f"The {odds}", note=note)


def _sets(answers: Sequence[Answer]) -> list[str]:
    return [", ".join(map(str, answer.get("labels") or [])) for answer in answers]


PROBLEM = Classification()
