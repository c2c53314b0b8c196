"""Assign samples to train, validation, test and folds, by group; and refuse a split that leaks.

A *group* never crosses a split. The mode decides what it is, such as a cell line, or an image with its copies.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Collection
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipelines.errors import UserError
from pipelines.groups import group_samples, sample_identities
from pipelines.params import DRUG_PILOT, PILOT, Split

if TYPE_CHECKING:
    from pipelines.modalities.images import ImagesSplit
    from pipelines.modalities.pairs import PairsSplit

SIDES = ("train", "test", "validation")
PART = "outer"  # column of the part of a rotation in which a sample is tested; split tables without rotation lack it
NO_FOLD = -1
CROSS_STUDY = "cross_study"
_FEW = ("site_blind", "plate_blind")  # modes of few, uneven groups a class, the largest of which is trained on
_DEALS = 20  # of the parts of a rotation, until no side and no fold has all its groups in one


class SplitError(UserError):
    """A split that cannot be made, or that would leak."""


def split_samples(samples: Any, split: Split, seed: int) -> pd.DataFrame:
    """Return the samples' own table with ``group, split, fold``, ordered by ``sample_id``.

    It is the same for a seed, whatever the order of the raw rows. ``fold`` is `NO_FOLD` on test rows. The mode
    ``cross_study`` leaves rows out. Few groups are rotated, see `rotation_parts`: none is on the side ``test``, and the
    column ``outer`` has the part in which each is tested. In ``site_blind`` and ``plate_blind`` the largest site
    or plate of each class is on the side ``train``; a class of no other is not tested. `SplitError` if there are too
    few groups, or the guard finds a leak.
    """
    samples = samples.take(np.argsort(samples.table["sample_id"].to_numpy(str), kind="stable"))
    if (studies := _across_studies(split)) is not None:
        samples = samples.take(_of_either_study(samples.table["study"], studies))
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
        _refuse_small_study(samples.table["study"], groups, studies, needed)
    shares = {"train": 1 - split.test - split.validation, "test": split.test, "validation": split.validation}
    if rotated := rotation_parts(split, len(names)):
        shares = {"train": 1 - split.validation, "validation": split.validation}
    if split.mode in _FEW:
        largest = _largest(groups, samples.table[samples.stratum].fillna("").astype(str))
        side = _deal_few(names, sizes, stratum, shares, np.random.default_rng([seed, 0]), largest=largest)
    else:
        side = _deal(names, sizes, stratum, shares, np.random.default_rng([seed, 0]))
    if studies is not None:
        used = _used_rows(samples.table["study"], groups.map(side), studies)
        samples, groups = samples.take(used), groups[used].reset_index(drop=True)
        sizes = groups.value_counts()
    kept = [name for name in names if side[name] != "test" and name in sizes]
    even = dict.fromkeys(range(split.folds), 1 / split.folds)
    fold = _deal(kept, sizes, stratum, even, np.random.default_rng([seed, 1]))
    table = samples.table.assign(
        group=groups.to_numpy(),
        split=groups.map(side).to_numpy(),
        fold=groups.map(fold).fillna(NO_FOLD).astype(np.int8).to_numpy(),
    )
    if rotated:
        table[PART] = _parts(table, strata.to_numpy(str), rotated, seed)
    if split.mode == DRUG_PILOT:
        table[PILOT] = pilot_rows(table, cast("PairsSplit", split).pilot, seed)
    if empty := sorted(set(shares) - set(table["split"])):
        raise SplitError(
            f"split mode {split.mode}: the groups are too uneven, {', '.join(empty)} got none; bring more data or "
            "choose another mode"
        )
    if unfilled := sorted(set(range(split.folds)) - set(table["fold"])):
        raise SplitError(f"split mode {split.mode}: folds {unfilled} got no group; lower split.folds")
    guard(table, sample_identities(samples, split.mode), split)
    return table


def rotation_parts(split: Split, groups: int) -> int:
    """Return in how many parts groups that are too few for a test side are tested in turn; 0 where they are enough."""
    if groups >= getattr(split, "fewest_groups", 0):
        return 0
    return min(cast("ImagesSplit", split).rotation, groups)


def without_part(table: pd.DataFrame, part: int) -> pd.DataFrame:
    """Return the split table of an outer fit: ``part`` of a rotation is tested, all else is train and validation."""
    tested = table[PART] == part
    split, fold = table["split"].mask(tested, "test"), table["fold"].mask(tested, NO_FOLD)
    return table.assign(split=split, fold=fold.astype(np.int8)).drop(columns=PART)


def pilot_rows(table: pd.DataFrame, lines: int, seed: int) -> npt.NDArray[np.bool_]:
    """Return the rows of the pilot measurements of each drug, shape ``(n,)``: those of ``lines`` of its cell lines.

    Lines are chosen by the seed, never by a response; of a drug with few lines at most half.
    """
    rng, pilot = np.random.default_rng([seed, 2]), np.zeros(len(table), dtype=bool)
    drug, cell = (table[key].to_numpy(str) for key in ("drug_id", "cell_line_id"))
    order = np.argsort(drug, kind="stable")
    for rows in np.split(order, np.flatnonzero(drug[order][1:] != drug[order][:-1]) + 1):
        measured = np.unique(cell[rows])
        chosen = rng.permutation(measured)[: min(lines, len(measured) // 2)]
        pilot[rows] = np.isin(cell[rows], chosen)
    return pilot


def guard(table: pd.DataFrame, identities: dict[str, pd.Series], split: Split | None = None) -> None:
    """Refuse a split in which a group or an identical sample is on two sides or in two folds, or studies mix.

    ``table`` has ``sample_id, group, split, fold``, a row a sample; ``identities`` are from `sample_identities`, in its
    order. `SplitError` names the groups or samples that leak, and their sides.
    """
    if (studies := _across_studies(split)) is not None:
        mixed = ~_used_rows(table["study"], table["split"], studies)
        if mixed.any():
            row = table.loc[mixed].iloc[0]
            raise SplitError(
                f"the split leaks: sample {row['sample_id']} of study {row['study']} is on side {row['split']}; "
                f"{studies.train_study} is trained on and {studies.test_study} tested: make the split again with "
                "`dvc repro prepare`"
            )
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
    where_to = {"sides": sides, "folds": folds.astype(str)}
    if PART in table:
        where_to["parts"] = table[PART].astype(str)
        if (tested := sides == "test").any():
            name = table.loc[tested, "sample_id"].iloc[0]
            raise SplitError(f"sample {name} is on side test of a rotation, in which each part is tested in turn")
    for name, key in {"group": table["group"], **identities}.items():
        known = key.notna().to_numpy()
        codes, keys = pd.factorize(key.to_numpy()[known])
        for what, side in where_to.items():
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
    """Return the hash of each sample's group, side, fold, part of a rotation and pilot, whatever the file format."""
    lines = table["sample_id"] + "\t" + table["group"] + "\t" + table["split"] + "\t" + table["fold"].astype(str)
    if PART in table:
        lines += "\t" + table[PART].astype(str)
    if PILOT in table:
        lines += "\t" + table[PILOT].astype(str)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _parts(table: pd.DataFrame, stratum: npt.NDArray[Any], count: int, seed: int) -> npt.NDArray[np.int16]:
    """Return the part of each row ``(n,)``, dealt so that without any part no side and no fold is empty."""
    from sklearn.model_selection import StratifiedGroupKFold

    parts, spread = np.full(len(table), NO_FOLD, dtype=np.int16), table["split"] + stratum
    for deal in range(_DEALS):
        dealer = StratifiedGroupKFold(count, shuffle=True, random_state=(seed + deal) % 2**32)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of a side and class with fewer rows than parts
            try:
                for part, (_, tested) in enumerate(dealer.split(table, spread, table["group"])):
                    parts[tested] = part
            except ValueError:  # all have fewer
                break
        over = [pd.Series(parts).groupby(table[column]).nunique().min() for column in ("split", "fold")]
        if min(over) > 1 and len(np.unique(parts)) == count:
            return parts
    raise SplitError(
        f"the groups are too few or too uneven for a rotation in {count} parts: lower split.rotation or split.folds, "
        "raise split.validation, or set split.fewest_groups: 0 for one test side"
    )


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


