"""Data sets that any model learns in a moment, for the contract of estimators: a module a modality and a problem.

`training.architectures.names` says which architectures there are; a new problem brings a module of its own.
"""

import importlib
from abc import ABC, abstractmethod
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from training.architectures import Architecture, get_architecture, names
from training.estimator import Estimator


class TinySet(ABC):
    """What the contract needs to know of a data set."""

    modality: str  # as `problem`, of its module's name
    problem: str
    explained: ClassVar[int] = 12  # rows that are explained
    choices: ClassVar[int | None] = None  # outputs that an explanation may be asked of; None where there is no choice
    miss: ClassVar[float] = 0.05  # how far Integrated Gradients may miss what they explain, relative
    # Shares of the error of `naive`, on training rows and on unseen ones, below which a model's lies.
    bounds: ClassVar[tuple[float, float]] = (0.7, 0.9)
    bound_with_holes: ClassVar[float] = 1.3  # the same on unseen rows, fitted where some values are unknown
    certain: ClassVar[bool] = True  # whether a probability may be 0 or 1
    settings: ClassVar[dict[str, Any]] = {}  # what a study may try, see `training.studies.trials.Search.settings`
    small: ClassVar[dict[str, Any]] = {}  # what makes a fit small; what an architecture lacks is left out

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @abstractmethod
    def rows(self, side: str, architecture: Architecture) -> Any:
        """Return the samples of ``train``, ``validation`` or ``unseen``."""

    @abstractmethod
    def content(self, samples: Any) -> list[Any]:
        """Return tables and arrays that a fit must leave as they are."""

    @abstractmethod
    def odd(self, samples: Any) -> Any:
        """Return the same samples with other values and other answers."""

    def reordered(self, samples: Any) -> Any:
        """Return the same samples with columns in another order; None where a column has no name."""
        return None

    def with_holes(self, samples: Any) -> Any:
        """Return the same samples of which some values are unknown; None where none can be."""
        return None

    def imputed(self, train: Any, samples: Any) -> tuple[Any, Any] | None:
        """Return samples with unknown values, and with the training rows' means there; None where none can be."""
        return None

    @abstractmethod
    def error(self, outputs: np.ndarray, samples: Any) -> float:
        """Return the error of what was predicted."""

    @abstractmethod
    def outputs_of(self, explained: np.ndarray) -> np.ndarray:
        """Return what a model answers, from what its explanations say of each choice, ``(n, choices)``."""

    def build(self, architecture: Architecture, point: dict[str, Any] | None = None, **others: Any) -> Estimator:
        """Return an unfitted estimator with its defaults, or at another point of the space, made small."""
        chosen = architecture.first_trial(self.settings) if point is None else dict(point)
        small = {"seed": 3, "device": "cpu", **self.small, **others}
        chosen |= {name: value for name, value in small.items() if name in chosen}
        return architecture.build(chosen, **{name: small[name] for name in small if name not in chosen})

    def naive(self, samples: Any) -> float:
        """Return the error of an answer that looks at no feature: the baseline's."""
        return self.error(self.baseline.outputs(samples), samples)

    @cached_property
    def baseline(self) -> Estimator:
        """Return the baseline, fitted."""
        every = (get_architecture(name, self.modality, self.problem) for name in names(self.modality, self.problem))
        architecture = next(each for each in every if each.role == "baseline")
        return self.build(architecture).fit(self.rows("train", architecture))


def tiny_sets() -> list[tuple[str, str]]:
    """Return the modalities and problems of the modules here."""
    modules = sorted(path.stem for path in Path(__file__).parent.glob("[!_]*.py"))
    return [(name.partition("_")[0], name.partition("_")[2]) for name in modules]


def tiny_set(modality: str, problem: str, folder: Path) -> TinySet:
    """Return a data set, whose files may lie in ``folder``."""
    found: TinySet = importlib.import_module(f"{__name__}.{modality}_{problem}").Tiny(folder)
    found.modality, found.problem = modality, problem
    return found


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return probabilities, ``(n, classes)``."""
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(odds / odds.sum(axis=1, keepdims=True))
