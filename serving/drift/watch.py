"""The prediction log of a version, and the decision from it: the version is fine, or it is time to retrain."""

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet

from evaluation.metrics import Interval
from evaluation.problems import measures_of
from pipelines.errors import ROWS_SHOWN, DataError, Finding, UserError
from pipelines.formatting import interval
from pipelines.policy import Monitor
from pipelines.problems import higher_is_better
from pipelines.special_files import refuse_special
from pipelines.text_values import clean, folded, is_unknown, quoted
from serving.drift.distribution import Drift, column_drifts, corrected, share_beyond
from serving.problems import get_problem
from serving.table_files import read_table_file, refuse_repeated, refuse_shifted
from training.contract import Contract
from training.model.prediction_log import INPUT

_MOST_VALUES = 50_000_000
_NEEDED = ("time", "model_version", "out_of_distribution")
NOVELTY = "out_of_distribution"


@dataclass(frozen=True)
class Performance:
    """A metric on ``rows`` labels with an answer, now and in the evidence; ``dropped``: beyond it with significance."""

    metric: str
    now: Interval | None
    then: Interval
    rows: int
    status: Literal["held", "dropped", "unknown"]


def measure(
    contract: Contract,
    answers: pd.DataFrame,
    labels: pd.DataFrame,
    evidence: Mapping[str, Any],
    *,
    metric: str,
    least: int,
    drop: float,
    resamples: int,
    seed: int = 0,
) -> Performance:
    """Compare logged answers, the last for each sample, with labels from `read_labels`, of which ``least`` are needed.

    ``drop`` is by how much the metric may lie beyond the evidence's interval. Each sample is its own group here.
    """
    problem = get_problem(contract.problem)
    measured = evidence["test"]["metrics"]
    known = [name for name in problem.measurable if name in measured]
    if not known:
        raise UserError(f"the evidence has none of {', '.join(problem.measurable)}; evaluate the model again")
    metric = metric if metric in known else known[0]
    ends = (measured[metric][end] for end in ("value", "low", "high"))
    then = Interval(*(float("nan") if end is None else end for end in ends))
    last = answers[answers["sample_sha256"].notna()].drop_duplicates("sample_sha256", keep="last")
    joined = labels.merge(last, on="sample_sha256", validate="one_to_one")
    if len(joined) < max(least, 2):
        return Performance(metric, None, then, len(joined), "unknown")
    now = measures_of(contract.problem).bootstrap(
        *problem.to_score(contract, joined),
        np.arange(len(joined)),
        baseline=None,
        within=None,
        margin_metric=metric,
        resamples=resamples,
        confidence=float(evidence["test"]["confidence"]),
        seed=seed,
        **contract.scoring,
    )[metric]
    if higher_is_better(metric):
        dropped = now.value < then.low - drop and now.high < then.value
    else:
        dropped = now.value > then.high + drop and now.low > then.value
    return Performance(metric, now, then, len(joined), "dropped" if dropped else "held")


