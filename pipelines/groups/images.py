"""Groups of images: those of a subject, and copies of one another."""

from __future__ import annotations

import hashlib

import pandas as pd

from pipelines.groups.connect import owned_groups
from pipelines.groups.duplicates import duplicate_pairs
from pipelines.params import Split
from pipelines.samples.images import ImageSamples


def group_samples(samples: ImageSamples, split: Split) -> tuple[pd.Series, pd.Series]:
    """Return for each image its group and its stratum, the group's most frequent label; text, shape ``(n,)``.

    A group is a subject with all its images, or an image of unknown subject; groups that share identical or nearly
    identical images are one. The mode ``random`` keeps copies together, but not subjects.
    """
    copies = duplicate_pairs(samples, split.near_identical)
    owner = "subject_id" if split.mode == "subject_blind" else None
    return owned_groups(samples.table, copies, owner, samples.table["label"])


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
