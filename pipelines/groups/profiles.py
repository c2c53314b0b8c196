"""Groups of profiles: those of a patient, and copies of one another."""

import numpy as np
import pandas as pd

from pipelines.groups import owned_groups, pairs_by
from pipelines.params import Split
from pipelines.samples.expression import ExpressionSamples

_BLOCK = 1024


def group_samples(samples: ExpressionSamples, split: Split) -> tuple[pd.Series, pd.Series]:
    """Return the groups of profiles, those of a patient and copies, and each group's usual stratum, ``(n,)``."""
    copies = similar_profiles(samples, split.near_identical)
    owner = "patient_id" if split.mode == "patient_blind" else None
    return owned_groups(samples.table, copies, owner, samples.table[samples.stratum].fillna("").astype(str))


def sample_identities(samples: ExpressionSamples, mode: str) -> dict[str, pd.Series]:
    """Return what must not be on two sides: the profile, and the patient."""
    identities = {"profile": pd.Series(samples.table["digest"].to_numpy(), dtype=object)}
    if mode == "patient_blind":
        identities["patient"] = pd.Series(samples.table["patient_id"].to_numpy(), dtype=object)
    return identities


def similar_profiles(samples: ExpressionSamples, near_identical: float) -> pd.DataFrame:
    """Return pairs of profiles that correlate above ``near_identical`` in log2 units, less each gene's mean.

    Any two samples of one tissue correlate above 0.9 before gene means are subtracted, and about 0 after. Columns are
    ``a``, ``b`` (positions, ``a < b``), ``similarity`` (correlation) and ``how``: ``identical`` or ``near``. Of
    identical profiles only neighbors are paired, and only the first is compared with others.
    """
    order = np.argsort(samples.table["sample_id"].to_numpy(str), kind="stable")
    digests = pd.Series(samples.table["digest"].to_numpy(object)[order])
    identical = order[np.array(pairs_by(digests), dtype=int).reshape(-1, 2)]
    found = [(int(a), int(b), 1.0, "identical") for a, b in identical]
    first = order[~digests.duplicated().to_numpy()]
    values = samples.take(first).logged().astype(np.float32)
    known = ~np.isnan(values)
    mean = np.where(known, values, 0).sum(axis=0, dtype=np.float64) / np.maximum(known.sum(axis=0), 1)
    values = np.where(known, values - mean.astype(np.float32), 0)
    values -= values.mean(axis=1, keepdims=True)
    size = np.sqrt((values**2).sum(axis=1, keepdims=True))
    values /= np.where(size > 0, size, 1)
    for start in range(0, len(values), _BLOCK):
        alike = values[start : start + _BLOCK] @ values[start:].T
        rows, columns = np.nonzero(np.triu(alike > near_identical, k=1))
        found += [
            (int(first[start + a]), int(first[start + b]), min(float(alike[a, b]), 1.0), "near")
            for a, b in zip(rows, columns, strict=True)
        ]
    pairs = [(min(a, b), max(a, b), similarity, how) for a, b, similarity, how in found]
    return pd.DataFrame(sorted(pairs), columns=["a", "b", "similarity", "how"])
