"""Groups that never cross a split, and content that must not be on two sides; a module a modality."""

import importlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from pipelines.params import Split


def group_samples(samples: Any, split: Split) -> tuple[pd.Series, pd.Series]:
    """Return for each sample its group, and the stratum that groups are balanced by; text, shape ``(n,)``."""
    groups: tuple[pd.Series, pd.Series] = _of(samples).group_samples(samples, split)
    return groups


def sample_identities(samples: Any, mode: str) -> dict[str, pd.Series]:
    """Return what must not be on two sides besides the group: name to one text a sample, None where unknown."""
    identities: dict[str, pd.Series] = _of(samples).sample_identities(samples, mode)
    return identities


def _of(samples: Any) -> Any:
    return importlib.import_module(f"{__name__}.{samples.modality}")


def pairs_by(key: pd.Series) -> list[tuple[str, str]]:
    """Return pairs of neighboring index labels that share a key."""
    return [(a, b) for labels in key.groupby(key).groups.values() for a, b in zip(labels[:-1], labels[1:], strict=True)]


def connected(ids: pd.Index, edges: Iterable[tuple[str, str]]) -> pd.Series:
    """Return for each id the smallest id of its connected component."""
    ends = [ids.get_indexer(pd.Index(side)) for side in zip(*edges, strict=True)] or [np.empty(0, int)] * 2
    graph = coo_array((np.ones(len(ends[0])), tuple(ends)), shape=(len(ids), len(ids)))
    component = connected_components(graph, directed=False)[1]
    return pd.Series(ids.to_numpy(), index=ids).groupby(component).transform("min")


def owned_groups(
    table: pd.DataFrame, copies: pd.DataFrame, owners: Iterable[pd.Series], stratum: pd.Series
) -> tuple[pd.Series, pd.Series]:
    """Return for each sample its group and the most frequent ``stratum`` of the group; text, shape ``(n,)``.

    Copies are one group, and so are samples of one owner: each of ``owners`` is a row a sample, None where unknown.
    """
    ids = pd.Index(table["sample_id"])
    edges = [(ids[a], ids[b]) for a, b in copies[["a", "b"]].to_numpy(int)]
    for owner in owners:
        edges += pairs_by(pd.Series(owner.to_numpy(), index=ids, dtype=object).dropna())
    group = pd.Series(connected(ids, edges).to_numpy())
    common = stratum.groupby(group.to_numpy()).agg(lambda labels: labels.mode().iloc[0])
    return group, pd.Series(group.map(common).to_numpy())
