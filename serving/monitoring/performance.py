"""How good logged predictions turned out to be, once labels arrive."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from evaluation.metrics.classification import HIGHER_IS_BETTER as OF_CLASSES
from evaluation.metrics.classification import bootstrap_classification
from evaluation.metrics.regression import HIGHER_IS_BETTER as OF_NUMBERS
from evaluation.metrics.resample import Interval, bootstrap_regression
from evaluation.metrics.targets import HIGHER_IS_BETTER as OF_TARGETS
from evaluation.metrics.targets import bootstrap_targets
from pipelines.faults import DataError, Finding, UserError
from training.contracts import ClassContract, Contract
from training.contracts.profiles import GeneContract

HIGHER_IS_BETTER = OF_NUMBERS | OF_TARGETS | OF_CLASSES
# The log keeps the label and its probability, not those of all classes: areas and calibration cannot be told from it.
OF_LABELS = ("balanced_accuracy", "accuracy", "macro_f1", "weighted_f1")
OF_VALUES = ("r2", "rmse", "mae", "mse", "pearson", "spearman")
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


def read_labels(path: Path, contract: Contract, sample_sha256: Callable[[str], str]) -> pd.DataFrame:
    """Read labels that arrived.

    Parameters
    ----------
    path
        CSV: ``sample_id`` and ``label`` (classes), ``target`` (a number), or a column a predicted gene.
    contract
        Of the version that is watched.
    sample_sha256
        Salted hash of a sample's id, as the log has it.

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
        table = pd.read_csv(path, dtype={"sample_id": str, "label": str}, keep_default_na=True)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error
    columns = _columns(contract)
    if lacking := [column for column in ("sample_id", *columns) if column not in table]:
        raise UserError(f"{path}: lacks the column {', '.join(lacking[:5])}; it needs sample_id and {columns[0]}")
    findings = []

    def refuse(expectation: str, column: str, wrong: pd.Series, message: str) -> None:
        if wrong.any():
            rows = np.flatnonzero(wrong)
            findings.append(Finding.at_rows(expectation, path.name, column, rows, message))

    refuse("named", "sample_id", table["sample_id"].isna(), "every label needs the id of its sample")
    refuse("unique", "sample_id", table["sample_id"].duplicated(), "the sample stands twice; keep one")
    made: dict[str, Any] = {"sample_sha256": [sample_sha256(str(each)) for each in table["sample_id"]]}
    for place, column in enumerate(columns):
        if isinstance(contract, ClassContract):
            unknown = ~table[column].isin(contract.classes)
            refuse("known", column, unknown, f"must be one of {', '.join(contract.classes)}")
            made["measured"] = table[column]
        else:
            numbers = pd.to_numeric(table[column], errors="coerce")
            refuse("finite", column, ~np.isfinite(numbers), "must be a finite number")
            made[f"measured_{place}" if isinstance(contract, GeneContract) else "measured"] = numbers
    if findings:
        raise DataError(findings)
    return pd.DataFrame(made)


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
