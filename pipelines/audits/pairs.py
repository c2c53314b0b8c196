"""The audit of responses: lines and drugs under two ids, shortcuts to a line's response, and uneven groups."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipelines.audits import (
    AuditFinding,
    Parts,
    group_findings,
    group_sizes,
    list_duplicates,
    metadata,
    shortcut_finding,
)
from pipelines.groups import group_samples
from pipelines.groups.pairs import cell_line_groups, drug_groups, profile_hashes
from pipelines.params import UNSEEN_DRUGS, Split
from pipelines.probes import probe_response
from pipelines.samples.response import UNKNOWN, ResponseSamples, molecule_keys

_UNIT = {
    "subject_blind": "subject",
    "cell_blind": "cell line",
    "cross_study": "cell line",
    "drug_blind": "drug",
    "drug_pilot": "drug",
    "tissue_blind": "tissue",
}


def audit(samples: ResponseSamples, folder: Path, split: Split, seed: int) -> Parts:
    """Look for ids that are one, shortcuts and uneven groups; ``folder`` is not read."""
    split = replace(split, mode="cell_blind") if split.mode == "random" else split
    lines, drugs = cell_line_groups(samples, split.near_identical), drug_groups(samples.drugs)
    rows = _line_pairs(samples, lines, split.near_identical) + _drug_pairs(samples.drugs, drugs)
    duplicates = list_duplicates(rows, lines, drugs)
    counts = duplicates["counts"] = duplicates["counts"] | _repeats(samples, lines, drugs)
    findings = []
    for what in ("cell line", "drug"):
        if twice := sum(row["what"] == what for row in rows):
            message = f"{twice} {what}s have a second id (same profile, name or molecule); each is one group"
            findings.append(AuditFinding(f"{what.replace(' ', '_')}_under_two_ids", message))
    if counts["different_labels"]:
        message = (
            f"{counts['different_labels']} of {counts['repeated']} pairs of a cell line and a drug that were measured "
            "more than once differ by more than a standard deviation of all responses "
            f"({counts['standard_deviation']:.2f})"
        )
        findings.append(AuditFinding("copies_with_different_labels", message))
    shortcuts = [
        probe_response(probe, features, samples, lines.to_numpy(), seed)
        for probe, features in pair_confounders(samples).items()
    ]
    findings += [shortcut_finding(shortcut) for shortcut in shortcuts if shortcut["finding"]]
    group = group_samples(samples, split)[0].to_numpy(str)
    carried = None if split.mode in UNSEEN_DRUGS else samples.pairs["drug_id"].to_numpy(str)
    unknown = (samples.cell_lines["tissue"] == UNKNOWN).to_numpy()[samples.cell].sum()
    groups = {
        "unit": _UNIT[split.mode],
        **group_sizes(group, carried),
        "unknown": int(unknown) if split.mode == "tissue_blind" else 0,
    }
    if groups["unknown"]:
        message = f"the tissue of {groups['unknown']} samples is not known: they are held together as if it were one"
        findings.append(AuditFinding("tissue_unknown", message))
    return duplicates, shortcuts, groups, findings + group_findings(groups, split)


def _line_pairs(samples: ResponseSamples, groups: pd.Series, near_identical: float) -> list[dict[str, Any]]:
    """Return each cell line that is one with another, with the first of its group and why."""
    hashes = profile_hashes(samples)
    expression = samples.omics.get("expression")
    rows = []
    for line, first in _joined(groups):
        same = any(found[line] is not None and found[line] == found[first] for found in hashes.values())
        alike = None
        if expression is not None:
            both = expression.loc[[first, line]].dropna(axis=1).to_numpy(np.float64)
            alike = float(np.corrcoef(both)[0, 1]) if both.shape[1] > 1 and (np.ptp(both, axis=1) > 0).all() else None
        near = alike is not None and alike > near_identical
        how = "profile" if same else "near" if near else "name"
        rows.append(_row("cell line", first, line, alike, how))
    return rows


def _drug_pairs(drugs: pd.DataFrame, groups: pd.Series) -> list[dict[str, Any]]:
    """Return each drug that is one with another, with the first of its group and why."""
    molecule = molecule_keys(drugs)
    found = [(first, drug, bool(molecule[drug] == molecule[first])) for drug, first in _joined(groups)]
    return [_row("drug", a, b, 1.0 if same else None, "molecule" if same else "name") for a, b, same in found]


def _row(what: str, first: str, other: str, similarity: float | None, how: str) -> dict[str, Any]:
    return {"what": what, "a": first, "b": other, "similarity": similarity, "how": how, "groups": [first, other]}


def _joined(groups: pd.Series) -> list[tuple[str, str]]:
    """Return each id that is not the first of its group, and the first."""
    ids, firsts = groups.index.to_numpy(str), groups.to_numpy(str)
    return [(str(one), str(first)) for one, first in zip(ids, firsts, strict=True) if one != first]


def _repeats(samples: ResponseSamples, lines: pd.Series, drugs: pd.Series) -> dict[str, Any]:
    """Return how many pairs of a line and a drug were measured more than once, and how far the targets differ."""
    who = pd.factorize(lines.to_numpy())[0][samples.cell].astype(np.int64)
    what = pd.factorize(drugs.to_numpy())[0][samples.drug].astype(np.int64)
    target = pd.Series(samples.target).groupby(who * len(drugs) + what)
    spread = (target.max() - target.min())[target.size() > 1]
    deviation = float(np.std(samples.target))
    return {
        "repeated": len(spread),
        "median_difference": float(spread.median()) if len(spread) else None,
        "standard_deviation": deviation,
        "different_labels": int((spread > deviation).sum()),
    }


def pair_confounders(samples: ResponseSamples) -> dict[str, pd.DataFrame]:
    """Return the features of each probe, a row a cell line, that say nothing of how it responds."""
    lines = samples.cell_lines.index
    profiles = {}
    for name, table in samples.omics.items():
        wide = table.to_numpy(np.float64)
        summary = pd.DataFrame({"mean": pd.DataFrame(wide).mean(axis=1), "sd": pd.DataFrame(wide).std(axis=1)})
        profiles[f"level_{name}"] = summary.set_axis(lines)
    missing = {name: np.isnan(table.to_numpy()).mean(axis=1) for name, table in samples.omics.items()}
    counts = pd.crosstab(samples.cell, samples.pairs["study"].to_numpy()).reindex(range(len(lines)), fill_value=0)
    total = counts.sum(axis=1)
    study = counts.div(total.clip(lower=1), axis=0).assign(measurements=total).set_axis(lines)
    return {
        **profiles,
        "missing": pd.DataFrame(missing, index=lines),
        "study": study.rename(columns=str),
        "metadata": metadata(samples.cell_lines),
    }
