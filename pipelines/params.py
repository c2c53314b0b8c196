"""``params.yaml``, read into frozen, typed dataclasses and checked before any work is done."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import yaml

from pipelines.encoders import Encoder
from pipelines.policy import Policy
from pipelines.problems import get_problem
from pipelines.samples import Kept
from pipelines.typed_yaml import Checks, Choice, ParamsError, TypedReader, merged

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

PARAMS_FILE = Path("params.yaml")
BUDGET_FILE = "budget.yaml"  # beside it: the budget of this checkout, as `make train BUDGET=full` chose it

DRUG_PILOT = "drug_pilot"  # a split mode of pairs
UNSEEN_DRUGS = ("drug_blind", DRUG_PILOT)  # modes in which every answer is of a drug that was not trained on
PILOT = "pilot"  # column of the split table: rows that are neither trained on nor scored, but adjust a model

AUTO = "auto"  # in the place of `tune.metric`, see `Task.tuned_by`

Budget = str  # `quick`, `full`, or one of `budgets` in params.yaml, which replaces some keys of tasks
_COUNTED = ("quick", "full")


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

    # What scores a trial: validation rows, or the folds in turn; `none`: no trial runs, and the defaults are fitted.
    objective: Literal["validation", "cross_validation", "none"]
    metric: str
    trials: PerBudget
    epochs: PerBudget
    rounds: PerBudget
    # How the next trial is chosen: by what others found (`tpe`, `cmaes`), at `random`, or point by point of a `grid`.
    sampler: Literal["tpe", "random", "grid", "cmaes"] = field(default="tpe", kw_only=True)
    # Which trials end early: those worse than the `median`, or most of them at ever more steps (`asha`, `hyperband`).
    pruner: Literal["median", "asha", "hyperband", "none"] = field(default="median", kw_only=True)
    # What is minimized beside the metric: the milliseconds that an answer to one row takes (`latency`), or the
    # megabytes of the saved model (`size`). No trial of such a study can end early: it takes `pruner: none`.
    cost: Literal["none", "latency", "size"] = field(default="none", kw_only=True)
    # With a cost: by what share of the best value a trial may be worse, of which the cheapest is taken.
    tolerance: float = field(default=0.01, kw_only=True)

    def keys(self) -> dict[str, Any]:
        """Return the keys that decide a study; without a cost those of releases that knew none."""
        found = dataclasses.asdict(self)
        left_out = () if self.cost != "none" else ("cost", "tolerance")
        return {key: value for key, value in found.items() if key not in left_out}


@dataclass(frozen=True)
class TuneTransfer(Tune):
    """How networks that were trained on other images are tuned."""

    # Initial weights: `imagenet`, `packaged` (those where an installed package has them, else `none`), `none`, or a
    # file (or a folder with `<architecture>.safetensors` or `.pth`).
    weights: str
    # What a study may choose among: `probe` solves a linear layer on frozen features, without epochs; `head` trains it,
    # `partial` also the last stages, `full` all.
    modes: tuple[Literal["probe", "head", "partial", "full"], ...]
    # Names of the collections that a file of weights was trained on; unknown without one, and the gate refuses that.
    pretrained_on: tuple[str, ...] = field(default=(), kw_only=True)


@dataclass(frozen=True)
class Fit:
    """How the tuned architecture is fitted for good: 1 model, or one a fold."""

    members: PerBudget


@dataclass(frozen=True)
class Evaluate:
    """How a fitted model is evaluated."""

    metric: str
    baseline: str
    resamples: int
    confidence: float
    explained_samples: PerBudget
    interval_coverage: float
    # Columns by whose values the test rows are parted: each part is measured, beside the rest. One with `?` at its end
    # is left out where the data has no such column.
    strata: tuple[str, ...] = field(default=(), kw_only=True)
    # Edges of the parts of columns of numbers; without, the quartiles of the training rows.
    bands: dict[str, tuple[float, ...]] = field(default_factory=dict, kw_only=True)
    # Whether prediction intervals or sets have one limit for all rows, one for each class, drug or other cell
    # (`mondrian`), or one in units of the cell's spread (`scaled`); `auto`: what does best on held-out folds.
    intervals: Literal["auto", "one", "mondrian", "scaled"] = field(default="auto", kw_only=True)
    # Columns whose values are cells, of those that an answer can tell; see `training.contract.Contract.cell_columns`.
    intervals_by: tuple[str, ...] = field(default=(), kw_only=True)


@dataclass(frozen=True)
class Task(ABC):
    """One task of the platform: a modality and a problem, with the decisions of ``params.yaml`` on both.

    Modules of `pipelines.tasks` join a modality of `pipelines.modalities` and a problem of `pipelines.problems`.
    """

    modes: ClassVar[tuple[str, ...]] = ("random",)  # how its samples can be split; the first is random
    within: ClassVar[bool] = False  # whether metrics are also taken within parts of the samples (drugs)
    target_columns: ClassVar[tuple[str, ...]] = ("target",)  # those of the table of samples that hold the target

    modality: str  # what a sample is, and the format of the raw folder
    problem: str  # what is predicted
    data: Any
    validate: Any
    split: Split
    tune: Tune
    fit: Fit
    evaluate: Evaluate

    def check(self, checks: Checks) -> None:  # noqa: B027  # a task may have no more checks
        """Refuse values of ``params.yaml`` that are of the right type and make no sense."""

    @property
    def tunable(self) -> tuple[str, ...]:
        """Return what `tune.metric` may be."""
        return get_problem(self.problem).tunable

    def tuned_by(self, shortcuts: Collection[str]) -> tuple[str, str]:
        """Return the metric of a study, and why; ``shortcuts`` are the probes by which the audit has found one."""
        return self.tune.metric, "params.yaml names it"

    @abstractmethod
    def read(
        self,
        folder: Path | str,
        *,
        labelled: bool = True,
        optional: Collection[str] = (),
        classes: Sequence[str] = (),
    ) -> Kept:
        """Read a raw folder of the modality and apply the rules of `data`; `DataError` names what is missing or wrong.

        ``labelled``: samples must have a target. ``optional``: tables that may be missing. ``classes``: of others,
        which need not all be here; by default they are those of the folder and `data`.
        """

    def aim(self, samples: Any, table: pd.DataFrame) -> Aimed:
        """Return the samples of `read` with their target, where it is learned on the training rows of ``table``."""
        return Aimed(samples)

    def stressed(self, samples: Any, others: Any, seed: int) -> dict[str, Any]:
        """Return samples with what should not matter changed, or exchanged with ``others``, by the kind of stress.

        Both are labeled. Empty where the modality has no stress tests.
        """
        return {}


@dataclass(frozen=True)
class Aimed:
    """Samples with their target, further columns of their table, and counts of the target for reports."""

    samples: Any
    columns: dict[str, np.ndarray] = field(default_factory=dict)
    counts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Model:
    """An architecture that is trained for a task."""

    task: str
    architecture: str
    demo: bool = True  # whether `make demo` trains it; false where its weights have to be downloaded


@dataclass(frozen=True)
class Params:
    """All of ``params.yaml``."""

    seed: int
    budget: Budget
    device: str
    tasks: dict[str, Task]
    models: dict[str, Model]
    policy: Policy
    encoders: dict[str, Encoder] = field(default_factory=dict)  # architectures that are brought, by name
    # more budgets by name: keys of tasks with the values that they have there; such a budget is `full` in all else
    budgets: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def known_budgets(self) -> tuple[Budget, ...]:
        """Return the names of all budgets."""
        return tuple(dict.fromkeys((*_COUNTED, *self.budgets)))

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


def read_params(path: Path | str = PARAMS_FILE, *, of_checkout: bool = True) -> Params:
    """Read and check ``params.yaml``; with ``of_checkout``, ``budget.yaml`` beside it may choose another budget.

    `ParamsError` names file, line and key of an unknown or missing key, a value of the wrong type or out of range; also
    where a budget of `budgets` that is not chosen has it.
    """
    path = Path(path)
    if not path.is_file():
        raise ParamsError(f"{path}: no such file; run from the repository's root")
    if (node := _composed(path)) is None:
        raise ParamsError(f"{path}: the file is empty")
    params = _read(path, node)
    named = {name: _read(path, _with_budget(node, name)) for name in params.budgets}
    budget, chosen = params.budget, path.with_name(BUDGET_FILE)
    if of_checkout and chosen.is_file() and (held := _composed(chosen)) is not None and held.value:
        reader = TypedReader(chosen, {})
        budget = reader.read(held, _Chosen, "params").budget
        _check_budget(budget, params.known_budgets, Checks(chosen, reader.lines, "", None))
    return dataclasses.replace(named.get(budget, params), budget=budget)


def _read(path: Path, node: yaml.Node) -> Params:
    reader = TypedReader(path, _choices())
    params: Params = reader.read(node, Params, "params")
    _check(params, path, reader.lines)
    return params


def _with_budget(root: yaml.Node, name: str) -> yaml.Node:
    """Return the whole file with the keys of tasks that the budget ``name`` replaces."""
    parts = {key.value: value for key, value in root.value}
    changes = next(value for key, value in parts["budgets"].value if key.value == name)
    return merged(root, yaml.MappingNode(root.tag, [(yaml.ScalarNode("", "tasks", root.start_mark), changes)]))


def _check_budget(budget: Budget, known: Sequence[Budget], checks: Checks) -> None:
    mend = f"; `make train BUDGET=...` writes {BUDGET_FILE}" if checks.file.name == BUDGET_FILE else ""
    checks.require(budget in known, "budget", f"is {budget!r}; it must be one of {', '.join(known)}{mend}")


def _has_quick(changes: Any) -> bool:
    return isinstance(changes, dict) and ("quick" in changes or any(map(_has_quick, changes.values())))


def _check_task(task: Task, checks: Checks, architectures: list[str]) -> None:
    split, tune, evaluate = task.split, task.tune, task.evaluate
    problem = get_problem(task.problem)
    for value, allowed, key in (
        (split.mode, task.modes, "split.mode"),
        (tune.metric, task.tunable, "tune.metric"),
        (evaluate.metric, problem.reported(within=task.within), "evaluate.metric"),
    ):
        checks.require(value in allowed, key, f"is {value!r}; it must be one of {', '.join(allowed)}")
    checks.share("split.test", "split.validation", "evaluate.confidence", "evaluate.interval_coverage")
    left = split.test + split.validation < 0.9
    checks.require(left, "split.test", "and validation leave no training rows; together they must be below 0.9")
    checks.at_least(2, "split.folds")
    near = 0 < split.near_identical <= 1
    checks.require(near, "split.near_identical", f"is {split.near_identical:g}; it lies between 0 and 1")
    task.check(checks)
    checks.at_least(1, "tune.trials", "tune.epochs", "tune.rounds", "evaluate.explained_samples")
    if tune.cost != "none":
        message = "is cmaes, which takes one objective; with tune.cost it must be tpe, random or grid"
        checks.require(tune.sampler != "cmaes", "tune.sampler", message)
        message = f"is {tune.cost}, and no trial of two objectives can end early; write tune.pruner: none"
        checks.require(tune.pruner == "none", "tune.cost", f"{message}, in place of {tune.pruner}")
        checks.share("tune.tolerance", ends=True)
    for budget, members in dataclasses.asdict(task.fit.members).items():
        message = f"is {members}; it must be 1 or split.folds ({split.folds})"
        checks.require(members in (1, split.folds), f"fit.members.{budget}", message)
    checks.at_least(100, "evaluate.resamples")
    _check_strata(evaluate, checks)
    message = f"is {evaluate.baseline!r}, which is not among the models of the task"
    checks.require(evaluate.baseline in architectures, "evaluate.baseline", message)


def _check_strata(evaluate: Evaluate, checks: Checks) -> None:
    named = [column.removesuffix("?") for column in evaluate.strata]
    for key, columns in (("strata", named), ("intervals_by", evaluate.intervals_by)):
        checks.require(len(set(columns)) == len(columns), f"evaluate.{key}", "names a column twice")
    for column, edges in evaluate.bands.items():
        key = f"evaluate.bands.{column}"
        checks.require(column in named, key, f"is of no column of evaluate.strata ({', '.join(named) or 'none'})")
        rising = len(edges) > 0 and all(low < high for low, high in itertools.pairwise(edges))
        checks.require(rising, key, f"is {list(edges)}; write one or more edges, each above the one before")


def _check(params: Params, path: Path, lines: dict[str, int]) -> None:
    """Refuse values that make no sense, naming file, line and key."""
    checks = Checks(path, lines, "", params)
    require = checks.require
    known = re.fullmatch(r"auto|cpu|cuda(:\d+)?", params.device)
    require(0 <= params.seed < 2**32, "seed", f"is {params.seed}; it must be at least 0 and below 2**32")
    _check_budget(params.budget, params.known_budgets, checks)
    for name, of_tasks in params.budgets.items():
        for listed, changes in of_tasks.items():
            require(listed in params.tasks, f"budgets.{name}.{listed}", "is of no task")
            message = "has a key `quick`, which no budget but quick reads; write `full` in its place"
            require(not _has_quick(changes), f"budgets.{name}.{listed}", message)
        plain = re.fullmatch(r"[a-z][a-z0-9_]*", name) is not None and name != "full"
        message = "is no name of a budget: small letters, digits and _; `full` is what the tasks themselves say"
        require(plain, f"budgets.{name}", message)
    require(known is not None, "device", f"is {params.device!r}; it must be auto, cpu, cuda or cuda:N")
    for name, task in params.tasks.items():
        _check_task(task, Checks(path, lines, f"tasks.{name}", task), params.architectures(name))
    for key, model in params.models.items():
        require(model.task in params.tasks, f"models.{key}.task", f"is {model.task!r}; there is no such task")
        expected = f"{model.task}-{model.architecture}"
        require(key == expected, f"models.{key}", f"must be named {expected}")
    for name, encoder in params.encoders.items():
        encoder.check(Checks(path, lines, f"encoders.{name}", encoder))
    params.policy.check(Checks(path, lines, "policy", params.policy), params.tasks)


def _composed(path: Path) -> yaml.Node | None:
    try:
        return yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ParamsError(f"{path}, line {line}: not UTF-8; save the file in UTF-8") from error
    except yaml.YAMLError as error:
        raise ParamsError(f"{path}: not YAML: {error}") from error


def _choices() -> dict[type, Choice]:
    from pipelines.tasks import task_types  # it imports this module

    return {Task: (("modality", "problem"), task_types())}


@functools.lru_cache(maxsize=64)  # a model asks for its task with each request
def read_task(text: str) -> Task:
    """Read one task from the text that `task_text` made of it."""
    node = yaml.compose(text, Loader=yaml.CSafeLoader)
    assert node is not None
    task: Task = TypedReader(Path("task"), _choices()).read(node, Task, "task")
    return task


def task_text(task: Task) -> str:
    """Return a task as JSON, which is YAML too."""
    return json.dumps(dataclasses.asdict(task))
