"""Groups of profiles: those of a patient, a hospital or a plate, and copies of one another."""

import numpy as np
import pandas as pd

from pipelines.errors import UserError
from pipelines.groups import owned_groups, pairs_by
from pipelines.params import Split
from pipelines.samples.barcodes import origin
from pipelines.samples.expression import ExpressionSamples

_BLOCK = 1024
_ORIGINS = {"site_blind": "site", "plate_blind": "plate"}


def group_samples(samples: ExpressionSamples, split: Split) -> tuple[pd.Series, pd.Series]:
    """Return the groups of profiles and each group's usual stratum, ``(n,)``.

    Copies are one group, and but in ``random`` those of a patient. In ``site_blind`` and ``plate_blind`` so are those
    of a site or plate, where it is known, with all patients and copies that lead from one to the next.
    """
    owners = list(_owners(samples, split.mode).values())
    copies = similar_profiles(samples, split.near_identical)
    return owned_groups(samples.table, copies, owners, samples.table[samples.stratum].fillna("").astype(str))


def sample_identities(samples: ExpressionSamples, mode: str) -> dict[str, pd.Series]:
    """Return what must not be on two sides: the profile, the patient, and the site or plate.

    `UserError` where a sample's site or plate is unknown, which could be on two sides.
    """
    owners, name = _owners(samples, mode), _ORIGINS.get(mode)
    if name is not None:
        _refuse_unknown(mode, name, owners.get(name), samples.table["sample_id"])
    return {"profile": pd.Series(samples.table["digest"].to_numpy(), dtype=object)} | owners


def _owners(samples: ExpressionSamples, mode: str) -> dict[str, pd.Series]:
    """Return whose a profile is, by what a split mode keeps apart; a cohort that is scored may have no site."""
    if mode == "random":
        return {}
    owners = {"patient": pd.Series(samples.table["patient_id"].to_numpy(), dtype=object)}
    if (name := _ORIGINS.get(mode)) is not None and (found := origin(samples.table, name)) is not None:
        owners[name] = found.reset_index(drop=True)
    return owners


def _refuse_unknown(mode: str, name: str, found: pd.Series | None, ids: pd.Series) -> None:
    if found is None:
        raise UserError(
            f"split mode {mode}: samples.csv has no column {name}, and the samples' ids are no barcodes of TCGA that "
            "name it; add the column, or choose another mode"
        )
    if len(unknown := ids[found.isna().to_numpy()]):
        raise UserError(
            f"split mode {mode}: the {name} of {len(unknown)} of {len(ids)} samples is unknown, such as that of "
            f"{unknown.iloc[0]}, which could be on two sides; fill a column {name} of samples.csv, leave these samples "
            "out with data.exclude, or choose another mode"
        )


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
