"""What a logged model takes and answers, saved beside it: a class of a modality joined with one of a problem."""

import contextlib
import importlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from mlflow.types import ColSpec, DataType
from mlflow.types.schema import Array, Object, Property

from pipelines.datasets import Prepared
from pipelines.errors import UserError
from pipelines.params import PARAMS_FILE, Task, task_text
from training.estimator import Attribution, Estimator
from training.model.cross_fit import FinalFit
from training.model.limits import Limits
from training.model.novelty import Kind, View

Refit = Callable[[Any, Any], Estimator]
Columns = dict[str, Any]  # arrays, lists and Series of one length, by the name of the column
EXPLAINED_FEATURES = 25
UNLIKE = "unlike the training data: no coverage is promised"
_LARGEST = 3e38  # of a float32; an integer of JSON may be too large even for a float64
_SHOWN = 160  # characters of a place in a message: names of features come from the request
ATOMS = Array(DataType.double)
_FEATURE, _VALUE = Property("feature", DataType.string), Property("value", DataType.double)


class PayloadError(UserError):
    """A request that the model cannot take; names row and field."""


class Remarks:
    """Notes on the rows of an answer; ``withdrawn`` (bool, ``(n,)``) marks rows without interval or set."""

    def __init__(self, count: int) -> None:
        self.withdrawn = np.zeros(count, dtype=bool)
        self._notes: list[list[str]] = [[] for _ in range(count)]

    def add(self, notes: Sequence[str | None], *, withdraw: bool = False) -> None:
        """Add a note to each row that has one; with ``withdraw`` these rows lose interval or set."""
        for row, note in enumerate(notes):
            if note:
                self._notes[row].append(note)
                self.withdrawn[row] |= withdraw

    def column(self) -> pd.Series:
        """Return the column ``note``; None in rows without a note."""
        return pd.Series(["; ".join(notes) or None for notes in self._notes], dtype=object)


