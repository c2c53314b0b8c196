"""What a logged model takes and answers: checked row by row on the way in, with what is sure of it on the way out.

A contract is saved beside each model and is all that the endpoint knows of its task. There is one for each family.
"""

from __future__ import annotations

import importlib
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from mlflow.types import ColSpec, DataType
from mlflow.types.schema import Array, Map, Object, Property

from pipelines.faults import UserError
from training.estimator import Attribution, Estimator
from training.model.calibration import apply_temperature, prediction_sets
from training.model.novelty import View

EXPLAINED_FEATURES = 25
_LARGEST = 3e38  # of a float32; an integer of JSON may be too large even for a float64
ATOMS = Array(DataType.double)
CONTRIBUTIONS = Array(Object([Property("feature", DataType.string), Property("value", DataType.double)]))
_MODULES = {
    "response": "training.contracts.response",
    "response_labels": "training.contracts.sensitivity",
    "images": "training.contracts.images",
    "profile_labels": "training.contracts.profiles",
    "gene_targets": "training.contracts.profiles",
}


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


@dataclass(frozen=True)
class Contract(ABC):
    """What a model takes and answers.

    Attributes
    ----------
    task, architecture, baseline
        Names.
    task_text
        The task as `pipelines.params.task_text` wrote it.
    """

    family: ClassVar[str]

    task: str
    architecture: str
    baseline: str
    task_text: str

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

    @abstractmethod
    def outputs(self) -> list[ColSpec]:
        """Return the columns of an answer."""

    def calibrated(self, outputs: np.ndarray) -> np.ndarray:
        """Return what an estimator answers as the model says it."""
        return outputs

    @abstractmethod
    def answer(self, outputs: np.ndarray, samples: Any) -> pd.DataFrame:
        """Return the answer to a request, with what is sure of it, from what an estimator said, calibrated."""

    @abstractmethod
    def withdrawn(self, answer: pd.DataFrame, rows: np.ndarray) -> pd.DataFrame:
        """Return an answer that promises nothing of ``rows`` (bool): their ``coverage`` is null, and their interval."""

    def remarks(self, samples: Any) -> Remarks:
        """Return what there is to say of ``samples`` besides, and of which of them nothing is promised."""
        return Remarks(len(samples))

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

    @abstractmethod
    def explain(self, estimator: Estimator, samples: Any) -> dict[str, pd.Series]:
        """Return further columns of the answer that say why; none where the estimator looks at no feature."""


@dataclass(frozen=True)
class ClassContract(Contract):
    """What a classifier answers, whatever it takes.

    Attributes
    ----------
    classes
        In the order of the probabilities.
    temperature
        What logits are divided by, so that probabilities mean what they say.
    threshold, coverage
        Of the set of classes that is answered: it holds the true one with this probability.
    """

    classes: list[str]
    temperature: float
    threshold: float
    coverage: float

    def outputs(self) -> list[ColSpec]:
        """Return the columns of an answer."""
        return [
            ColSpec(DataType.string, name="label"),
            ColSpec(DataType.double, name="probability"),
            ColSpec(Map(DataType.double), name="probabilities"),
            ColSpec(Array(DataType.string), name="labels"),
            ColSpec(DataType.double, name="coverage"),
        ]

    def calibrated(self, outputs: np.ndarray) -> np.ndarray:
        """Return calibrated probabilities, ``(n, classes)``."""
        return apply_temperature(outputs, self.temperature)

    def answer(self, outputs: np.ndarray, samples: Any) -> pd.DataFrame:
        """Return label, probabilities and the set of classes."""
        classes = np.array(self.classes)
        held = prediction_sets(outputs, self.threshold)
        named = [dict(zip(self.classes, map(float, row), strict=True)) for row in outputs]
        return pd.DataFrame(
            {
                "label": classes[outputs.argmax(axis=1)],
                "probability": outputs.max(axis=1),
                "probabilities": pd.Series(named, dtype=object),
                "labels": pd.Series([classes[row].tolist() for row in held], dtype=object),
                "coverage": self.coverage,
            }
        )

    def withdrawn(self, answer: pd.DataFrame, rows: np.ndarray) -> pd.DataFrame:
        """Return an answer whose set of classes promises nothing in ``rows``; the set itself stays."""
        return answer.assign(coverage=answer["coverage"].mask(rows))


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


def contract_text(contract: Contract) -> dict[str, Any]:
    """Return a contract as JSON values, with its family."""
    return {"family": contract.family, **asdict(contract)}


def contract_from(content: dict[str, Any]) -> Contract:
    """Return the contract that `contract_text` wrote."""
    family = content["family"]
    kinds = importlib.import_module(_MODULES[family]).CONTRACTS
    made: Contract = kinds[family](**{key: value for key, value in content.items() if key != "family"})
    return made


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
