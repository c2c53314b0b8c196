"""Sentences on how far an answer can be trusted: training data, evidence, limits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pipelines.problems import metrics
from serving.dashboard.data.words import named, share, share_with_interval, with_interval

if TYPE_CHECKING:
    import pandas as pd


def familiarity(table: pd.DataFrame, what: str) -> tuple[str, str]:
    """Return a sentence on the column ``familiar``, and its level: ``fine``, ``warning`` or ``unknown``.

    ``what`` is the plural of what a row is.
    """
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


def score_word(metric: str) -> str:
    """Return how a metric is written."""
    known = metrics().get(metric)
    return (known.label if known else "") or named(metric)


def tested_on(evidence: Mapping[str, Any]) -> str:
    """Return the number of test rows, and how they were split off."""
    test = evidence["test"]
    mode = str(test.get("mode", "")).replace("_", " ")
    return (
        f"Tested on {test['samples']:,} rows of {test['groups']:,} groups that it was not trained on ({mode}); "
        f"intervals of {share(test['confidence'])}."
    )
