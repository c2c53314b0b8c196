"""Checks of ``params.yaml`` beyond the type of each value."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from pipelines.params import Params, PerBudget, Task, TuneTransfer
from pipelines.policy import CHECKS, UNWAIVABLE, Policy, TaskPolicy
from pipelines.problems import get_problem
from pipelines.typed_yaml import ParamsError

Require = Callable[..., None]


@dataclass(frozen=True)
class Checks:
    """Checks of the values of one task, which name file, line and key."""

    file: Path
    lines: dict[str, int]
    where: str  # key of the task; the keys that the methods take lie below it

    def require(self, holds: bool, key: str, message: str) -> None:
        """Raise `ParamsError` unless something holds."""
        if not holds:
            name = f"{self.where}.{key}".strip(".")
            raise ParamsError(f"{self.file}, line {self.lines[f'params.{name}']}: params.{name} {message}")

    def share(self, value: float, key: str, *, ends: bool = False) -> None:
        """Refuse a value outside of 0 to 1; ``ends``: 0 and 1 are allowed."""
        self.require(0 <= value <= 1 if ends else 0 < value < 1, key, f"is {value:g}; shares lie between 0 and 1")

    def at_least(self, least: int, counts: PerBudget, key: str) -> None:
        """Refuse a count below ``least``."""
        for budget, count in dataclasses.asdict(counts).items():
            self.require(count >= least, f"{key}.{budget}", f"is {count}; it must be at least {least}")

    def transfer(self, tune: TuneTransfer) -> None:
        """Refuse empty modes and weights."""
        self.require(bool(tune.modes), "tune.modes", "is empty; name at least one")
        self.require(bool(tune.weights), "tune.weights", "is empty; it must be imagenet, none or a path")


_SHARES = {
    "gate": ("ece", "coverage_shortfall", "completeness", "random_weights_correlation"),
    "monitor": ("out_of_distribution_share",),
}
_NOT_NEGATIVE = {"gate": ("non_inferiority",), "monitor": ("performance_drop",)}
_POSITIVE = {
    "gate": ("latency_ms_batch_1", "latency_ms_batch_32", "megabytes"),
    "serve": ("rows", "request_megabytes", "image_pixels", "explained_rows"),
    "monitor": ("minimum_rows", "population_stability"),
    "dashboard": ("seconds",),
}


def _check_policy(policy: Policy, tasks: dict[str, Task], require: Require, share: Require) -> None:
    def of(names: Mapping[str, tuple[str, ...]]) -> list[tuple[str, float]]:
        return [(f"{part}.{key}", getattr(getattr(policy, part), key)) for part, keys in names.items() for key in keys]

    margin = policy.gate.margin
    require(math.isfinite(margin), "policy.gate.margin", f"is {margin}; it must be a number")
    share(policy.monitor.significance, "policy.monitor.significance")
    for key, value in of(_SHARES):
        share(value, f"policy.{key}", ends=True)
    for key, value in of(_NOT_NEGATIVE):
        require(0 <= value < math.inf, f"policy.{key}", f"is {value:g}; it must be at least 0")
    for key, value in of(_POSITIVE):
        require(0 < value < math.inf, f"policy.{key}", f"is {value:g}; it must be above 0")
    for name, url in policy.dashboard.endpoints.items():
        whole = re.fullmatch(r"https?://[^\s/]+(/\S*)?", url) is not None
        require(whole, f"policy.dashboard.endpoints.{name}", f"is {url!r}; write it as http://127.0.0.1:5001")
    for name, task in policy.tasks.items():
        where = f"policy.tasks.{name}"
        require(name in tasks, where, "is of no task; the tasks are " + ", ".join(sorted(tasks)))
        _check_task_policy(task, where, require)


def _check_task_policy(task: TaskPolicy, where: str, require: Require) -> None:
    """Refuse answers and waivers that lack a field or can never count."""
    require(task.floor < math.inf, f"{where}.floor", f"is {task.floor}; it must be a number")
    answered: set[tuple[str, bool]] = set()
    for place, answer in enumerate(task.answers):
        here = f"{where}.answers[{place}]"
        for word in ("finding", "answer", "by"):
            require(bool(getattr(answer, word).strip()), f"{here}.{word}", "is empty")
        require(not math.isnan(answer.up_to), f"{here}.up_to", "is not a number")
        key = (answer.finding, answer.simulated)
        require(key not in answered, f"{here}.finding", f"is {answer.finding!r}, which is answered twice")
        answered.add(key)
    for place, waiver in enumerate(task.waivers):
        here = f"{where}.waivers[{place}]"
        for word in ("reason", "by"):
            require(bool(getattr(waiver, word).strip()), f"{here}.{word}", "is empty")
        names = [name for name in CHECKS if name not in UNWAIVABLE]
        require(waiver.check not in UNWAIVABLE, f"{here}.check", f"is {waiver.check!r}, which cannot be waived")
        require(waiver.check in names, f"{here}.check", f"is {waiver.check!r}; it must be one of {', '.join(names)}")
        floor, message = waiver.check == "floor", f"has no meaning for {waiver.check!r}; only a floor is waived by name"
        require(bool(waiver.of) or not floor, f"{here}.check", "is 'floor' without `of`: name what may lie below it")
        require(floor or not waiver.of, f"{here}.of", message)
        try:
            date.fromisoformat(waiver.until)
        except ValueError:
            require(False, f"{here}.until", f"is {waiver.until!r}; it must be a date such as 2027-01-31")


def _check_task(task: Task, checks: Checks, architectures: list[str]) -> None:
    split, tune, evaluate = task.split, task.tune, task.evaluate
    problem = get_problem(task.problem)
    for value, allowed, key in (
        (split.mode, task.modes, "split.mode"),
        (tune.metric, problem.tunable, "tune.metric"),
        (evaluate.metric, problem.reported(within=task.within), "evaluate.metric"),
    ):
        checks.require(value in allowed, key, f"is {value!r}; it must be one of {', '.join(allowed)}")
    checks.share(split.test, "split.test")
    checks.share(split.validation, "split.validation")
    left = split.test + split.validation < 0.9
    checks.require(left, "split.test", "and validation leave no training rows; together they must be below 0.9")
    checks.require(split.folds >= 2, "split.folds", f"is {split.folds}; it must be at least 2")
    near = 0 < split.near_identical <= 1
    checks.require(near, "split.near_identical", f"is {split.near_identical:g}; it lies between 0 and 1")
    task.check(checks)
    for counts, key in ((tune.trials, "trials"), (tune.epochs, "epochs"), (tune.rounds, "rounds")):
        checks.at_least(1, counts, f"tune.{key}")
    for budget, members in dataclasses.asdict(task.fit.members).items():
        message = f"is {members}; it must be 1 or split.folds ({split.folds})"
        checks.require(members in (1, split.folds), f"fit.members.{budget}", message)
    checks.share(evaluate.confidence, "evaluate.confidence")
    checks.share(evaluate.interval_coverage, "evaluate.interval_coverage")
    resamples = evaluate.resamples
    checks.require(resamples >= 100, "evaluate.resamples", f"is {resamples}; it must be at least 100")
    checks.at_least(1, evaluate.explained_samples, "evaluate.explained_samples")
    message = f"is {evaluate.baseline!r}, which is not among the models of the task"
    checks.require(evaluate.baseline in architectures, "evaluate.baseline", message)


def check(params: Params, path: Path, lines: dict[str, int]) -> None:
    """Refuse values that make no sense, naming file, line and key."""
    checks = Checks(path, lines, "")
    require = checks.require
    known = re.fullmatch(r"auto|cpu|cuda(:\d+)?", params.device)
    require(0 <= params.seed < 2**32, "seed", f"is {params.seed}; it must be at least 0 and below 2**32")
    require(known is not None, "device", f"is {params.device!r}; it must be auto, cpu, cuda or cuda:N")
    for name, task in params.tasks.items():
        _check_task(task, Checks(path, lines, f"tasks.{name}"), params.architectures(name))
    for key, model in params.models.items():
        require(model.task in params.tasks, f"models.{key}.task", f"is {model.task!r}; there is no such task")
        expected = f"{model.task}-{model.architecture}"
        require(key == expected, f"models.{key}", f"must be named {expected}")
    _check_policy(params.policy, params.tasks, require, checks.share)
