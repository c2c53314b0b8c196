"""One typed reading of ``params.yaml``: frozen, and checked before any work is done."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import typing
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from pipelines.faults import UserError

PARAMS_FILE = Path("params.yaml")

Budget = Literal["quick", "full"]
Missing = Literal["drop", "impute", "one_hot"]
SplitMode = Literal["random", "cell_blind", "drug_blind", "tissue_blind", "subject_blind"]


class ParamsError(UserError):
    """A fault in ``params.yaml``, named by file, line and key."""


@dataclass(frozen=True)
class PerBudget:
    """A count for each budget."""

    quick: int
    full: int

    def of(self, budget: Budget) -> int:
        """Return the count of ``budget``."""
        return self.quick if budget == "quick" else self.full


@dataclass(frozen=True)
class ResponseData:
    """What is taken from a raw folder of kind ``response``."""

    target: str
    omics: tuple[Literal["expression", "mutation", "copy_number", "methylation"], ...]
    missing: MissingPolicy


@dataclass(frozen=True)
class ImageData:
    """What is taken from a raw folder of kind ``images``.

    Attributes
    ----------
    classes
        Folder names below ``images/``, in the order of the probabilities.
    crop
        Share of the shorter side that is kept around the center, before resizing.
    size
        Side of the square that every image is decoded to, in pixels.
    """

    classes: tuple[str, ...]
    crop: float
    size: int


@dataclass(frozen=True)
class ValidateResponse:
    """What raw data of kind ``response`` must satisfy."""

    expression_scale: Literal["log2_tpm_plus_1", "any"]
    target_range: tuple[float, float]
    minimum_rows: int
    unknown_cell_line_share: float
    unknown_drug_share: float
    constant_column_share: float


@dataclass(frozen=True)
class ValidateImages:
    """What raw data of kind ``images`` must satisfy.

    Attributes
    ----------
    minimum_per_class
        Images that every class must have.
    smallest_side, largest_pixels
        In pixels; a larger image is refused before it is decoded.
    """

    minimum_per_class: int
    smallest_side: int
    largest_pixels: int


@dataclass(frozen=True)
class MissingPolicy:
    """What happens to a cell line without an omics table or a tissue, and to a drug without SMILES."""

    expression: Literal["drop", "impute"]
    mutation: Literal["drop", "impute"]
    copy_number: Literal["drop", "impute"]
    methylation: Literal["drop", "impute"]
    tissue: Literal["drop", "one_hot"]
    smiles: Literal["drop", "one_hot"]


@dataclass(frozen=True)
class Split:
    """How samples are assigned to train, validation, test and folds."""

    mode: SplitMode
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
class Task:
    """One task of the platform; its kind says what its raw folder holds."""

    kind: str
    problem: Literal["regression", "classification"]
    data: Any
    validate: Any
    split: Split
    tune: Tune
    fit: Fit
    evaluate: Evaluate


@dataclass(frozen=True)
class ResponseTask(Task):
    """A response of cell lines to drugs."""

    kind: Literal["response"]
    problem: Literal["regression"]
    data: ResponseData
    validate: ValidateResponse


@dataclass(frozen=True)
class ImageTask(Task):
    """Images in classes."""

    kind: Literal["images"]
    problem: Literal["classification"]
    data: ImageData
    validate: ValidateImages
    tune: TuneTransfer


KINDS: dict[str, type[Task]] = {"response": ResponseTask, "images": ImageTask}
MODES: dict[str, tuple[SplitMode, ...]] = {
    "response": ("random", "cell_blind", "drug_blind", "tissue_blind"),
    "images": ("random", "subject_blind"),
}
METRICS: dict[str, tuple[str, ...]] = {  # what a study can optimize
    "regression": ("rmse", "mae", "mse", "r2", "pearson", "spearman"),
    "classification": ("log_loss", "accuracy", "balanced_accuracy", "macro_f1", "weighted_f1", "roc_auc"),
}
REPORTED: dict[str, tuple[str, ...]] = {  # what a leaderboard can show
    "regression": (
        *("r2", "rmse", "mae", "mse", "pearson", "spearman"),
        *("within_drug_pearson", "within_drug_spearman", "r2_over_baseline", "margin"),
    ),
    "classification": (
        "accuracy",
        "balanced_accuracy",
        "macro_f1",
        "weighted_f1",
        "roc_auc",
        "pr_auc",
        "ece",
        "margin",
    ),
}


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


def read_params(path: Path | str = PARAMS_FILE) -> Params:
    """Read and check ``params.yaml``.

    Parameters
    ----------
    path
        The file.

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
    try:
        node = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ParamsError(f"{path}, line {line}: not UTF-8; save the file in UTF-8") from error
    except yaml.YAMLError as error:
        raise ParamsError(f"{path}: not YAML: {error}") from error
    if node is None:
        raise ParamsError(f"{path}: the file is empty")
    reader = _Reader(path)
    params = reader.read(node, Params, "params")
    _check(params, path, reader.lines)
    return params


