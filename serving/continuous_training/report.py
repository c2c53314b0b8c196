"""What changed since the version that is served, and what a loop found and moved, as Markdown for a pull request."""

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from evaluation.evidence.build import SPLIT
from evaluation.promotion import card
from evaluation.promotion.gate import Verdict, lines
from evaluation.promotion.production import kept_table
from pipelines import report as reports
from pipelines import tracking
from pipelines.params import PARAMS_FILE, read_params
from pipelines.paths import PREPARED
from pipelines.report import Block, Code, Strong, Text, as_markdown, code, items, section, table, text
from pipelines.split import split_sha256
from serving.continuous_training.loop import State


def report(name: str, state: State, evidence: Mapping[str, Any] | None, outcome: str) -> str:
    """Return the report of a loop; ``evidence`` is None if not collected."""
    content, served = state.content, state.results.get("look", {}).get("served") or {}
    begun = text(f"Begun {content['started']} by {content['by']}; fingerprint ", Code(content["fingerprint"][:12]), ".")
    sections = [
        section("", begun),
        section("Data", *_data(name, state, served)),
        section("Parameters", *_parameters(served)),
        *([] if evidence is None else _of_card(evidence)),
        section("Gate", *_gate(state.results)),
        section("What was moved", *_moved(name, state.results)),
    ]
    simulated = evidence is not None and evidence["simulated"]
    title = ("Retraining ", Code(name))
    return as_markdown(reports.report(title, sections, lead=(Strong(outcome),), simulated=simulated))


def _data(name: str, state: State, served: Mapping[str, str]) -> Iterator[Block]:
    if served:
        yield text(f"“Before” is version {served['version']}, which was in {served['alias']}.")
    else:
        yield text("No version was in production or staging before.")
    path, split = PREPARED / name / "samples.parquet", None
    if path.is_file():
        after, before = pd.read_parquet(path), kept_table(served.get("run_id"), SPLIT)
        split = split_sha256(after)
        yield from _samples(before, after)
    hashes = {
        "data.sha256": (served.get("data.sha256"), state.content["components"]["data"]),
        "split.sha256": (served.get("split.sha256"), split),
    }
    yield table(["hash", "before", "now"], [[Code(name), *map(_short, both)] for name, both in hashes.items()])
    if checked := state.results.get("check"):
        findings = [piece for each in checked["findings"] for piece in (", ", Code(each))][1:] or ["none"]
        said = f"Validation passed, with {checked['warnings']} warnings. Findings of the audit: "
        yield text(said, *findings, ".")


def _samples(before: pd.DataFrame | None, after: pd.DataFrame) -> Iterator[Block]:
    if before is None:
        yield text(f"Now there are {len(after)} samples in {after['group'].nunique()} groups.")
        return
    rows = []
    for what, column in (("samples", "sample_id"), ("groups", "group")):
        old, new = set(before[column].astype(str)), set(after[column].astype(str))
        rows.append([what, *map(str, (len(old), len(new), len(new - old), len(old - new)))])
    yield table(["", "before", "now", "added", "gone"], rows)
    both = before.merge(after, on="sample_id", suffixes=("_before", "_after"))
    side = both["split_before"].astype(str)
    moved = side != both["split_after"].astype(str)
    yield text(
        f"{moved.sum()} samples are on another side of the split than before, {(moved & (side == 'test')).sum()} of "
        "them were test samples."
    )


def _parameters(served: Mapping[str, str]) -> Iterator[Block]:
    """Return how budget and ``params.yaml`` differ from those of the version's commit."""
    commit, budget = served.get("git.commit", "none"), read_params().budget
    same = ("--no-color", "--no-ext-diff", commit, "--", str(PARAMS_FILE))  # whatever the user's git is set to
    changed = None if commit == "none" else tracking.git("diff", *same)
    if served and served.get("budget", budget) != budget:
        yield text("The budget was ", Code(served["budget"]), ", and is now ", Code(budget), ".")
    elif not changed:
        yield text("What they were is not known here." if changed is None else "As they were.")
    if changed:
        yield code(changed)


def _of_card(evidence: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what the candidate's model card says of its metrics, and of how it compares with other models."""
    chosen = section("Candidate", text(Code(evidence["architecture"]), ", chosen on validation rows."))
    sections = card.content(dict(evidence), [])["sections"]
    return [chosen, *(each for each in sections if each["title"] in ("Performance", "Comparisons"))]


def _gate(results: Mapping[str, Mapping[str, Any]]) -> Iterator[Block]:
    judged = [result for result in results.values() if "verdicts" in result]
    if not judged:
        yield text("The loop did not come that far.")
    for result in judged:
        yield text("To ", Code(result["to"]), ":")
        yield items(lines([Verdict(**each) for each in result["verdicts"]]))


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


def _short(digest: Any) -> str:
    return Code(str(digest)[:12]) if digest else "not known"
