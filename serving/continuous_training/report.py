"""What a loop found and moved, as Markdown for a pull request or a job's summary."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from serving.continuous_training.changes import Snapshot, params_changed, samples_changed
from serving.continuous_training.loop import State

_SIGNS = {"pass": "✅ pass", "fail": "❌ fail", "waived": "⚠️ waived"}


def report(
    name: str,
    state: State,
    *,
    before: Snapshot,
    after: Snapshot,
    evidence: Mapping[str, Any] | None,
    previous: Mapping[str, str],
    outcome: str,
) -> str:
    """Return the report.

    Parameters
    ----------
    name
        Of the task.
    state
        With the results of the steps.
    before, after
        Data and parameters, of the last loop and now.
    evidence
        The candidate's; None where the loop did not come that far.
    previous
        Hashes of what was in production (or else staging) when the loop began, with its ``version`` and ``alias``.
    outcome
        How the loop ended, in a sentence.
    """
    assert state.content is not None
    lines = [f"# Retraining `{name}`", "", f"**{outcome}**", ""]
    if evidence is not None and evidence["simulated"]:
        lines += ["> The data is simulated. No figure here says anything of patients.", ""]
    lines += [f"Begun {state.content['started']} by {state.content['by']}; fingerprint "
              f"`{state.content['fingerprint'][:12]}`.", ""]  # fmt: skip
    lines += ["## Data", "", *_data(state, before, after, previous), ""]
    lines += ["## Parameters", "", *_parameters(before, after), ""]
    if evidence is not None:
        lines += ["## Metrics", "", *_metrics(evidence, state), ""]
    lines += ["## Gate", "", *_gate(state.results), ""]
    lines += ["## What was moved", "", *_moved(name, state.results), ""]
    return "\n".join(lines)


def _data(state: State, before: Snapshot, after: Snapshot, previous: Mapping[str, str]) -> Iterator[str]:
    assert state.content is not None
    if before.samples is None or after.samples is None:
        yield "Which samples came or went is not known here: no earlier split is kept in this checkout."
        if after.samples is not None:
            yield f"Now there are {len(after.samples)} samples in {after.samples['group'].nunique()} groups."
    else:
        found = samples_changed(before.samples, after.samples)
        yield "| | before | now | added | gone |"
        yield "|---|---|---|---|---|"
        old, new = before.facts.get("rows", {}), after.facts.get("rows", {})
        if "raw" in old and "raw" in new:
            yield f"| raw rows (net) | {old['raw']} | {new['raw']} | {_difference(new['raw'] - old['raw'])} |"
        for what in ("samples", "groups"):
            counts = found[what]
            yield f"| {what} | {counts['before']} | {counts['after']} | {counts['added']} | {counts['gone']} |"
        sides = found["sides"]
        yield ""
        yield (
            f"{sides['moved']} samples stand on another side of the split than before, {sides['left_test']} of them "
            "were test samples."
        )
    yield ""
    yield "| hash | before | now |"
    yield "|---|---|---|"
    last = before.facts
    was = previous.get("data.sha256") or last.get("data.sha256")
    yield f"| `data.sha256` | {_short(was)} | {_short(state.content['components']['data'])} |"
    was = previous.get("split.sha256") or last.get("split.sha256")
    yield f"| `split.sha256` | {_short(was)} | {_short(after.facts.get('split.sha256'))} |"
    if previous:
        yield ""
        yield f"“Before” of the hashes is version {previous['version']}, which was in {previous['alias']}."
    checked = state.results.get("check")
    if checked is not None:
        findings = ", ".join(f"`{each}`" for each in checked["findings"]) or "none"
        yield ""
        yield f"Validation passed, with {checked['warnings']} warnings. Findings of the audit: {findings}."


def _parameters(before: Snapshot, after: Snapshot) -> Iterator[str]:
    if before.facts.get("params") is None:
        yield "What they were is not known here."
        return
    changed = params_changed(before.facts["params"], after.facts["params"])
    if not changed:
        yield "As they were."
        return
    yield "| key in `params.yaml` | before | now |"
    yield "|---|---|---|"
    for key, old, new in changed:
        yield f"| `{key}` | {_cell(old)} | {_cell(new)} |"


def _metrics(evidence: Mapping[str, Any], state: State) -> Iterator[str]:
    test = evidence["test"]
    yield (
        f"Candidate: `{evidence['architecture']}`, chosen on validation rows ({evidence['validation']['metric']} "
        f"{_number(evidence['validation']['value'])}); test split {test['mode']}, {test['samples']} rows of "
        f"{test['groups']} groups, {test['confidence']:.0%} intervals over groups."
    )
    yield ""
    yield "| test metric | value | interval |"
    yield "|---|---|---|"
    for metric, found in test["metrics"].items():
        yield f"| {metric} | {_number(found['value'])} | {_interval(found)} |"
    yield ""
    yield "Candidate minus the other, on the same rows; positive: the candidate is better."
    yield ""
    yield "| against | metric | difference | interval |"
    yield "|---|---|---|---|"
    for found in sorted(evidence["comparisons"], key=lambda each: each["kind"] != "production"):
        version = f", version {found['version']}" if found.get("version") else ""
        other = (
            f"**production**: `{found['with']}`"
            if found["kind"] == "production"
            else f"{found['kind']}: `{found['with']}`"
        )
        difference = f"{_number(found['difference'], '+')} | {_interval(found, '+')}"
        note = f" ({_cell(found['note'], code=False)})" if found.get("note") else ""
        yield f"| {other}{version}{note} | {found['metric']} | {difference} |"
    if not any(found["kind"] == "production" for found in evidence["comparisons"]):
        yield ""
        yield "No version was in production to compare with."


def _gate(results: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    judged = [result for result in results.values() if "verdicts" in result]
    if not judged:
        yield "The loop did not come that far."
    for result in judged:
        yield f"To `{result['to']}`:"
        yield ""
        yield "| check | verdict | reason | by |"
        yield "|---|---|---|---|"
        for verdict in result["verdicts"]:
            sign = _SIGNS[verdict["status"]]
            reason, by = (_cell(verdict[key] or "", code=False) for key in ("reason", "by"))
            yield f"| {verdict['check']} | {sign} | {reason} | {by} |"
        yield ""


def _moved(name: str, results: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    moves = [results[to] for to in ("staging", "production") if to in results]
    if "register" in results:
        yield f"- registered: version {results['register']['version']} of `{name}`, alias `candidate`"
    for to, move in ((to, results[to]) for to in ("staging", "production") if to in results):
        was = f"version {move['before']}" if move["before"] else "nothing"
        if move["alias"] != to:
            yield f"- `{to}`: not moved, version {move['version']} is in {move['alias']}"
        elif move["before"] == move["version"]:
            yield f"- `{to}`: stays at version {move['version']}"
        else:
            yield f"- `{to}`: {was} → version {move['version']}"
    if not moves:
        yield "- `staging` and `production` were not touched"
        return
    version, back = moves[-1]["version"], f'`make rollback TASK={name} WHY="..."`'
    yield ""
    if moves[-1]["alias"] == "production":
        yield f"To roll back: {back}. It checks first that the version before loads and answers."
    else:
        promote = f'`make promote TASK={name} TO=production VERSION={version} WHY="..."`'
        yield f"Production was not touched. Version {version} goes there by {promote}, and back by {back}."


def refused(verdicts: Sequence[Mapping[str, Any]]) -> str:
    """Return the checks that failed, with their reasons, in a sentence."""
    return "; ".join(f"{each['check']}: {each['reason']}" for each in verdicts if each["status"] == "fail")


def _number(value: Any, sign: str = "") -> str:
    return "–" if value is None else f"{value:{sign}.3f}"


def _interval(found: Mapping[str, Any], sign: str = "") -> str:
    return f"[{_number(found['low'], sign)}, {_number(found['high'], sign)}]"


def _difference(rows: int) -> str:
    return f"{rows} | 0" if rows >= 0 else f"0 | {-rows}"


def _short(digest: Any) -> str:
    return f"`{str(digest)[:12]}`" if digest else "not known"


def _cell(content: Any, code: bool = True) -> str:
    """Return text that does not end a table's cell."""
    if content is None:
        return "–"
    text = " ".join(str(content).split()).replace("|", "\\|")
    return f"`{text}`" if code else text
