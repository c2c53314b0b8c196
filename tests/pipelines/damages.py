"""Ways to damage files of a folder, each named by a pattern."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

Damage = Callable[[Path], Any]


def rewrite(file: str, change: Callable[[bytes], bytes]) -> Damage:
    def damage(folder: Path) -> None:
        (path,) = folder.rglob(file)
        path.write_bytes(change(path.read_bytes()))

    return damage


def change(file: str, old: str, new: str, encoding: str = "utf-8") -> Damage:
    def replaced(text: bytes) -> bytes:
        assert old.encode() in text
        return text.replace(old.encode(), new.encode(encoding), 1)

    return rewrite(file, replaced)


def put(file: str, content: bytes) -> Damage:
    return rewrite(file, lambda _: content)


def removed(file: str) -> Damage:
    return lambda folder: (folder / file).unlink()


def edited(file: str, edit: Callable[[pd.DataFrame], pd.DataFrame | None]) -> Damage:
    """Return a damage of one table; ``edit`` returns another one or changes the given one, in CSV a table of text."""

    def damage(folder: Path) -> None:
        (path,) = folder.rglob(file)
        parquet = path.suffix == ".parquet"
        table = pd.read_parquet(path) if parquet else pd.read_csv(path, dtype=str)
        changed = edit(table)
        table = table if changed is None else changed
        table.to_parquet(path, index=False) if parquet else table.to_csv(path, index=False)

    return damage


def renamed(file: str, old: str, new: str) -> Damage:
    return edited(file, lambda table: table.rename(columns={old: new}))


def column(file: str, name: str, values: Any) -> Damage:
    """Return a damage that writes a column anew: values, or a function of the table that returns them."""
    return edited(file, lambda table: table.assign(**{name: values(table) if callable(values) else values}))


def cell(file: str, row: int, column: str | int, value: Any) -> Damage:
    """Return a damage that writes ``value`` into one cell; rows count from 1, as in findings."""
    return block(file, slice(row - 1, row), column, value)


def block(file: str, rows: slice, columns: slice | str | int, value: Any) -> Damage:
    def change(table: pd.DataFrame) -> None:
        at: Any = table.columns.get_loc(columns) if isinstance(columns, str) else columns
        if isinstance(value, float):
            numbers: Any = table.columns[at]
            table[numbers] = table[numbers].astype(float)
        table.iloc[rows, at] = value

    return edited(file, change)


def files_below(folder: Path) -> dict[str, bytes]:
    """Return the content of every file below ``folder``, by its path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
