"""How the dashboard writes names, numbers, scores and times, and what words mean (``glossary*.yaml``, model cards)."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from evaluation.promotion.card_text import use_of
from pipelines import formatting
from pipelines.formatting import counted as counted
from pipelines.formatting import listed as listed
from pipelines.problems import metrics
from training.architectures import display_name as named

SIMULATED = "Simulated data: nothing here is a result about patients, cells or drugs."
RESEARCH = "For research: no output of this page is a medical device's."
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>#|~&$:])")
_BLANK = re.compile(r"[ \t\r\n]+")
_SPACE = "\u00a0"  # a score and its interval stay on one line
_NO_INTERVAL = "– (no interval)"


def plain(text: Any) -> str:
    """Return text on one line, in which Streamlit's Markdown finds no markup."""
    return _MARKDOWN.sub(r"\\\1", _BLANK.sub(" ", str(text)).strip(" "))


def number(value: float | None, digits: int = 3, sign: str = "") -> str:
    """Return a number with ``digits`` decimals, and a dash for an unknown one."""
    return formatting.number(value, f",.{digits}f", sign=sign).replace("-", "−")


def share(value: float | None, digits: int = 0) -> str:
    """Return a share in percent."""
    return formatting.share(value, digits).replace("%", f"{_SPACE}%")


def with_interval(found: Mapping[Any, Any], sign: str = "") -> str:
    """Return the score ``value`` with its interval ``low`` to ``high``; a score without an interval is not shown."""
    return _unbroken(formatting.interval(found, form=",.3f", sign=sign, nothing=_NO_INTERVAL))


def share_with_interval(found: Mapping[str, Any], key: str = "value") -> str:
    """Return the share ``key`` in percent with its interval, as `with_interval` does."""
    value, *between = _unbroken(formatting.interval(found, key, ".1%", nothing=_NO_INTERVAL)).split(_SPACE, 1)
    return value.replace("%", f"{_SPACE}%") + "".join(f"{_SPACE}{ends.replace('%', '')}" for ends in between)


def _unbroken(score: str) -> str:
    return score if score == _NO_INTERVAL else score.replace("-", "−").replace(" ", _SPACE)


def micromolar(value: float) -> str:
    """Return a concentration in µM with three significant digits."""
    return "–" if not math.isfinite(value) else f"{value:.3g}" if 0.001 <= value < 1000 else f"{value:.1e}"


def moment(time: datetime | str) -> str:
    """Return a time, or its ISO text, as "20 Nov 2026, 16:49 UTC"; other text as it is."""
    try:
        found = datetime.fromisoformat(time) if isinstance(time, str) else time
    except ValueError:
        return str(time)
    found = found.astimezone(UTC) if found.tzinfo else found
    return f"{found.day} {found:%b %Y, %H:%M} UTC"


def yes_no(values: Iterable[bool | None]) -> list[str]:
    """Return "yes", "no", and "not known" for None."""
    return ["not known" if value is None else "yes" if value else "no" for value in values]


def score_word(metric: str) -> str:
    """Return how a metric is written."""
    known = metrics().get(metric)
    return (known.label if known else "") or named(metric)


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
