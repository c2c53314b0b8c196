"""What words mean: one file for all pages, and metrics as the model cards explain them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from evaluation.candidates.card_text import METRICS, NO_USE, USES

_FILE = Path(__file__).with_name("glossary.yaml")


@dataclass(frozen=True)
class Term:
    """A word as people read it, and one or two sentences that say what it means."""

    word: str
    means: str


@cache
def terms() -> dict[str, Term]:
    """Return every term by its key, in the order of the file."""
    content = yaml.safe_load(_FILE.read_text(encoding="utf-8"))
    return {key: Term(str(one["word"]), " ".join(str(one["means"]).split())) for key, one in content.items()}


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
    text = METRICS.get(metric, metric.replace("_", " ")).format(baseline=baseline.replace("_", " "))
    return text[:1].upper() + text[1:] + "."


def what_it_does(family: str) -> str:
    """Return in one sentence what models of a family do."""
    return USES.get(family, NO_USE).what
