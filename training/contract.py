"""What a logged model takes and answers: checked row by row on the way in, with what is sure of it on the way out.

A contract is saved beside each model and is all that the endpoint knows of its task. Its class joins that of a modality
(`training.modalities`), which says what is taken, and that of a problem (`training.problems`), which says what is
answered.
"""

from __future__ import annotations

import importlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
from mlflow.types import ColSpec, DataType
from mlflow.types.schema import Array, Object, Property

from pipelines.errors import UserError
from pipelines.params import Task, task_text
from training.estimator import Attribution, Estimator
from training.model.novelty import View

if TYPE_CHECKING:
    from pipelines.datasets import Prepared
    from training.model.cross_fit import FinalFit

    Refit = Callable[[Any, Any], Estimator]

EXPLAINED_FEATURES = 25
_LARGEST = 3e38  # of a float32; an integer of JSON may be too large even for a float64
ATOMS = Array(DataType.double)
CONTRIBUTIONS = Array(Object([Property("feature", DataType.string), Property("value", DataType.double)]))


class PayloadError(UserError):
    """A request that the model cannot take; names row and field."""


class Remarks:
    """What is said of the rows of an answer besides the prediction.

    Attributes
    ----------
    withdrawn
        Rows of whose interval or set nothing is promised, bool, shape ``(n,)``.
    """

    def __init__(self, count: int) -> None:
        self.withdrawn = np.zeros(count, dtype=bool)
        self._said: list[list[str]] = [[] for _ in range(count)]

    def add(self, said: Sequence[str | None], *, withdraw: bool = False) -> None:
        """Add what is said of each row, None where nothing is; ``withdraw`` the promise where something is."""
        for row, sentence in enumerate(said):
            if sentence:
                self._said[row].append(sentence)
                self.withdrawn[row] |= withdraw

    def column(self) -> pd.Series:
        """Return the column ``note``: the sentences of each row, None where there are none."""
        return pd.Series(["; ".join(said) or None for said in self._said], dtype=object)


@dataclass(frozen=True, kw_only=True)
class Contract(ABC):
    """What a model takes and answers.

    Attributes
    ----------
    task, architecture, baseline
        Names.
    task_text
        The task as `pipelines.params.task_text` wrote it.
    coverage
        Share of rows that the interval or set of an answer is to hold.
    """

    modality: ClassVar[str]
    problem: ClassVar[str]

    task: str
    architecture: str
    baseline: str
    task_text: str
    coverage: float

    # What the modality says.

    @classmethod
    @abstractmethod
    def taken(cls, architecture: str, task: Task, prepared: Prepared, estimator: Estimator) -> dict[str, Any]:
        """Return the fields of the modality, from what a model was fitted on."""

    @abstractmethod
    def read(self, frame: pd.DataFrame) -> Any:
        """Check a request, a row a question, and make samples of it.

        Raises
        ------
        PayloadError
            Names the row (from 0, as in the request) and the field of the first fault.
        """

    @abstractmethod
    def request(self, samples: Any) -> pd.DataFrame:
        """Return the request that asks for ``samples``: what `read` reads."""

    @abstractmethod
    def inputs(self) -> list[ColSpec]:
        """Return the columns of a request; maps are checked by `read`, which names row and field."""

    def aimed(self, samples: Any) -> Any:
        """Return samples of a request that say what is to be predicted, where samples do."""
        return samples

    def remarks(self, samples: Any) -> Remarks:
        """Return what there is to say of ``samples`` besides, and of which of them nothing is promised."""
        return Remarks(len(samples))

    def unseen(self, samples: Any) -> np.ndarray:
        """Return which samples are of a kind that stood in no training row, such as a drug; bool, ``(n,)``."""
        return np.zeros(len(samples), dtype=bool)

    @classmethod
    def measure_unseen(cls, task: Task, prepared: Prepared, final: FinalFit, refit: Refit) -> float | None:
        """Return the half width of an interval for samples that are `unseen`; None where there is none.

        Parameters
        ----------
        task, prepared, final
            What was fitted on what.
        refit
            Fits the same model on other training rows, stopped early on other validation rows.
        """
        return None

    @abstractmethod
    def describe(self, samples: Any) -> pd.DataFrame:
        """Return named columns that summarize each input: numbers, and names of few categories.

        They are what the prediction log keeps of a request.
        """

    @abstractmethod
    def views(self, samples: Any, described: pd.DataFrame) -> dict[str, View]:
        """Return what novelty is measured on, from ``samples`` and what `describe` said of them."""

    @abstractmethod
    def identities(self, samples: Any) -> list[bytes]:
        """Return for each input bytes that are the same where the input is: what the prediction log hashes."""

    # What the problem says.

    @classmethod
    @abstractmethod
    def calibrate(cls, task: Task, prepared: Prepared, final: FinalFit, refit: Refit | None) -> dict[str, Any]:
        """Return the fields of the problem, from rows that a final fit has not seen; ``refit`` of `measure_unseen`."""

    @abstractmethod
    def answered(self) -> list[ColSpec]:
        """Return the columns of an answer."""

    @abstractmethod
    def explained(self) -> list[ColSpec]:
        """Return the columns of `explain`, which are not required."""

    def outputs(self) -> list[ColSpec]:
        """Return all columns of an answer; a modality may have its own."""
        return [*self.answered(), *self.explained()]

    def calibrated(self, outputs: np.ndarray) -> np.ndarray:
        """Return what an estimator answers as the model says it."""
        return outputs

    @abstractmethod
    def said(self, outputs: np.ndarray, samples: Any) -> pd.DataFrame:
        """Return the columns `answered`, with what is sure of them, from what an estimator said, calibrated."""

    def answer(self, outputs: np.ndarray, samples: Any) -> pd.DataFrame:
        """Return the answer to a request; a modality may have columns of its own."""
        return self.said(outputs, samples)

    @abstractmethod
    def withdrawn(self, answer: pd.DataFrame, rows: np.ndarray) -> pd.DataFrame:
        """Return an answer that promises nothing of ``rows`` (bool): their ``coverage`` is null, and their interval."""

    @property
    def promises_unseen(self) -> bool:
        """Whether something is promised of samples that are `unseen`."""
        return False

    @abstractmethod
    def targets_text(self, target: np.ndarray) -> pd.Series:
        """Return measured values as the reference keeps them: the class, the number, or JSON text of many."""

    @abstractmethod
    def predicted(self, table: pd.DataFrame, samples: Any, outputs: np.ndarray, baseline: np.ndarray) -> pd.DataFrame:
        """Return the table of test rows with columns of what was predicted, before calibration, and by the baseline."""

    @abstractmethod
    def explain(self, estimator: Estimator, samples: Any) -> dict[str, pd.Series]:
        """Return further columns of the answer that say why; none where the estimator looks at no feature."""

    @abstractmethod
    def logged(self) -> dict[str, float]:
        """Return the metrics of the run that tell how sure the model is."""

    @property
    @abstractmethod
    def scoring(self) -> dict[str, Any]:
        """Return what metrics of its outputs have to know: names of classes, spreads of targets."""


