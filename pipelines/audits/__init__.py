"""Findings of an audit; a module a modality looks for them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from pipelines.groups import connected
from pipelines.params import Split

LISTED = 50
FEW_GROUPS = 5  # folds of a split: a label in fewer groups is missing in one of them
SEPARATED = 0.95  # AUC; labels that a confounder separates so well come from different sources
FEW_EFFECTIVE = 10  # an interval from fewer groups is not reliable
MOST_LEVELS = 20  # a column with more is a name, not a confounder
# Columns of the biology, and ids, are no confounders.
_BIOLOGY = frozenset(
    [
        *("tissue", "histology", "tcga_code", "disease", "subtype", "cancer_type", "primary_site", "lineage"),
        *("label", "target", "class", "sample_type", "smiles", "name"),
        *("subject_id", "patient_id", "sample_id", "cell_line_id", "digest"),
    ]
)


@dataclass(frozen=True)
class AuditFinding:
    """What a reader of the scores must know of the data; ``shortcut_<probe>`` has the ``score`` of a probe."""

    name: str
    message: str
    severity: str = "warning"
    score: float | None = None


# Duplicates, shortcuts, groups and findings, as in `pipelines.audit.Audit`.
Parts = tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any], list[AuditFinding]]


_MESSAGES = {
    "copies_across_groups": "{across_groups} {alike} are of different {unit}s: {groups_merged} {unit}s become "
    "{merged_groups} before the split",
    "copies_within_groups": "{within_groups} {alike} are of one {unit}: there are fewer samples than files",
    "copies_with_different_labels": "{different_labels} {alike} have different labels",
    "one_label_per_group": "each of {groups} {unit}s has one label only: a model that recognizes the {unit} knows the "
    "label, so only a score on unseen {unit}s counts",
    "dominating_group": "{unit} {largest} has {largest_share:.0%} of the samples, more than the share of the test "
    "split ({test:.0%})",
    "few_groups": "{groups} {unit}s weigh as {effective:.1f} even ones: intervals are not reliable",
    "unit_unknown": "the {unit} of {unknown} of {samples} {sample}s is not known{or_named}: {sample}s of one {unit} "
    "can be on both sides of the split, and scores may be higher than on unseen {unit}s",
    "label_in_few_groups": "fewer than {least} {unit}s have {few}: a score there describes these {unit}s alone",
}


def _findings(holds: dict[str, Any], **values: Any) -> list[AuditFinding]:
    return [AuditFinding(name, _MESSAGES[name].format(**values)) for name, true in holds.items() if true]


def labeled_copies(
    pairs: pd.DataFrame, table: pd.DataFrame, original: np.ndarray, labels: np.ndarray, *, sample: str, unit: str
) -> tuple[np.ndarray, dict[str, Any], list[AuditFinding]]:
    """Return groups joined by copies, the report's duplicates, and findings; ``pairs`` are rows of ``table``."""
    edges = [(original[a], original[b]) for a, b in pairs[["a", "b"]].to_numpy(int)]
    group = connected(pd.Index(np.unique(original)), edges).loc[original].to_numpy(str)
    ids = table["sample_id"].to_numpy(str)
    rows = [
        {
            **{"a": ids[a], "b": ids[b], "similarity": similarity, "how": how},
            **{"groups": [original[a], original[b]], "labels": [labels[a], labels[b]]},
        }
        for a, b, similarity, how in pairs.itertuples(index=False)
    ]
    duplicates = list_duplicates(rows, pd.Series(group, index=original))
    counts = duplicates["counts"]
    holds = {f"copies_{key}": counts[key] for key in ("across_groups", "within_groups")}
    holds["copies_with_different_labels"] = counts["different_labels"]
    alike = f"pairs of identical or nearly identical {sample}s"
    return group, duplicates, _findings(holds, **counts, alike=alike, unit=unit)


def list_duplicates(rows: list[dict[str, Any]], *groups: pd.Series) -> dict[str, Any]:
    """Return counts, the gravest pairs and the merged groups; ``groups`` are indexed by the original ones."""
    merged: list[dict[str, Any]] = [
        {"members": sorted(set(map(str, members.index))), "samples": len(members)}
        for group in groups
        for _, members in group.groupby(group.to_numpy())
        if members.index.nunique() > 1
    ]
    across = [row["groups"][0] != row["groups"][1] for row in rows]
    differ = ["labels" in row and row["labels"][0] != row["labels"][1] for row in rows]
    gravest = sorted(
        range(len(rows)), key=lambda at: (not differ[at], not across[at], -(rows[at]["similarity"] or 0), at)
    )
    merged.sort(key=lambda group: (-len(group["members"]), group["members"]))
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


