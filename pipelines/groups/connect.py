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


def owned_groups(
    table: pd.DataFrame, copies: pd.DataFrame, owner: str | None, stratum: pd.Series
) -> tuple[pd.Series, pd.Series]:
    """Return for each sample its group and the most frequent ``stratum`` of the group; text, shape ``(n,)``.

    Samples that ``copies`` pairs by position are one group, and so are those of one ``owner``, a column of ``table``.
    """
    ids = pd.Index(table["sample_id"])
    edges = [(ids[a], ids[b]) for a, b in copies[["a", "b"]].to_numpy(int)]
    if owner is not None:
        edges += pairs_by(pd.Series(table[owner].to_numpy(), index=ids, dtype=object).dropna())
    group = pd.Series(connected(ids, edges).to_numpy())
    common = stratum.groupby(group.to_numpy()).agg(lambda labels: labels.mode().iloc[0])
    return group, pd.Series(group.map(common).to_numpy())
