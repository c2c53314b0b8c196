"""What words mean: ``glossary*.yaml`` for all pages, and metrics as the model cards explain them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from evaluation.promotion.card_text import use_of
from pipelines.problems import metrics

if TYPE_CHECKING:
    from pipelines.params import Task

_FILES = sorted(Path(__file__).parent.glob("glossary*.yaml"))


@dataclass(frozen=True)
class Term:
    """A word as people read it, and one or two sentences that say what it means."""

    word: str
    means: str


@cache
def terms() -> dict[str, Term]:
    """Return every term by its key, in the order of the files."""
    entries = [entry for path in _FILES for entry in yaml.safe_load(path.read_text(encoding="utf-8")).items()]
    return {key: Term(str(one["word"]), " ".join(str(one["means"]).split())) for key, one in entries}


def means(key: str) -> str:
    """Return what a term means.

    Raises
    ------
    KeyError
        The glossary has no such term: a page that explains nothing is a fault of the page.
    """
    return terms()[key].means


def metric_means(metric: str, baseline: str = "the baseline") -> str:
    """Return what a metric is, as model cards say; its own name where they do not."""
    known = metrics().get(metric)
    text = (metric.replace("_", " ") if known is None else known.meaning).format(baseline=baseline.replace("_", " "))
    return text[:1].upper() + text[1:] + "."


def what_it_does(task: Task) -> str:
    """Return in one sentence what models of a task do."""
    return use_of(task.modality, task.problem).what


def limits(task: Task) -> list[str]:
    """Return what to keep in mind of every model of a task, as its card says."""
    use = use_of(task.modality, task.problem)
    return [*use.limits, *(f"Not for: {one[:1].lower()}{one[1:]}" for one in use.not_intended)]
