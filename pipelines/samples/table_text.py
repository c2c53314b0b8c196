"""Text in raw tables: cleaned when a table is read, with a warning where it was, or where two texts look alike."""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from pipelines.errors import DataError, Finding
from pipelines.formatting import counted, listed
from pipelines.text_values import clean, folded, folded_id, known, known_column, look_alikes, quoted

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}
_CASED = ("smiles", "file")  # where case is chemistry, or another file
_NA_IS_A_NAME = "cell_line_id"  # there is a cell line that is called NA
_ALIKE_SHOWN = 3
_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+(e[+-]?\d+)?", re.IGNORECASE)
_TRUTH = {"true": True, "false": False}


def cleaned_text(values: pd.Series, file: str, notes: list[Finding], *, words: bool = True) -> pd.Series:
    """Return a column of text (object) without invisible blanks; ``notes`` takes a warning on what that changed.

    With ``words``, words for "unknown" are read as empty too, and texts that look alike are noted.
    """
    column = str(values.name)
    written = [value for value in values.unique() if isinstance(value, str)]
    meant = {value: known(value) if words else value.strip() or None for value in written}
    if column == _NA_IS_A_NAME:
        meant |= {value: "NA" for value in written if clean(value) == "NA"}
    stripped = [value for value, meaning in meant.items() if meaning is not None and meaning != value]
    unknown = [value for value, meaning in meant.items() if meaning is None and clean(value)]
    for name, changed, message in (
        ("text_clean", stripped, "had blanks at the ends or invisible signs ({found}); they are taken off"),
        ("text_known", unknown, "had a word for an unknown value ({found}); they are read as empty"),
    ):
        if changed:
            rows = np.flatnonzero(values.isin(changed))
            what = f"{counted(len(rows), 'cell')} {message.format(found=quoted(changed))}"
            notes.append(Finding.at_rows(name, file, column, rows, what, values=changed, severity="warning"))
    if words and column not in _CASED:
        tell_alike([meaning for meaning in meant.values() if meaning is not None], file, column, notes)
    if list(meant.values()) == written:
        return values.astype(object)
    read = [meant[value] if isinstance(value, str) else value for value in values]
    return pd.Series(read, index=values.index, name=values.name, dtype=object)


def tell_alike(texts: Iterable[str], file: str, column: str | None, notes: list[Finding]) -> None:
    """Add a warning to ``notes`` where texts differ in case, width or leading zeros alone."""
    if groups := look_alikes(texts, folded_id):
        found = listed([" and ".join(map(repr, group)) for group in groups], _ALIKE_SHOWN)
        what = "differ in case, width or leading zeros alone, and are read as different texts"
        message = f"{found}: these {what}; write them alike if they are the same"
        values = [text for group in groups for text in group]
        notes.append(Finding.at_rows("text_alike", file, column, [], message, values=values, severity="warning"))


def typed(values: pd.Series, *, decimal_commas: bool = False) -> pd.Series:
    """Return text as numbers or truth values if all known cells are; ids with gaps stay text, not to be decimals."""
    if len(values) and _are_numbers(values):
        return pd.to_numeric(values, errors="coerce")
    cells = known_column(values)
    found = cells.dropna()
    if len(found) and len(found) == len(cells) and {text.lower() for text in found.unique()} <= _TRUTH.keys():
        return cells.str.lower().map(_TRUTH).astype(bool)
    if len(found) < len(cells) and str(values.name).endswith("_id"):
        return values
    if decimal_commas and found.str.fullmatch(_DECIMAL_COMMA).any():
        cells = cells.str.replace(",", ".")
    if not _are_numbers(cells.dropna()):
        return values
    numbers = pd.to_numeric(cells, errors="coerce")
    return numbers if len(found) else numbers.astype(float)


def _are_numbers(texts: pd.Series) -> bool:
    return bool(pd.to_numeric(pd.Series(texts.unique(), dtype=object), errors="coerce").notna().all())


def header_names(names: Iterable[object], file: str, notes: list[Finding]) -> list[str]:
    """Return names of columns as `clean` writes them, and add to ``notes`` which were not written so."""
    written = [str(name) for name in names]
    read = [clean(name) for name in written]
    if changed := [one for one, name in zip(written, read, strict=True) if one != name and name]:
        what = f"{len(changed)} names of columns had blanks at the ends or invisible signs ({quoted(changed)})"
        notes.append(Finding("column_clean", file, f"{what}; they are taken off", severity="warning"))
    return read


def decoded(raw: bytes, file: str) -> str:
    """Return the text of a CSV file in UTF-8, or in UTF-16 with its mark; raise a `DataError` if it is another file."""
    try:
        text = raw.decode("utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError as error:
        row = raw[: error.start].count(b"\n")
        message = f"not UTF-8 (byte {raw[error.start]:#04x}); unpack it if it is packed, and save it as CSV in UTF-8"
        raise DataError([Finding.at_rows("file_encoding", file, None, [max(row - 1, 0)], message)]) from error
    if "\0" in text:
        message = "has zero bytes, as UTF-16 without its mark and workbooks do; save it as CSV in UTF-8"
        raise DataError([Finding("file_encoding", file, message)])
    return text


def separator(content: str, text: Sequence[str]) -> str:
    """Return what separates the fields: the sign by which the header has most of the needed columns, else the comma."""
    first = next((line for line in io.StringIO(content, newline="") if line.strip()), "")
    names = {sign: {clean(name) for row in csv.reader([first], delimiter=sign) for name in row} for sign in SEPARATORS}
    return max(SEPARATORS, key=lambda sign: len(names[sign] & set(text)))


def missing_file(path: Path) -> Finding:
    """Return the finding for a missing file, with what is there in its place."""
    if path.exists():
        return Finding("file_exists", path.name, f"is no file in {path.parent}; put the file in its place")
    there = sorted(other.name for other in path.parent.iterdir()) if path.parent.is_dir() else []
    held = f", which has {quoted(there, 8)}" if there else ""
    return Finding("file_exists", path.name, f"the file is missing in {path.parent}{held}; add it")


def letters_of(name: str) -> str:
    """Return text without case, blanks and punctuation."""
    return re.sub(r"[\W_]+", "", folded(name))
