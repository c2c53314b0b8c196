"""Expression profiles: brought as tables or chosen from the data, and asked about gene by gene."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import streamlit as st

from serving.dashboard.data import collection
from serving.dashboard.data.endpoints import Endpoint
from serving.dashboard.data.loading import tables
from serving.dashboard.data.words import counted, listed, means, plain
from serving.dashboard.pages import answers, choosing, frame
from serving.dashboard.pages.predict import Asked, Make
from serving.modalities import Modality
from serving.problems import get_problem

if TYPE_CHECKING:  # pandas is loaded with the first question, not with the first page
    import pandas as pd

_KEY = "sample_id"
_FILLED_IN = {"imputed": "not in the profile, filled in", "ignored": "that the model does not know, left out"}
_samples = st.cache_data(show_spinner=False, ttl=60)(collection.samples)


class Profiles(Modality):
    """Profiles, a map of gene to value each."""

    def invitation(self, task: Any) -> str:
        """Return what the model says of a profile."""
        return (
            "Choose a sample or bring expression profiles, and press Predict: the model says "
            f"{get_problem(task.problem).says}, how sure it is, and which genes it goes by."
        )

    def question(self, name: str, task: Any, endpoint: Endpoint) -> tuple[Make | None, str]:
        """Let people bring a table, or choose a sample of the data."""
        path = frame.DATA / name / collection.EXPRESSION_FILE
        st.markdown("#### 1 · Samples")
        if choosing.source(name, "Which samples") == choosing.OWN:
            found = choosing.own_files(name, ["expression"], path.parent, _KEY, ["expression"])
            if not found:
                return None, "Bring a file with an expression profile first."
            values = found["expression"].values
            return (lambda contract: of_profiles(values, contract)), ""
        chosen = None
        with frame.errors_shown():
            help_ = "Samples of the task's own data; the model may have been trained on this one."
            chosen = choosing.one_of(_samples(path.parent), "Sample", "samples", f"chosen {name}", help_)
        if chosen is None:
            return None, "Choose a sample first."
        return (lambda contract: of_profiles(tables.profiles(path, _KEY, [chosen]), contract)), ""

    def answers(self, asked: Asked, name: str, task: Any) -> None:
        """Draw one profile's answer and the genes behind it."""
        problem = get_problem(task.problem)
        row, table = answers.one_of(asked, name, task, "sample")
        answer, sample = asked.answers[row], asked.question.names[row]
        own = table[table["sample"] == sample]
        problem.heading(answer)
        for field, said in _FILLED_IN.items():
            if genes := [str(gene) for gene in answer.get(field) or []]:
                st.info(plain(f"{counted(len(genes), 'gene')} {said}: {listed(genes)}."), icon=":material/info:")
        problem.show(answer, own, sample, sample)
        st.subheader(problem.behind, help=means("contribution"))
        wording = problem.wording(answer, own, f"target {name}")
        draw = partial(answers.genes, wording=wording, what=sample, file=sample)
        answers.explained(asked, row, draw, "Asking which genes it goes by")


def of_profiles(values: pd.DataFrame, contract: Mapping[str, Any] | None = None) -> tables.Question:
    """Return the question about profiles, a row a sample, without genes that the model's contract does not know."""
    wanted = None
    if contract is not None:
        wanted = list(dict.fromkeys([*contract.get("genes", []), *contract.get("known", [])]))
    found, notes = tables.measured(values, wanted)
    rows = [{"expression": profile, "sample_id": sample} for sample, profile in found.items()]
    return tables.asked_samples(rows, list(found), notes)


MODALITY = Profiles()
