"""One typed reading of ``params.yaml``: frozen, and checked before any work is done."""

from __future__ import annotations

import dataclasses
import json
from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import yaml

from pipelines.policy import Policy
from pipelines.typed_yaml import Choice, ParamsError, TypedReader

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from pipelines.params_checks import Checks
    from pipelines.samples import Kept

PARAMS_FILE = Path("params.yaml")
BUDGET_FILE = "budget.yaml"  # beside it: the budget of this checkout, as `make train BUDGET=full` chose it

Budget = Literal["quick", "full"]


@dataclass(frozen=True)
class PerBudget:
    """A count for each budget."""

    quick: int
    full: int

    def of(self, budget: Budget) -> int:
        """Return the count of ``budget``."""
        return self.quick if budget == "quick" else self.full


@dataclass(frozen=True)
class Split:
    """How samples are assigned to train, validation, test and folds."""

    mode: str
    test: float
    validation: float
    folds: int
    near_identical: float


@dataclass(frozen=True)
class Tune:
    """How an architecture is tuned."""

    objective: Literal["validation", "cross_validation"]
    metric: str
    trials: PerBudget
    epochs: PerBudget
    rounds: PerBudget


@dataclass(frozen=True)
class TuneTransfer(Tune):
    """How networks that were trained on other images are tuned.

    Attributes
    ----------
    weights
        What they start from: ``imagenet``, ``none``, or a file (or a folder with ``<architecture>.safetensors`` or
        ``.pth``).
    modes
        What a study may choose among: ``head`` trains a linear layer on frozen features, ``partial`` also the last
        stages, ``full`` all.
    """

    weights: str
    modes: tuple[Literal["head", "partial", "full"], ...]


@dataclass(frozen=True)
class Fit:
    """How the tuned architecture is fitted for good: 1 model, or one a fold."""

    members: PerBudget


@dataclass(frozen=True)
class Evaluate:
    """How a fitted model becomes evidence."""

    metric: str
    baseline: str
    resamples: int
    confidence: float
    explained_samples: PerBudget
    interval_coverage: float


@dataclass(frozen=True)
class Task(ABC):
    """One task of the platform: a modality and a problem, with what is decided of both.

    What the two decide alone stands in `pipelines.modalities` and `pipelines.problems`; a module of `pipelines.tasks`
    joins them.

    Attributes
    ----------
    modes
        How its samples can be split; the first is a random one.
    within
        Whether its samples are measured in parts (drugs) within which metrics are taken too.
    target_columns
        Columns of the table of samples that say what is to be predicted.
    modality
        What a sample is, and what its raw folder holds.
    problem
        What is predicted of it.
    """

    modes: ClassVar[tuple[str, ...]] = ("random",)
    within: ClassVar[bool] = False
    target_columns: ClassVar[tuple[str, ...]] = ("target",)

    modality: str
    problem: str
    data: Any
    validate: Any
    split: Split
    tune: Tune
    fit: Fit
    evaluate: Evaluate

    def check(self, checks: Checks) -> None:  # noqa: B027  # a task may have nothing more to refuse
        """Refuse values of ``params.yaml`` that are of the right type and make no sense."""

    @abstractmethod
    def read(self, folder: Path | str, *, labelled: bool = True, optional: Collection[str] = ()) -> Kept:
        """Read a raw folder and apply the rules of `data` to it.

        Parameters
        ----------
        folder
            Raw folder of the modality; validated.
        labelled
            Whether samples must have a target.
        optional
            Tables that may be missing.

        Raises
        ------
        DataError
            Names the files that are missing or unreadable.
        """

    def aim(self, samples: Any, table: pd.DataFrame) -> Aimed:
        """Return the samples with what is to be predicted, where that is learnt on training rows.

        Parameters
        ----------
        samples
            Of `read`.
        table
            Their split, in the same order.
        """
        return Aimed(samples)


@dataclass(frozen=True)
class Aimed:
    """Samples with their target.

    Attributes
    ----------
    samples
        The same samples, in the same order.
    columns
        Further columns of the table of samples.
    counts
        What is told of the target, beside what the rules dropped.
    """

    samples: Any
    columns: dict[str, np.ndarray] = field(default_factory=dict)
    counts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Model:
    """An architecture that is trained for a task.

    Attributes
    ----------
    demo
        Whether ``make demo`` trains it: not what needs weights that are no package.
    """

    task: str
    architecture: str
    demo: bool = True


@dataclass(frozen=True)
class Params:
    """All of ``params.yaml``."""

    seed: int
    budget: Budget
    device: str
    tasks: dict[str, Task]
    models: dict[str, Model]
    policy: Policy

    def task(self, name: str) -> Task:
        """Return the task ``name``; `ParamsError` lists the known ones if there is none."""
        if name not in self.tasks:
            raise ParamsError(
                f"{PARAMS_FILE}: there is no task {name!r}; the tasks are {', '.join(sorted(self.tasks))}"
            )
        return self.tasks[name]

    def architectures(self, task: str) -> list[str]:
        """Return the architectures trained for ``task``, in the order of the file."""
        self.task(task)
        return [model.architecture for model in self.models.values() if model.task == task]


@dataclass(frozen=True)
class _Chosen:
    """All of ``budget.yaml``, where it chooses."""

    budget: Budget


def read_params(path: Path | str = PARAMS_FILE) -> Params:
    """Read and check ``params.yaml``.

    Parameters
    ----------
    path
        The file. ``budget.yaml`` beside it, if it is there, chooses another budget.

    Returns
    -------
    Params
        Frozen dataclasses that mirror the file.

    Raises
    ------
    ParamsError
        Names file, line and key of an unknown or missing key, a value of the wrong type or out of range.
    """
    path = Path(path)
    if not path.is_file():
        raise ParamsError(f"{path}: no such file; run from the repository's root")
    node = _composed(path)
    if node is None:
        raise ParamsError(f"{path}: the file is empty")
    reader = TypedReader(path, _choices())
    params: Params = reader.read(node, Params, "params")
    params = dataclasses.replace(params, budget=_budget(path.with_name(BUDGET_FILE), params.budget))
    # Imported here, since the checks speak of all that is defined above.
    from pipelines.params_checks import check

    check(params, path, reader.lines)
    return params


def _composed(path: Path) -> yaml.Node | None:
    try:
        return yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ParamsError(f"{path}, line {line}: not UTF-8; save the file in UTF-8") from error
    except yaml.YAMLError as error:
        raise ParamsError(f"{path}: not YAML: {error}") from error


def _budget(path: Path, default: Budget) -> Budget:
    """Return the budget that the file ``path`` chooses, ``default`` where it is not there or holds ``{}``."""
    node = _composed(path) if path.is_file() else None
    if node is None or not node.value:
        return default
    chosen: _Chosen = TypedReader(path, {}).read(node, _Chosen, "params")
    return chosen.budget


def _choices() -> dict[type, Choice]:
    from pipelines.tasks import task_types  # they are made of what is defined above

    return {Task: (("modality", "problem"), task_types())}


def read_task(text: str) -> Task:
    """Read one task from the text that `task_text` made of it."""
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    assert node is not None
    task: Task = TypedReader(Path("task"), _choices()).read(node, Task, "task")
    return task


def task_text(task: Task) -> str:
    """Return a task as JSON, which is YAML too."""
    return json.dumps(dataclasses.asdict(task))
