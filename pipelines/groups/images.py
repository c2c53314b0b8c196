"""Groups of images: those of a subject, and copies of one another."""

from __future__ import annotations

import hashlib

import pandas as pd

from pipelines.groups.connect import connected, pairs_by
from pipelines.groups.duplicates import duplicate_pairs
from pipelines.params import Split
from pipelines.samples.images import ImageSamples


def group_samples(samples: ImageSamples, split: Split) -> tuple[pd.Series, pd.Series]:
    """Return for each image its group and its stratum, the group's most frequent label; text, shape ``(n,)``.

    A group is a subject with all its images, or an image of unknown subject; groups that share identical or nearly
    identical images are one. The mode ``random`` keeps copies together, but not subjects.
    """
    table = samples.table
    ids = pd.Index(table["sample_id"])
    edges = [(ids[a], ids[b]) for a, b in duplicate_pairs(samples, split.near_identical)[["a", "b"]].to_numpy()]
    if split.mode == "subject_blind":
        edges += pairs_by(pd.Series(table["subject_id"].to_numpy(), index=ids, dtype=object).dropna())
    group = pd.Series(connected(ids, edges).to_numpy())
    label = table["label"].groupby(group.to_numpy()).agg(lambda labels: labels.mode().iloc[0])
    return group, pd.Series(group.map(label).to_numpy())


def sample_identities(samples: ImageSamples, mode: str) -> dict[str, pd.Series]:
    """Return what must not be on two sides: the file's bytes, the decoded pixels, and the subject."""
    table = samples.table
    pixels = [hashlib.blake2b(samples.pixels[row].tobytes()).hexdigest() for row in samples.index]
    identities = {
        "image": pd.Series(table["digest"].to_numpy(), dtype=object),
        "decoded image": pd.Series(pixels, dtype=object),
    }
    if mode == "subject_blind":
        identities["subject"] = pd.Series(table["subject_id"].to_numpy(), dtype=object)
    return identities
