"""A subject, or a copy of one image, on two sides of the split makes every score of an image model a lie."""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from pipelines.groups import group_samples, sample_identities
from pipelines.params import Split
from pipelines.samples.images import ImageSamples
from pipelines.split import NO_FOLD, SIDES, SplitError, guard, split_samples, split_sha256
from tests.pipelines.image_samples import brighter, cell, compressed, resized, samples_of

SEED = 5
SPLIT = Split("subject_blind", test=0.2, validation=0.15, folds=4, near_identical=0.95)
SHARES = {"train": 0.65, "test": 0.2, "validation": 0.15}
MODES: tuple[str, ...] = ("subject_blind", "random")


def flat(number: int) -> np.ndarray:
    """Return an image of one color, no other number's: without texture it is nearly identical to nothing."""
    return np.full((4, 4, 3), [number % 256, number // 256, 7], np.uint8)


def digests_of(images: Sequence[np.ndarray]) -> list[str]:
    return [hashlib.sha256(image.tobytes()).hexdigest() for image in images]


def samples(
    labels: Sequence[str],
    subjects: Sequence[str | None],
    images: Sequence[np.ndarray] | None = None,
    digests: Sequence[str] | None = None,
) -> ImageSamples:
    return samples_of(
        [flat(number) for number in range(len(labels))] if images is None else images,
        labels=labels,
        subjects=subjects,
        digests=digests,
    )


def split_of(mode: str) -> Split:
    return replace(SPLIT, mode=mode)


def groups_of(found: ImageSamples, mode: str = "subject_blind") -> list[str]:
    return group_samples(found, split_of(mode))[0].tolist()


def parquet(table: pd.DataFrame) -> bytes:
    file = io.BytesIO()
    table.to_parquet(file, index=False)
    return file.getvalue()


# Any collection.


@st.composite
def collections(draw: st.DrawFn) -> ImageSamples:
    """Draw images with labels, subjects that may be unknown, files that stand twice, and files that look alike."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    count, subjects = draw(st.integers(40, 140)), draw(st.integers(10, 40))
    classes = draw(st.sampled_from([("a", "b"), ("a", "b", "c"), tuple("abcde")]))
    labels = rng.choice(classes, count, p=rng.dirichlet(np.full(len(classes), 3.0))).tolist()
    if draw(st.booleans()):  # each subject has one label, as in C-NMC
        of_subject = rng.choice(classes, subjects)
        subject = rng.integers(0, subjects, count)
        labels = of_subject[subject].tolist()
    else:
        subject = rng.integers(0, subjects, count)
    unknown = rng.random(count) < draw(st.sampled_from([0.0, 0.4, 1.0]))
    names = [None if lacking else f"S{number:02d}" for number, lacking in zip(subject, unknown, strict=True)]
    content = np.arange(count)
    twins = rng.permutation(count)[: 2 * draw(st.integers(0, 5))].reshape(-1, 2)
    content[twins[:, 1]] = content[twins[:, 0]]
    images = [flat(int(number)) for number in content]
    digests = digests_of(images)
    for number in twins[::2, 1]:  # every other twin is another file that shows the same
        digests[number] = f"another file {number}"
    return samples(labels, names, images, digests)


@pytest.mark.parametrize("mode", MODES)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(found=collections(), seed=st.integers(0, 2**32 - 1), order=st.integers(0, 99))
def test_no_subject_and_no_copy_crosses_and_the_same_seed_gives_the_same_bytes(
    mode: str, found: ImageSamples, seed: int, order: int
) -> None:
    try:
        table = split_samples(found, split_of(mode), seed)
    except SplitError as error:
        assert "group" in str(error)  # too few or too uneven after all the merging
        reject()

    assert table["sample_id"].tolist() == sorted(found.table["sample_id"])
    assert set(table["split"]) == set(SIDES)
    assert set(table.loc[table["split"] != "test", "fold"]) == set(range(SPLIT.folds))
    assert set(table.loc[table["split"] == "test", "fold"]) == {NO_FOLD}
    pixels = {
        name: found.pixels[row].tobytes() for name, row in zip(found.table["sample_id"], found.index, strict=True)
    }
    truth = {"group": table["group"], "digest": table["digest"], "content": table["sample_id"].map(pixels)}
    if mode == "subject_blind":
        truth["subject"] = table["subject_id"]
    for key in truth.values():
        for place in ("split", "fold"):
            assert (table.groupby(key)[place].nunique() == 1).all()

    mixed = found.take(np.random.default_rng(order).permutation(len(found)))
    again = split_samples(mixed, split_of(mode), seed)
    assert split_sha256(again) == split_sha256(table)
    assert parquet(again) == parquet(table)


def test_another_seed_gives_another_split() -> None:
    found = samples(["a", "b"] * 40, [None] * 80)
    first, second = (split_samples(found, SPLIT, seed) for seed in (1, 2))
    assert split_sha256(first) != split_sha256(second)


# Labels on every side.


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(21, 60), min_size=2, max_size=5),
    of_subject=st.integers(1, 2),
    seed=st.integers(0, 2**32 - 1),
    mode=st.sampled_from(MODES),
)
def test_every_side_and_fold_has_the_labels_shares_where_groups_are_small(
    sizes: list[int], of_subject: int, seed: int, mode: str
) -> None:
    labels = [label for label, size in zip("abcde", sizes, strict=False) for _ in range(size * of_subject)]
    subjects = [f"{label}{number // of_subject}" for number, label in enumerate(labels)]
    table = split_samples(samples(labels, subjects), split_of(mode), seed)
    total = Counter(labels)
    for side, share in SHARES.items():
        held = Counter(table.loc[table["split"] == side, "label"])
        for label in total:
            assert held[label] > 0, (side, label)
            assert abs(held[label] - share * total[label]) <= 2 * of_subject + 1, (side, label)
    kept = table[table["split"] != "test"]
    for _, fold in kept.groupby("fold"):
        held = Counter(fold["label"])
        for label, count in Counter(kept["label"]).items():
            assert held[label] > 0
            assert abs(held[label] - count / SPLIT.folds) <= 2 * of_subject + 1


@pytest.mark.parametrize("seed", range(8))
def test_a_rare_label_reaches_every_side(seed: int) -> None:
    labels = ["common"] * 180 + ["rare"] * 12
    table = split_samples(samples(labels, [None] * len(labels)), SPLIT, seed)
    assert set(table.loc[table["label"] == "rare", "split"]) == set(SIDES)


@pytest.mark.parametrize("seed", range(8))
def test_subjects_of_one_label_and_uneven_size_give_both_labels_to_every_side(seed: int) -> None:
    # As in C-NMC: a subject has one label, and some have many more images than others.
    labels, subjects = [], []
    for subject in range(40):
        label = "all" if subject % 5 in (0, 2, 4) else "hem"
        for _ in range(3 + subject % 7):
            labels.append(label)
            subjects.append(f"S{subject:02d}")
    table = split_samples(samples(labels, subjects), SPLIT, seed)
    shares = pd.crosstab(table["split"], table["label"], normalize="index")["all"]
    whole = float(np.mean(np.array(labels) == "all"))
    assert (abs(shares - whole) < 0.15).all(), shares.to_dict()
    assert set(table.groupby("split")["label"].nunique()) == {2}


# What one group is.


TURNS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "as it stands": lambda image: image.copy(),
    "turned by a quarter": lambda image: np.rot90(image),
    "turned by a half": lambda image: np.rot90(image, 2),
    "mirrored": lambda image: image[:, ::-1],
    "mirrored and turned": lambda image: np.rot90(image[:, ::-1]),
    "recompressed": lambda image: compressed(image, 70),
    "made smaller and larger": lambda image: resized(image, 0.7),
    "brighter": lambda image: brighter(image, 1.1),
    "turned and recompressed": lambda image: compressed(np.ascontiguousarray(np.rot90(image, 3)), 70),
}


@pytest.mark.parametrize("change", TURNS.values(), ids=list(TURNS))
@pytest.mark.parametrize("mode", MODES)
def test_copies_are_one_group_with_all_that_their_subjects_have(
    mode: str, change: Callable[[np.ndarray], np.ndarray]
) -> None:
    images = [cell(number) for number in range(6)]
    images[5] = np.ascontiguousarray(change(images[0]))
    subjects = ["S1", "S1", "S2", "S2", None, "S3"]
    groups = groups_of(samples(["a", "b"] * 3, subjects, images), mode)
    assert groups[0] == groups[5]
    if mode == "subject_blind":
        assert groups[0] == groups[1]  # the copy ties S3 to all of S1
        assert groups[2] == groups[3]
    assert len(set(groups)) == (3 if mode == "subject_blind" else 5)


def test_a_chain_of_copies_and_subjects_is_one_group() -> None:
    images = [cell(number) for number in range(5)]
    images[2], images[4] = images[1].copy(), compressed(images[3], 80)
    groups = groups_of(samples(["a"] * 5, ["S1", "S1", "S2", "S2", "S3"], images))
    assert len(set(groups)) == 1


def test_a_group_bears_the_name_of_its_first_sample_whatever_the_order() -> None:
    found = samples(["a", "a", "b", "b"], ["S1", "S2", "S1", None])
    names = found.table["sample_id"].tolist()
    assert groups_of(found) == [names[0], names[1], names[0], names[3]]
    assert groups_of(found.take(np.array([3, 2, 1, 0]))) == [names[3], names[0], names[1], names[0]]


def test_unrelated_cells_stay_apart_and_the_threshold_is_the_tasks() -> None:
    images = [cell(number) for number in range(24)]
    images[23] = compressed(images[0], 20)
    found = samples(["a"] * 24, [None] * 24, images)
    assert len(set(groups_of(found))) <= 24
    strict = group_samples(found, replace(SPLIT, near_identical=1.0))[0]
    assert strict.nunique() == 24
    loose = group_samples(found, replace(SPLIT, near_identical=0.5))[0]
    assert loose[23] == loose[0]
    assert set(groups_of(samples(["a"] * 23, [None] * 23, images[:23]))) == set(found.table["sample_id"][:23])


def test_images_without_a_subject_stand_alone() -> None:
    found = samples(["a", "b"] * 10, [None] * 20)
    assert groups_of(found) == found.table["sample_id"].tolist()
    identities = sample_identities(found, "subject_blind")
    assert identities["subject"].isna().all()  # "unknown" is no subject that could leak
    split_samples(samples(["a", "b"] * 40, [None] * 80), SPLIT, SEED)


def test_blank_images_are_not_copies_of_one_another() -> None:
    found = samples(["a"] * 30, [None] * 30)
    assert len(set(groups_of(found))) == 30


def test_the_stratum_of_a_group_is_its_most_frequent_label() -> None:
    found = samples(["b", "a", "b", "c", "a"], ["S1", "S1", "S1", "S2", None])
    assert group_samples(found, SPLIT)[1].tolist() == ["b", "b", "b", "c", "a"]


# random: copies and nothing else.


def test_random_keeps_copies_together_but_not_subjects() -> None:
    images = [cell(number) for number in range(60)]
    for copy in range(6):
        images[54 + copy] = np.ascontiguousarray(np.rot90(images[copy]))
    subjects = [f"S{number % 4}" for number in range(60)]
    found = samples(["a", "b"] * 30, subjects, images)
    table = split_samples(found, split_of("random"), SEED).set_index("sample_id")
    names = found.table["sample_id"]
    for copy in range(6):
        assert table.loc[names[copy], "group"] == table.loc[names[54 + copy], "group"]
        assert table.loc[names[copy], "split"] == table.loc[names[54 + copy], "split"]
    assert table.groupby("subject_id")["split"].nunique().max() == 3
    assert set(sample_identities(found, "random")) == {"image", "decoded image"}
    # The copies tie S0 to S2 and S1 to S3.
    with pytest.raises(SplitError, match="split mode subject_blind finds 2 groups"):
        split_samples(found, SPLIT, SEED)


# The guard.


@pytest.fixture(scope="module")
def found() -> ImageSamples:
    """Return 60 images of 20 subjects, the last two showing the same as the first two."""
    content = [*range(58), 0, 1]
    images = [flat(int(number)) for number in content]
    digests = digests_of(images)
    digests[59] = "another file"
    return samples(["a", "b"] * 30, [f"S{number // 3:02d}" for number in range(57)] + [None] * 3, images, digests)


def moved(table: pd.DataFrame, sample: str) -> pd.DataFrame:
    """Put a sample onto another side, with a group of its own so that the group column tells nothing."""
    at = table["sample_id"] == sample
    other = "train" if table.loc[at, "split"].iloc[0] == "test" else "test"
    return table.assign(
        group=table["sample_id"],
        split=table["split"].where(~at, other),
        fold=table["fold"].where(~at, 0 if other == "train" else NO_FOLD),
    )


@pytest.mark.parametrize(
    ("position", "says"),
    [
        (30, r"\d+ subject\(s\) on two sides, for instance 'S10'"),
        (58, r"1 image\(s\) on two sides"),
        (59, r"1 decoded image\(s\) on two sides"),
    ],
    ids=["subject", "identical file", "identical picture"],
)
def test_the_guard_refuses_a_planted_leak_by_name(position: int, says: str, found: ImageSamples) -> None:
    table = split_samples(found, SPLIT, SEED)
    ordered = found.take(np.argsort(found.table["sample_id"].to_numpy(str), kind="stable"))
    identities = sample_identities(ordered, "subject_blind")
    guard(table, identities)
    leaking = moved(table, found.table["sample_id"].iloc[position])
    # The named kind of leak, and it alone.
    name = says.split(r"\(")[0].split(" ", 1)[1]
    with pytest.raises(SplitError, match=f"the split leaks: {says}.*; make the split anew"):
        guard(leaking, {name: identities[name]})
    with pytest.raises(SplitError, match="the split leaks"):
        guard(leaking, identities)


def test_the_guard_of_random_lets_subjects_pass_and_copies_not(found: ImageSamples) -> None:
    ordered = found.take(np.argsort(found.table["sample_id"].to_numpy(str), kind="stable"))
    identities = sample_identities(ordered, "random")
    table = split_samples(found, SPLIT, SEED)
    guard(moved(table, found.table["sample_id"].iloc[30]), identities)
    with pytest.raises(SplitError, match=r"1 image\(s\) on two sides"):
        guard(moved(table, found.table["sample_id"].iloc[58]), identities)


def test_a_fold_that_shares_a_subject_with_another_is_refused(found: ImageSamples) -> None:
    table = split_samples(found, SPLIT, SEED)
    ordered = found.take(np.argsort(found.table["sample_id"].to_numpy(str), kind="stable"))
    several = table["subject_id"].map(table["subject_id"].value_counts()) > 1
    at = table.index[(table["split"] == "train") & several][0]
    table.loc[at, "fold"] = (table.loc[at, "fold"] + 1) % SPLIT.folds
    with pytest.raises(SplitError, match=r"1 subject\(s\) on two folds"):
        guard(table.assign(group=table["sample_id"]), sample_identities(ordered, "subject_blind"))


# What cannot be split.


@pytest.mark.parametrize("subjects", [1, 2, 4])
def test_too_few_subjects_are_refused_with_advice(subjects: int) -> None:
    found = samples(["a", "b"] * 20, [f"S{number % subjects}" for number in range(40)])
    with pytest.raises(SplitError, match=f"finds {subjects} groups; .*need at least 5: bring more data"):
        split_samples(found, SPLIT, SEED)


@pytest.mark.parametrize("seed", range(8))
def test_a_subject_with_nearly_all_images_is_never_cut(seed: int) -> None:
    found = samples(["a"] * 300, ["S0"] * 294 + [f"S{number}" for number in range(1, 7)])
    try:
        table = split_samples(found, SPLIT, seed)
    except SplitError as error:
        assert "too uneven" in str(error) or "got no group" in str(error)
    else:
        assert table.loc[table["subject_id"] == "S0", ["split", "fold"]].drop_duplicates().shape == (1, 2)
