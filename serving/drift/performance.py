"""The metric of logged predictions on labels that arrived later."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
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
    """A metric on ``rows`` answered labels now, and in the evidence; ``dropped``: significantly beyond its interval."""

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
    if higher_is_better(metric):
        dropped = now.value < then.low - drop and now.high < then.value
    else:
        dropped = now.value > then.high + drop and now.low > then.value
    return Performance(metric, now, then, len(joined), unanswered, "dropped" if dropped else "held")


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
