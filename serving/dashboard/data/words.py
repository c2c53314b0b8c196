"""How the dashboard writes names, numbers, scores with their intervals, times, and text that is not Markdown."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from training.architectures import display_name

SIMULATED = "Simulated data: nothing here is a result about patients, cells or drugs."
RESEARCH = "For research: no output of this page is a medical device's."
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>#|~&$:])")
_BLANK = re.compile(r"[ \t\r\n]+")
_SPACE = "\u00a0"  # a score and its interval stay on one line


def named(identifier: str) -> str:
    """Return ``drug_response`` as "Drug response": how tasks, architectures, classes and tissues are written."""
    return display_name(identifier)


def plain(text: Any) -> str:
    """Return text on one line, in which Streamlit's Markdown finds no markup."""
    return _MARKDOWN.sub(r"\\\1", _BLANK.sub(" ", str(text)).strip(" "))


def _known(*values: float | None) -> bool:
    return all(value is not None and math.isfinite(value) for value in values)


def number(value: float | None, digits: int = 3, sign: str = "") -> str:
    """Return a number with ``digits`` decimals, and a dash for an unknown one."""
    return f"{value:{sign},.{digits}f}".replace("-", "−") if _known(value) else "–"


def share(value: float | None, digits: int = 0) -> str:
    """Return a share in percent."""
    return f"{100 * (value or 0):.{digits}f}{_SPACE}%" if _known(value) else "–"


def with_interval(found: Mapping[Any, Any], sign: str = "") -> str:
    """Return the score ``value`` with its interval ``low`` to ``high``; a score without an interval is not shown."""
    ends = [found.get(key) for key in ("value", "low", "high")]
    if not _known(*ends):
        return "– (no interval)"
    value, low, high = (number(end, 3, sign) for end in ends)
    return f"{value}{_SPACE}[{low},{_SPACE}{high}]"


def share_with_interval(found: Mapping[str, Any], key: str = "value") -> str:
    """Return the share ``key`` in percent with its interval, as `with_interval` does."""
    if not _known(found.get(key), found.get("low"), found.get("high")):
        return "– (no interval)"
    return f"{share(found[key], 1)}{_SPACE}[{100 * found['low']:.1f},{_SPACE}{100 * found['high']:.1f}]"


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


def counted(count: int, one: str) -> str:
    """Return "1 sample", "3 samples"."""
    return f"{count:,} {one}{'' if count == 1 else 's'}"


def listed(names: list[str], most: int = 5) -> str:
    """Return the first names, and how many more there are."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def yes_no(values: Iterable[bool | None]) -> list[str]:
    """Return "yes", "no", and "not known" for None."""
    return ["not known" if value is None else "yes" if value else "no" for value in values]
