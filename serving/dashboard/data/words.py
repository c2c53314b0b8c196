"""How the dashboard writes: names in the place of ids, scores with their interval, moments, and text left as it is."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from pipelines import formatting
from pipelines.formatting import counted as counted
from pipelines.formatting import listed as listed
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
    """Return text in which Streamlit's Markdown sees nothing but text, on one line."""
    return _MARKDOWN.sub(r"\\\1", _BLANK.sub(" ", str(text)).strip(" "))


def number(value: float | None, digits: int = 3, sign: str = "") -> str:
    """Return a number with ``digits`` decimals, and a dash for what is not known."""
    return formatting.number(value, f",.{digits}f", sign=sign).replace("-", "−")


def with_interval(found: Mapping[str, Any], key: str = "value", digits: int = 3, sign: str = "") -> str:
    """Return a score with the ends of its interval; a score without an interval is not shown.

    Parameters
    ----------
    found
        ``key``, ``low`` and ``high``.
    """
    return _unbroken(formatting.interval(found, key, f",.{digits}f", sign=sign, nothing=_NO_INTERVAL))


def share(value: float | None, digits: int = 0) -> str:
    """Return a share in percent."""
    return formatting.share(value, digits).replace("%", f"{_SPACE}%")


def share_with_interval(found: Mapping[str, Any], key: str = "value") -> str:
    """Return a share in percent with the ends of its interval, as `with_interval` does."""
    value, *between = _unbroken(formatting.interval(found, key, ".1%", nothing=_NO_INTERVAL)).split(_SPACE, 1)
    return value.replace("%", f"{_SPACE}%") + "".join(f"{_SPACE}{ends.replace('%', '')}" for ends in between)


def _unbroken(score: str) -> str:
    return score if score == _NO_INTERVAL else score.replace("-", "−").replace(" ", _SPACE)


def micromolar(value: float | None) -> str:
    """Return a concentration with three significant digits, in µM."""
    if value is None or not math.isfinite(value):
        return "–"
    if value >= 1000 or value < 0.001:
        return f"{value:.1e}"
    return f"{value:.3g}"


def moment(text: str) -> str:
    """Return an ISO moment as "20 Nov 2026, 16:49 UTC"; text that is none as it stands."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return text
    found = found.astimezone(UTC) if found.tzinfo else found
    return f"{found.day} {found:%b %Y, %H:%M} UTC"


def version_title(architecture: str, version: int | str) -> str:
    """Return how a version is called."""
    return f"version {version}, {named(architecture)}"


def yes_no(values: Iterable[bool | None]) -> list[str]:
    """Return "yes", "no", and "not known" for None."""
    return [{True: "yes", False: "no"}.get(value, "not known") for value in values]  # type: ignore[arg-type]