@cache
def contract_class(modality: str, problem: str) -> Any:
    """Return the class of contracts of a modality and a problem.

    Raises
    ------
    UserError
        There is no such modality or problem.
    """
    try:
        taken = importlib.import_module(f"training.modalities.{modality}").TAKEN
        answered = importlib.import_module(f"training.problems.{problem}").ANSWERED
    except ModuleNotFoundError as error:
        raise UserError(f"there are no models of {modality} x {problem}: {error}") from error
    said = {"modality": modality, "problem": problem, "__doc__": f"Models of {modality}, {problem}."}
    joined = type(f"{taken.__name__}{answered.__name__}", (taken, answered), said)
    return dataclass(frozen=True, kw_only=True)(joined)


def contribution_columns(attribution: Attribution) -> dict[str, pd.Series]:
    """Return ``base`` and ``attributions``, which add up to what is explained."""
    return {"base": pd.Series(attribution.base), "attributions": pd.Series(largest_contributions(attribution))}


def atom_columns(found: Sequence[np.ndarray] | None) -> dict[str, pd.Series]:
    """Return ``atoms``, what each atom of the molecule adds; nothing where the model sees no atoms.

    Parameters
    ----------
    found
        Of `training.estimator.Estimator.atom_attributions`.
    """
    return {} if found is None else {"atoms": pd.Series([each.tolist() for each in found], dtype=object)}


def largest_contributions(attribution: Attribution, count: int = EXPLAINED_FEATURES) -> list[list[dict[str, Any]]]:
    """Return for each row its ``count`` largest contributions and the sum of the rest."""
    rows = []
    for values in attribution.values:
        order = np.argsort(-np.abs(values), kind="stable")[:count]
        row = [{"feature": attribution.names[i], "value": float(values[i])} for i in order]
        rows.append([*row, {"feature": "all_others", "value": float(values.sum() - values[order].sum())}])
    return rows


def make_contract(
    name: str, architecture: str, task: Task, prepared: Prepared, final: FinalFit, refit: Refit | None = None
) -> Contract:
    """Return the contract of a final fit, calibrated on rows that it was not fitted on.

    Parameters
    ----------
    name, architecture, task, prepared, final
        What was fitted on what.
    refit
        See `Contract.measure_unseen`; without it nothing is promised of samples that are `Contract.unseen`.
    """
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


def summary_view(described: pd.DataFrame, columns: Sequence[str]) -> View:
    """Return the view of some of the columns that `Contract.describe` made."""
    return View("summary", described[list(columns)].to_numpy(np.float64), np.arange(len(described)))


def listed(names: list[str], count: int = 5) -> str:
    """Return the first ``count`` names, cut, and how many more there are."""
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(name[:60] for name in names[:count]) + more


def kind_of(value: Any) -> str:
    """Return the type of a value of a request, for messages."""
    null = value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))  # as pandas reads it
    return "null" if null else type(value).__name__


def number_of(value: Any, where: str) -> float:
    """Return a number of a request.

    Raises
    ------
    PayloadError
        Names ``where``: the value is no number, or none that a float32 holds.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise PayloadError(f"{where}: must be a number, it is {kind_of(value)}")
    if isinstance(value, int) and abs(value) > _LARGEST:  # Python writes no integer of more than 4300 digits
        raise PayloadError(f"{where}: must be finite, it is an integer of {value.bit_length()} bits")
    number = float(value)
    if not abs(number) <= _LARGEST:
        raise PayloadError(f"{where}: must be finite, it is {str(value)[:40]}")
    return number