@dataclass(frozen=True, kw_only=True)
class Contract(ABC):
    """What a model takes and answers: a part of a modality, another of a problem."""

    modality: ClassVar[str]
    problem: ClassVar[str]
    answered: ClassVar[tuple[ColSpec, ...]]  # columns of `said`
    explained: ClassVar[tuple[ColSpec, ...]] = (  # columns of `explain`
        ColSpec(DataType.double, name="base", required=False),
        ColSpec(Array(Object([_FEATURE, _VALUE])), name="attributions", required=False),
    )
    promised: ClassVar[tuple[str, ...]] = ("low", "high", "coverage")  # columns that `withdrawn` empties
    scored_by: ClassVar[Mapping[str, str]] = {}  # fields that metrics need to know, by what they call them
    logged_by: ClassVar[Mapping[str, str]] = {}  # fields that the run logs, by the name of the metric

    task: str
    architecture: str
    baseline: str
    task_text: str  # by `pipelines.params.task_text`
    coverage: float  # share of rows whose true value lies in the interval or set of the answer
    # Where limits of intervals or sets differ: by what (`class`, `drug_id`), the limit of each, and how it was chosen.
    cells: str = ""
    limits: dict[str, float] = field(default_factory=dict)
    chosen: dict[str, Any] = field(default_factory=dict)

    # The modality's part.

    @classmethod
    def taken(cls, architecture: str, task: Task, prepared: Prepared, estimator: Estimator) -> dict[str, Any]:
        """Return the fields of the modality, from what a model was fitted on."""
        return {}

    @classmethod
    def adjusted(cls, prepared: Prepared, final: FinalFit, role: str) -> FinalFit:
        """Return a final fit of an architecture of a ``role`` as it is served."""
        return final

    def restored(self, estimator: Estimator, folder: Path) -> Estimator:
        """Return an estimator that was loaded from ``folder`` as `adjusted` made it."""
        return estimator

    @abstractmethod
    def read(self, frame: pd.DataFrame) -> Any:
        """Check a request, one question a row, and return its samples; a `PayloadError` names row and field."""

    @abstractmethod
    def request(self, samples: Any) -> pd.DataFrame:
        """Return the request that asks for ``samples``, as `read` takes it."""

    @abstractmethod
    def inputs(self) -> list[ColSpec]:
        """Return the columns of a request; `read` checks what maps hold."""

    def aimed(self, samples: Any) -> Any:
        """Return samples of a request with the names of the targets, where samples have them."""
        return samples

    def remarks(self, samples: Any) -> Remarks:
        """Return notes on ``samples`` for the answer."""
        return Remarks(len(samples))

    def unseen(self, samples: Any) -> np.ndarray:
        """Return which samples are of a kind that no training row had, such as a drug; bool, ``(n,)``."""
        return np.zeros(len(samples), dtype=bool)

    @classmethod
    def measure_unseen(cls, task: Task, prepared: Prepared, final: FinalFit, refit: Refit) -> float | None:
        """Return the half width of an interval for `unseen` samples, or None; ``refit`` fits it on other rows."""
        return None

    @classmethod
    def cell_columns(cls, task: Task, prepared: Prepared) -> dict[str, np.ndarray]:
        """Return by column of `Evaluate.intervals_by` the cell of each prepared sample, text, ``(n,)``."""
        if asked := [column for column in task.evaluate.intervals_by if not column.endswith("?")]:
            raise UserError(
                f"{PARAMS_FILE}: evaluate.intervals_by names {', '.join(asked)}, and requests of {task.modality} have "
                "no such column; leave it out"
            )
        return {}

    @classmethod
    def served(cls, limits: Limits, prepared: Prepared) -> dict[str, Any]:
        """Return `cells` and `limits`, by what `cell_of` can tell of a request."""
        return {"cells": limits.by, "limits": limits.of_cell}

    def cell_of(self, samples: Any) -> np.ndarray | None:
        """Return the cell of each of ``samples``, text, ``(n,)``; None where limits do not differ by sample."""
        return None

    def limits_of(self, overall: float | None, cells: np.ndarray | None, count: int) -> np.ndarray:
        """Return the limit of each of ``count`` samples by its cell, NaN where there is none."""
        of_all = np.nan if overall is None else overall
        if cells is None:
            return np.full(count, of_all)
        return np.array([self.limits.get(cell, of_all) for cell in cells.tolist()], dtype=np.float64)

    @abstractmethod
    def describe(self, samples: Any) -> Columns:
        """Return columns that summarize each input, numbers and categories; the prediction log keeps them."""

    @abstractmethod
    def views(self, samples: Any, described: Columns | None = None) -> dict[str, View]:
        """Return what novelty is measured on; ``described`` is the result of `describe`, where it is known."""

    def unlike(self, views: Sequence[str]) -> str:
        """Return the note on an input that is unlike the training data in ``views``."""
        return UNLIKE

    @abstractmethod
    def identities(self, samples: Any) -> list[bytes]:
        """Return bytes that are equal for equal inputs; the prediction log hashes them."""

    # The problem's part.

    @classmethod
    @abstractmethod
    def calibrate(cls, task: Task, prepared: Prepared, final: FinalFit, refit: Refit | None) -> dict[str, Any]:
        """Return the fields of the problem, from held-out rows; ``refit`` is for `measure_unseen`."""

    def outputs(self) -> list[ColSpec]:
        """Return all columns of an answer; a modality may add its own."""
        return [*self.answered, *self.explained]

    def calibrated(self, outputs: np.ndarray) -> np.ndarray:
        """Return the calibrated outputs of an estimator."""
        return outputs

    def calibrated_graph(self, module: Any) -> Any:
        """Return a module of PyTorch that returns the `calibrated` outputs of ``module``."""
        return module

    @property
    def outputs_text(self) -> str:
        """Return what the calibrated outputs are."""
        return "predicted target (n,), float64"

    @abstractmethod
    def said(self, outputs: np.ndarray, unseen: np.ndarray, cells: np.ndarray | None = None) -> Columns:
        """Return the columns `answered`, from calibrated outputs; ``unseen`` and ``cells`` as of the methods."""

    def answer(self, outputs: np.ndarray, samples: Any) -> Columns:
        """Return the answer to a request, from calibrated outputs; a modality may add columns."""
        return self.said(outputs, self.unseen(samples), self.cell_of(samples))

    def withdrawn(self, answer: Columns, rows: np.ndarray) -> Columns:
        """Return the answer with the columns `promised` empty in ``rows`` (bool)."""
        held = {name: np.asarray(answer[name]) for name in self.promised}
        nothing = {name: np.array(None if each.dtype == object else np.nan) for name, each in held.items()}
        return answer | {name: np.where(rows, nothing[name], each) for name, each in held.items()}

    @property
    def promises_unseen(self) -> bool:
        """Whether `unseen` samples have an interval."""
        return False

    def targets_text(self, target: np.ndarray) -> pd.Series:
        """Return measured values as the reference keeps them: the class, the number, or JSON text of many."""
        return pd.Series(target)

    @abstractmethod
    def predicted(self, table: pd.DataFrame, samples: Any, outputs: np.ndarray, baseline: np.ndarray) -> pd.DataFrame:
        """Return the table of test rows with columns of what model (before calibration) and baseline predicted."""

    def explain(self, estimator: Estimator, samples: Any) -> Columns:
        """Return the columns `explained`; none where the estimator has no attributions."""
        attribution = estimator.attribute(samples)
        return {} if attribution is None else contribution_columns(attribution)

    def logged(self) -> dict[str, float]:
        """Return metrics of the calibration for the run, by `logged_by`; none for a field that is None."""
        found = {name: getattr(self, field) for name, field in self.logged_by.items()}
        return {name: value for name, value in found.items() if value is not None}

    @property
    def scoring(self) -> dict[str, Any]:
        """Return what metrics need to know of the outputs, by `scored_by`."""
        return {name: getattr(self, field) for name, field in self.scored_by.items()}