def read_task(text: str) -> Task:
    """Read one task from the text that `task_text` made of it."""
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    assert node is not None
    task: Task = _Reader(Path("task")).read(node, Task, "task")
    return task


def task_text(task: Task) -> str:
    """Return a task as JSON, which is YAML too."""
    return json.dumps(dataclasses.asdict(task))


class _Reader:
    """Turns a YAML node tree into dataclasses, keeping the line of each key for messages."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: dict[str, int] = {}

    def fail(self, node: yaml.Node, message: str) -> typing.NoReturn:
        raise ParamsError(f"{self.path}, line {node.start_mark.line + 1}: {message}")

    def read(self, node: yaml.Node, kind: Any, name: str) -> Any:
        origin, arguments = typing.get_origin(kind), typing.get_args(kind)
        if kind is Task:
            kind = self._kind(node, name)
        if dataclasses.is_dataclass(kind):
            return self._dataclass(node, typing.cast(type, kind), name)
        if origin is dict:
            return {
                key.value: self.read(value, arguments[1], f"{name}.{key.value}")
                for key, value in self._pairs(node, name)
            }
        if origin is tuple:
            return self._tuple(node, arguments, name)
        value = self._value(node, name)
        if origin is Literal:
            if value not in arguments:
                self.fail(node, f"{name} is {value!r}; it must be one of {', '.join(map(str, arguments))}")
            return value
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        if kind is float and isinstance(value, str) and isinstance(node, yaml.ScalarNode) and node.style is None:
            with contextlib.suppress(ValueError):  # 1e-5 is a number in JSON and text in YAML 1.1, which wants 1.0e-5
                return float(value)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            self.fail(node, f"{name} is {value!r}; it must be of type {kind.__name__}")
        return value

    def _value(self, node: yaml.Node, name: str) -> Any:
        try:
            return yaml.SafeLoader("").construct_object(node, deep=True)
        except (yaml.YAMLError, ValueError, TypeError) as error:  # an unknown tag, a date that is none, a list as a key
            reason = getattr(error, "problem", None) or error
            self.fail(node, f"{name} cannot be read: {reason}")

    def _pairs(self, node: yaml.Node, name: str) -> list[tuple[yaml.ScalarNode, yaml.Node]]:
        if not isinstance(node, yaml.MappingNode):
            self.fail(node, f"{name} must be a mapping")
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self.fail(key, f"{name} has a key that is no word")
            if key.value in seen:
                self.fail(key, f"{name}.{key.value} stands twice")
            seen.add(key.value)
            self.lines[f"{name}.{key.value}"] = key.start_mark.line + 1
        return node.value

    def _dataclass(self, node: yaml.Node, kind: type, name: str) -> Any:
        hints = typing.get_type_hints(kind)
        given = {}
        for key, value in self._pairs(node, name):
            if key.value not in hints:
                self.fail(key, f"unknown key {name}.{key.value}; the keys are {', '.join(hints)}")
            given[key.value] = self.read(value, hints[key.value], f"{name}.{key.value}")
        fields = dataclasses.fields(kind)
        needed = [field.name for field in fields if field.default is dataclasses.MISSING]
        if missing := [key for key in needed if key not in given]:
            line = self.lines.get(name, node.start_mark.line + 1)
            raise ParamsError(f"{self.path}, line {line}: {name} lacks {', '.join(missing)}")
        return kind(**given)

    def _kind(self, node: yaml.Node, name: str) -> type[Task]:
        """Return the dataclass of the task's kind, which says what keys it has."""
        found = next((value for key, value in self._pairs(node, name) if key.value == "kind"), None)
        if found is None:
            self.fail(node, f"{name} lacks kind")
        kind = self._value(found, f"{name}.kind")
        if kind not in KINDS:
            self.fail(found, f"{name}.kind is {kind!r}; it must be one of {', '.join(KINDS)}")
        return KINDS[kind]

    def _tuple(self, node: yaml.Node, arguments: tuple[Any, ...], name: str) -> tuple[Any, ...]:
        if not isinstance(node, yaml.SequenceNode):
            self.fail(node, f"{name} must be a list")
        kinds = [arguments[0]] * len(node.value) if arguments[-1] is Ellipsis else list(arguments)
        if len(kinds) != len(node.value):
            self.fail(node, f"{name} must have {len(kinds)} entries, it has {len(node.value)}")
        return tuple(
            self.read(item, kind, f"{name}[{index}]")
            for index, (item, kind) in enumerate(zip(node.value, kinds, strict=True))
        )


def _check_response(task: ResponseTask, where: str, require: Callable[..., None], share: Callable[..., None]) -> None:
    require(bool(task.data.omics), f"{where}.data.omics", "is empty; name at least one table")
    require(len(set(task.data.omics)) == len(task.data.omics), f"{where}.data.omics", "names a table twice")
    low, high = task.validate.target_range
    require(low < high, f"{where}.validate.target_range", f"from {low:g} to {high:g} is empty")
    rows = task.validate.minimum_rows
    require(rows >= 1, f"{where}.validate.minimum_rows", f"is {rows}; it must be at least 1")
    for key in ("unknown_cell_line_share", "unknown_drug_share", "constant_column_share"):
        share(getattr(task.validate, key), f"{where}.validate.{key}", ends=True)