def read_labels(
    path: Path,
    contract: Contract,
    sample_sha256: Callable[[str], str],
    *,
    logged: Container[str] = frozenset(),
    tell: Callable[[str], None] = lambda note: None,
) -> pd.DataFrame:
    """Return ``sample_sha256`` and the labels of a table, in columns that start with ``measured``.

    ``sample_sha256`` is the log's salted hash of an id, and ``logged`` its hashes. ``tell`` takes a sentence on what is
    read differently or left out. Raises `UserError` with file, column and rows at fault.
    """
    refuse_special([path])
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error}") from error
    table = read_table_file(str(path), content, most=_MOST_VALUES)
    problem = get_problem(contract.problem)
    columns = problem.label_columns(contract)
    at = {folded(name): place for place, name in enumerate(table.names)}
    at |= {name: place for place, name in enumerate(table.names)}
    refuse_repeated(str(path), "column", [name for name in table.written if clean(name)])
    if lacking := [column for column in ("sample_id", *columns) if column not in at]:
        raise UserError(
            f"{path}: lacks the column {', '.join(lacking[:5])}; it needs sample_id and {columns[0]}, and has "
            f"{quoted(table.written)}"
        )
    refuse_shifted(table, at["sample_id"])
    findings = []

    def refuse(expectation: str, column: str, wrong: np.ndarray, message: str, values: Sequence[Any] = ()) -> None:
        if wrong.any():
            rows = np.flatnonzero(wrong)
            shown = quoted(dict.fromkeys(values[int(row)] for row in rows)) if len(values) else ""
            found = f"{message}, not {shown}" if shown else message
            findings.append(Finding.at_rows(expectation, path.name, column, rows, found))

    written = table.column(at["sample_id"])
    ids = [each if sample_sha256(each) in logged else clean(each) for each in written]
    refuse("named", "sample_id", np.array([is_unknown(each) for each in ids]), "every label needs the id of its sample")
    refuse("unique", "sample_id", pd.Series(ids).duplicated().to_numpy(), "duplicate sample; keep one row", written)
    made, missing = problem.read_labels(contract, table, at, refuse, tell)
    if findings:
        raise DataError(findings)
    for note in table.notes:
        tell(note)
    if missing.any():
        tell(f"samples without a label were left out: {_rows(np.flatnonzero(missing))}")
    unknown = np.array([bool(logged) and sample_sha256(each) not in logged for each in ids], dtype=bool) & ~missing
    if unknown.any():
        tell(f"no logged prediction has the sample_id of the labels in {_rows(np.flatnonzero(unknown))}")
    hashes = [sample_sha256(each) for each in ids]
    return pd.DataFrame({"sample_sha256": hashes, **made})[~missing].reset_index(drop=True)


def _rows(places: np.ndarray) -> str:
    """Return row numbers: a logged report must not name samples, which the log knows by their hashes alone."""
    more = f" and {len(places) - ROWS_SHOWN} more" if len(places) > ROWS_SHOWN else ""
    return f"rows {', '.join(str(place + 1) for place in places[:ROWS_SHOWN])}{more}"


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
    rows = pd.concat(tables, ignore_index=True)
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
    return Logged(rows, len(tables), skipped, others)


def since_time(text: str) -> datetime | None:
    """Return an ISO date or time, in UTC where it names no zone; None for an empty text."""
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise UserError(f"--since {text!r} is no date; write 2026-11-20 or 2026-11-20T08:00") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Reference:
    """The data of a version: summaries of training rows, predictions of held-out rows, novelty threshold."""

    task: str
    version: str
    contract: Contract
    inputs: pd.DataFrame
    predictions: pd.DataFrame
    threshold: float
    held_out: pd.DataFrame | None = None  # the same rows with all that was answered and their ``target``


@dataclass(frozen=True)
class Watched:
    """The result of a comparison."""

    inputs: list[Drift]  # corrected for all tests of inputs and predictions
    predictions: list[Drift]
    novelty: Interval  # share of rows beyond the version's threshold
    performance: Performance | None
    findings: list[str]  # reasons to retrain, in sentences
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
    findings = [
        f"{noun} {each.column}{' (missing values)' * (each.kind == 'missing')} drifted: population stability index "
        f"{each.population_stability:.2f} (limit {policy.population_stability:g}), corrected p {each.adjusted:.1g}"
        for noun, drifts in sides.items()
        for each in sorted(drifts, key=lambda each: -each.population_stability)
        if each.drifted(policy.significance, policy.population_stability)
    ]
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


def _performance_sentence(found: Performance, policy: Monitor) -> str:
    if found.now is None:
        return f"{found.rows} labels have an answer in the log, at least {policy.minimum_rows} are needed"
    now, then = (interval(each.as_dict(), alone="{}") for each in (found.now, found.then))
    sentence = f"{found.metric} of {found.rows} labelled rows is {now}, the evidence has {then}"
    if found.status == "dropped":
        return f"{sentence}: {'below' if higher_is_better(found.metric) else 'above'} its interval"
    return sentence
