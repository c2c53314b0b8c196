"""What changed since the version that is served, and what a loop found and moved, as Markdown for a pull request."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import yaml

from evaluation.evidence.build import SPLIT
from evaluation.promotion.production import kept_table
from pipelines import report as reports
from pipelines import tracking
from pipelines.files import read_json
from pipelines.formatting import ends, number
from pipelines.params import PARAMS_FILE, read_params
from pipelines.paths import PREPARED
from pipelines.report import Block, Code, Strong, Text, as_markdown, items, section, table, text
from serving.continuous_training.loop import State

_SIGNS = {"pass": "✅ pass", "fail": "❌ fail", "waived": "⚠️ waived"}


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


def report(
    name: str, state: State, *, before: Snapshot, after: Snapshot, evidence: Mapping[str, Any] | None, outcome: str
) -> str:
    """Return the report of a loop; ``before`` is what was served when it began, ``evidence`` None if not collected."""
    content = state.content
    begun = text(f"Begun {content['started']} by {content['by']}; fingerprint ", Code(content["fingerprint"][:12]), ".")
    sections = [
        section("", begun),
        section("Data", *_data(state, before, after)),
        section("Parameters", *_parameters(before, after)),
        section("Metrics", *([] if evidence is None else _metrics(evidence))),
        section("Gate", *_gate(state.results)),
        section("What was moved", *_moved(name, state.results)),
    ]
    simulated = evidence is not None and evidence["simulated"]
    title = ("Retraining ", Code(name))
    return as_markdown(reports.report(title, sections, lead=(Strong(outcome),), simulated=simulated))


def _data(state: State, before: Snapshot, after: Snapshot) -> Iterator[Block]:
    served = state.results.get("look", {}).get("served") or {}
    if served:
        yield text(f"“Before” is version {served['version']}, which was in {served['alias']}.")
    else:
        yield text("No version was in production or staging before.")
    if before.samples is not None and after.samples is not None:
        found = samples_changed(before.samples, after.samples)
        counts = ("before", "after", "added", "gone")
        rows = [[what, *(str(found[what][key]) for key in counts)] for what in ("samples", "groups")]
        yield table(["", "before", "now", "added", "gone"], rows)
        sides = found["sides"]
        yield text(
            f"{sides['moved']} samples are on another side of the split than before, {sides['left_test']} of them "
            "were test samples."
        )
    elif after.samples is not None:
        yield text(f"Now there are {len(after.samples)} samples in {after.samples['group'].nunique()} groups.")
    hashes = {
        "data.sha256": (served.get("data.sha256"), state.content["components"]["data"]),
        "split.sha256": (before.split_sha256, after.split_sha256),
    }
    yield table(["hash", "before", "now"], [[Code(name), *map(_short, both)] for name, both in hashes.items()])
    if checked := state.results.get("check"):
        findings = [piece for each in checked["findings"] for piece in (", ", Code(each))][1:] or ["none"]
        said = f"Validation passed, with {checked['warnings']} warnings. Findings of the audit: "
        yield text(said, *findings, ".")


def _parameters(before: Snapshot, after: Snapshot) -> Iterator[Block]:
    if before.params is None or after.params is None:
        yield text("What they were is not known here.")
        return
    rows = [[Code(key), _value(old), _value(new)] for key, old, new in params_changed(before.params, after.params)]
    yield table(["key in params.yaml", "before", "now"], rows) if rows else text("As they were.")


def _metrics(evidence: Mapping[str, Any]) -> Iterator[Block]:
    test, validation = evidence["test"], evidence["validation"]
    yield text(
        *("Candidate: ", Code(evidence["architecture"]), f", chosen on validation rows ({validation['metric']} "),
        f"{number(validation['value'])}); test split {test['mode']}, {test['samples']} rows of {test['groups']} "
        f"groups, {test['confidence']:.0%} intervals over groups.",
    )
    rows = [[metric, number(found["value"]), ends(found)] for metric, found in test["metrics"].items()]
    yield table(["test metric", "value", "interval"], rows)
    yield text("Candidate minus the other, on the same rows; positive: the candidate is better.")
    compared: list[list[Text]] = []
    for found in sorted(evidence["comparisons"], key=lambda each: each["kind"] != "production"):
        kind = Strong("production") if found["kind"] == "production" else found["kind"]
        version = f", version {found['version']}" if found.get("version") else ""
        other = (kind, ": ", Code(found["with"]), version, f" ({found['note']})" if found.get("note") else "")
        difference = number(found["difference"], sign="+"), ends(found, sign="+")
        compared.append([other, found["metric"], *difference])
    yield table(["against", "metric", "difference", "interval"], compared)
    if not any(found["kind"] == "production" for found in evidence["comparisons"]):
        yield text("No version was in production to compare with.")


def _gate(results: Mapping[str, Mapping[str, Any]]) -> Iterator[Block]:
    judged = [result for result in results.values() if "verdicts" in result]
    if not judged:
        yield text("The loop did not come that far.")
    for result in judged:
        yield text("To ", Code(result["to"]), ":")
        rows = [
            [each["check"], _SIGNS[each["status"]], each["reason"] or "", each["by"] or ""]
            for each in result["verdicts"]
        ]
        yield table(["check", "verdict", "reason", "by"], rows)


def _moved(name: str, results: Mapping[str, Mapping[str, Any]]) -> Iterator[Block]:
    moves = {to: results[to] for to in ("staging", "production") if to in results}
    done: list[Text] = []
    if "register" in results:
        version = f"registered: version {results['register']['version']} of "
        done.append((version, Code(name), ", alias ", Code("candidate")))
    for to, move in moves.items():
        was = f"version {move['before']}" if move["before"] else "nothing"
        if move["alias"] != to:
            said = f": not moved, version {move['version']} is in {move['alias']}"
        elif move["before"] == move["version"]:
            said = f": stays at version {move['version']}"
        else:
            said = f": {was} → version {move['version']}"
        done.append((Code(to), said))
    if not moves:
        yield items([*done, (Code("staging"), " and ", Code("production"), " were not touched")])
        return
    yield items(done)
    last = moves.get("production", moves.get("staging", {}))
    back = Code(f'make rollback TASK={name} WHY="..."')
    if last["alias"] == "production":
        yield text("To roll back: ", back, ". It checks first that the version before loads and answers.")
        return
    promote = Code(f'make promote TASK={name} TO=production VERSION={last["version"]} WHY="..."')
    said = f"Production was not touched. Version {last['version']} goes there by "
    yield text(said, promote, ", and back by ", back, ".")


def refused(verdicts: Sequence[Mapping[str, Any]]) -> str:
    """Return the checks that failed, with their reasons, in a sentence."""
    return "; ".join(f"{each['check']}: {each['reason']}" for each in verdicts if each["status"] == "fail")


def _short(digest: Any) -> str:
    return Code(str(digest)[:12]) if digest else "not known"


def _value(content: Any) -> str:
    return "–" if content is None else Code(str(content))
