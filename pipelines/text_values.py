"""Text in tables: words for unknown values, and texts that look the same."""

import re
import unicodedata
from collections.abc import Hashable, Iterable
from decimal import Decimal
from numbers import Real
from typing import TYPE_CHECKING, Any

from pipelines.formatting import listed

if TYPE_CHECKING:  # lists of names are read without pandas, which would take longer to load
    import pandas as pd

UNKNOWN_WORDS = frozenset(
    {
        *("", "na", "n/a", "n.a.", "n.a", "#n/a", "<na>", "nan", "#na", "null", "none", "nil", "(null)", "(none)"),
        *("unknown", "not known", "unk", "undetermined", "unspecified", "missing", "blank", "(blank)", "empty"),
        *("not available", "not applicable", "not reported", "not recorded", "not evaluated", "not provided"),
        *("not collected", "not determined", "not specified", "not assessed", "not tested", "not allowed to collect"),
        *("discrepancy", "pending", "no data", "data not available", "to be determined", "tbd"),
        *("-", "--", "---", "'--", "'-", "–", "—", "?", "??", ".", "..", "*", "_", "#value!", "#ref!", "#name?"),
    }
)
"""Words in place of an unknown value, as `folded` writes them and without square brackets.

Words of the GDC (``'--``, ``not reported``), of TCGA's clinical files (``[Not Available]``, ``[Discrepancy]``), of
GEO, of Affymetrix annotation (``---``), and of spreadsheets, R and pandas.
"""
_BLANKS = re.compile(r"[\s\u00a0\u1680\u2000-\u200d\u202f\u205f\u2060\u3000\ufeff]+")
_NUMBER = re.compile(r"\d{1,30}(\.\d*)?(e\+?\d{1,2})?")
_BRACKETS = re.compile(r"[\[<]\s*(.*?)\s*[\]>]")


def clean(text: str) -> str:
    """Return text without blanks of any width at its ends, and with one space for those inside."""
    if text.isascii():  # three times as fast
        return " ".join(text.split())
    return _BLANKS.sub(" ", unicodedata.normalize("NFC", text)).strip()


def folded(text: str) -> str:
    """Return text as `clean` does, in one case, width and composition of letters."""
    if text.isascii():
        return " ".join(text.lower().split())
    return _BLANKS.sub(" ", unicodedata.normalize("NFKC", text).casefold()).strip()


def folded_id(value: Any) -> str:
    """Return an id as `folded` does, and a number in one spelling: ``12`` of ``0012`` or ``1.2e1``."""
    text = folded(str(value))
    return f"{Decimal(text).normalize():f}" if _NUMBER.fullmatch(text) else text


def is_unknown(value: Any) -> bool:
    """Return whether a cell says that nothing is known: it is missing, blank, or one of `UNKNOWN_WORDS`."""
    if not isinstance(value, str):
        missing = type(value).__name__ in ("NAType", "NaTType")
        return value is None or missing or (isinstance(value, Real) and value != value)
    word = folded(value)
    inside = _BRACKETS.fullmatch(word)
    return word in UNKNOWN_WORDS or (inside is not None and inside[1] in UNKNOWN_WORDS)


def known(value: Any) -> str | None:
    """Return a cell's text as `clean` writes it, None where `is_unknown`."""
    return None if is_unknown(value) else clean(str(value))


def known_column(column: "pd.Series") -> "pd.Series":
    """Return a column of text as `known` reads each cell, of type object with None for what is unknown."""
    import pandas as pd

    texts = {value: known(value) for value in {value for value in column if isinstance(value, str)}}
    cells = [texts[value] if isinstance(value, str) else known(value) for value in column]
    return pd.Series(cells, index=column.index, dtype=object, name=column.name)


def look_alikes(values: Iterable[Any], key: Any = folded) -> list[tuple[str, ...]]:
    """Return the groups of different texts with the same ``key``, each sorted, in the order of the first."""
    groups: dict[Hashable, list[str]] = {}
    for value in dict.fromkeys(value for value in values if isinstance(value, str)):
        groups.setdefault(key(value), []).append(value)
    return [tuple(sorted(group)) for group in groups.values() if len(group) > 1]


def quoted(names: Iterable[Any], count: int = 5) -> str:
    """Return the first names in quotation marks, so that blanks show, and how many more there are."""
    return listed([repr(str(name)) for name in names], count)
