"""How good logged predictions turned out to be, once labels arrive."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
import pandas as pd

from evaluation.metrics.classification import HIGHER_IS_BETTER as OF_CLASSES
from evaluation.metrics.classification import bootstrap_classification
from evaluation.metrics.regression import HIGHER_IS_BETTER as OF_NUMBERS
from evaluation.metrics.resample import Interval, bootstrap_regression
from evaluation.metrics.targets import HIGHER_IS_BETTER as OF_TARGETS
from evaluation.metrics.targets import bootstrap_targets
from pipelines.faults import ROWS_SHOWN, DataError, Finding, UserError
from pipelines.text_values import clean, folded, is_unknown, quoted
from pipelines.units import HIGHEST_LN_IC50
from serving.number_cells import read_numbers
from serving.table_files import read_table_file, refuse_repeated, refuse_shifted
from training.contract import ClassContract, Contract
from training.modalities.pairs import ResponseContract
from training.modalities.profiles import GeneContract

HIGHER_IS_BETTER = OF_NUMBERS | OF_TARGETS | OF_CLASSES
# The log keeps the label and its probability, not those of all classes: areas and calibration cannot be told from it.
OF_LABELS = ("balanced_accuracy", "accuracy", "macro_f1", "weighted_f1")
OF_VALUES = ("r2", "rmse", "mae", "mse", "pearson", "spearman")
_MOST_VALUES = 50_000_000
OF_MANY = ("r2", "rmse", "mae", "mse")


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

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-ready mapping."""
        return asdict(self)


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
    metric = _measurable(metric, contract, evidence)
    noted = evidence["test"]["metrics"][metric]
    then = Interval(*(float("nan") if noted[end] is None else noted[end] for end in ("value", "low", "high")))
    last = answers[answers["sample_sha256"].notna()].drop_duplicates("sample_sha256", keep="last")
    joined = labels.merge(last, on="sample_sha256", validate="one_to_one")
    unanswered = len(labels) - len(joined)
    if len(joined) < max(least, 2):
        return Performance(metric, None, then, len(joined), unanswered, "unknown")
    now = _bootstrapped(contract, joined, resamples, float(evidence["test"]["confidence"]), seed)[metric]
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
        Table: ``sample_id`` and ``label`` (classes), ``target`` (a number), or a column a predicted gene.
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
    columns = _columns(contract)
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
    made: dict[str, Any] = {"sample_sha256": [sample_sha256(each) for each in ids]}
    if isinstance(contract, ClassContract):
        labels, missing = _classes(table.column(at["label"]), contract.classes, tell)
        wrong = np.array([label is None for label in labels]) & ~missing
        refuse("known", "label", wrong, f"must be one of {', '.join(contract.classes)}", table.column(at["label"]))
        made["measured"] = labels
    else:
        found = read_numbers(
            table.cells[[at[column] for column in columns]], str(path), decimal_comma=table.decimal_comma
        )
        missing = (np.isnan(found.values) & ~found.wrong).all(axis=1)
        for place, column in enumerate(columns):
            wrong = ~np.isfinite(found.values[:, place]) & ~missing
            refuse("finite", column, wrong, "must be a finite number", table.column(at[column]))
            made[f"measured_{place}" if isinstance(contract, GeneContract) else "measured"] = found.values[:, place]
        if isinstance(contract, ResponseContract) and contract.target == "ln_ic50":
            high = (np.abs(found.values[:, 0]) > HIGHEST_LN_IC50) & np.isfinite(found.values[:, 0])
            never = f"must be the natural logarithm of the IC50 in micromolar, which is within {HIGHEST_LN_IC50:g} of 0"
            refuse("units", columns[0], high, never, table.column(at[columns[0]]))
        table.notes.extend(found.notes)
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
    return pd.DataFrame(made)[~missing].reset_index(drop=True)


def _classes(
    written: list[str], classes: Sequence[str], tell: Callable[[str], None]
) -> tuple[list[str | None], np.ndarray]:
    """Return the class of each label, None where it is of none, and whether it says that nothing is known."""
    by_text = {folded(name): name for name in classes}
    if len(by_text) < len(classes):
        by_text = {}
    labels = [each if each in classes else by_text.get(folded(each)) for each in written]
    missing = np.array([label is None and is_unknown(each) for each, label in zip(written, labels, strict=True)])
    other = {each: label for each, label in zip(written, labels, strict=True) if label not in (None, each)}
    if other:
        tell(f"labels were read in another spelling: {', '.join(f'{one!r} as {name}' for one, name in other.items())}")
    return labels, missing


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


def _columns(contract: Contract) -> list[str]:
    if isinstance(contract, ClassContract):
        return ["label"]
    return list(contract.targets) if isinstance(contract, GeneContract) else ["target"]


def _measurable(metric: str, contract: Contract, evidence: Mapping[str, Any]) -> str:
    """Return the task's metric where the log suffices for it, else the first that it suffices for."""
    told: tuple[str, ...] = OF_VALUES
    if isinstance(contract, (ClassContract, GeneContract)):
        told = OF_LABELS if isinstance(contract, ClassContract) else OF_MANY
    known = [name for name in told if name in evidence["test"]["metrics"]]
    if not known:
        raise UserError(f"the evidence has none of {', '.join(told)}; evaluate the model again")
    return metric if metric in known else known[0]


def _bootstrapped(
    contract: Contract, joined: pd.DataFrame, resamples: int, confidence: float, seed: int
) -> dict[str, Interval]:
    settings: dict[str, Any] = {"resamples": resamples, "confidence": confidence, "seed": seed}
    groups = np.arange(len(joined))
    if isinstance(contract, ClassContract):
        code = {name: place for place, name in enumerate(contract.classes)}
        certain = np.eye(len(code))[joined["label"].map(code).to_numpy()]
        true = joined["measured"].map(code).to_numpy()
        return bootstrap_classification(true, certain, groups, classes=contract.classes, **settings)
    if isinstance(contract, GeneContract):
        measured = joined[[f"measured_{place}" for place in range(len(contract.targets))]].to_numpy(np.float64)
        predicted = joined[[f"prediction_{gene}" for gene in contract.targets]].to_numpy(np.float64)
        return bootstrap_targets(measured, predicted, groups, scale=contract.spreads, **settings)
    return bootstrap_regression(joined["measured"].to_numpy(), joined["prediction"].to_numpy(), groups, **settings)


def _dropped(metric: str, now: Interval, then: Interval, drop: float) -> bool:
    """Whether ``now`` lies beyond the evidence's interval by more than ``drop``, and its own excludes the evidence."""
    if HIGHER_IS_BETTER[metric]:
        return bool(now.value < then.low - drop and now.high < then.value)
    return bool(now.value > then.high + drop and now.low > then.value)
