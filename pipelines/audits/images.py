"""The audit of images: the same cell in several files, what tells the class besides the cell, and uneven subjects."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from pipelines.audits import (
    AuditFinding,
    Parts,
    group_sizes,
    list_duplicates,
    merged_groups,
    name_classes,
    pair_rows,
    tell_copies,
    tell_groups,
    tell_shortcut,
)
from pipelines.confounders.images import image_confounders
from pipelines.groups.connect import connected
from pipelines.groups.duplicates import duplicate_pairs
from pipelines.params import Split
from pipelines.probes import probe_labels
from pipelines.samples.images import ImageSamples


def audit(samples: ImageSamples, folder: Path, split: Split, seed: int) -> Parts:
    """Look for copies, shortcuts and uneven subjects."""
    table = samples.table
    alone = table["subject_id"].isna()
    subject = table["subject_id"].where(~alone, table["sample_id"]).to_numpy(str)
    pairs = duplicate_pairs(samples, split.near_identical)
    edges = [(subject[a], subject[b]) for a, b in pairs[["a", "b"]].to_numpy()]
    group = connected(pd.Index(np.unique(subject)), edges).loc[subject].to_numpy(str)
    ids, label = table["sample_id"].to_numpy(str), table["label"].to_numpy(str)
    rows = pair_rows(pairs, ids, subject, label)
    duplicates = list_duplicates(rows, merged_groups(pd.Series(group, index=subject)))
    counts = duplicates["counts"]
    findings = tell_copies(counts, "image", "group" if alone.any() else "subject")
    if counts["different_labels"]:
        message = f"{counts['different_labels']} pairs of images that show the same cell have different labels"
        findings.append(AuditFinding("copies_with_different_labels", message))
    shortcuts = [
        probe_labels(probe, features, samples.target, group, seed)
        for probe, features in image_confounders(samples, folder).items()
    ]
    name_classes(shortcuts, samples.classes)
    groups = {"unit": "subject", **group_sizes(group, label), "unknown": int(alone.sum())}
    findings += [tell_shortcut(shortcut) for shortcut in shortcuts if shortcut["finding"]]
    if alone.any():
        message = (
            f"the subject of {alone.sum()} of {len(alone)} images is not known: images of one subject can stand on both"
            " sides of the split, and scores may be higher than on unseen subjects"
        )
        findings.append(AuditFinding("subject_unknown", message))
    if not alone.all():
        findings += tell_groups(groups, split)
    return duplicates, shortcuts, groups, findings
