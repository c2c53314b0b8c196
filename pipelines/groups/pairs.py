"""Groups of responses, by cell line, drug or tissue, and content that must not be on two sides of a split."""

import hashlib
import re

import numpy as np
import pandas as pd

from pipelines.groups import connected, pairs_by
from pipelines.params import UNSEEN_DRUGS, Split
from pipelines.samples.molecules import pubchem_id
from pipelines.samples.response import ResponseSamples, molecule_keys
from pipelines.text_values import known_column

_NO_NAMES = ("", "several", "unnamed")  # besides the words that mean unknown


def group_samples(samples: ResponseSamples, split: Split) -> tuple[pd.Series, pd.Series]:
    """Return for each sample its group, and the stratum that groups are balanced by; text, shape ``(n,)``."""
    none = pd.Series("", index=samples.pairs.index)
    if split.mode in UNSEEN_DRUGS:
        return pd.Series(drug_groups(samples.drugs).to_numpy()[samples.drug]), none
    tissue = samples.cell_lines["tissue"]
    cell_group = cell_line_groups(samples, split.near_identical)
    if split.mode in ("cell_blind", "cross_study"):
        group, stratum = (pd.Series(each.to_numpy()[samples.cell]) for each in (cell_group, tissue))
        if split.mode == "cross_study":  # lines of one study alone are dealt evenly too
            studies = samples.pairs["study"].astype(str).groupby(group).agg(lambda names: "+".join(sorted(set(names))))
            stratum = group.map(studies) + "|" + stratum
        return group, stratum
    if split.mode == "tissue_blind":
        joined = connected(tissue.index, [*pairs_by(cell_group), *pairs_by(tissue)])
        name = tissue.groupby(joined).agg(lambda values: "+".join(sorted(set(values))))
        return pd.Series(joined.map(name).to_numpy()[samples.cell]), none
    who, what = cell_group.to_numpy()[samples.cell], drug_groups(samples.drugs).to_numpy()[samples.drug]
    return pd.Series([f"{cell}|{drug}" for cell, drug in zip(who, what, strict=True)]), none


def cell_line_groups(samples: ResponseSamples, near_identical: float) -> pd.Series:
    """Return for each cell line the first id of its group.

    One line under two names (same ``name`` but for case and punctuation), and lines whose profiles of any omics are
    identical, or whose expression profiles correlate above ``near_identical``, are one group.
    """
    edges = pairs_by(_plain_names(samples.cell_lines))
    for hashes in profile_hashes(samples).values():
        edges += pairs_by(hashes.dropna())
    if "expression" in samples.omics:
        table = samples.omics["expression"]
        above = np.argwhere(np.triu(_correlation(table.to_numpy(np.float64)) > near_identical, k=1))
        edges += [(table.index[i], table.index[j]) for i, j in above]
    return connected(samples.cell_lines.index, edges)


def drug_groups(drugs: pd.DataFrame) -> pd.Series:
    """Return for each drug the first id of its group.

    One parent molecule, one PubChem id or one ``name`` (but for case and punctuation) is one drug. Collections have
    one drug as two salts or tautomers, each with its own SMILES and PubChem id, so the name is needed.
    """
    edges = [*pairs_by(molecule_keys(drugs)), *pairs_by(_plain_names(drugs))]
    if "pubchem_id" in drugs:
        edges += pairs_by(drugs["pubchem_id"].map(pubchem_id).dropna())
    return connected(drugs.index, edges)


def profile_hashes(samples: ResponseSamples) -> dict[str, pd.Series]:
    """Return for each continuous omics a hash of each cell line's profile, None where it is unknown or constant."""
    hashes = {}
    for name, table in samples.omics.items():
        if name == "mutation":  # two unrelated lines without a listed mutation are not one sample
            continue
        values = table.to_numpy() + np.float32(0)  # makes a negative zero positive
        lowest = np.where(np.isnan(values), np.inf, values).min(axis=1, initial=np.inf)
        highest = np.where(np.isnan(values), -np.inf, values).max(axis=1, initial=-np.inf)
        each = pd.Series([hashlib.sha256(row.tobytes()).hexdigest() for row in values], index=table.index, dtype=object)
        hashes[name] = each.where(lowest < highest, None)
    return hashes


def sample_identities(samples: ResponseSamples, mode: str) -> dict[str, pd.Series]:
    """Return what must not be on two sides besides the group: one text a sample, None where it is unknown."""
    profiles = {name: hashes.to_numpy()[samples.cell] for name, hashes in profile_hashes(samples).items()}
    cell = samples.pairs["cell_line_id"].to_numpy()
    if mode == "random":
        molecule = molecule_keys(samples.drugs).to_numpy()[samples.drug]
        return {
            f"{name} and molecule": pd.Series(
                [None if who is None else f"{who}|{what}" for who, what in zip(content, molecule, strict=True)],
                dtype=object,
            )
            for name, content in {"cell line": cell, **profiles}.items()
        }
    if mode in UNSEEN_DRUGS:
        return {"molecule": pd.Series(molecule_keys(samples.drugs).to_numpy()[samples.drug])}
    identities = {"cell line": pd.Series(cell)}
    if mode == "tissue_blind":
        identities["tissue"] = pd.Series(samples.cell_lines["tissue"].to_numpy()[samples.cell])
    return identities | {f"{name} profile": pd.Series(content, dtype=object) for name, content in profiles.items()}


def _plain_names(table: pd.DataFrame) -> pd.Series:
    """Return the column ``name`` without case and punctuation, for the rows that have a name."""
    if "name" not in table:
        return pd.Series(dtype=object)
    plain = known_column(table["name"]).dropna().map(lambda name: re.sub(r"[\W_]+", "", str(name).casefold()))
    return plain[~plain.isin(_NO_NAMES)]


def _correlation(profiles: np.ndarray) -> np.ndarray:
    """Return the Pearson correlation of every two rows over the columns that both have; NaN below half of them."""
    known = ~np.isnan(profiles)
    mean = np.where(known, profiles, 0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    values = np.where(known, profiles - mean[:, None], 0)
    has = known.astype(np.float64)
    count = has @ has.T
    with np.errstate(invalid="ignore", divide="ignore"):
        total = values @ has.T
        covariance = values @ values.T - total * total.T / count
        variance = values**2 @ has.T - total**2 / count
        correlation = covariance / np.sqrt(variance * variance.T)
    return np.where(2 * count >= max(profiles.shape[1], 2), correlation, np.nan)
