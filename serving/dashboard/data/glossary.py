"""What words mean: ``glossary*.yaml`` for all pages, and metrics as the model cards explain them."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from evaluation.promotion.card_text import use_of
from pipelines.problems import metrics

if TYPE_CHECKING:
    from pipelines.params import Task


@cache
def terms() -> dict[str, dict[str, str]]:
    """Return every term by its key: its ``word`` for people, and in one or two sentences what it ``means``."""
    files = sorted(Path(__file__).parent.glob("glossary*.yaml"))
    return {key: term for path in files for key, term in yaml.safe_load(path.read_text(encoding="utf-8")).items()}


def means(*keys: str) -> str:
    """Return what terms mean; a term that the glossary lacks is a KeyError."""
    return " ".join(" ".join(terms()[key]["means"].split()) for key in keys)


def metric_means(metric: str, baseline: str = "the baseline") -> str:
    """Return what a metric is, as model cards say; its own name where they do not."""
    known = metrics().get(metric)
    text = (metric.replace("_", " ") if known is None else known.meaning).format(baseline=baseline.replace("_", " "))
    return text[:1].upper() + text[1:] + "."


def what_it_does(task: Task) -> str:
    """Return in one sentence what models of a task do."""
    return use_of(task.modality, task.problem).what


def limits(task: Task) -> list[str]:
    """Return the limits of every model of a task, as its card names them."""
    use = use_of(task.modality, task.problem)
    return [*use.limits, *(f"Not for: {one[:1].lower()}{one[1:]}" for one in use.not_intended)]