def _deal_few(
    names: list[str],
    sizes: pd.Series,
    stratum: pd.Series,
    shares: dict[Any, float],
    rng: np.random.Generator,
    *,
    largest: Collection[str],
) -> dict[str, Any]:
    """Deal groups, few and uneven in a stratum: the ``largest`` to the first side, each other to the emptiest side.

    How full a side is, is a share of its share, first of the stratum: of three groups each side has one.
    """
    shuffled = [names[i] for i in rng.permutation(len(names))]
    dealt: dict = {}
    every, own, last = dict.fromkeys(shares, 0.0), dict.fromkeys(shares, 0.0), None
    for name in sorted(shuffled, key=lambda each: (stratum[each], each not in largest)):
        if stratum[name] != last:
            own, last = dict.fromkeys(shares, 0.0), stratum[name]
        emptiest = min(shares, key=lambda each: (own[each] / shares[each], every[each] / shares[each]))
        dealt[name] = side = next(iter(shares)) if name in largest else emptiest
        own[side] += sizes[name]
        every[side] += sizes[name]
    return dealt


def _largest(groups: pd.Series, strata: pd.Series) -> frozenset[str]:
    """Return for each stratum the group that most of its samples are of: without it a class would hardly be learned."""
    of_stratum = groups.groupby(strata.to_numpy())
    return frozenset(str(rows.value_counts().sort_index().idxmax()) for _, rows in of_stratum)


# Training on one study and testing on another: test rows are those of the second study whose cell line is held out,
# training rows those of the first study whose line is not, since a model that is trained on a line has seen its
# profile. All other rows are left out. Drugs are not held out: their ids differ by study, and features find them by
# molecule.


def _across_studies(split: Split | None) -> PairsSplit | None:
    return cast("PairsSplit", split) if split is not None and split.mode == CROSS_STUDY else None


def _of_either_study(study: pd.Series, split: PairsSplit) -> npt.NDArray[np.bool_]:
    """Return which rows are of one of the two studies, shape ``(n,)``; refuse a study that is not in the data."""
    known = sorted(set(study.astype(str)))
    for key in ("train_study", "test_study"):
        if (name := getattr(split, key)) not in known:
            fault = f"split.{key} is {name!r}, which is no study of the data"
            raise SplitError(f"{fault}; the studies are {', '.join(known)}")
    return study.astype(str).isin((split.train_study, split.test_study)).to_numpy()


def _refuse_small_study(study: pd.Series, groups: pd.Series, split: PairsSplit, needed: int) -> None:
    for name in (split.train_study, split.test_study):
        found = groups[(study.astype(str) == name).to_numpy()].nunique()
        if found < needed:
            raise SplitError(
                f"split mode {CROSS_STUDY}: study {name} has {found} groups of cell lines, at least {needed} are "
                "needed; bring more data, lower split.folds, or name other studies"
            )


def _used_rows(study: pd.Series, side: pd.Series, split: PairsSplit) -> npt.NDArray[np.bool_]:
    """Return which rows are used, ``(n,)``: the test study's on the side ``test``, else the training study's."""
    return study.astype(str).to_numpy() == np.where(side == "test", split.test_study, split.train_study)
