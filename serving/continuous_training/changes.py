"""What changed between two loops: samples, groups, and every parameter by its key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from pipelines import tracking
from pipelines.files import read_json, write_json, written_whole
from pipelines.params import PARAMS_FILE, read_params
from pipelines.paths import PREPARED

_COLUMNS = ["sample_id", "group", "split"]


@dataclass(frozen=True)
class Snapshot:
    """Samples (``sample_id, group, split``) and facts at one time, as far as they are known.

    Facts are ``data.sha256``, ``split.sha256``, ``rows`` (raw and kept) and ``params``.
    """

    samples: pd.DataFrame | None
    facts: dict[str, Any]


def take(name: str) -> Snapshot:
    """Return the snapshot of what is prepared now; without samples where ``prepare`` has not run."""
    facts: dict[str, Any] = {"params": decisions(PARAMS_FILE.read_text(encoding="utf-8"), name, read_params().budget)}
    folder = PREPARED / name
    if not (folder / "samples.parquet").is_file() or not (folder / "split.json").is_file():
        return Snapshot(None, facts)
    split = read_json(folder / "split.json")
    facts |= {"split.sha256": split.get("sha256"), "rows": split.get("rows", {})}
    return Snapshot(pd.read_parquet(folder / "samples.parquet", columns=_COLUMNS), facts)


def keep(snapshot: Snapshot, folder: Path) -> None:
    """Write a snapshot; its facts last, so that a reader knows that it is complete."""
    table = folder / "samples.parquet"
    if snapshot.samples is None:
        table.unlink(missing_ok=True)
    else:
        with written_whole(table) as temporary:
            snapshot.samples.to_parquet(temporary, index=False)
    write_json(folder / "facts.json", snapshot.facts)


def kept(folder: Path) -> Snapshot | None:
    """Read a snapshot that `keep` wrote."""
    if not (folder / "facts.json").is_file():
        return None
    table = folder / "samples.parquet"
    return Snapshot(pd.read_parquet(table) if table.is_file() else None, read_json(folder / "facts.json"))


def decisions(text: str, name: str, budget: str | None = None) -> dict[str, Any]:
    """Return the parameters of a task in the text of ``params.yaml``, by dotted key.

    The text may be of an older release, so it is not checked. ``budget`` replaces the file's.
    """
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


def decisions_at(commit: str | None, name: str, budget: str | None) -> dict[str, Any] | None:
    """Return `decisions` of ``params.yaml`` at a commit; None where git does not have it."""
    if not commit or commit == "none":
        return None
    text = tracking.git("show", f"{commit}:{PARAMS_FILE}")
    return None if text is None else decisions(text, name, budget)


def samples_changed(before: pd.DataFrame, after: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Return ``before``, ``after``, ``added`` and ``gone`` of ``samples`` and ``groups``, and the changes of ``sides``.

    Those are the number of samples that ``moved`` to another side of the split, and how many ``left_test``.
    """
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


def _flat(content: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(content, dict) or not content:
        return {prefix: content}
    flat: dict[str, Any] = {}
    for key, value in content.items():
        flat |= _flat(value, f"{prefix}.{key}" if prefix else str(key))
    return flat
