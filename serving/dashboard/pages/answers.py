"""What is shown beside every answer: how far it can be trusted, and the explanation of one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import streamlit as st

from serving.dashboard.data.endpoints import Row, ask
from serving.dashboard.data.loading import charts, registry, tables
from serving.dashboard.data.words import (
    counted,
    limits,
    means,
    metric_means,
    number,
    plain,
    score_word,
    share,
    share_with_interval,
    with_interval,
    yes_no,
)
from serving.dashboard.pages import frame, progress
from serving.modalities import get_modality
from serving.problems import get_problem

if TYPE_CHECKING:
    import pandas as pd

    from pipelines.params import Task
    from serving.dashboard.pages.predict import Asked
    from serving.problems import Wording

_IN_CHART = 15
_ICONS = {"fine": ":material/check_circle:", "warning": ":material/warning:", "unknown": ":material/help:"}


def panel(name: str, task: Task, answers: Sequence[Row], table: pd.DataFrame, what: str) -> None:
    """Draw how far answers can be trusted, of a ``table`` with `tables.novelty`; ``what`` is the plural of a row."""
    problem = get_problem(task.problem)
    text, level = familiarity(table, what)
    show = {"fine": st.success, "warning": st.warning, "unknown": st.info}[level]
    show(plain(text), icon=_ICONS[level])
    version = tables.version_of(answers)

    def covered(found: dict[str, Any] | None) -> None:
        st.markdown(plain(coverage(tables.coverage_of(answers), found, problem.promise)), help=means("coverage"))

    def draw(found: dict[str, Any]) -> None:
        frame.simulated(bool(found["simulated"]))
        covered(found)
        with st.expander(f"How good is version {version}, and what to keep in mind", icon=":material/fact_check:"):
            test, mode = found["test"], str(found["test"].get("mode", "")).replace("_", " ")
            split = f"{test['samples']:,} rows of {test['groups']:,} groups that it was not trained on ({mode})"
            text = f"Tested on {split}; intervals of {share(test['confidence'])}."
            st.markdown(plain(text), help=means("confidence_interval"))
            own = (task.within and problem.scores_within) or problem.scores
            for metric, word, shown in scores(found, [*get_modality(task.modality).leading, *own]):
                baseline = str(found.get("baseline", "the baseline"))
                st.markdown(f"**{plain(word)}** {plain(shown)}", help=metric_means(metric, baseline))
            if (worst := (found.get("strata") or {}).get("worst")) is not None:
                text = f"{with_interval(worst)} ({worst['column']} {worst['name']})"
                st.markdown(f"**Worst stratum** {plain(text)}", help=means("stratum"))
            frame.sentences(limits(task))

    if version is None:
        covered(None)
        st.markdown("The model that answered is not registered: there is no evidence of how good it is.")
    else:
        key = f"evidence {name} {version}"
        found = progress.job(key, lambda job: registry.evidence(registry.version_of(name, int(version))))
        progress.shown(found, draw, label="Looking up its evidence", key=key)
        if found.done() and not found.succeeded:  # the model's own declaration needs no registry
            covered(None)
    for note in tables.notes_of(table):
        st.warning(plain(note), icon=":material/info:")


def one_of(asked: Asked, name: str, task: Task, what: str) -> tuple[int, pd.DataFrame]:
    """Draw what is common to all samples (``what`` is one), and let people choose; return a row, and all answers."""
    problem, names = get_problem(task.problem), asked.question.names
    table = problem.table(asked.answers, asked.question.about)
    samples = table.drop_duplicates("sample")
    panel(name, task, asked.answers, samples, f"{what}s")
    if len(samples) > 1 and (columns := problem.columns(table)):
        columns = {what.capitalize(): (table["sample"], "", ""), **columns}
        columns["Like the training data"] = (yes_no(table["familiar"]), "familiar", "")
        frame.rows(columns, f"Predictions for {len(table)} {what}s")
    frame.download(table, f"{name}_predictions.csv", f"Download {counted(len(table), 'prediction')} as CSV")
    chosen = names[0] if len(names) == 1 else st.selectbox(what.capitalize(), names, key=f"shown {name}")
    return names.index(str(chosen)), table


def explained(
    asked: Asked, row: int, draw: Callable[[Row], None], label: str, more: Callable[[Row], Row] = lambda answer: answer
) -> None:
    """Ask for the explanation of one row, and draw it; ``more`` adds to the answer on the thread that asks."""
    endpoint, seconds = asked.endpoint, frame.params().policy.dashboard.seconds
    question = asked.question.only(row)

    def work(job: progress.Job) -> Row:
        found = ask(endpoint, question.rows, question.names, explain=True, seconds=seconds, progress=job.report)
        return more(found[0])

    key = f"explain {endpoint.task} {asked.name} {row}"
    progress.shown(progress.job(key, work), draw, label=label, key=key)


def genes(answer: Row, wording: Wording, what: str, file: str) -> None:
    """Draw the contributions to the prediction of the sample ``what``: chart, sum, and a table to download."""
    table = tables.contributions(answer, wording.target)
    if table.empty:
        st.info("This model names no gene.", icon=":material/info:")
        return
    top = table[~table["feature"].isin([tables.OTHERS, tables.THE_DRUG])].head(_IN_CHART)
    if (base := tables.base_of(answer, wording.target)) is not None:
        drug = float(table.loc[table["feature"] == tables.THE_DRUG, "value"].sum())
        shown, total = float(top["value"].sum()), float(table["value"].sum())
        parts = {"the drug itself": drug, "the contributions below": shown, "all others": total - drug - shown}
        said = ", ".join(f"{word} {number(value, 2, '+')}" for word, value in parts.items() if value)
        text = f"{wording.summed} is the sum of the base {number(base, 2)}, {said}: {number(base + total, 2)}."
        st.markdown(plain(text), help=means("base", "contribution"))
    if (top["value"].abs() > 0).any():
        most = ", ".join(str(name) for name in top["feature"].head(3))
        drawn = charts.contributions(top, wording.raises, wording.lowers, wording.red)
        frame.chart(drawn, alt=f"Contributions to {wording.of} for {what}; the largest: {most}.")
    table = table.rename(columns={"value": "contribution"})
    with st.expander(f"All {counted(len(table), 'contribution')} as a table", icon=":material/table:"):
        st.dataframe(table, hide_index=True, alt=f"Contributions to {wording.of} for {what}, the largest first")
    target = "" if wording.target is None else f"_{wording.target}"
    frame.download(table, f"{file}{target}_contributions.csv", "Download the contributions as CSV")


def familiarity(table: pd.DataFrame, what: str) -> tuple[str, str]:
    """Return a sentence on the column ``familiar``, and its level; ``what`` is the plural of a row."""
    total, strange = len(table), int(table["familiar"].eq(False).sum())  # None is no answer
    if table["familiar"].isna().all():
        return "This version cannot say whether what it is asked is like its training data.", "unknown"
    if strange == 0:
        return f"All {total:,} {what} are like the training data." if total > 1 else "Like the training data.", "fine"
    head = f"{strange:,} of {total:,} {what} are" if total > 1 else "This is"
    rest = "The model guesses there: intervals and probabilities do not hold."
    return f"{head} unlike the training data. {rest}", "warning"


def coverage(declared: float | None, evidence: Mapping[str, Any] | None, promise: tuple[str, str]) -> str:
    """Return the coverage of intervals or sets (see `serving.problems.Problem`), declared and on test rows."""
    what, does = promise
    if declared is None:
        return f"{what} comes without a promise of how often it is right."
    text = f"{what} is made to {does} in {share(declared)} of cases"
    found = (evidence or {}).get("coverage") or {}
    if found.get("observed") is None:
        return f"{text}."
    return f"{text}; on test data it did in {share_with_interval(found, 'observed')}."


def scores(evidence: Mapping[str, Any], names: Iterable[str]) -> list[tuple[str, str, str]]:
    """Return metric, its written name, and score with interval of those metrics that the evidence has."""
    found = {name: evidence["test"]["metrics"].get(name) for name in dict.fromkeys(names)}
    return [
        (name, score_word(name), with_interval(value, sign="+" if name == "margin" else ""))
        for name, value in found.items()
        if value is not None
    ]
