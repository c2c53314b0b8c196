"""How good logged predictions turned out to be, once labels arrive."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
import pandas as pd

from evaluation.metrics.resample import Interval
from evaluation.problems import measures_of
from pipelines.errors import ROWS_SHOWN, DataError, Finding, UserError
from pipelines.problems import higher_is_better
from pipelines.text_values import clean, folded, is_unknown, quoted
from serving.problems import get_problem
from serving.table_files import read_table_file, refuse_repeated, refuse_shifted
from training.contract import Contract

_MOST_VALUES = 50_000_000


@dataclass(frozen=True)
class Performance:
    """The task's metric on labelled rows beside that of the evidence.

    Attributes
    ----------
    metric
        The task's, or the nearest that can be told from the log.
    now, then
        On the labelled rows, and on the test split of the evidence.
    rows
        Samples with a label and an answer.
    labels_without_answer
        Labels of samples that the version was not asked about.
    status
        ``dropped`` where the metric lies beyond the evidence's interval, and beyond chance; ``unknown`` where too few
        labels have arrived.
    """

    metric: str
    now: Interval | None
    then: Interval
    rows: int
    labels_without_answer: int
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
    """Compare logged answers with labels.

    Parameters
    ----------
    contract
        Of the version.
    answers
        Logged rows with ``sample_sha256``; of a sample asked about twice the last answer counts.
    labels
        Of `read_labels`.
    evidence
        Of the version.
    metric
        The task's.
    least
        Fewer labelled rows allow no statement.
    drop
        By how much the metric may lie below the evidence's interval.
    resamples, seed
        Of the bootstrap; each sample is a group of its own, since a log knows no groups.
    """
    problem = get_problem(contract.problem)
    metric = _measurable(metric, problem.measurable, evidence)
    noted = evidence["test"]["metrics"][metric]
    then = Interval(*(float("nan") if noted[end] is None else noted[end] for end in ("value", "low", "high")))
    last = answers[answers["sample_sha256"].notna()].drop_duplicates("sample_sha256", keep="last")
    joined = labels.merge(last, on="sample_sha256", validate="one_to_one")
    unanswered = len(labels) - len(joined)
    if len(joined) < max(least, 2):
        return Performance(metric, None, then, len(joined), unanswered, "unknown")
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
    status: Literal["held", "dropped"] = "dropped" if _dropped(metric, now, then, drop) else "held"
    return Performance(metric, now, then, len(joined), unanswered, status)


def read_labels(
    path: Path,
    contract: Contract,
    sample_sha256: Callable[[str], str],
    *,
    logged: Container[str] = frozenset(),
    tell: Callable[[str], None] = lambda note: None,
) -> pd.DataFrame:
    """Read labels that arrived.

    Parameters
    ----------
    path
        Table: ``sample_id`` and the columns of `serving.problems.Problem.label_columns`.
    contract
        Of the version that is watched.
    sample_sha256
        Salted hash of a sample's id, as the log has it.
    logged
        Hashes in the log, by which ids are found that differ from it in blanks, case or leading zeros.
    tell
        Called with a sentence for what is read otherwise than it stands there, and for what is left out.

    Returns
    -------
    pd.DataFrame
        ``sample_sha256`` and what was measured, in columns that start with ``measured``.

    Raises
    ------
    UserError
        Names the file, column and rows at fault.
    """
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
    refuse("unique", "sample_id", pd.Series(ids).duplicated().to_numpy(), "the sample stands twice; keep one", written)
    made, missing = problem.read_labels(contract, table, at, refuse, tell)
    if findings:
        raise DataError(findings)
    for note in table.notes:
        tell(note)
    if missing.any():
        tell(f"samples without a label were left out: {_rows(np.flatnonzero(missing))}")
    near: dict[str, list[int]] = {}
    for row in np.flatnonzero(~missing):
        if (other := _other_spelling(ids[row], sample_sha256, logged)) is not None:
            near.setdefault(other, []).append(int(row))
    for other, rows in near.items():
        tell(f"no answer has this sample_id, but one has it {other}; write it so: {_rows(rows)}")
    hashes = [sample_sha256(each) for each in ids]
    return pd.DataFrame({"sample_sha256": hashes, **made})[~missing].reset_index(drop=True)


def _other_spelling(sample_id: str, sample_sha256: Callable[[str], str], logged: Container[str]) -> str | None:
    """Return in which other spelling the log has an id that it does not have; None where it has it, or in none."""
    if not logged or sample_sha256(sample_id) in logged:
        return None
    bare = sample_id.lstrip("0")
    padded = [bare.zfill(width) for width in range(len(bare) + 1, len(bare) + 8)] if bare.isdecimal() else []
    spellings = {
        "in another case": [sample_id.lower(), sample_id.upper(), sample_id.capitalize()],
        "with other leading zeros": [bare, *padded],
        "with or without .0 at its end": [sample_id.removesuffix(".0"), f"{sample_id}.0"],
        "without its folder": [PurePosixPath(sample_id.replace("\\", "/")).name],
        "with a blank at its end": [f"{sample_id} "],
    }
    found = (kind for kind, each in spellings.items() if any(sample_sha256(one) in logged for one in each))
    return next(found, None)


def _rows(places: Sequence[int] | np.ndarray) -> str:
    """Return row numbers: a report that is logged names no sample, which the log knows by its hash alone."""
    more = f" and {len(places) - ROWS_SHOWN} more" if len(places) > ROWS_SHOWN else ""
    return f"rows {', '.join(str(place + 1) for place in places[:ROWS_SHOWN])}{more}"


def _measurable(metric: str, told: Sequence[str], evidence: Mapping[str, Any]) -> str:
    """Return the task's metric where the log suffices for it, else the first that it suffices for."""
    known = [name for name in told if name in evidence["test"]["metrics"]]
    if not known:
        raise UserError(f"the evidence has none of {', '.join(told)}; evaluate the model again")
    return metric if metric in known else known[0]


def _dropped(metric: str, now: Interval, then: Interval, drop: float) -> bool:
    """Whether ``now`` lies beyond the evidence's interval by more than ``drop``, and its own excludes the evidence."""
    if higher_is_better(metric):
        return bool(now.value < then.low - drop and now.high < then.value)
    return bool(now.value > then.high + drop and now.low > then.value)
