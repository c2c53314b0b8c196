"""How reports, pages and commands write numbers: with their interval, as p-values, shares, counts and costs."""

import math
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import Any

NOTHING = "–"
UNDEFINED = "not defined"
FEW_DROPPED = 0.05  # of the resamples, which may leave a metric undefined without being told of


def finite(*values: Any) -> bool:
    """Return whether all values are finite numbers."""
    return all(isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value) for value in values)


def number(value: Any, form: str = ".3f", *, sign: str = "", nothing: str = NOTHING) -> str:
    """Return a number by a format, ``nothing`` for what is not finite; ``sign`` is "+" for differences."""
    return f"{value:{sign}{form}}" if finite(value) else nothing


def ends(found: Mapping[str, Any], form: str = ".3f", *, sign: str = "") -> str:
    """Return the ends of an interval, ``[low, high]``."""
    return f"[{number(found.get('low'), form, sign=sign)}, {number(found.get('high'), form, sign=sign)}]"


def interval(
    found: Mapping[str, Any],
    key: str = "value",
    form: str = ".3f",
    *,
    sign: str = "",
    nothing: str = NOTHING,
    alone: str = "– (no interval)",
) -> str:
    """Return a number with its interval, ``0.800 [0.750, 0.850]``, of ``key``, ``low`` and ``high``.

    Above `FEW_DROPPED`, the share of resamples that the interval leaves out (``dropped``) is told.
    """
    value = number(found.get(key), form, sign=sign, nothing=nothing)
    if value == nothing:
        return nothing
    dropped = found.get("dropped") or 0.0
    if finite(found.get("low"), found.get("high")):
        told = f" ({dropped:.0%} of resamples left out)" if dropped > FEW_DROPPED else ""
        return f"{value} {ends(found, form, sign=sign)}{told}"
    return f"{value} (no interval: undefined in {dropped:.0%} of resamples)" if dropped else alone.format(value)


def p_value(value: float | None) -> str:
    """Return a p-value: two decimals, three below 0.1, and a bound below 0.001."""
    if not finite(value) or value is None:
        return NOTHING
    return "< 0.001" if value < 0.001 else f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


def share(value: float | None, digits: int = 1) -> str:
    """Return a share in percent."""
    return number(value, f".{digits}%")


def cost(value: float | None, digits: int = 3) -> str:
    """Return a duration, a size or another cost with so many significant digits, from 1000 on as a whole number."""
    return number(value, ",.0f" if finite(value) and abs(value or 0) >= 1000 else f".{digits}g")


def counted(count: int, one: str, many: str = "") -> str:
    """Return "1 sample", "3 samples"."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def listed(names: Iterable[str], most: int = 5) -> str:
    """Return the first names, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def lines(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table for the terminal: the first column to the left, all others to the right."""
    widths = [max(len(row[at]) for row in (head, *rows)) for at in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        others = zip(cells[1:], widths[1:], strict=True)
        return cells[0].ljust(widths[0]) + "".join(f"  {cell.rjust(width)}" for cell, width in others)

    return "\n".join([line(head), "-" * (sum(widths) + 2 * len(widths) - 2), *map(line, rows)])
