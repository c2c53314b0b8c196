"""Checks of ``params.yaml`` beyond the type of each value."""

from __future__ import annotations

import dataclasses
import math
import operator
import re
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from pipelines.params import Params, PerBudget, Task
from pipelines.policy import CHECKS, UNWAIVABLE, Policy, TaskPolicy
from pipelines.problems import get_problem
from pipelines.typed_yaml import ParamsError


@dataclass(frozen=True)
class Checks:
    """Checks of values of ``params.yaml`` by their dotted keys; they raise `ParamsError` with file and line."""

    file: Path
    lines: dict[str, int]
    where: str  # key of `values`, empty for the whole file
    values: Any

    def require(self, holds: bool, key: str, message: str) -> None:
        """Refuse the value of ``key`` unless something holds."""
        if not holds:
            name = f"{self.where}.{key}".strip(".")
            raise ParamsError(f"{self.file}, line {self.lines[f'params.{name}']}: params.{name} {message}")

    def share(self, *keys: str, ends: bool = False) -> None:
        """Refuse values outside of 0 to 1; ``ends``: 0 and 1 are allowed."""
        for key in keys:
            value = operator.attrgetter(key)(self.values)
            self.require(0 <= value <= 1 if ends else 0 < value < 1, key, f"is {value:g}; shares lie between 0 and 1")

    def at_least(self, least: float, *keys: str) -> None:
        """Refuse numbers, or counts of a budget, below ``least`` or without end."""
        for key in keys:
            value = operator.attrgetter(key)(self.values)
            counts = dataclasses.asdict(value) if isinstance(value, PerBudget) else {"": value}
            for budget, count in counts.items():
                said = f"is {count:.12g}; it must be at least {least}"
                self.require(least <= count < math.inf, f"{key}.{budget}".strip("."), said)

    def above(self, bound: float, *keys: str) -> None:
        """Refuse numbers up to ``bound`` or without end."""
        for key in keys:
            value = operator.attrgetter(key)(self.values)
            self.require(bound < value < math.inf, key, f"is {value:g}; it must be above {bound}")

    def filled(self, *keys: str) -> None:
        """Refuse empty texts and lists."""
        for key in keys:
            self.require(bool(operator.attrgetter(key)(self.values)), key, "is empty; name at least one")


def _check_policy(policy: Policy, tasks: dict[str, Task], checks: Checks) -> None:
    checks.require(math.isfinite(policy.gate.margin), "gate.margin", f"is {policy.gate.margin}; it must be a number")
    checks.at_least(0, "gate.non_inferiority", "monitor.performance_drop")
    checks.share("gate.ece", "gate.coverage_shortfall", "gate.completeness", ends=True)
    checks.share("gate.random_weights_correlation", "monitor.out_of_distribution_share", ends=True)
    checks.share("monitor.significance")
    checks.above(0, "gate.latency_ms_batch_1", "gate.latency_ms_batch_32", "gate.megabytes", "dashboard.seconds")
    checks.above(0, "serve.rows", "serve.request_megabytes", "serve.image_pixels", "serve.explained_rows")
    checks.above(0, "monitor.minimum_rows", "monitor.population_stability")
    for name, url in policy.dashboard.endpoints.items():
        whole = re.fullmatch(r"https?://[^\s/]+(/\S*)?", url) is not None
        checks.require(whole, f"dashboard.endpoints.{name}", f"is {url!r}; write it as http://127.0.0.1:5001")
    for name, task in policy.tasks.items():
        checks.require(name in tasks, f"tasks.{name}", f"is of no task; the tasks are {', '.join(sorted(tasks))}")
        _check_task_policy(task, dataclasses.replace(checks, where=f"policy.tasks.{name}"))


def _check_task_policy(task: TaskPolicy, checks: Checks) -> None:
    """Refuse answers and waivers that lack a field or can never count."""
    require = checks.require
    require(task.floor < math.inf, "floor", f"is {task.floor}; it must be a number")
    answered = [(answer.finding, answer.simulated) for answer in task.answers]
    for place, answer in enumerate(task.answers):
        here = f"answers[{place}]"
        for word in ("finding", "answer", "by"):
            require(bool(getattr(answer, word).strip()), f"{here}.{word}", "is empty")
        require(not math.isnan(answer.up_to), f"{here}.up_to", "is not a number")
        again = answered[place] in answered[:place]
        require(not again, f"{here}.finding", f"is {answer.finding!r}, which is answered twice")
    names = [name for name in CHECKS if name not in UNWAIVABLE]
    for place, waiver in enumerate(task.waivers):
        here = f"waivers[{place}]"
        for word in ("reason", "by"):
            require(bool(getattr(waiver, word).strip()), f"{here}.{word}", "is empty")
        require(waiver.check in names, f"{here}.check", f"is {waiver.check!r}; it must be one of {', '.join(names)}")
        named = (waiver.check == "floor") == bool(waiver.of)
        message = f"is {waiver.check!r}; a floor needs `of`, which names what may lie below it, other checks have none"
        require(named, f"{here}.check", message)
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
    checks.share("split.test", "split.validation", "evaluate.confidence", "evaluate.interval_coverage")
    left = split.test + split.validation < 0.9
    checks.require(left, "split.test", "and validation leave no training rows; together they must be below 0.9")
    checks.at_least(2, "split.folds")
    near = 0 < split.near_identical <= 1
    checks.require(near, "split.near_identical", f"is {split.near_identical:g}; it lies between 0 and 1")
    task.check(checks)
    checks.at_least(1, "tune.trials", "tune.epochs", "tune.rounds", "evaluate.explained_samples")
    for budget, members in dataclasses.asdict(task.fit.members).items():
        message = f"is {members}; it must be 1 or split.folds ({split.folds})"
        checks.require(members in (1, split.folds), f"fit.members.{budget}", message)
    checks.at_least(100, "evaluate.resamples")
    message = f"is {evaluate.baseline!r}, which is not among the models of the task"
    checks.require(evaluate.baseline in architectures, "evaluate.baseline", message)


def check(params: Params, path: Path, lines: dict[str, int]) -> None:
    """Refuse values that make no sense, naming file, line and key."""
    checks = Checks(path, lines, "", params)
    require = checks.require
    known = re.fullmatch(r"auto|cpu|cuda(:\d+)?", params.device)
    require(0 <= params.seed < 2**32, "seed", f"is {params.seed}; it must be at least 0 and below 2**32")
    require(known is not None, "device", f"is {params.device!r}; it must be auto, cpu, cuda or cuda:N")
    for name, task in params.tasks.items():
        _check_task(task, Checks(path, lines, f"tasks.{name}", task), params.architectures(name))
    for key, model in params.models.items():
        require(model.task in params.tasks, f"models.{key}.task", f"is {model.task!r}; there is no such task")
        expected = f"{model.task}-{model.architecture}"
        require(key == expected, f"models.{key}", f"must be named {expected}")
    _check_policy(params.policy, params.tasks, Checks(path, lines, "policy", params.policy))
