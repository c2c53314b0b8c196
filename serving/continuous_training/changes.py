"""What changed since the version that is served: samples, groups, and every parameter by its key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import yaml

from evaluation.evidence.build import SPLIT
from evaluation.promotion.production import kept_table
from pipelines import tracking
from pipelines.files import read_json
from pipelines.params import PARAMS_FILE, read_params
from pipelines.paths import PREPARED


@dataclass(frozen=True)
class Snapshot:
    """Samples (``sample_id, group, split``), hash of the split, and parameters by key; None where it is not known."""

    samples: pd.DataFrame | None = None
    split_sha256: str | None = None
    params: dict[str, Any] | None = None


def of_now(name: str) -> Snapshot:
    """Return the snapshot of what is prepared now; without samples where ``prepare`` has not run."""
    params = decisions(PARAMS_FILE.read_text(encoding="utf-8"), name, read_params().budget)
    table, split = PREPARED / name / "samples.parquet", PREPARED / name / "split.json"
    if not table.is_file() or not split.is_file():
        return Snapshot(params=params)
    return Snapshot(pd.read_parquet(table), read_json(split).get("sha256"), params)


def of_version(name: str, served: Mapping[str, str]) -> Snapshot:
    """Return the snapshot of a version: its split is kept at its run, its parameters are in git."""
    commit = served.get("git.commit", "none")
    text = None if commit == "none" else tracking.git("show", f"{commit}:{PARAMS_FILE}")
    params = None if text is None else decisions(text, name, served.get("budget"))
    return Snapshot(kept_table(served.get("run_id"), SPLIT), served.get("split.sha256"), params)


def decisions(text: str, name: str, budget: str | None = None) -> dict[str, Any]:
    """Return the parameters of a task in the text of a ``params.yaml`` of any release, by dotted key."""
    content = yaml.safe_load(text) or {}
    policy = content.get("policy") or {}
    return _flat(
        {
            "seed": content.get("seed"),
            "budget": budget or content.get("budget"),
            "device": content.get("device"),
            "tasks": {name: (content.get("tasks") or {}).get(name)},
            "models": {key: each for key, each in (content.get("models") or {}).items() if each.get("task") == name},
            "policy": {**policy, "tasks": {name: (policy.get("tasks") or {}).get(name)}},
        }
    )


def _flat(content: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(content, dict) or not content:
        return {prefix: content}
    flat: dict[str, Any] = {}
    for key, value in content.items():
        flat |= _flat(value, f"{prefix}.{key}" if prefix else str(key))
    return flat


def samples_changed(before: pd.DataFrame, after: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Return how many ``samples`` and ``groups`` were added or are gone, and how many samples changed ``sides``."""
    found: dict[str, dict[str, Any]] = {}
    for what, column in (("samples", "sample_id"), ("groups", "group")):
        old, new = set(before[column].astype(str)), set(after[column].astype(str))
        found[what] = {"before": len(old), "after": len(new), "added": len(new - old), "gone": len(old - new)}
    both = before.merge(after, on="sample_id", suffixes=("_before", "_after"))
    moved = both["split_before"].astype(str) != both["split_after"].astype(str)
    left_test = moved & (both["split_before"].astype(str) == "test")
    found["sides"] = {"moved": int(moved.sum()), "left_test": int(left_test.sum())}
    return found


def params_changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Return ``key, before, after`` of every parameter that differs; None for a missing key."""
    keys = sorted(set(before) | set(after))
    return [(key, before.get(key), after.get(key)) for key in keys if before.get(key) != after.get(key)]
