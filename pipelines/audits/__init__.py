"""What an audit tells, whatever the kind of the samples; a module for each kind finds it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from pipelines.params import Split

LISTED = 50
FEW_GROUPS = 5  # folds of a split: a label in fewer groups is lacking in one of them
WELL_TOLD = 0.95  # AUC; labels that a confounder tells apart so well come from different sources
FEW_EFFECTIVE = 10  # an interval from fewer groups says little


@dataclass(frozen=True)
class AuditFinding:
    """What a reader of the scores must know of the data.

    Attributes
    ----------
    name
        In snake case; ``shortcut_<probe>`` for a probe far above chance.
    message
        One sentence.
    score
        Of the probe, for shortcuts.
    """

    name: str
    message: str
    severity: str = "warning"
    score: float | None = None


# Duplicates, shortcuts, groups and findings, as in `pipelines.audits.run.Audit`.
Parts = tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any], list[AuditFinding]]


def pair_rows(pairs: pd.DataFrame, ids: np.ndarray, groups: np.ndarray, labels: np.ndarray) -> list[dict[str, Any]]:
    """Return what is listed of pairs of samples that are one.

    Parameters
    ----------
    pairs
        ``a``, ``b`` (positions), ``similarity``, ``how``.
    ids, groups, labels
        Of each sample, text; a group is told before copies join it with others.
    """
    return [
        {
            "a": ids[a],
            "b": ids[b],
            "similarity": similarity,
            "how": how,
            "groups": [groups[a], groups[b]],
            "labels": [labels[a], labels[b]],
        }
        for a, b, similarity, how in pairs.itertuples(index=False)
    ]


def list_duplicates(rows: list[dict[str, Any]], merged: list[dict[str, Any]]) -> dict[str, Any]:
    """Return counts, and the first pairs and merged groups; what crosses groups or labels comes first."""
    across = [row["groups"][0] != row["groups"][1] for row in rows]
    differ = ["labels" in row and row["labels"][0] != row["labels"][1] for row in rows]
    gravest = sorted(
        range(len(rows)), key=lambda at: (not differ[at], not across[at], -(rows[at]["similarity"] or 0), at)
    )
    merged = sorted(merged, key=lambda group: (-len(group["members"]), group["members"]))
    counts = {
        "pairs": len(rows),
        "across_groups": sum(across),
        "within_groups": len(rows) - sum(across),
        "different_labels": sum(differ),
        "how": pd.Series([row["how"] for row in rows], dtype=object).value_counts().sort_index().to_dict(),
        "merged_groups": len(merged),
        "groups_merged": sum(len(group["members"]) for group in merged),
    }
    return {"counts": counts, "pairs": [rows[at] for at in gravest[:LISTED]], "merged_groups": merged[:LISTED]}


def merged_groups(group: pd.Series) -> list[dict[str, Any]]:
    """Return the groups that are made of several; ``group`` is the joined group, by what it was before."""
    of_one = group.groupby(group.to_numpy())
    return [
        {"members": sorted(set(map(str, members.index))), "samples": len(members)}
        for _, members in of_one
        if members.index.nunique() > 1
    ]


def tell_copies(counts: dict[str, Any], sample: str, unit: str) -> list[AuditFinding]:
    """Return what the ``counts`` of `list_duplicates` mean, in words for a sample and for a group."""
    findings = []
    if counts["across_groups"]:
        message = (
            f"{counts['across_groups']} pairs of identical or nearly identical {sample}s are of different {unit}s: "
            f"{counts['groups_merged']} {unit}s become {counts['merged_groups']} before the split"
        )
        findings.append(AuditFinding("copies_across_groups", message))
    if counts["within_groups"]:
        message = (
            f"{counts['within_groups']} pairs of identical or nearly identical {sample}s are of one {unit}: there are "
            "fewer samples than files"
        )
        findings.append(AuditFinding("copies_within_groups", message))
    return findings


def name_classes(shortcuts: list[dict[str, Any]], classes: Sequence[str]) -> None:
    """Write names in the place of positions into the pairs of classes of probes."""
    for shortcut in shortcuts:
        for pair in shortcut.get("pairs", []):
            pair["classes"] = [classes[code] for code in pair["classes"]]


def tell_shortcut(shortcut: dict[str, Any], so: str | None = None) -> AuditFinding:
    """Return the finding of a probe far above chance; ``so`` says what follows, where not the usual."""
    score = shortcut["score"]
    message = (
        f"{shortcut['probe'].replace('_', ' ')} alone reaches {shortcut['metric']} {score:.3f} "
        f"({shortcut['low']:.3f} to {shortcut['high']:.3f}) where chance is {shortcut['chance']:.3f}: "
        f"{so or 'a model can score as much without what it is meant to look at'}"
    )
    if pairs := shortcut.get("pairs"):
        apart = sum(pair["roc_auc"] >= WELL_TOLD for pair in pairs)
        best = f"{' from '.join(pairs[0]['classes'])} best ({pairs[0]['roc_auc']:.3f})"
        message += f"; AUC is {WELL_TOLD} or more for {apart} of {len(pairs)} pairs of labels, {best}"
    return AuditFinding(f"shortcut_{shortcut['probe']}", message, score=score)


def group_sizes(group: np.ndarray, label: np.ndarray | None) -> dict[str, Any]:
    """Return how many groups there are, how uneven they are, and in how many each label stands.

    ``effective`` is the number of even groups that would be as uneven (inverse Simpson index).
    """
    size = pd.Series(group).value_counts()
    share = size.to_numpy() / size.sum()
    told: dict[str, Any] = {
        "groups": len(size),
        "largest": str(size.index[np.lexsort((size.index, -size.to_numpy()))[0]]),
        "largest_share": float(share.max()),
        "median_size": float(size.median()),
        "effective": float(1 / (share**2).sum()),
        "labels": {},
        "one_label_each": False,
    }
    if label is None:
        return told
    table = pd.crosstab(label, group)
    carriers = (table > 0).sum(axis=1)
    labels = {
        str(name): {
            "samples": int(table.loc[name].sum()),
            "groups": int(carriers[name]),
            "largest_share": float(table.loc[name].max() / table.loc[name].sum()),
        }
        for name in table.index
        if len(table) <= LISTED or carriers[name] < FEW_GROUPS
    }
    several = table.loc[:, (size > 1).reindex(table.columns).to_numpy()]
    one_each = len(table) > 1 and several.shape[1] > 0 and bool(((several > 0).sum(axis=0) == 1).all())
    return told | {"labels": labels, "one_label_each": one_each}


def tell_groups(groups: dict[str, Any], split: Split) -> list[AuditFinding]:
    """Return what is uneven in the ``groups`` of `group_sizes`, whose ``unit`` is told too."""
    findings, unit = [], groups["unit"]
    if groups["one_label_each"]:
        message = (
            f"each of {groups['groups']} {unit}s carries one label only: what tells the {unit} tells the label, and "
            f"only a score on unseen {unit}s is honest"
        )
        findings.append(AuditFinding("one_label_per_group", message))
    if groups["largest_share"] > split.test:
        message = (
            f"{unit} {groups['largest']} has {groups['largest_share']:.0%} of the samples, more than the test split is "
            f"to have ({split.test:.0%})"
        )
        findings.append(AuditFinding("dominating_group", message))
    if groups["effective"] < FEW_EFFECTIVE:
        message = f"{groups['groups']} {unit}s weigh as {groups['effective']:.1f} even ones: intervals say little"
        findings.append(AuditFinding("few_groups", message))
    if few := {name: label for name, label in groups["labels"].items() if label["groups"] < FEW_GROUPS}:
        some = ", ".join(f"{name} ({label['groups']})" for name, label in list(few.items())[:5])
        more = f" and {len(few) - 5} more" if len(few) > 5 else ""
        message = f"fewer than {FEW_GROUPS} {unit}s carry {some}{more}: a score there is one of these {unit}s"
        findings.append(AuditFinding("label_in_few_groups", message))
    return findings
