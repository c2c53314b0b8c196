"""The decision from logged predictions: the version is fine, or it is time to retrain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pandas as pd

from evaluation.metrics.resample import Interval
from pipelines.formatting import interval
from pipelines.policy import Monitor
from pipelines.problems import higher_is_better
from serving.drift.distribution import Drift, column_drifts, corrected, share_beyond
from serving.drift.logged import Logged
from serving.drift.performance import Performance
from serving.problems import get_problem
from training.contract import Contract

NOVELTY = "out_of_distribution"


@dataclass(frozen=True)
class Reference:
    """The data of a version: summaries of training rows, predictions of held-out rows, novelty threshold."""

    task: str
    version: str
    contract: Contract
    inputs: pd.DataFrame
    predictions: pd.DataFrame
    threshold: float


@dataclass(frozen=True)
class Watched:
    """The result of a comparison; ``findings`` are the reasons to retrain, ``notes`` are remarks, in sentences.

    ``novelty`` is the share of rows beyond the version's threshold, with its interval.
    """

    inputs: list[Drift]
    predictions: list[Drift]
    novelty: Interval
    performance: Performance | None
    findings: list[str]
    notes: list[str]

    @property
    def decision(self) -> Literal["fine", "retrain"]:
        """Return what to do."""
        return "retrain" if self.findings else "fine"


def watch(reference: Reference, logged: Logged, policy: Monitor, performance: Performance | None = None) -> Watched:
    """Compare a log with the reference of its version; raises `UserError` where it lacks a column of the reference."""
    inputs = column_drifts(reference.inputs, logged.inputs(reference.inputs.columns))
    answers = predictions_of(reference.contract, logged.rows)[list(reference.predictions.columns)]
    of_both = corrected([*inputs, *column_drifts(reference.predictions, answers)])
    sides = {"input": of_both[: len(inputs)], "prediction": of_both[len(inputs) :]}
    findings = [sentence for noun, drifts in sides.items() for sentence in _drift_findings(noun, drifts, policy)]
    share = Interval(*share_beyond(logged.rows[NOVELTY], reference.threshold, policy.significance))
    if share.low > policy.out_of_distribution_share:
        findings.append(
            f"{share.value:.1%} of the rows are out of distribution (interval from {share.low:.1%}), "
            f"the limit is {policy.out_of_distribution_share:.1%}"
        )
    notes = [f"{len(logged.skipped)} log files could not be read"] if logged.skipped else []
    if performance is not None:
        sentence = _performance_sentence(performance, policy)
        (findings if performance.status == "dropped" else notes).append(sentence)
    return Watched(sides["input"], sides["prediction"], share, performance, findings, notes)


def predictions_of(contract: Contract, rows: pd.DataFrame) -> pd.DataFrame:
    """Return the predictions in rows of the log or of a reference, see `serving.problems.Problem`."""
    return get_problem(contract.problem).predictions(contract, rows)


def _drift_findings(noun: str, drifts: list[Drift], policy: Monitor) -> list[str]:
    drifted = [each for each in drifts if each.drifted(policy.significance, policy.population_stability)]
    return [
        f"{noun} {each.column}{' (missing values)' * (each.kind == 'missing')} drifted: population stability index "
        f"{each.population_stability:.2f} (limit {policy.population_stability:g}), corrected p {each.adjusted:.1g}"
        for each in sorted(drifted, key=lambda each: -each.population_stability)
    ]


def _performance_sentence(found: Performance, policy: Monitor) -> str:
    if found.now is None:
        return f"{found.rows} labels have an answer in the log, at least {policy.minimum_rows} are needed"
    now, then = (interval(each.as_dict(), alone="{}") for each in (found.now, found.then))
    sentence = f"{found.metric} of {found.rows} labelled rows is {now}, the evidence has {then}"
    if found.status == "dropped":
        return f"{sentence}: {'below' if higher_is_better(found.metric) else 'above'} its interval"
    return sentence
