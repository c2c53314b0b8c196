"""The audit of expression profiles: copies, what tells the label besides the tumor, and uneven patients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipelines.audits import (
    LISTED,
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
from pipelines.confounders.profiles import profile_confounders
from pipelines.groups.connect import connected
from pipelines.groups.profiles import similar_profiles
from pipelines.params import Split
from pipelines.probes import probe_labels, thinned
from pipelines.samples.expression import ExpressionSamples

_UNKNOWN = "unknown"
_OF_GENES = "what it shifts in a profile cannot be told from what the label shifts"
_OF_BARCODES = {
    "barcode_plate": f"a plate holds few kinds of tumors, so {_OF_GENES}",
    "barcode_site": f"a site treats few kinds of tumors, so {_OF_GENES}",
    "barcode_center": f"a center got few kinds of tumors, so {_OF_GENES}",
}


def audit(samples: ExpressionSamples, folder: Path, split: Split, seed: int) -> Parts:
    """Look for copies, shortcuts and uneven patients; where genes are predicted, probes tell the label if there is one.

    Large labels are thinned for the probes, see `pipelines.probes.thinned`; what they tell is on patients, whatever the
    split's mode.
    """
    table = samples.table
    ids, patient = table["sample_id"].to_numpy(str), table["patient_id"].to_numpy(str)
    known = table["label"].notna().to_numpy()
    label = table["label"].where(known, _UNKNOWN).to_numpy(str)
    pairs = similar_profiles(samples, split.near_identical)
    edges = [(patient[a], patient[b]) for a, b in pairs[["a", "b"]].to_numpy(int)]
    group = connected(pd.Index(np.unique(patient)), edges).loc[patient].to_numpy(str)
    duplicates = list_duplicates(pair_rows(pairs, ids, patient, label), merged_groups(pd.Series(group, index=patient)))
    counts = duplicates["counts"]
    findings = tell_copies(counts, "profile", "patient")
    if counts["different_labels"]:
        message = f"{counts['different_labels']} pairs of identical or nearly identical profiles have different labels"
        findings.append(AuditFinding("copies_with_different_labels", message))
    shortcuts = _probed(samples, known, label, group, seed)
    for shortcut in shortcuts:
        if shortcut["finding"]:
            so = _OF_BARCODES.get(shortcut["probe"], None if samples.classes else _OF_GENES)
            findings.append(tell_shortcut(shortcut, so))
        if "pairs" in shortcut:
            shortcut["pairs"] = shortcut["pairs"][:LISTED]  # 33 cohorts make 528
    # A patient without an id was given the sample's.
    alone = patient == ids
    groups = {"unit": "patient", **group_sizes(group, label if known.any() else None), "unknown": int(alone.sum())}
    if alone.any():
        message = (
            f"the patient of {alone.sum()} of {len(alone)} profiles is not known, or bears the sample's name: profiles "
            "of one patient can stand on both sides of the split, and scores may be higher than on unseen patients"
        )
        findings.append(AuditFinding("patient_unknown", message))
    # A tumor has one type: that a patient has one label is a fault only of a split that does not heed patients.
    told = groups | {"one_label_each": groups["one_label_each"] and split.mode == "random"}
    return duplicates, shortcuts, groups, findings + tell_groups(told, split)


def _probed(
    samples: ExpressionSamples, known: np.ndarray, label: np.ndarray, group: np.ndarray, seed: int
) -> list[dict[str, Any]]:
    rows = np.flatnonzero(known)
    classes, codes = np.unique(label[rows], return_inverse=True)
    if len(classes) < 2:
        return []
    part = thinned(codes, group[rows], seed)
    shortcuts = [
        probe_labels(probe, features.iloc[rows[part]], codes[part], group[rows[part]], seed)
        for probe, features in profile_confounders(samples).items()
    ]
    for shortcut in shortcuts:
        shortcut["samples"] = len(part)
    name_classes(shortcuts, classes.tolist())
    return shortcuts