def name_classes(shortcuts: list[dict[str, Any]], classes: Sequence[str]) -> None:
    """Replace positions by names in the pairs of classes of probes."""
    for shortcut in shortcuts:
        for pair in shortcut.get("pairs", []):
            pair["classes"] = [classes[code] for code in pair["classes"]]


def shortcut_finding(shortcut: dict[str, Any], effect: str | None = None) -> AuditFinding:
    """Return the finding of a probe far above chance."""
    score = shortcut["score"]
    message = (
        f"{shortcut['probe'].replace('_', ' ')} alone reaches {shortcut['metric']} {score:.3f} "
        f"({shortcut['low']:.3f} to {shortcut['high']:.3f}) where chance is {shortcut['chance']:.3f}: "
        f"{effect or 'a model can score as much without what it is meant to look at'}"
    )
    if (left := shortcut.get("isolated")) and left["score"] is not None:
        message += (
            f"; of the cell alone on black it reaches {left['score']:.3f} ({left['low']:.3f} to {left['high']:.3f})"
        )
        message += ": what is left is its stain and size" if left["finding"] else ""
    if pairs := shortcut.get("pairs"):
        apart = sum(pair["roc_auc"] >= SEPARATED for pair in pairs)
        best = f"{' from '.join(pairs[0]['classes'])} best ({pairs[0]['roc_auc']:.3f})"
        message += f"; AUC is {SEPARATED} or more for {apart} of {len(pairs)} pairs of labels, {best}"
    return AuditFinding(f"shortcut_{shortcut['probe']}", message, score=score)


def group_sizes(group: np.ndarray, label: np.ndarray | None) -> dict[str, Any]:
    """Return the number of groups, how uneven they are (``effective``: inverse Simpson index), and that by label."""
    size = pd.Series(group).value_counts()
    share = size.to_numpy() / size.sum()
    sizes: dict[str, Any] = {
        "groups": len(size),
        "largest": str(size.index[np.lexsort((size.index, -size.to_numpy()))[0]]),
        "largest_share": float(share.max()),
        "median_size": float(size.median()),
        "effective": float(1 / (share**2).sum()),
        "labels": {},
        "one_label_each": False,
    }
    if label is None:
        return sizes
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
    return sizes | {"labels": labels, "one_label_each": one_each}


def unknown_finding(alone: np.ndarray, *, sample: str, unit: str, or_named: str = "") -> list[AuditFinding]:
    """Return the finding on samples of no known ``unit``, named ``<unit>_unknown``."""
    values = {"unknown": alone.sum(), "samples": len(alone), "sample": sample, "unit": unit, "or_named": or_named}
    return [AuditFinding(f"{unit}_unknown", _MESSAGES["unit_unknown"].format(**values))] if alone.any() else []


def group_findings(groups: dict[str, Any], split: Split) -> list[AuditFinding]:
    """Return the findings on uneven ``groups`` of `group_sizes`, with their ``unit``."""
    few = [f"{name} ({label['groups']})" for name, label in groups["labels"].items() if label["groups"] < FEW_GROUPS]
    listed = ", ".join(few[:5]) + (f" and {len(few) - 5} more" if len(few) > 5 else "")
    holds = {
        "one_label_per_group": groups["one_label_each"],
        "dominating_group": groups["largest_share"] > split.test,
        "few_groups": groups["effective"] < FEW_EFFECTIVE,
        "label_in_few_groups": few,
    }
    return _findings(holds, **groups, test=split.test, few=listed, least=FEW_GROUPS)


def metadata(table: pd.DataFrame) -> pd.DataFrame:
    """Return the other columns of a table of samples: numbers as they are, few-valued text one-hot."""
    parts = [pd.DataFrame(index=table.index)]
    for column in (each for each in table.columns if each.casefold() not in _BIOLOGY):
        if pd.api.types.is_numeric_dtype(table[column]):
            parts.append(table[[column]].astype(float))
        elif 2 <= table[column].nunique(dropna=False) <= MOST_LEVELS:
            parts.append(pd.get_dummies(table[column].fillna("missing"), prefix=column, dtype=float))
    return pd.concat(parts, axis=1)
