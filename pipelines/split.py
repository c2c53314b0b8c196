"""Assigning samples to train, validation, test and folds, by group; and the guard that refuses a leak.

A *group* never crosses a split. Which group a sample belongs to depends on the question asked of the model
(`SplitMode`): unseen cell lines, unseen drugs, unseen tissues, or merely unseen pairs.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

import numpy as np
import pandas as pd

from pipelines.faults import UserError
from pipelines.molecules import pubchem_id
from pipelines.params import Split, SplitMode
from pipelines.samples import ResponseSamples, molecule_keys

SIDES = ("train", "test", "validation")
NO_FOLD = -1
_NO_NAMES = ("", "na", "nan", "none", "several", "unknown", "unnamed")


class SplitError(UserError):
    """A split that cannot be made, or that would leak."""


def split_samples(samples: ResponseSamples, split: Split, seed: int) -> pd.DataFrame:
    """Assign every sample to a side and a fold.

    Parameters
    ----------
    samples
        Samples of kind ``response``.
    split
        Mode, shares and number of folds.
    seed
        The same seed gives the same table, whatever the order of the rows in the raw file.

    Returns
    -------
    pandas.DataFrame
        ``sample_id, study, cell_line_id, drug_id, target, group, split, fold``, ordered by ``sample_id``. ``fold`` is
        `NO_FOLD` on test rows.

    Raises
    ------
    SplitError
        There are too few groups, or the guard finds a leak.
    """
    order = np.argsort(samples.pairs["sample_id"].to_numpy(str), kind="stable")
    samples = samples.take(order)
    groups, strata = group_samples(samples, split)
    sizes = groups.value_counts()
    stratum = pd.Series(strata.to_numpy(), index=groups.to_numpy()).groupby(level=0).min()
    names = sorted(sizes.index)
    needed = max(3, split.folds + 1)
    if len(names) < needed:
        raise SplitError(
            f"split mode {split.mode} finds {len(names)} groups; train, validation, test and {split.folds} folds need "
            f"at least {needed}: bring more data, lower split.folds, or choose another mode"
        )
    shares = {"train": 1 - split.test - split.validation, "test": split.test, "validation": split.validation}
    side = _deal(names, sizes, stratum, shares, np.random.default_rng([seed, 0]))
    kept = [name for name in names if side[name] != "test"]
    even = dict.fromkeys(range(split.folds), 1 / split.folds)
    fold = _deal(kept, sizes, stratum, even, np.random.default_rng([seed, 1]))
    table = samples.pairs.assign(
        group=groups.to_numpy(),
        split=groups.map(side).to_numpy(),
        fold=groups.map(fold).fillna(NO_FOLD).astype(np.int8).to_numpy(),
    )
    if empty := sorted(set(SIDES) - set(table["split"])):
        raise SplitError(
            f"split mode {split.mode}: the groups are too uneven, {', '.join(empty)} got none; bring more data or "
            "choose another mode"
        )
    if unfilled := sorted(set(range(split.folds)) - set(table["fold"])):
        raise SplitError(f"split mode {split.mode}: folds {unfilled} got no group; lower split.folds")
    guard(table, sample_identities(samples, split.mode))
    return table


def group_samples(samples: ResponseSamples, split: Split) -> tuple[pd.Series, pd.Series]:
    """Return for each sample its group and its stratum (what groups are balanced by).

    Returns
    -------
    groups, strata
        Text, shape ``(n,)``.
    """
    none = pd.Series("", index=samples.pairs.index)
    if split.mode == "drug_blind":
        return pd.Series(drug_groups(samples.drugs).to_numpy()[samples.drug]), none
    tissue = samples.cell_lines["tissue"]
    cell_group = cell_line_groups(samples, split.near_identical)
    if split.mode == "cell_blind":
        return pd.Series(cell_group.to_numpy()[samples.cell]), pd.Series(tissue.to_numpy()[samples.cell])
    if split.mode == "tissue_blind":
        joined = _union(tissue.index, [*_pairs_by(cell_group), *_pairs_by(tissue)])
        name = tissue.groupby(joined).agg(lambda values: "+".join(sorted(set(values))))
        return pd.Series(joined.map(name).to_numpy()[samples.cell]), none
    who, what = cell_group.to_numpy()[samples.cell], drug_groups(samples.drugs).to_numpy()[samples.drug]
    return pd.Series([f"{cell}|{drug}" for cell, drug in zip(who, what, strict=True)]), none


def cell_line_groups(samples: ResponseSamples, near_identical: float) -> pd.Series:
    """Return for each cell line the first id of its group.

    One line under two names (same ``name`` but for case and punctuation), and lines whose profiles of any omics are
    identical, or whose expression profiles correlate above ``near_identical``, are one group.
    """
    edges = _pairs_by(_plain_names(samples.cell_lines))
    for hashes in profile_hashes(samples).values():
        edges += _pairs_by(hashes.dropna())
    if "expression" in samples.omics:
        table = samples.omics["expression"]
        above = np.argwhere(np.triu(_correlation(table.to_numpy(np.float64)) > near_identical, k=1))
        edges += [(table.index[i], table.index[j]) for i, j in above]
    return _union(samples.cell_lines.index, edges)


def drug_groups(drugs: pd.DataFrame) -> pd.Series:
    """Return for each drug the first id of its group.

    One parent molecule, one PubChem id or one ``name`` (but for case and punctuation) is one drug. The name is needed:
    collections give one drug as two salts or tautomers, with another SMILES and another PubChem id for each.
    """
    edges = [*_pairs_by(molecule_keys(drugs)), *_pairs_by(_plain_names(drugs))]
    if "pubchem_id" in drugs:
        edges += _pairs_by(drugs["pubchem_id"].map(pubchem_id).dropna())
    return _union(drugs.index, edges)


def profile_hashes(samples: ResponseSamples) -> dict[str, pd.Series]:
    """Return for each continuous omics a hash of each cell line's profile, None where it is unknown or constant.

    Binary mutation tables are left out: two unrelated lines without a listed mutation are not one sample.
    """
    hashes = {}
    for name, table in samples.omics.items():
        if name == "mutation":
            continue
        values = table.to_numpy() + np.float32(0)  # makes a negative zero positive
        lowest = np.where(np.isnan(values), np.inf, values).min(axis=1, initial=np.inf)
        highest = np.where(np.isnan(values), -np.inf, values).max(axis=1, initial=-np.inf)
        each = [
            hashlib.sha256(row.tobytes()).hexdigest() if varies else None
            for row, varies in zip(values, lowest < highest, strict=True)
        ]
        hashes[name] = pd.Series(each, index=table.index, dtype=object)
    return hashes


def sample_identities(samples: ResponseSamples, mode: SplitMode) -> dict[str, pd.Series]:
    """Return what must not stand on two sides besides the group, computed from the content itself.

    Returns
    -------
    dict
        Name of the identity to one text a sample, None where it cannot be told.
    """
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
    if mode == "drug_blind":
        return {"molecule": pd.Series(molecule_keys(samples.drugs).to_numpy()[samples.drug])}
    identities = {"cell line": pd.Series(cell)}
    if mode == "tissue_blind":
        identities["tissue"] = pd.Series(samples.cell_lines["tissue"].to_numpy()[samples.cell])
    return identities | {f"{name} profile": pd.Series(content, dtype=object) for name, content in profiles.items()}


def guard(table: pd.DataFrame, identities: dict[str, pd.Series]) -> None:
    """Refuse a split in which a group or an identical sample stands on two sides or in two folds.

    Parameters
    ----------
    table
        ``sample_id``, ``group``, ``split``, ``fold``; a row a sample.
    identities
        From `sample_identities`, in the order of ``table``.

    Raises
    ------
    SplitError
        Names the groups or samples that leak and the sides that they stand on.
    """
    if (doubled := table["sample_id"].duplicated()).any():
        raise SplitError(f"sample {table.loc[doubled, 'sample_id'].iloc[0]} stands twice in the split table")
    sides, folds = table["split"].astype(str), table["fold"]
    if (unknown := ~sides.isin(SIDES)).any():
        raise SplitError(f"sample {table.loc[unknown, 'sample_id'].iloc[0]} is on no side: {sides[unknown].iloc[0]!r}")
    if (astray := (sides == "test") != (folds == NO_FOLD)).any():
        first = table.loc[astray].iloc[0]
        raise SplitError(
            f"sample {first['sample_id']} on side {first['split']} is in fold {first['fold']}; test rows are in none "
            f"({NO_FOLD}) and all others in one: make the split anew with `dvc repro prepare`"
        )
    for name, key in {"group": table["group"], **identities}.items():
        told = key.notna().to_numpy()
        codes, keys = pd.factorize(key.to_numpy()[told])
        for what, side in (("sides", sides), ("folds", folds.astype(str))):
            where = side.to_numpy(str)[told]
            of_key = np.empty(len(keys), where.dtype)
            of_key[codes] = where
            leaking = np.unique(codes[where != of_key[codes]])
            if not len(leaking):
                continue
            example = codes == leaking[0]
            sample = table["sample_id"].to_numpy()[told][example][0]
            raise SplitError(
                f"the split leaks: {len(leaking)} {name}(s) on two {what}, for instance {keys[leaking[0]]!r} (sample "
                f"{sample}) in {', '.join(np.unique(where[example]))}; make the split anew with `dvc repro prepare`"
            )


def split_sha256(table: pd.DataFrame) -> str:
    """Return the hash of who stands where, whatever the file format."""
    lines = table["sample_id"] + "\t" + table["group"] + "\t" + table["split"] + "\t" + table["fold"].astype(str)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _deal(
    names: list[str],
    sizes: pd.Series,
    stratum: pd.Series,
    shares: dict[str, float] | dict[int, float],
    rng: np.random.Generator,
) -> dict[str, str] | dict[str, int]:
    """Deal groups, shuffled within strata, each to the side that lacks most rows of its share.

    Going stratum by stratum keeps every stratum's proportions, and counting rows keeps uneven groups in balance.
    """
    rows_of, stratum_of = sizes.to_dict(), stratum.to_dict()
    shuffled = [names[i] for i in rng.permutation(len(names))]
    dealt: dict = {}
    rows = dict.fromkeys(shares, 0.0)
    total = 0.0
    for name in sorted(shuffled, key=stratum_of.__getitem__):
        total += rows_of[name]
        side = max(shares, key=lambda each: shares[each] * total - rows[each])
        rows[side] += rows_of[name]
        dealt[name] = side
    return dealt


def _plain_names(table: pd.DataFrame) -> pd.Series:
    """Return the column ``name`` without case and punctuation, for the rows that have a name."""
    if "name" not in table:
        return pd.Series(dtype=object)
    plain = table["name"].dropna().map(lambda name: re.sub(r"[\W_]+", "", str(name).casefold()))
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


def _pairs_by(key: pd.Series) -> list[tuple[str, str]]:
    """Return pairs of neighboring index labels that share a key."""
    return [(a, b) for labels in key.groupby(key).groups.values() for a, b in zip(labels[:-1], labels[1:], strict=True)]


def _union(ids: pd.Index, edges: Iterable[tuple[str, str]]) -> pd.Series:
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