@cache
def contract_class(modality: str, problem: str) -> Any:
    """Return the class of contracts of a modality and a problem; UserError if there is no such one."""
    try:
        taken = importlib.import_module(f"training.modalities.{modality}").TAKEN
        answered = importlib.import_module(f"training.problems.{problem}").ANSWERED
    except ModuleNotFoundError as error:
        raise UserError(f"there are no models of {modality} x {problem}: {error}") from error
    names = {"modality": modality, "problem": problem, "__doc__": f"Models of {modality}, {problem}."}
    joined = type(f"{taken.__name__}{answered.__name__}", (taken, answered), names)
    return dataclass(frozen=True, kw_only=True)(joined)


def named_numbers(names: Sequence[str], table: np.ndarray) -> list[dict[str, float]]:
    """Return a map name -> number of each row of ``table`` ``(n, names)``."""
    return [dict(zip(names, row, strict=True)) for row in table.tolist()]


def contribution_columns(attribution: Attribution) -> Columns:
    """Return ``base`` and ``attributions``, which add up to the prediction."""
    return {"base": np.asarray(attribution.base), "attributions": largest_contributions(attribution)}


def largest_contributions(attribution: Attribution, count: int = EXPLAINED_FEATURES) -> list[list[dict[str, Any]]]:
    """Return for each row its ``count`` largest contributions and the sum of the rest."""
    rows = []
    for values in attribution.values:
        order = np.argsort(-np.abs(values), kind="stable")[:count]
        row = [{"feature": attribution.names[i], "value": float(values[i])} for i in order]
        rows.append([*row, {"feature": "all_others", "value": float(values.sum() - values[order].sum())}])
    return rows


