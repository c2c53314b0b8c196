"""How the dashboard writes names, numbers, scores with their intervals, times, and text that is not Markdown."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from pipelines import formatting
from pipelines.formatting import counted as counted
from pipelines.formatting import listed as listed
from pipelines.problems import metrics
from training.architectures import display_name

SIMULATED = "Simulated data: nothing here is a result about patients, cells or drugs."
RESEARCH = "For research: no output of this page is a medical device's."
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>#|~&$:])")
_BLANK = re.compile(r"[ \t\r\n]+")
_SPACE = "\u00a0"  # a score and its interval stay on one line
_NO_INTERVAL = "– (no interval)"


def named(identifier: str) -> str:
    """Return ``drug_response`` as "Drug response": how tasks, architectures, classes and tissues are written."""
    return display_name(identifier)


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
