"""Checks of ``params.yaml`` beyond the type of each value."""

from __future__ import annotations

import dataclasses
import math
import operator
import re
from collections.abc import Callable
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


Bound = tuple[Callable[[float], bool], str]
_SHARE: Bound = (lambda value: 0 <= value <= 1, "shares lie between 0 and 1")
_NOT_NEGATIVE: Bound = (lambda value: 0 <= value < math.inf, "it must be at least 0")
_POSITIVE: Bound = (lambda value: 0 < value < math.inf, "it must be above 0")
_POLICY_BOUNDS: dict[str, Bound] = {
    "gate.margin": (math.isfinite, "it must be a number"),
    **dict.fromkeys(("gate.non_inferiority", "monitor.performance_drop"), _NOT_NEGATIVE),
    **dict.fromkeys(("gate.ece", "gate.coverage_shortfall", "gate.completeness"), _SHARE),
    **dict.fromkeys(("gate.random_weights_correlation", "monitor.out_of_distribution_share"), _SHARE),
    "monitor.significance": (lambda value: 0 < value < 1, "shares lie between 0 and 1"),
    **dict.fromkeys(("gate.latency_ms_batch_1", "gate.latency_ms_batch_32", "gate.megabytes"), _POSITIVE),
    **dict.fromkeys(("serve.rows", "serve.request_megabytes", "serve.image_pixels", "serve.explained_rows"), _POSITIVE),
    **dict.fromkeys(("monitor.minimum_rows", "monitor.population_stability", "dashboard.seconds"), _POSITIVE),
}


def _check_policy(policy: Policy, tasks: dict[str, Task], require: Require) -> None:
    for key, (allowed, said) in _POLICY_BOUNDS.items():
        value = operator.attrgetter(key)(policy)
        require(allowed(value), f"policy.{key}", f"is {value:g}; {said}")
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
        again = (answer.finding, answer.simulated) in answered
        require(not again, f"{here}.finding", f"is {answer.finding!r}, which is answered twice")
        answered.add((answer.finding, answer.simulated))
    for place, waiver in enumerate(task.waivers):
        here = f"{where}.waivers[{place}]"
        for word in ("reason", "by"):
            require(bool(getattr(waiver, word).strip()), f"{here}.{word}", "is empty")
        names = [name for name in CHECKS if name not in UNWAIVABLE]
        require(waiver.check in names, f"{here}.check", f"is {waiver.check!r}; it must be one of {', '.join(names)}")
        named = (waiver.check == "floor") == bool(waiver.of)
        require(named, f"{here}.of", "must name what may lie below a floor, and nothing for another check")
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
    left = split.test + split.validation < 0.9
    checks.require(left, "split.test", "and validation leave no training rows; together they must be below 0.9")
    checks.require(split.folds >= 2, "split.folds", f"is {split.folds}; it must be at least 2")
    near = 0 < split.near_identical <= 1
    checks.require(near, "split.near_identical", f"is {split.near_identical:g}; it lies between 0 and 1")
    task.check(checks)
    for key in ("tune.trials", "tune.epochs", "tune.rounds", "evaluate.explained_samples"):
        checks.at_least(1, operator.attrgetter(key)(task), key)
    for budget, members in dataclasses.asdict(task.fit.members).items():
        message = f"is {members}; it must be 1 or split.folds ({split.folds})"
        checks.require(members in (1, split.folds), f"fit.members.{budget}", message)
    for key in ("split.test", "split.validation", "evaluate.confidence", "evaluate.interval_coverage"):
        checks.share(operator.attrgetter(key)(task), key)
    resamples = evaluate.resamples
    checks.require(resamples >= 100, "evaluate.resamples", f"is {resamples}; it must be at least 100")
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
    _check_policy(params.policy, params.tasks, require)
