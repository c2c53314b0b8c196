"""A subject or patient, or a copy, on two sides of the split makes every score of images and profiles a lie.

Two cells that are taken for one are lost to it.
"""

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, assume, given, reject, settings
from hypothesis import strategies as st

from pipelines.groups import group_samples, sample_identities
from pipelines.groups.images import COLUMNS, duplicate_pairs
from pipelines.groups.profiles import similar_profiles
from pipelines.modalities.images import ImagesSplit
from pipelines.params import Split
from pipelines.samples.expression import ExpressionSamples, ExpressionTables
from pipelines.samples.images import ImageSamples
from pipelines.split import NO_FOLD, SIDES, SplitError, guard, split_samples, split_sha256, without_part
from tests.pipelines.expression_folder import gene_task, label_task, make_tables
from tests.pipelines.expression_folder import samples_of as profiles_of
from tests.pipelines.image_samples import brighter, cell, compressed, on_black, resized
from tests.pipelines.image_samples import samples_of as images_of
from tests.pipelines.test_split_integrity import assert_apart, split_soundly

SEED = 5
SPLITS = {
    "images": Split("subject_blind", test=0.2, validation=0.15, folds=4, near_identical=0.95),
    "profiles": Split("patient_blind", test=0.2, validation=0.15, folds=4, near_identical=0.995),
}
OWNER = {"images": "subject", "profiles": "patient"}
CONTENT = {"images": "image", "profiles": "profile"}
KINDS = tuple(SPLITS)
MODES = [(kind, mode) for kind, split in SPLITS.items() for mode in (split.mode, "random")]
Owners = Sequence[str | None]


def images(labels: Sequence[str], subjects: Owners, pixels: Sequence[np.ndarray]) -> ImageSamples:
    digests = [hashlib.sha256(image.tobytes()).hexdigest() for image in pixels]
    return images_of(pixels, labels=labels, subjects=subjects, digests=digests)


def profiles(labels: Sequence[str], patients: Owners, values: np.ndarray) -> ExpressionSamples:
    """Return profiles in log2 units; a patient that is not known has the sample's name."""
    ids = pd.Series([f"s{number:03d}" for number in range(len(labels))])
    expression = pd.DataFrame(values.astype(np.float32), columns=[f"G{number}" for number in range(values.shape[1])])
    expression.insert(0, "sample_id", ids)
    whose = [patient or sample for patient, sample in zip(patients, ids, strict=True)]
    about = pd.DataFrame({"sample_id": ids, "patient_id": whose, "label": labels, "sample_type": 1})
    return profiles_of(ExpressionTables(expression, about, None), gene_task())


def normal(count: int, genes: int = 40) -> np.ndarray:
    return np.random.default_rng(3).normal(8, 2, (count, genes)).clip(0)


