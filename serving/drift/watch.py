"""The prediction log of a version, and the decision from it: the version is fine, or it is time to retrain."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pyarrow
import pyarrow.parquet

from evaluation.metrics.resample import Interval
from pipelines.errors import UserError
from pipelines.formatting import interval
from pipelines.policy import Monitor
from pipelines.problems import higher_is_better
from serving.drift.distribution import Drift, column_drifts, corrected, share_beyond
from serving.drift.performance import Performance
from serving.problems import get_problem
from training.contract import Contract
from training.model.prediction_log import INPUT

_NEEDED = ("time", "model_version", "out_of_distribution")


@dataclass(frozen=True)
class Logged:
    """The rows of a version by time; why files were not read, and how many rows other versions have."""

    rows: pd.DataFrame
    files: int = 0
    skipped: dict[str, str] = field(default_factory=dict)
    other_versions: dict[str, int] = field(default_factory=dict)

    def inputs(self, columns: Iterable[str]) -> pd.DataFrame:
        """Return the logged summaries of ``columns``; raises `UserError` where the log lacks one."""
        wanted = [INPUT + column for column in columns]
        if lacking := [column for column in wanted if column not in self.rows]:
            raise UserError(f"the log lacks {', '.join(lacking[:5])}, which the version has")
        return self.rows[wanted].rename(columns=lambda name: name.removeprefix(INPUT))

    def as_dict(self) -> dict[str, Any]:
        """Return the section of the report."""
        times = self.rows["time"]
        return {
            "rows": len(self.rows),
            "first": times.min().isoformat(),
            "last": times.max().isoformat(),
            "files": self.files,
            "skipped_files": self.skipped,
            "rows_of_other_versions": self.other_versions,
        }


def read_log(folder: Path, task: str, version: str, *, least: int, since: datetime | None = None) -> Logged:
    """Read the rows of a version from ``since`` on; raises `UserError` where there are fewer than ``least``."""
    rows, files, skipped = read_rows(folder, task)
    if since is not None:
        rows = rows[rows["time"] >= since]
    versions = rows["model_version"].astype(str)
    counts = versions[versions != version].value_counts().sort_index()
    others = {str(name): int(count) for name, count in counts.items()}
    rows = rows[versions == version].sort_values("time", kind="stable").reset_index(drop=True)
    if len(rows) < least:
        there = ", ".join(f"{count} of version {name}" for name, count in others.items())
        raise UserError(
            f"{folder}: {len(rows)} logged rows of {task} version {version}, at least {least} are needed for a "
            "statement" + (f" (there are {there})" if there else "")
        )
    return Logged(rows, files, skipped, others)


def read_rows(folder: Path, task: str) -> tuple[pd.DataFrame, int, dict[str, str]]:
    """Return all rows of a task in the log ``folder``, the number of files, and why others were not read."""
    own = folder / task if (folder / task).is_dir() else folder
    if not own.is_dir():
        raise UserError(
            f"{str(folder)!r}: no such folder; set ONCOLINEAGE_PREDICTION_LOG to it where the model is served"
        )
    tables, skipped = [], {}
    for path in sorted(path for path in own.rglob("*.parquet") if not path.name.startswith(".")):
        try:
            table = pyarrow.parquet.ParquetFile(path).read().to_pandas()
            if lacking := [column for column in _NEEDED if column not in table]:
                raise ValueError(f"lacks the column {', '.join(lacking)}")
            tables.append(table.assign(time=pd.to_datetime(table["time"], utc=True)))
        except (OSError, ValueError, pyarrow.ArrowException) as error:
            skipped[path.relative_to(own).as_posix()] = " ".join(str(error).split())[:200]
    if not tables:
        named = f" ({len(skipped)} that cannot be read: {', '.join(list(skipped)[:3])})" if skipped else ""
        raise UserError(f"{own}: there is no prediction log in it{named}")
    return pd.concat(tables, ignore_index=True), len(tables), skipped


def since_time(text: str) -> datetime | None:
    """Return an ISO date or time, in UTC where it names no zone; None for an empty text."""
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise UserError(f"--since {text!r} is no date; write 2026-11-20 or 2026-11-20T08:00") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


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
