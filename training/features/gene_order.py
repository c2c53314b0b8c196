"""An order of genes in which correlated genes are adjacent."""

from __future__ import annotations

import numpy as np


def correlation_order(values: np.ndarray) -> np.ndarray:
    """Return an order of the columns of ``values``, centered training rows ``(n, columns)``; int64, ``(columns,)``.

    Hierarchical clustering with average linkage; the distance is one less the absolute correlation.
    """
    from scipy.cluster.hierarchy import leaves_list, linkage

    count = values.shape[1]
    if count < 3:
        return np.arange(count)
    values = values / np.maximum(np.linalg.norm(values, axis=0), 1e-6)
    distance = np.clip(1 - np.abs(values.T @ values), 0, 1)
    return leaves_list(linkage(distance[np.triu_indices(count, 1)], "average")).astype(np.int64)
