"""What ``params.yaml`` may not say although each value is of the right type."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path

from pipelines.params import (
    METRICS,
    MODES,
    REPORTED,
    ExpressionTask,
    GeneTask,
    ImageTask,
    LabelTask,
    Params,
    PerBudget,
    ResponseTask,
    SensitivityTask,
    Task,
    TuneTransfer,
)
from pipelines.policy import CHECKS, UNWAIVABLE, Policy, TaskPolicy
from pipelines.typed_yaml import ParamsError

Require = Callable[..., None]


def _check_response(task: ResponseTask, where: str, require: Require, share: Require) -> None:
    require(bool(task.data.omics), f"{where}.data.omics", "is empty; name at least one table")
    require(len(set(task.data.omics)) == len(task.data.omics), f"{where}.data.omics", "names a table twice")
    low, high = task.validate.target_range
    require(low < high, f"{where}.validate.target_range", f"from {low:g} to {high:g} is empty")
    if task.data.target == "auc":  # a share of the doses' range; fits overshoot 1 a little
        said = f"from {low:g} to {high:g} is none of areas under a curve; write [0.0, 1.2], and 2 at most"
        require(low >= 0 and high <= 2, f"{where}.validate.target_range", said)
    if isinstance(task, SensitivityTask):
        rule, here = task.data.threshold, f"{where}.data.threshold"
        share(rule.share, f"{here}.share")
        weight = 0 <= rule.prior_rows < math.inf
        require(weight, f"{here}.prior_rows", f"is {rule.prior_rows:g}; it must be at least 0")
    rows = task.validate.minimum_rows
    require(rows >= 1, f"{where}.validate.minimum_rows", f"is {rows}; it must be at least 1")
    for key in ("unknown_cell_line_share", "unknown_drug_share", "constant_column_share"):
        share(getattr(task.validate, key), f"{where}.validate.{key}", ends=True)
    split = task.split
    for key in ("train_study", "test_study") if split.mode == "cross_study" else ():
        require(bool(getattr(split, key)), f"{where}.split", f"has the mode cross_study and no {key}; name a study")
    one = bool(split.test_study) and split.train_study == split.test_study
    require(not one, f"{where}.split.test_study", f"is {split.test_study!r}, as train_study is; name another study")


def _check_images(task: ImageTask, where: str, require: Require) -> None:
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


def _check_expression(task: ExpressionTask, where: str, require: Require, share: Require) -> None:
    share(task.data.missing_genes, f"{where}.data.missing_genes", ends=True)
    rules = task.validate
    for key in ("missing_share", "constant_gene_share"):
        share(getattr(rules, key), f"{where}.validate.{key}", ends=True)
    for key in ("minimum_samples", "minimum_genes"):
        require(getattr(rules, key) >= 2, f"{where}.validate.{key}", f"is {getattr(rules, key)}; it must be at least 2")
    factor = rules.library_size_factor
    require(factor > 1, f"{where}.validate.library_size_factor", f"is {factor:g}; it must be above 1")
    if isinstance(task, LabelTask):
        least = task.data.minimum_patients
        require(least >= 3, f"{where}.data.minimum_patients", f"is {least}; train, validation and test need one each")
        _not_negative(task.evaluate.stability_seeds, f"{where}.evaluate.stability_seeds", require)
        require(bool(task.tune.layouts), f"{where}.tune.layouts", "is empty; name at least one")
        size = task.tune.image_size
        require(8 <= size <= 512, f"{where}.tune.image_size", f"is {size}; it must be between 8 and 512 pixels")
    if isinstance(task, GeneTask):
        require(bool(task.data.targets), f"{where}.data.targets", "is empty; name a gene, or most_variable")
        count = task.data.target_count
        require(count >= 1, f"{where}.data.target_count", f"is {count}; it must be at least 1")


def _not_negative(counts: PerBudget, key: str, require: Require) -> None:
    """Refuse a count below zero."""
    for budget, count in dataclasses.asdict(counts).items():
        require(count >= 0, f"{key}.{budget}", f"is {count}; it must be at least 0")


def _check_transfer(tune: TuneTransfer, where: str, require: Require) -> None:
    require(bool(tune.modes), f"{where}.tune.modes", "is empty; name at least one")
    require(bool(tune.weights), f"{where}.tune.weights", "is empty; it must be imagenet, none or a path")


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
    """Refuse a word of a person that names nobody or nothing, or would never count."""
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
        floor = waiver.check == "floor"
        require(bool(waiver.of) or not floor, f"{here}.check", "is 'floor' without `of`: name what may lie below it")
        require(
            floor or not waiver.of, f"{here}.of", f"has no meaning for {waiver.check!r}; only a floor is waived by name"
        )
        try:
            date.fromisoformat(waiver.until)
        except ValueError:
            require(False, f"{here}.until", f"is {waiver.until!r}; it must be a date such as 2027-01-31")


def check(params: Params, path: Path, lines: dict[str, int]) -> None:
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
        modes, metrics, reported = MODES[task.kind], METRICS[task.family], REPORTED[task.family]
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
        if isinstance(task, ExpressionTask):
            _check_expression(task, where, require, share)
        if isinstance(task.tune, TuneTransfer):
            _check_transfer(task.tune, where, require)
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
    _check_policy(params.policy, params.tasks, require, share)
