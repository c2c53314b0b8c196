"""Connected components of samples."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd


def pairs_by(key: pd.Series) -> list[tuple[str, str]]:
    """Return pairs of neighboring index labels that share a key."""
    return [(a, b) for labels in key.groupby(key).groups.values() for a, b in zip(labels[:-1], labels[1:], strict=True)]


def connected(ids: pd.Index, edges: Iterable[tuple[str, str]]) -> pd.Series:
    """Return for each id the smallest id of its connected component."""
    parent = {name: name for name in ids}

    def root(name: str) -> str:
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    for a, b in edges:
        a, b = sorted((root(a), root(b)))
        parent[b] = a
    return pd.Series([root(name) for name in ids], index=ids)
