"""Page "Labels": labels that models doubt, the worst first, and what a person decides on each."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from pipelines.paths import PREPARED
from pipelines.samples.label_decisions import DECISIONS, DECISIONS_FILE, add_decision, read_decisions
from serving.dashboard.data.words import named, plain
from serving.dashboard.pages import frame


def page() -> None:
    """Draw the page."""
    name = frame.task_name()
    st.title("Labels")
    st.markdown(
        "Labels that models which never saw the sample doubt, the worst first. A person decides; most are right."
    )
    file, folder = frame.REPORTS / name / "labels.csv", frame.DATA / name
    if (unlabeled := file.with_name("to_label.csv")).is_file():
        with st.expander("What to label first", icon=":material/new_label:"):
            st.caption("Samples without a label that the model cannot decide, of which no two are alike.")
            st.dataframe(pd.read_csv(unlabeled, dtype={"sample_id": str}), hide_index=True, alt="What to label first")
    if not file.is_file():
        frame.advice(f"Nobody has looked for doubtful labels of {named(name)} yet:", f"make labels TASK={name}")
        return
    text = {"sample_id": str, "given": str, "suggested": str, "because": str}
    found = pd.read_csv(file, dtype=text, keep_default_na=False)
    decided = set(read_decisions(folder)["sample_id"])
    waiting = found[~found["sample_id"].isin(decided)]
    st.markdown(plain(f"{len(waiting)} of {len(found)} doubtful labels wait for a decision."))
    if decided:
        st.caption(plain(f"{len(decided)} decisions are in {folder / DECISIONS_FILE}. They hold from the next fit on:"))
        st.code(f"dvc add {frame.DATA} && make train TASK={name}", language=None)
    if len(waiting):
        classes = sorted(set(pd.read_parquet(PREPARED / name / "samples.parquet", columns=["label"])["label"]))
        _question(waiting.iloc[0], folder, classes)
        with st.expander("All that wait", icon=":material/list:"):
            st.dataframe(waiting.drop(columns=["group", "decision"]), hide_index=True, alt="Doubtful labels")


def _question(row: Any, folder: Path, classes: list[str]) -> None:
    sample = str(row["sample_id"])
    st.subheader(plain(sample))
    if row["tested"]:
        st.warning("A tested sample: the evidence and the model card will tell this decision.", icon=":material/gavel:")
    picture = (folder / "images" / sample).resolve()
    if picture.is_relative_to(folder.resolve()) and picture.is_file():
        st.image(picture.read_bytes(), width=240, caption=plain(sample))
    told = f"Labeled {row['given']} ({row['probability_given']:.3f}), seems {row['suggested']}"
    st.markdown(plain(f"{told} ({row['probability_suggested']:.3f})."))
    if row["because"]:
        st.markdown(plain(f"Genes that speak for {row['suggested']}: {row['because']}."))
    who = st.text_input("Your name", key="label by")
    why = st.text_input("Reason", key=f"label why {sample}")
    others = [each for each in classes if each != row["given"]]
    new = st.selectbox("Label to change it to", others, index=others.index(row["suggested"]), key=f"label new {sample}")
    for column, decision in zip(st.columns(len(DECISIONS)), DECISIONS, strict=True):
        if column.button(decision.capitalize(), key=f"label {decision}", width="stretch"):
            with frame.errors_shown():
                label = str(new) if decision == "change" else ""
                today = datetime.now(UTC).date().isoformat()
                of = {"sample_id": sample, "given": str(row["given"]), "decision": decision, "new_label": label}
                add_decision(folder, **of, by=who.strip(), why=why.strip(), date=today)
                st.rerun()
