"""What logged predictions say about a version: still what it was trained for, or time to train again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pandas as pd

from evaluation.metrics.resample import Interval
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
    """What a version keeps of the data that it was made of.

    Attributes
    ----------
    task, version, contract
        Of the version.
    inputs
        Summaries of training rows, as `training.contract.Contract.describe` makes them.
    predictions
        Of held-out rows, in the columns of `predictions_of`.
    threshold
        Of the out-of-distribution score.
    """

    task: str
    version: str
    contract: Contract
    inputs: pd.DataFrame
    predictions: pd.DataFrame
    threshold: float


@dataclass(frozen=True)
class Novelty:
    """Share of logged rows beyond the threshold, with its Clopper-Pearson interval.

    Attributes
    ----------
    share, threshold
        Of rows, and of the score.
    limit
        Above which the policy calls for retraining.
    """

    share: Interval
    threshold: float
    limit: float

    @property
    def exceeded(self) -> bool:
        """Whether the share lies above the limit, and not by chance."""
        return self.share.low > self.limit


@dataclass(frozen=True)
class Watched:
    """What a log says.

    Attributes
    ----------
    inputs, predictions
        Drift of each column, corrected for all of both.
    novelty
        Rows out of distribution.
    performance
        None where no labels were given.
    findings
        What calls for retraining, in sentences; empty where all is fine.
    notes
        What a reader should know besides.
    """

    inputs: list[Drift]
    predictions: list[Drift]
    novelty: Novelty
    performance: Performance | None
    findings: list[str]
    notes: list[str]

    @property
    def decision(self) -> Literal["fine", "retrain"]:
        """What to do."""
        return "retrain" if self.findings else "fine"


def watch(reference: Reference, logged: Logged, policy: Monitor, performance: Performance | None = None) -> Watched:
    """Compare a log with what its version was made of.

    Parameters
    ----------
    reference, logged
        Of one version.
    policy
        When drift matters.
    performance
        Of `serving.drift.performance.measure`, where labels have arrived.

    Raises
    ------
    UserError
        The log lacks columns that the version's reference has.
    """
    inputs = logged.inputs(reference.inputs.columns)
    answers = predictions_of(reference.contract, logged.rows)
    found = column_drifts(reference.inputs, inputs)
    of_both = corrected([*found, *column_drifts(reference.predictions, answers[list(reference.predictions.columns)])])
    of_inputs, of_predictions = of_both[: len(found)], of_both[len(found) :]
    novelty = _novelty(reference, logged.rows, policy)
    findings = _of_drift("input", of_inputs, policy) + _of_drift("prediction", of_predictions, policy)
    if novelty.exceeded:
        findings.append(
            f"{novelty.share.value:.1%} of the rows are out of distribution (interval from {novelty.share.low:.1%}), "
            f"the limit is {novelty.limit:.1%}"
        )
    notes = [f"{len(logged.skipped)} log files could not be read"] if logged.skipped else []
    if performance is not None:
        told = _of_performance(performance, policy)
        (findings if performance.status == "dropped" else notes).append(told)
    return Watched(of_inputs, of_predictions, novelty, performance, findings, notes)


def predictions_of(contract: Contract, rows: pd.DataFrame) -> pd.DataFrame:
    """Return what was predicted in rows of the log or of a version's reference; see `serving.problems.Problem`."""
    return get_problem(contract.problem).predictions(contract, rows)


def _novelty(reference: Reference, rows: pd.DataFrame, policy: Monitor) -> Novelty:
    share, low, high = share_beyond(rows[NOVELTY], reference.threshold, policy.significance)
    return Novelty(Interval(share, low, high), reference.threshold, policy.out_of_distribution_share)


def _of_drift(noun: str, drifts: list[Drift], policy: Monitor) -> list[str]:
    drifted = [each for each in drifts if each.drifted(policy.significance, policy.population_stability)]
    drifted.sort(key=lambda each: -each.population_stability)
    what = {"number": "", "category": "", "missing": " (missing values)"}
    return [
        f"{noun} {each.column}{what[each.kind]} drifted: population stability index {each.population_stability:.2f} "
        f"(limit {policy.population_stability:g}), corrected p {each.adjusted:.1g}"
        for each in drifted
    ]


def _of_performance(found: Performance, policy: Monitor) -> str:
    if found.now is None:
        return (
            f"{found.rows} labels have an answer in the log, {policy.minimum_rows} are needed to say how good they are"
        )
    now, then = found.now, found.then
    told = (
        f"{found.metric} of {found.rows} labelled rows is {now.value:.3f} [{now.low:.3f}, {now.high:.3f}], "
        f"the evidence has {then.value:.3f} [{then.low:.3f}, {then.high:.3f}]"
    )
    if found.status == "dropped":
        return f"{told}: {'below' if higher_is_better(found.metric) else 'above'} its interval"
    return told
