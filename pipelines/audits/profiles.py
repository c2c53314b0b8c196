"""The audit of expression profiles: copies, shortcuts to the label, and uneven patients."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipelines.audits import (
    LISTED,
    Parts,
    group_findings,
    group_sizes,
    labeled_copies,
    metadata,
    name_classes,
    shortcut_finding,
    unknown_finding,
)
from pipelines.groups.profiles import similar_profiles
from pipelines.params import Split
from pipelines.probes import probe_labels, thinned
from pipelines.samples.barcodes import barcode_parts
from pipelines.samples.expression import ExpressionSamples, library_sizes

_UNKNOWN = "unknown"
_OF_GENES = "its effect on a profile cannot be separated from that of the label"
_OF_BARCODES = {
    "barcode_plate": f"a plate holds few kinds of tumors, so {_OF_GENES}",
    "barcode_site": f"a site treats few kinds of tumors, so {_OF_GENES}",
    "barcode_center": f"a center got few kinds of tumors, so {_OF_GENES}",
}


def audit(samples: ExpressionSamples, folder: Path, split: Split, seed: int) -> Parts:
    """Look for copies, shortcuts to the label, if there is one, and uneven patients; ``folder`` is not read."""
    table = samples.table
    patient = table["patient_id"].to_numpy(str)
    known = table["label"].notna().to_numpy()
    label = table["label"].where(known, _UNKNOWN).to_numpy(str)
    pairs = similar_profiles(samples, split.near_identical)
    group, duplicates, findings = labeled_copies(pairs, table, patient, label, sample="profile", unit="patient")
    shortcuts = _probed(samples, known, label, group, seed)
    for shortcut in shortcuts:
        if shortcut["finding"]:
            effect = _OF_BARCODES.get(shortcut["probe"], None if samples.classes else _OF_GENES)
            findings.append(shortcut_finding(shortcut, effect))
        if "pairs" in shortcut:
            shortcut["pairs"] = shortcut["pairs"][:LISTED]  # 33 cohorts make 528
    alone = patient == table["sample_id"].to_numpy(str)  # a patient without an id was given the sample's
    groups = {"unit": "patient", **group_sizes(group, label if known.any() else None), "unknown": int(alone.sum())}
    findings += unknown_finding(alone, sample="profile", unit="patient", or_named=", or has the sample's name")
    # A tumor has one type: that a patient has one label is a fault only of a split that ignores patients.
    uneven = groups | {"one_label_each": groups["one_label_each"] and split.mode == "random"}
    return duplicates, shortcuts, groups, findings + group_findings(uneven, split)


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


_LEVELS = 100  # of a part of a barcode; there are 33 cohorts


def profile_confounders(samples: ExpressionSamples) -> dict[str, pd.DataFrame]:
    """Return the features of each probe, a row a profile, that say nothing of the tumor."""
    values = samples.values[samples.index]
    found = {}
    if samples.scale != "as_is":
        total = library_sizes(values, samples.scale)
        found["library_size"] = pd.DataFrame({"log_total": np.log10(np.maximum(total, 1e-9))})
    found["missing"] = pd.DataFrame({"share": np.isnan(values).mean(axis=1)})
    found["metadata"] = metadata(samples.table)
    return found | _barcodes(samples.table["sample_id"])


def _barcodes(ids: pd.Series) -> dict[str, pd.DataFrame]:
    found = {}
    for name, part in barcode_parts(ids).items():
        levels = part.value_counts().sort_index().sort_values(ascending=False, kind="stable").index[:_LEVELS]
        found[f"barcode_{name}"] = pd.DataFrame({level: (part == level).astype(float) for level in levels})
    return found
