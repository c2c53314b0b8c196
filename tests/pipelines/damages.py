"""Ways to damage files of a download below a folder, each named by a pattern."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

Damage = Callable[[Path], Any]


def _found(folder: Path, file: str) -> Path:
    (path,) = folder.rglob(file)
    return path


def change(file: str, old: str, new: str) -> Damage:
    def damage(folder: Path) -> None:
        path = _found(folder, file)
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    return damage


def put(file: str, content: bytes) -> Damage:
    return lambda folder: _found(folder, file).write_bytes(content)


def rewrite(file: str, change: Callable[[bytes], bytes]) -> Damage:
    return lambda folder: _found(folder, file).write_bytes(change(_found(folder, file).read_bytes()))


def cell(file: str, column: str, row: int, value: str) -> Damage:
    def damage(folder: Path) -> None:
        table = pd.read_csv(_found(folder, file), dtype=str)
        table.loc[row, column] = value
        table.to_csv(_found(folder, file), index=False)

    return damage


def again(file: str, row: int, **changes: str) -> Damage:
    """Return a damage that adds a row again, with other cells."""

    def damage(folder: Path) -> None:
        table = pd.read_csv(_found(folder, file), dtype=str)
        pd.concat([table, table.iloc[[row]].assign(**changes)]).to_csv(_found(folder, file), index=False)

    return damage
