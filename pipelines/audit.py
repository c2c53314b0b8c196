"""Stage ``audit``: copies, shortcuts and uneven groups, which validation lets pass and a score does not show.

A finding is a warning and refuses nothing: the split already keeps copies together, and whether a shortcut matters is
for whoever reads the score. It is written down, so that evidence and model card can carry it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipelines.command import parser, run_command
from pipelines.connect import connected
from pipelines.duplicates import duplicate_pairs
from pipelines.files import read_json, write_json
from pipelines.groups import group_samples
from pipelines.groups.response import cell_line_groups, drug_groups, profile_hashes
from pipelines.images import ImageSamples
from pipelines.params import Split, Task, read_params
from pipelines.probes import image_nuisances, probe_labels, probe_response, response_nuisances
from pipelines.reading import read_samples
from pipelines.report import write_page
from pipelines.samples import UNKNOWN, ResponseSamples, molecule_keys
from pipelines.validate import REPORT_FILE

DATA = Path("data")
REPORTS = Path("reports")
AUDIT_FILE = "audit.json"
LISTED = 50
FEW_GROUPS = 5  # folds of a split: a label in fewer groups is lacking in one of them
WELL_TOLD = 0.95  # AUC; labels that a nuisance tells apart so well come from different sources
FEW_EFFECTIVE = 10  # an interval from fewer groups says little
_UNIT = {
    "subject_blind": "subject",
    "cell_blind": "cell line",
    "drug_blind": "drug",
    "tissue_blind": "tissue",
}


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


@dataclass(frozen=True)
class Audit:
    """The outcome of auditing the samples of a task.

    Attributes
    ----------
    task, kind
        Name and kind of the task.
    samples
        How many there are.
    duplicates
        ``counts``; ``pairs`` (at most `LISTED`, the gravest first); ``merged_groups`` (at most `LISTED`).
    shortcuts
        A mapping a probe, from `pipelines.probes`.
    groups
        How many groups, how uneven, and which labels few of them carry.
    findings
        What is not as it should be.
    """

    task: str
    kind: str
    samples: int
    duplicates: dict[str, Any]
    shortcuts: tuple[dict[str, Any], ...]
    groups: dict[str, Any]
    findings: tuple[AuditFinding, ...]

    @property
    def passed(self) -> bool:
        """Return whether nothing was found."""
        return not self.findings

    def as_dict(self) -> dict[str, Any]:
        """Return what ``audit.json`` holds."""
        return {"passed": self.passed, **asdict(self)}


def audit_samples(samples: Any, folder: Path, name: str, task: Task, seed: int) -> Audit:
    """Look for copies, shortcuts and uneven groups.

    Parameters
    ----------
    samples
        Labeled samples of any kind.
    folder
        Their raw folder, for what only the files tell.
    name, task
        The task and its name.
    seed
        Of the probes.

    Returns
    -------
    Audit
        The same for any order of the samples.
    """
    samples = samples.take(np.argsort(samples.table["sample_id"].to_numpy(str), kind="stable"))
    duplicates, shortcuts, groups, findings = _KINDS[task.kind](samples, folder, task.split, seed)
    return Audit(name, task.kind, len(samples), duplicates, tuple(shortcuts), groups, tuple(findings))


_Parts = tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any], list[AuditFinding]]


def _audit_images(samples: ImageSamples, folder: Path, split: Split, seed: int) -> _Parts:
    table = samples.table
    alone = table["subject_id"].isna()
    subject = table["subject_id"].where(~alone, table["sample_id"]).to_numpy(str)
    pairs = duplicate_pairs(samples, split.near_identical)
    edges = [(subject[a], subject[b]) for a, b in pairs[["a", "b"]].to_numpy()]
    group = connected(pd.Index(np.unique(subject)), edges).loc[subject].to_numpy(str)
    ids, label = table["sample_id"].to_numpy(str), table["label"].to_numpy(str)
    rows = [
        {
            "a": ids[a],
            "b": ids[b],
            "similarity": similarity,
            "how": how,
            "groups": [subject[a], subject[b]],
            "labels": [label[a], label[b]],
        }
        for a, b, similarity, how in pairs.itertuples(index=False)
    ]
    duplicates = _duplicates(rows, _merged(pd.Series(group, index=subject)))
    counts = duplicates["counts"]
    findings = _copies_told(counts, "image", "group" if alone.any() else "subject")
    if counts["different_labels"]:
        message = f"{counts['different_labels']} pairs of images that show the same cell have different labels"
        findings.append(AuditFinding("copies_with_different_labels", message))
    shortcuts = [
        probe_labels(probe, features, samples.target, group, seed)
        for probe, features in image_nuisances(samples, folder).items()
    ]
    for shortcut in shortcuts:
        for pair in shortcut.get("pairs", []):
            pair["classes"] = [samples.classes[code] for code in pair["classes"]]
    groups = {"unit": "subject", **_sizes(group, label), "unknown": int(alone.sum())}
    findings += [_shortcut_told(shortcut) for shortcut in shortcuts if shortcut["finding"]]
    if alone.any():
        message = (
            f"the subject of {alone.sum()} of {len(alone)} images is not known: images of one subject can stand on both"
            " sides of the split, and scores may be higher than on unseen subjects"
        )
        findings.append(AuditFinding("subject_unknown", message))
    if not alone.all():
        findings += _groups_told(groups, split)
    return duplicates, shortcuts, groups, findings


def _audit_response(samples: ResponseSamples, folder: Path, split: Split, seed: int) -> _Parts:
    split = replace(split, mode="cell_blind") if split.mode == "random" else split
    lines, drugs = cell_line_groups(samples, split.near_identical), drug_groups(samples.drugs)
    rows = _line_pairs(samples, lines, split.near_identical) + _drug_pairs(samples.drugs, drugs)
    duplicates = _duplicates(rows, _merged(lines) + _merged(drugs))
    counts = duplicates["counts"] | _repeats(samples, lines, drugs)
    duplicates["counts"] = counts
    findings = []
    for what, effect in (("cell line", "cell lines"), ("drug", "drugs")):
        if found := sum(row["what"] == what for row in rows):
            message = f"{found} {effect} stand under a second id (same profile, name or molecule); each is one group"
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
        for probe, features in response_nuisances(samples).items()
    ]
    findings += [_shortcut_told(shortcut) for shortcut in shortcuts if shortcut["finding"]]
    group = group_samples(samples, split)[0].to_numpy(str)
    carried = None if split.mode == "drug_blind" else samples.pairs["drug_id"].to_numpy(str)
    unknown = (samples.cell_lines["tissue"] == UNKNOWN).to_numpy()[samples.cell]
    groups = {
        "unit": _UNIT[split.mode],
        **_sizes(group, carried),
        "unknown": int(unknown.sum()) if split.mode == "tissue_blind" else 0,
    }
    if groups["unknown"]:
        message = f"the tissue of {groups['unknown']} samples is not known: they are held together as if it were one"
        findings.append(AuditFinding("tissue_unknown", message))
    return duplicates, shortcuts, groups, findings + _groups_told(groups, split)


_KINDS: dict[str, Callable[[Any, Path, Split, int], _Parts]] = {"images": _audit_images, "response": _audit_response}


def _duplicates(rows: list[dict[str, Any]], merged: list[dict[str, Any]]) -> dict[str, Any]:
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


def _merged(group: pd.Series) -> list[dict[str, Any]]:
    """Return the groups that are made of several; ``group`` is the joined group, by what it was before."""
    of_one = group.groupby(group.to_numpy())
    return [
        {"members": sorted(set(map(str, members.index))), "samples": len(members)}
        for _, members in of_one
        if members.index.nunique() > 1
    ]


def _copies_told(counts: dict[str, Any], sample: str, unit: str) -> list[AuditFinding]:
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


def _shortcut_told(shortcut: dict[str, Any]) -> AuditFinding:
    score = shortcut["score"]
    message = (
        f"{shortcut['probe'].replace('_', ' ')} alone reaches {shortcut['metric']} {score:.3f} "
        f"({shortcut['low']:.3f} to {shortcut['high']:.3f}) where chance is {shortcut['chance']:.3f}: "
        "a model can score as much without what it is meant to look at"
    )
    if pairs := shortcut.get("pairs"):
        apart = sum(pair["roc_auc"] >= WELL_TOLD for pair in pairs)
        best = f"{' from '.join(pairs[0]['classes'])} best ({pairs[0]['roc_auc']:.3f})"
        message += f"; AUC is {WELL_TOLD} or more for {apart} of {len(pairs)} pairs of labels, {best}"
    return AuditFinding(f"shortcut_{shortcut['probe']}", message, score=score)


def _sizes(group: np.ndarray, label: np.ndarray | None) -> dict[str, Any]:
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


def _groups_told(groups: dict[str, Any], split: Split) -> list[AuditFinding]:
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
        rows.append(
            {"what": "cell line", "a": first, "b": line, "similarity": alike, "how": how, "groups": [first, line]}
        )
    return rows


def _drug_pairs(drugs: pd.DataFrame, groups: pd.Series) -> list[dict[str, Any]]:
    """Return each drug that is one with another, with the first of its group and why."""
    molecule = molecule_keys(drugs)
    return [
        {
            "what": "drug",
            "a": first,
            "b": drug,
            "similarity": 1.0 if molecule[drug] == molecule[first] else None,
            "how": "molecule" if molecule[drug] == molecule[first] else "name",
            "groups": [first, drug],
        }
        for drug, first in _joined(groups)
    ]


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


def write_audit(audit: Audit, reports: Path) -> Path:
    """Write ``audit.json`` into ``reports`` and return its path."""
    path = reports / AUDIT_FILE
    write_json(path, audit.as_dict())
    return path


def read_audit(reports: Path) -> dict[str, Any] | None:
    """Return what `write_audit` wrote into ``reports``, None where the audit has not run."""
    path = reports / AUDIT_FILE
    return read_json(path) if path.is_file() else None


def log_audit(audit: Audit, folder: Path, reports: Path) -> None:
    """Log the outcome and its report to MLflow, in a run of its own."""
    from pipelines import tracking

    tags = {"audit.passed": str(audit.passed).lower(), "data.sha256": tracking.folder_sha256(folder)}
    probes = {f"probe_{one['probe']}": one["score"] for one in audit.shortcuts if one["score"] is not None}
    counts = {"audit_findings": len(audit.findings), "duplicate_pairs": audit.duplicates["counts"]["pairs"]}
    with tracking.run(audit.task, "audit", f"audit {audit.task}", tags=tags):
        tracking.mlflow.log_metrics({**counts, **probes})
        tracking.mlflow.log_artifact(str(reports / AUDIT_FILE))


def main(argv: Sequence[str] | None = None) -> int:
    """``python -m pipelines.audit --task T [--data DIR] [--reports DIR]``."""
    options = parser(__doc__ or "")
    options.add_argument("--data", type=Path, help="raw folder (default: data/<task>)")
    options.add_argument("--reports", type=Path, help="folder of the reports (default: reports/<task>)")
    arguments = options.parse_args(argv)
    params = read_params()
    task = params.task(arguments.task)
    data = arguments.data or DATA / arguments.task
    reports = arguments.reports or REPORTS / arguments.task

    audit = audit_samples(read_samples(data, task).samples, data, arguments.task, task, params.seed)
    path = write_audit(audit, reports)
    if (reports / REPORT_FILE).is_file():
        write_page(reports, arguments.task)
    for finding in audit.findings:
        print(f"{finding.severity}: {finding.name}: {finding.message}", file=sys.stderr)
    log_audit(audit, data, reports)
    print(f"{arguments.task}: {audit.samples} samples audited, findings: {len(audit.findings)}, see {path}")
    return 0


if __name__ == "__main__":
    run_command(main)