def made(kind: str, labels: Sequence[str], owners: Owners, content: Any = None) -> Any:
    """Return samples that are like no other, but where two have one number in ``content``."""
    numbers = np.arange(len(labels)) if content is None else np.asarray(content)
    if kind == "profiles":
        return profiles(labels, owners, normal(len(labels))[numbers])
    # Of one color: without texture an image is nearly identical to nothing.
    return images(labels, owners, [np.full((4, 4, 3), [n % 256, n // 256, 7], np.uint8) for n in numbers.tolist()])


def groups_of(found: Any, kind: str, **settings: Any) -> list[str]:
    return group_samples(found, replace(SPLITS[kind], **settings))[0].tolist()


Drawn = tuple[list[str], list[str | None], np.ndarray, int]


@st.composite
def collections(draw: st.DrawFn) -> Drawn:
    """Draw labels, owners that may be unknown, contents of which some are twice, and a seed."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    count, owners = draw(st.integers(40, 140)), draw(st.integers(12, 40))
    classes = draw(st.sampled_from([("a", "b"), ("a", "b", "c"), tuple("abcde")]))
    owner = rng.integers(0, owners, count)
    labels = rng.choice(classes, count, p=rng.dirichlet(np.full(len(classes), 3.0)))
    if draw(st.booleans()):  # each owner has one label, as in C-NMC
        labels = rng.choice(classes, owners)[owner]
    unknown = rng.random(count) < draw(st.sampled_from([0.0, 0.4, 1.0]))
    content = np.arange(count)
    pairs = rng.permutation(count)[: 2 * draw(st.integers(0, 6))].reshape(-1, 2)
    content[pairs[:, 1]] = content[pairs[:, 0]]
    names = [None if lacking else f"S{number:02d}" for number, lacking in zip(owner, unknown, strict=True)]
    return labels.tolist(), names, content, draw(st.integers(0, 2**32 - 1))


@pytest.mark.parametrize(("kind", "mode"), MODES)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(drawn=collections())
def test_no_owner_and_no_copy_crosses_and_a_seed_gives_the_same_bytes(kind: str, mode: str, drawn: Drawn) -> None:
    labels, owners, content, seed = drawn
    found, split = made(kind, labels, owners, content), replace(SPLITS[kind], mode=mode)
    mixed = found.take(np.random.default_rng(seed).permutation(len(found)))
    table = split_soundly(found, mixed, split, seed)
    shows = dict(zip(found.table["sample_id"], content, strict=True))
    owner = [] if mode == "random" else [table[f"{OWNER[kind]}_id"]]
    assert table["sample_id"].tolist() == sorted(found.table["sample_id"])
    assert_apart(table, table["digest"], table["sample_id"].map(shows), *owner)


@settings(max_examples=25, deadline=None)
@given(
    *(st.lists(st.integers(21, 60), min_size=2, max_size=5), st.integers(1, 2), st.sampled_from([0.1, 0.2, 0.3])),
    *(st.integers(2, 4), st.integers(0, 2**32 - 1)),
)
def test_sides_have_the_labels_shares(sizes: list[int], of_subject: int, test: float, folds: int, seed: int) -> None:
    """And so have folds, where groups are small."""
    labels = [label for label, size in zip("abcde", sizes, strict=False) for _ in range(size * of_subject)]
    subjects = [f"{label}{number // of_subject}" for number, label in enumerate(labels)]
    split = replace(SPLITS["images"], test=test, folds=folds)
    table = split_samples(made("images", labels, subjects), split, seed)
    kept = table[table["split"] != "test"]
    shares = {"train": 1 - test - split.validation, "test": test, "validation": split.validation}
    sides = [(table[table["split"] == side], table, share) for side, share in shares.items()]
    for part, whole, share in [*sides, *((fold, kept, 1 / folds) for _, fold in kept.groupby("fold"))]:
        of_all = whole["label"].value_counts()
        found = part["label"].value_counts().reindex(of_all.index, fill_value=0)
        assert (found > 0).all() and ((found - share * of_all).abs() <= 2 * of_subject + 1).all()


@pytest.mark.parametrize("seed", range(3))
def test_rare_labels_and_uneven_subjects_reach_every_side(seed: int) -> None:
    # As in C-NMC: a subject has one label, and some have many more images than others.
    whose = [subject for subject in range(40) for _ in range(3 + subject % 7)]
    labels = ["all" if subject % 5 in (0, 2, 4) else "hem" for subject in whose]
    uneven = split_samples(made("images", labels, [f"S{one}" for one in whose]), SPLITS["images"], seed)
    shares = pd.crosstab(uneven["split"], uneven["label"], normalize="index")["all"]
    assert (abs(shares - labels.count("all") / len(labels)) < 0.15).all(), shares.to_dict()
    rare = split_samples(made("images", ["common"] * 180 + ["rare"] * 12, [None] * 192), SPLITS["images"], seed)
    assert set(rare.loc[rare["label"] == "rare", "split"]) == set(SIDES)
    # A class of the fewest patients that are allowed.
    task, tables = label_task(), make_tables(patients=30)
    few = tables.samples["patient_id"].isin([f"P{number:03d}" for number in range(task.data.minimum_patients)])
    samples = tables.samples.assign(label=tables.samples["label"].where(~few, "RARE"))
    table = split_samples(profiles_of(replace(tables, samples=samples)), task.split, seed)
    assert (pd.crosstab(table["split"], table["label"]) > 0).all(axis=None)


COPIES: dict[str, tuple[str, Callable[[np.ndarray], np.ndarray]]] = {
    "identical image": ("images", lambda image: image.copy()),
    "mirrored and turned": ("images", lambda image: np.rot90(image[:, ::-1])),
    "turned, recompressed": ("images", lambda image: compressed(np.ascontiguousarray(np.rot90(image, 3)), 70)),
    "identical profile": ("profiles", lambda values: values),
    "fewer digits": ("profiles", lambda values: np.round(values, 2)),
    "other depth": ("profiles", lambda values: values + 0.3),
    "a little noise": ("profiles", lambda values: values + np.random.default_rng(0).normal(0, 0.02, values.shape)),
    "a gap": ("profiles", lambda values: np.where(np.arange(len(values)) == 4, np.nan, values)),
}


@pytest.mark.parametrize("how", COPIES)
def test_copies_are_one_group_with_all_that_their_owners_have(how: str) -> None:
    kind, change = COPIES[how]
    owners = ["S1", "S1", "S2", "S2", None, "S3", *(f"Q{number}" for number in range(34))]
    if kind == "images":
        pixels = [cell(number) for number in range(6)]
        pixels[5] = np.ascontiguousarray(change(pixels[0]))
        found: Any = images(["a", "b"] * 3, owners[:6], pixels)
    else:
        values = normal(40, 200)
        values[5] = change(values[0])
        found = profiles(["a", "b"] * 20, owners, values)
    groups = groups_of(found, kind)
    assert groups[0] == groups[5] == groups[1] != groups[2] == groups[3]  # the copy ties S3 to all of S1
    assert len(set(groups)) == len(groups) - 3
    alone = groups_of(found, kind, mode="random")
    assert alone[0] == alone[5]
    assert len(set(alone)) == len(alone) - 1


def test_unrelated_samples_stay_apart_and_the_threshold_is_the_tasks() -> None:
    pixels = [*(cell(number) for number in range(12)), compressed(cell(0), 20)]
    found = images(["a"] * 13, [None] * 13, pixels)
    assert len(set(groups_of(found, "images", near_identical=1.0))) == 13
    loose = groups_of(found, "images", near_identical=0.5)
    assert loose[12] == loose[0]
    assert sample_identities(found, "subject_blind")["subject"].isna().all()  # "unknown" is no subject that could leak
    # Levels of genes alone make any two profiles of one tissue correlate above 0.99.
    rng = np.random.default_rng(2)
    values = (rng.uniform(0, 16, 300) + rng.normal(0, 0.3, (60, 300))).clip(0)
    assert np.corrcoef(values)[0, 1] > 0.99
    alike = profiles(["a"] * 60, [f"P{number}" for number in range(60)], values)
    assert len(set(groups_of(alike, "profiles"))) == 60


def test_pairs_of_copied_profiles_are_listed_once_with_their_similarity() -> None:
    values = normal(30, 100)
    values[[7, 11]] = values[3]
    values[20] = np.round(values[9], 2)
    values[25] = values[14] + np.random.default_rng(5).normal(0, 1, 100)
    copies = [(3, 7, "identical"), (7, 11, "identical"), (9, 20, "near")]
    for threshold, expected in ((0.995, copies), (0.7, [*copies, (14, 25, "near")])):
        pairs = similar_profiles(profiles(["a"] * 30, ["P"] * 30, values), threshold)
        assert [(a, b, how) for a, b, _, how in pairs.itertuples(index=False)] == expected
        assert pairs["similarity"].between(threshold, 1).all()


def test_profiles_are_compared_in_log2_and_by_what_was_measured() -> None:
    linear = similar_profiles(profiles_of(make_tables("linear")), 0.6)
    logged = similar_profiles(profiles_of(make_tables("log2"), gene_task()), 0.6)
    assert len(linear) > 0
    assert linear[["a", "b"]].to_numpy().tolist() == logged[["a", "b"]].to_numpy().tolist()
    values = normal(30)
    values[:, 10:20] = np.nan
    values[0] = np.nan
    with np.errstate(all="raise"):
        assert len(similar_profiles(profiles(["a"] * 30, ["P"] * 30, values), 0.995)) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_too_few_owners_are_refused_and_random_does_not_keep_owners_together(kind: str) -> None:
    few = made(kind, ["a", "b"] * 20, [f"S{number % 4}" for number in range(40)])
    with pytest.raises(SplitError, match=r"finds 4 groups; .*need at least 5"):
        split_samples(few, SPLITS[kind], SEED)
    several = made(kind, ["a", "b", "b", "c", "a"], ["S1"] * 4 + [None])  # balanced by the most frequent label
    assert group_samples(several, SPLITS[kind])[1].tolist() == ["b", "b", "b", "b", "a"]
    found = made(kind, ["a", "b"] * 30, [f"S{number % 8}" for number in range(60)])
    table = split_samples(found, replace(SPLITS[kind], mode="random"), SEED)
    assert table.groupby(f"{OWNER[kind]}_id")["split"].nunique().max() == 3
    assert set(sample_identities(found, SPLITS[kind].mode)) - set(sample_identities(found, "random")) == {OWNER[kind]}


def moved(table: pd.DataFrame, at: pd.Series) -> pd.DataFrame:
    """Put samples onto another side, with groups of their own so that the group column shows nothing."""
    other = "train" if table.loc[at, "split"].iloc[0] == "test" else "test"
    fold = table["fold"].where(~at, 0 if other == "train" else NO_FOLD)
    return table.assign(group=table["sample_id"], split=table["split"].where(~at, other), fold=fold)


@pytest.mark.parametrize("kind", KINDS)
def test_the_guard_refuses_a_planted_leak_by_name(kind: str) -> None:
    owners = [f"S{number // 3:02d}" for number in range(57)] + ["Q1", "Q2", "Q3"]
    found = made(kind, ["a", "b"] * 30, owners, [*range(59), 0])  # the last is a copy of the first
    table = split_samples(found, SPLITS[kind], SEED)
    found = found.take(np.argsort(found.table["sample_id"].to_numpy(str), kind="stable"))
    strict, random = (sample_identities(found, mode) for mode in (SPLITS[kind].mode, "random"))
    guard(table, strict)
    owner = table[f"{OWNER[kind]}_id"]
    one_of_three = moved(table, table.index == table.index[owner == "S10"][0])
    for identities in ({OWNER[kind]: strict[OWNER[kind]]}, strict):
        with pytest.raises(SplitError, match=rf"the split leaks: 1 {OWNER[kind]}\(s\) on two sides, .* 'S10'"):
            guard(one_of_three, identities)
    guard(one_of_three, random)
    copied = moved(table, owner == "Q3")
    for identities in (strict, random):
        with pytest.raises(SplitError, match=rf"the split leaks: 1 {CONTENT[kind]}\(s\) on two sides"):
            guard(copied, identities)
    if kind == "images":  # another file that shows the same
        with pytest.raises(SplitError, match=r"the split leaks: 1 decoded image\(s\) on two sides"):
            guard(copied, {name: key for name, key in random.items() if name != "image"})
    at = table.index[(table["split"] == "train") & (owner.map(owner.value_counts()) > 1) & (owner != "S00")][0]
    folds = table["fold"].where(table.index != at, (table.loc[at, "fold"] + 1) % 4)
    with pytest.raises(SplitError, match=rf"1 {OWNER[kind]}\(s\) on two folds"):
        guard(table.assign(group=table["sample_id"], fold=folds), strict)


# Pairs of copied images.

NEAR = 0.95
COUNT = 16
CHANGES = (
    *(lambda pixels: compressed(pixels, 60), lambda pixels: resized(pixels, 0.5), lambda pixels: brighter(pixels, 1.1)),
    lambda pixels: compressed(resized(brighter(pixels, 0.9), 0.7), 75),  # all three
)
VIEWS = [(mirrored, turns) for mirrored in (False, True) for turns in range(4)]


def ids(samples: ImageSamples, pairs: pd.DataFrame) -> set[tuple[frozenset[str], str]]:
    name = samples.table["sample_id"].to_numpy(str)
    return {(frozenset((name[a], name[b])), how) for a, b, how in pairs[["a", "b", "how"]].to_numpy()}


@pytest.mark.parametrize("draw", [cell, on_black])
def test_changed_turned_and_mirrored_copies_are_found_and_different_images_are_none(draw: Any) -> None:
    images = [draw(seed, 168) for seed in range(COUNT)]
    changed = [change(image) for change, image in zip(CHANGES, images, strict=False)]
    turned = [np.rot90(image[:, ::-1] if mirrored else image, turns) for (mirrored, turns), image in
              zip(VIEWS[1:], images[len(CHANGES) :], strict=False)]  # fmt: skip
    copies = [*changed, *(compressed(np.ascontiguousarray(image), 75) for image in turned)]
    assert len(copies) == len(CHANGES) + len(VIEWS) - 1
    found = duplicate_pairs(images_of([*images, *copies]), NEAR)
    assert list(found.columns) == COLUMNS
    assert found[["a", "b"]].to_numpy().tolist() == [[number, COUNT + number] for number in range(len(copies))]
    assert found["how"].tolist() == ["near"] * len(CHANGES) + ["turned"] * len(turned)
    assert found["similarity"].between(NEAR, 1).all()


def test_identical_files_identical_pixels_near_and_turned_copies_are_distinguished_in_any_order_of_rows() -> None:
    images = [cell(seed) for seed in range(6)]
    turned = np.ascontiguousarray(np.rot90(images[3]))
    digests = [*"0123450", "1 in PNG", "2 again", "3 turned", "1 in BMP"]
    copies = [images[0], images[1], compressed(images[2], 80), turned, images[1]]
    samples = images_of([*images, *copies], digests=digests)
    found = duplicate_pairs(samples, NEAR)
    how = enumerate(("bytes", "pixels", "near", "turned"))
    pairs = [*([at, at + 6, each] for at, each in how), [7, 10, "pixels"]]
    assert found[["a", "b", "how"]].to_numpy().tolist() == pairs
    assert (found["similarity"][:2] == 1).all()
    similarity = found["similarity"][2]
    for threshold, near in ((similarity + 1e-4, 0), (similarity - 1e-4, 1)):
        assert (duplicate_pairs(samples, threshold)["how"] == "near").sum() == near
    for seed in range(8):
        moved = samples.take(np.random.default_rng(seed).permutation(len(samples)))
        again = duplicate_pairs(moved, NEAR)
        assert ids(moved, again) == ids(samples, found) and (again["a"] < again["b"]).all()
        assert sorted(again["similarity"]) == sorted(found["similarity"])
    for rows in ([], [0], [1, 2]):
        assert duplicate_pairs(samples.take(np.array(rows, dtype=int)), NEAR).empty


def test_no_pair_is_listed_twice_and_many_identical_images_make_few_pairs() -> None:
    images = [cell(0)] * 30 + [compressed(cell(0), 80)] * 30 + [cell(1)]
    samples = images_of(images, digests=["same"] * 20 + [f"digest {number}" for number in range(41)])
    found = duplicate_pairs(samples, NEAR)
    assert not found[["a", "b"]].duplicated().any() and (found["a"] < found["b"]).all()
    assert found["how"].value_counts().to_dict() == {"pixels": 39, "bytes": 19, "near": 1}
    split = Split("subject_blind", test=0.2, validation=0.1, folds=3, near_identical=NEAR)
    assert group_samples(samples, split)[0].nunique() == 2


def test_blank_images_are_one_only_if_identical() -> None:
    rng = np.random.default_rng(0)
    flat = [np.full((48, 48, 3), value, np.uint8) for value in (0, 0, 10, 200)]
    noise = [(flat[3] + rng.integers(0, 2, (48, 48, 3))).astype(np.uint8) for _ in range(10)]
    shade = (np.hypot(*np.mgrid[-24:24, -24:24]) / 5).astype(np.uint8)[..., None]  # of one microscope's lamp
    shaded = [flat[3] - shade, flat[3] - 30 - shade]
    found = duplicate_pairs(images_of([*flat, *noise, *shaded]), NEAR)
    assert found[["a", "b", "how"]].to_numpy().tolist() == [[0, 1, "pixels"]]


# Rotation: every group is tested once.

ROTATED = ImagesSplit(
    "subject_blind", test=0.2, validation=0.25, folds=3, near_identical=0.95, fewest_groups=1000, rotation=5
)


def rotated(drawn: Drawn) -> tuple[ImageSamples, pd.DataFrame]:
    labels, owners, content, seed = drawn
    found = made("images", labels, owners, content)
    try:
        return found, split_samples(found, ROTATED, seed)
    except SplitError as error:  # few and uneven groups
        assert re.search(r"too few or too uneven for a rotation|finds \d+ groups|got no", str(error))
        reject()


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(drawn=collections())
def test_a_rotation_tests_every_group_once_and_each_of_its_splits_is_sound(drawn: Drawn) -> None:
    found, table = rotated(drawn)
    assert sorted(set(table["outer"])) == list(range(5)) and "test" not in set(table["split"])
    assert table.groupby("group")["outer"].nunique().eq(1).all()
    found = found.take(np.argsort(found.table["sample_id"].to_numpy(str), kind="stable"))
    hashes = {split_sha256(table)}
    for part in range(5):
        outer = without_part(table, part)
        assert set(outer["split"]) == set(SIDES) and set(outer["fold"]) == {NO_FOLD, 0, 1, 2}
        assert (outer["split"] == "test").tolist() == (table["outer"] == part).tolist()
        guard(outer, sample_identities(found, "subject_blind"))
        hashes.add(split_sha256(outer))
    assert len(hashes) == 6  # each is a split of its own, and so is each study of it
    pd.testing.assert_frame_equal(split_samples(found, ROTATED, drawn[3]), table)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(drawn=collections(), data=st.data())
def test_a_leak_between_the_parts_of_a_rotation_is_caught(drawn: Drawn, data: st.DataObject) -> None:
    found, table = rotated(drawn)
    found = found.take(np.argsort(found.table["sample_id"].to_numpy(str), kind="stable"))
    identities = sample_identities(found, "subject_blind")
    several = np.flatnonzero(table.groupby("group")["group"].transform("size") > 1)
    assume(len(several))
    row = data.draw(st.sampled_from(several.tolist()))
    leaking = table.copy()
    leaking.loc[row, "outer"] = (int(leaking["outer"].to_numpy()[row]) + 1) % 5
    with pytest.raises(SplitError, match=r"leaks: 1 group\(s\) on two parts"):
        guard(leaking, identities)
    assert split_sha256(leaking) != split_sha256(table)
    regrouped = leaking.assign(group=[f"g{number}" for number in range(len(leaking))])  # and the subject is still one
    subject = table["subject_id"].to_numpy(object)[row]
    if subject is not None and (table["subject_id"] == subject).sum() > 1:
        with pytest.raises(SplitError, match="on two parts"):
            guard(regrouped, identities)
    tested = table.assign(split=table["split"].where(table.index != row, "test"))
    tested.loc[row, "fold"] = NO_FOLD
    with pytest.raises(SplitError, match=r"leaks|side test of a rotation"):
        guard(tested, identities)


def test_enough_groups_are_split_once_as_without_the_key() -> None:
    labels = [label for label in "ab" for _ in range(40)]
    subjects = [f"{label}{number // 2}" for number, label in enumerate(labels)]
    found, once = made("images", labels, subjects), replace(ROTATED, fewest_groups=40)
    plain = Split(once.mode, once.test, once.validation, once.folds, once.near_identical)
    table = split_samples(found, once, SEED)
    pd.testing.assert_frame_equal(table, split_samples(found, plain, SEED))
    assert split_sha256(table) == split_sha256(split_samples(found, plain, SEED)) and "outer" not in table
    assert "outer" in split_samples(found, replace(once, fewest_groups=41), SEED)


def test_a_rotation_of_too_few_groups_says_what_to_change() -> None:
    labels = [label for label in "ab" for _ in range(3)]
    found = made("images", labels, [f"S{number}" for number in range(6)])
    with pytest.raises(SplitError, match=r"set split\.fewest_groups: 0"):
        split_samples(found, ROTATED, SEED)
