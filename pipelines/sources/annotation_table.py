"""Tables that describe samples, probes or genes: keyed by one column, read as text."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Literal

from pipelines.errors import DataError, Finding, UserError
from pipelines.sources.archives import opened
from pipelines.text_values import clean, folded, known, quoted

ANNOTATION_BYTES = 1_000_000_000


def read_annotation(
    path: Path, choose: Callable[[list[str]], Sequence[str]], notes: list[str] | None = None
) -> dict[str, tuple[str, ...]]:
    """Read columns of a csv or tsv table, keyed by the first of them.

    Parameters
    ----------
    path, choose, notes
        As in `annotation_rows`; the key comes first.

    Returns
    -------
    dict
        The key to the other columns' cells, each ``""`` where not known. Rows without a key are left out.

    Raises
    ------
    DataError
        As in `annotation_rows`, or two rows of a key differ.
    """
    found: dict[str, tuple[str, ...]] = {}
    rows: dict[str, int] = {}
    for row, (key, *others) in annotation_rows(path, choose, notes=notes):
        if found.setdefault(key, tuple(others)) != tuple(others) and key:
            message = f"{key!r} stands twice, and differently; give it one row, or write the truth in both"
            raise DataError([Finding.at_rows("key_unique", path.name, None, [rows[key], row], message)])
        rows.setdefault(key, row)
    found.pop("", None)
    return found


def annotation_rows(
    path: Path, choose: Callable[[list[str]], Sequence[str]], *, comments: str = "", notes: list[str] | None = None
) -> list[tuple[int, tuple[str, ...]]]:
    """Read columns of a csv or tsv table.

    Parameters
    ----------
    path
        Table with a header, also gzipped, separated by tabs, commas or semicolons. UTF-8 or UTF-16, else Latin-1, in
        which the PanCanAtlas clinical table is.
    choose
        Given the header, the columns to read. A column is found in any case and whatever stands between its words.
    comments
        Characters that begin a line which is left out.
    notes
        Takes what words of the columns after the first were read as unknown, and how many cells had blanks too many.

    Returns
    -------
    list of tuple
        The position of each row and its cells as `clean` writes them, ``""`` where `is_unknown`.

    Raises
    ------
    DataError
        A column is missing or stands twice, or a row is not as wide as the header.
    """
    content = _annotation(path)
    if comments:
        content = re.sub(rf"^[{re.escape(comments)}].*\n?", "", content, flags=re.MULTILINE)
    first = content.lstrip("\r\n").partition("\n")[0]
    separator = "\t" if "\t" in first else max(",", ";", key=first.count)
    try:
        return _annotation_cells(content, separator, csv.QUOTE_MINIMAL, path.name, choose, notes)
    except DataError:
        if separator != "\t" or '"' not in content:
            raise
        try:  # 5" and the like: a tab-separated table of the official places quotes nothing
            return _annotation_cells(content, separator, csv.QUOTE_NONE, path.name, choose, notes)
        except DataError:
            pass
        raise


def _annotation(path: Path) -> str:
    with opened(path) as stream:
        raw = stream.read(ANNOTATION_BYTES + 1)
    if len(raw) > ANNOTATION_BYTES:
        raise UserError(f"{path}: has more than {ANNOTATION_BYTES / 1e6:g} MB; is it the table of the samples?")
    try:
        return raw.decode("utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _annotation_cells(
    content: str,
    separator: str,
    quoting: Literal[0, 3],
    file: str,
    choose: Callable[[list[str]], Sequence[str]],
    notes: list[str] | None,
) -> list[tuple[int, tuple[str, ...]]]:
    found = []
    blanks = 0
    try:
        reader = csv.reader(io.StringIO(content, newline=""), delimiter=separator, quoting=quoting)
        rows = (cells for cells in reader if cells)
        header = [clean(name) for name in next(rows, [])]
        wanted = [_column(header, name, file) for name in choose(header)]
        unknown = [Counter[str]() for _ in wanted]
        for row, cells in enumerate(rows):
            if len(cells) != len(header):
                message = f"must hold {len(header)} fields as the header does; download the file again"
                raise DataError([Finding.at_rows("row_width", file, None, [row], message)])
            read = []
            for place, words in zip(wanted, unknown, strict=True):
                cell = known(cells[place])
                if cell is None:
                    words[clean(cells[place])] += 1
                elif cell != cells[place]:
                    blanks += 1
                read.append(cell or "")
            found.append((row, tuple(read)))
    except csv.Error as error:
        message = f"not a readable table ({error}); download it again"
        raise DataError([Finding("file_readable", file, message)]) from error
    if notes is not None:
        for place, words in zip(wanted[1:], unknown[1:], strict=True):
            notes += unknown_words(f"{file}, column {header[place]!r}", words)
        if blanks:
            notes.append(f"{file}: blanks too many were taken out of {blanks} cells")
    return found


def unknown_words(where: str, words: Counter[str]) -> list[str]:
    """Return a note on the words that were read as unknown, and how often each stands there; none if only blanks."""
    said = [f"{word!r} ({count})" for word, count in words.most_common() if word]
    return [f"{where}: read as unknown: {', '.join(said)}"] if said else []


def column_of(header: Collection[str], names: Iterable[str]) -> str | None:
    """Return the first of ``names`` that a header has, exactly or else in another case or punctuation, None if none."""
    names = tuple(names)
    alike = {plain_header(name): name for name in header if plain_header(name)}
    return next((name for name in names if name in header), None) or next(
        (alike[plain_header(name)] for name in names if plain_header(name) in alike), None
    )


def plain_header(name: str) -> str:
    """Return a column's name as letters and digits alone, by which names of headers are compared."""
    return re.sub(r"[\W_]+", "", folded(name))


def _column(header: list[str], name: str, file: str) -> int:
    found = [place for place, held in enumerate(header) if held == name]
    found = found or [place for place, held in enumerate(header) if name and plain_header(held) == plain_header(name)]
    if len(found) == 1:
        return found[0]
    if found:
        same = len({header[place] for place in found}) == 1
        message = "the column stands twice; keep one" if same else f"it may be {quoted(header[at] for at in found)}"
        raise DataError([Finding("column_unique", file, message, name)])
    raise DataError([Finding("column_exists", file, f"the column is missing; the file has {quoted(header, 8)}", name)])