def make_contract(
    name: str, architecture: str, task: Task, *, prepared: Prepared, final: FinalFit, refit: Refit | None = None
) -> Contract:
    """Return the contract of a final fit, calibrated on rows outside it; ``refit`` as in `Contract.measure_unseen`."""
    kind = contract_class(task.modality, task.problem)
    return kind(
        task=name,
        architecture=architecture,
        baseline=task.evaluate.baseline,
        task_text=task_text(task),
        coverage=task.evaluate.interval_coverage,
        **kind.calibrate(task, prepared, final, refit),
        **kind.taken(architecture, task, prepared, final.estimator),
    )


def contract_text(contract: Contract) -> dict[str, Any]:
    """Return a contract as JSON values, with its modality and problem."""
    return {"modality": contract.modality, "problem": contract.problem, **asdict(contract)}


def contract_from(content: dict[str, Any]) -> Contract:
    """Return the contract that `contract_text` wrote."""
    fields = {key: value for key, value in content.items() if key not in ("modality", "problem")}
    return contract_class(content["modality"], content["problem"])(**fields)


def summary_view(described: Columns, columns: Sequence[str], kind: Kind = "summary") -> View:
    """Return the view of ``columns`` of the result of `Contract.describe`."""
    values = np.array([described[name] for name in columns], dtype=np.float64).T
    return View(kind, values, np.arange(len(values)))


# Checks of a request that the modalities share.


def check_form(frame: pd.DataFrame, fields: Sequence[str], required: Sequence[str], most: int) -> None:
    """Refuse a request without rows or with more than ``most``, with unknown or repeated fields, or lacking one."""
    if not 0 < len(frame) <= most:
        raise PayloadError(f"the request has {len(frame) or 'no'} rows; send 1 to {most} at a time")
    columns = [str(column) for column in frame.columns]
    if unknown := [column for column in columns if column not in fields]:
        raise PayloadError(f"unknown field {listed(unknown)}; the model takes {', '.join(fields)}")
    for name in fields:
        if columns.count(name) > 1:
            raise PayloadError(f"the field {name} occurs {columns.count(name)} times; send it once")
        if name in required and name not in columns:
            raise PayloadError(f"the field {name} is missing; every row needs it")


def listed(names: list[str], count: int = 5) -> str:
    """Return the first ``count`` names, cut, and how many more there are."""
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(name[:60] for name in names[:count]) + more


def is_null(value: Any) -> bool:
    """Whether a value of a request is null, as pandas reads it."""
    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))


def kind_of(value: Any) -> str:
    """Return the type of a value of a request, for messages."""
    return "null" if is_null(value) else type(value).__name__


def numbers_of(values: Sequence[Any], names: Sequence[str], where: str) -> np.ndarray:
    """Return numbers of a request, float64; a PayloadError names the first that is none, or not within a float32."""
    if set(map(type, values)) <= {int, float}:
        with contextlib.suppress(OverflowError):
            found = np.array(values, dtype=np.float64)
            if np.abs(found).max(initial=0) <= _LARGEST:
                return found
    return np.array([_number(value, f"{where}.{name}"[:_SHOWN]) for value, name in zip(values, names, strict=True)])


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise PayloadError(f"{where}: must be a number, it is {kind_of(value)}")
    if isinstance(value, int) and abs(value) > _LARGEST:  # Python writes no integer of more than 4300 digits
        raise PayloadError(f"{where}: must be finite, it is an integer of {value.bit_length()} bits")
    if not abs(float(value)) <= _LARGEST:
        raise PayloadError(f"{where}: must be finite, it is {str(float(value))[:40]}")
    return float(value)


def refuse_values(refused: np.ndarray, values: np.ndarray, names: Sequence[str], where: str, reason: str) -> None:
    """Raise for the first of ``values`` that is ``refused`` (bool, ``(n,)``)."""
    if refused.any():
        first = int(refused.argmax())
        raise PayloadError(f"{where}.{names[first]}"[:_SHOWN] + f": is {values[first]:g}; {reason}")
