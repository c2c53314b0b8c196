"""Ways to damage files of a folder, each named by a pattern."""

from __future__ import annotations

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


def change(file: str, old: str, new: str) -> Damage:
    def replaced(text: bytes) -> bytes:
        assert old.encode() in text
        return text.replace(old.encode(), new.encode(), 1)

    return rewrite(file, replaced)


def put(file: str, content: bytes) -> Damage:
    return rewrite(file, lambda _: content)


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


def cell(file: str, column: str, row: int, value: str) -> Damage:
    return edited(file, lambda table: table.assign(**{column: table[column].where(table.index != row, value)}))
