"""Assign samples to train, validation, test and folds, by group; and refuse a split that leaks.

A *group* never crosses a split. The mode decides what a group is: a cell line, drug, tissue or subject, or just a pair
or an image with its copies.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pandas as pd

from pipelines.cross_study import across, asked, of_either, refuse_mixed, refuse_small
from pipelines.errors import UserError
from pipelines.groups import group_samples, sample_identities
from pipelines.params import Split

SIDES = ("train", "test", "validation")
NO_FOLD = -1


class SplitError(UserError):
    """A split that cannot be made, or that would leak."""


def split_samples(samples: Any, split: Split, seed: int) -> pd.DataFrame:
    """Return the samples' own table with ``group, split, fold``, ordered by ``sample_id``.

    It is the same for a seed, whatever the order of the raw rows. ``fold`` is `NO_FOLD` on test rows. The mode
    ``cross_study`` leaves rows out, see `pipelines.cross_study`. `SplitError` if there are too few groups, or if the
    guard finds a leak.
    """
    samples = samples.take(np.argsort(samples.table["sample_id"].to_numpy(str), kind="stable"))
    studies = across(split)
    if studies is not None:
        samples = samples.take(of_either(samples.table["study"], studies))
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
    if studies is not None:
        refuse_small(samples.table["study"], groups, studies, needed)
    shares = {"train": 1 - split.test - split.validation, "test": split.test, "validation": split.validation}
    side = _deal(names, sizes, stratum, shares, np.random.default_rng([seed, 0]))
    if studies is not None:
        of_the_question = asked(samples.table["study"], groups.map(side), studies)
        samples, groups = samples.take(of_the_question), groups[of_the_question].reset_index(drop=True)
        sizes = groups.value_counts()
    kept = [name for name in names if side[name] != "test" and name in sizes]
    even = dict.fromkeys(range(split.folds), 1 / split.folds)
    fold = _deal(kept, sizes, stratum, even, np.random.default_rng([seed, 1]))
    table = samples.table.assign(
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
    guard(table, sample_identities(samples, split.mode), split)
    return table


def guard(table: pd.DataFrame, identities: dict[str, pd.Series], split: Split | None = None) -> None:
    """Refuse a split in which a group or an identical sample is on two sides or in two folds, or studies mix.

    ``table`` has ``sample_id, group, split, fold``, a row a sample; ``identities`` are from `sample_identities`, in its
    order. `SplitError` names the groups or samples that leak, and their sides.
    """
    if (studies := across(split)) is not None:
        refuse_mixed(table, studies)
    if (doubled := table["sample_id"].duplicated()).any():
        raise SplitError(f"sample {table.loc[doubled, 'sample_id'].iloc[0]} is twice in the split table")
    sides, folds = table["split"].astype(str), table["fold"]
    if (unknown := ~sides.isin(SIDES)).any():
        raise SplitError(f"sample {table.loc[unknown, 'sample_id'].iloc[0]} is on no side: {sides[unknown].iloc[0]!r}")
    if (misplaced := (sides == "test") != (folds == NO_FOLD)).any():
        first = table.loc[misplaced].iloc[0]
        raise SplitError(
            f"sample {first['sample_id']} on side {first['split']} is in fold {first['fold']}; test rows are in none "
            f"({NO_FOLD}) and all others in one: make the split again with `dvc repro prepare`"
        )
    for name, key in {"group": table["group"], **identities}.items():
        known = key.notna().to_numpy()
        codes, keys = pd.factorize(key.to_numpy()[known])
        for what, side in (("sides", sides), ("folds", folds.astype(str))):
            where = side.to_numpy(str)[known]
            of_key = np.empty(len(keys), where.dtype)
            of_key[codes] = where
            leaking = np.unique(codes[where != of_key[codes]])
            if not len(leaking):
                continue
            example = codes == leaking[0]
            sample = table["sample_id"].to_numpy()[known][example][0]
            raise SplitError(
                f"the split leaks: {len(leaking)} {name}(s) on two {what}, for instance {keys[leaking[0]]!r} (sample "
                f"{sample}) in {', '.join(np.unique(where[example]))}; make the split again with `dvc repro prepare`"
            )


def split_sha256(table: pd.DataFrame) -> str:
    """Return the hash of each sample's group, side and fold, whatever the file format."""
    lines = table["sample_id"] + "\t" + table["group"] + "\t" + table["split"] + "\t" + table["fold"].astype(str)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _deal(
    names: list[str], sizes: pd.Series, stratum: pd.Series, shares: dict[Any, float], rng: np.random.Generator
) -> dict[str, Any]:
    """Deal groups, stratum by stratum and shuffled within, each to the side that lacks most rows of its share."""
    rows_of, stratum_of = sizes.to_dict(), stratum.to_dict()
    shuffled = [names[i] for i in rng.permutation(len(names))]
    dealt: dict = {}
    rows, total = dict.fromkeys(shares, 0.0), 0.0
    for name in sorted(shuffled, key=stratum_of.__getitem__):
        total += rows_of[name]
        dealt[name] = side = max(shares, key=lambda each: shares[each] * total - rows[each])
        rows[side] += rows_of[name]
    return dealt