def _check_images(task: ImageTask, where: str, require: Callable[..., None]) -> None:
    classes, crop, size = task.data.classes, task.data.crop, task.data.size
    require(len(classes) >= 2, f"{where}.data.classes", "names fewer than two classes")
    require(len(set(classes)) == len(classes), f"{where}.data.classes", "names a class twice")
    plain = all(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name) for name in classes)
    require(plain, f"{where}.data.classes", "must be names of folders: letters, digits, _ . and -")
    require(0 < crop <= 1, f"{where}.data.crop", f"is {crop:g}; it lies above 0 and is at most 1")
    require(16 <= size <= 1024, f"{where}.data.size", f"is {size}; it must be between 16 and 1024 pixels")
    rules = task.validate
    for key in ("minimum_per_class", "smallest_side", "largest_pixels"):
        least = 3 if key == "minimum_per_class" else 1
        value = getattr(rules, key)
        require(value >= least, f"{where}.validate.{key}", f"is {value}; it must be at least {least}")
    require(bool(task.tune.modes), f"{where}.tune.modes", "is empty; name at least one")
    require(bool(task.tune.weights), f"{where}.tune.weights", "is empty; it must be imagenet, none or a path")


def _check(params: Params, path: Path, lines: dict[str, int]) -> None:
    """Refuse values that are of the right type and make no sense."""

    def require(holds: bool, key: str, message: str) -> None:
        if not holds:
            raise ParamsError(f"{path}, line {lines[f'params.{key}']}: params.{key} {message}")

    def at_least(least: int, counts: PerBudget, key: str) -> None:
        for budget, count in dataclasses.asdict(counts).items():
            require(count >= least, f"{key}.{budget}", f"is {count}; it must be at least {least}")

    def share(value: float, key: str, *, ends: bool = False) -> None:
        holds = 0 <= value <= 1 if ends else 0 < value < 1
        require(holds, key, f"is {value:g}; shares lie between 0 and 1")

    require(0 <= params.seed < 2**32, "seed", f"is {params.seed}; it must be at least 0 and below 2**32")
    known = re.fullmatch(r"auto|cpu|cuda(:\d+)?", params.device)
    require(known is not None, "device", f"is {params.device!r}; it must be auto, cpu, cuda or cuda:N")
    for name, task in params.tasks.items():
        where = f"tasks.{name}"
        split, tune, evaluate = task.split, task.tune, task.evaluate
        modes, metrics, reported = MODES[task.kind], METRICS[task.problem], REPORTED[task.problem]
        for value, allowed, key in (
            (split.mode, modes, "split.mode"),
            (tune.metric, metrics, "tune.metric"),
            (evaluate.metric, reported, "evaluate.metric"),
        ):
            require(value in allowed, f"{where}.{key}", f"is {value!r}; it must be one of {', '.join(allowed)}")
        share(split.test, f"{where}.split.test")
        share(split.validation, f"{where}.split.validation")
        left = split.test + split.validation < 0.9
        require(left, f"{where}.split.test", "and validation leave no training rows; together they must be below 0.9")
        require(split.folds >= 2, f"{where}.split.folds", f"is {split.folds}; it must be at least 2")
        near = 0 < split.near_identical <= 1
        require(near, f"{where}.split.near_identical", f"is {split.near_identical:g}; it lies between 0 and 1")
        if isinstance(task, ResponseTask):
            _check_response(task, where, require, share)
        if isinstance(task, ImageTask):
            _check_images(task, where, require)
        at_least(1, tune.trials, f"{where}.tune.trials")
        at_least(1, tune.epochs, f"{where}.tune.epochs")
        at_least(1, tune.rounds, f"{where}.tune.rounds")
        for budget, members in dataclasses.asdict(task.fit.members).items():
            fits = members in (1, split.folds)
            message = f"is {members}; it must be 1 or split.folds ({split.folds})"
            require(fits, f"{where}.fit.members.{budget}", message)
        share(evaluate.confidence, f"{where}.evaluate.confidence")
        share(evaluate.interval_coverage, f"{where}.evaluate.interval_coverage")
        resamples = evaluate.resamples
        require(resamples >= 100, f"{where}.evaluate.resamples", f"is {resamples}; it must be at least 100")
        at_least(1, evaluate.explained_samples, f"{where}.evaluate.explained_samples")
        require(
            evaluate.baseline in params.architectures(name),
            f"{where}.evaluate.baseline",
            f"is {evaluate.baseline!r}, which is not among the models of the task",
        )
    for key, model in params.models.items():
        require(model.task in params.tasks, f"models.{key}.task", f"is {model.task!r}; there is no such task")
        expected = f"{model.task}-{model.architecture}"
        require(key == expected, f"models.{key}", f"must be named {expected}")
