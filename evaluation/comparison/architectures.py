"""A comparison of a task's architectures, pair by pair on the same resamples; p-values are corrected for the pairs."""

import hashlib
import itertools
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from tqdm import tqdm

from evaluation.comparison.page import content, figures_of, sentences
from evaluation.comparison.paired import Resampled, holm, matched, resample, subtract
from evaluation.comparison.ranking import leaderboard
from evaluation.evidence.evidence_file import evidence_path, read_evidence
from evaluation.evidence.looks import TEST_SHA256, ledger, told
from evaluation.evidence.summary import NOTE
from evaluation.figures import comparison as drawn
from evaluation.metrics import as_metrics
from evaluation.problems import measures_of
from evaluation.promotion.candidate_run import read_predictions
from pipelines import tracking
from pipelines.code_closure import closure
from pipelines.errors import UserError
from pipelines.files import jsonable, write_json
from pipelines.params import Params, Task
from pipelines.problems import higher_is_better
from pipelines.report import as_html, as_markdown, read_figures

SCHEMA = 1
FOLDER = "comparison"
IN_VIEW = "in_view"
FILTER = f"tags.{IN_VIEW} = 'true'"
_CODE = ("evaluation.comparison.paired",)
_RESOLUTION = 0.1  # a corrected p-value can fall to this share of the level, however many pairs there are


def compare(name: str, params: Params, *, train: Callable[[], Any] | None = None) -> dict[str, Any]:
    """Compare all evaluated architectures of a task, pair by pair."""
    task = params.task(name)
    settings = task.evaluate
    rows = leaderboard(name, params)
    paths = [evidence_path(name, row["architecture"]) for row in rows]
    found = [read_evidence(path) for path in paths]
    predictions = [read_predictions(path.parent, each) for path, each in zip(paths, found, strict=True)]
    resamples = enough_resamples(len(rows), settings.resamples, 1 - settings.confidence)
    learnt = {} if train is None else measures_of(task.problem).learnt(task, train)
    learnt |= {"resamples": resamples, "seed": params.seed}
    resampled = {}
    for row, frame in zip(tqdm(rows, "resampled models", disable=None, leave=False), predictions, strict=True):
        try:
            own = matched(task, predictions[0], frame)
        except UserError as error:
            raise UserError(f"{rows[0]['architecture']} and {row['architecture']}: {error}") from None
        resampled[row["architecture"]] = resample(task, own, settings.metric, **learnt)
    size = {"rows": len(predictions[0]), "groups": int(predictions[0]["group"].nunique())}
    pairs = _pairs(task, resampled, **size)
    best = _best(rows, pairs)
    for row, evidence in zip(rows, found, strict=True):
        row |= {"budget": evidence["budget"], "standing": _standing(row, best)}
    decided = [settings.metric, resamples, params.seed, settings.confidence]
    decided += [sorted(evidence["sha256"] for evidence in found), closure(*_CODE, task=task)]
    comparison = {
        "schema": SCHEMA,
        "id": hashlib.sha256(json.dumps(decided).encode()).hexdigest()[:12],
        "task": name,
        "metric": settings.metric,
        "higher_is_better": higher_is_better(settings.metric),
        "simulated": any(row["simulated"] for row in rows),
        "mode": task.split.mode,
        "baseline": settings.baseline,
        "rows_tested": size["rows"],
        "groups_tested": size["groups"],
        "looks": told(ledger(name, found[0]["hashes"].get(TEST_SHA256, ""))),
        "confidence": settings.confidence,
        "resamples": resamples,
        "correction": "holm",
        "best": best,
        "rows": rows,
        "pairs": pairs,
    }
    return {**jsonable(comparison), "notes": sentences(comparison)}


def enough_resamples(architectures: int, least: int, level: float) -> int:
    """Return how many resamples it takes that the correction for all pairs leaves room to be significant."""
    # With n resamples no p-value is below 2 / (n + 1), and the correction multiplies it by the number of pairs.
    return max(least, math.ceil(2 * math.comb(architectures, 2) / (_RESOLUTION * level)))


def _pairs(task: Task, resampled: dict[str, Resampled], rows: int, groups: int) -> list[dict[str, Any]]:
    """Return a row a pair, the better architecture first, with its p-value corrected for all pairs."""
    pairs, confidence = [], task.evaluate.confidence
    for first, second in itertools.combinations(resampled, 2):
        both = (resampled[first], resampled[second])
        found = subtract(task, task.evaluate.metric, *both, confidence=confidence, rows=rows, groups=groups)
        shown = {key: getattr(found, key) for key in ("difference", "low", "high", "p")}
        pairs.append({"first": first, "second": second, **shown})
    for pair, corrected in zip(pairs, holm([pair["p"] for pair in pairs]), strict=True):
        pair |= {"p_corrected": corrected, "significant": bool(corrected < 1 - confidence)}
    return pairs


def _best(rows: list[dict[str, Any]], pairs: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the row with the best value, and the architectures that are not significantly worse than it."""
    first = rows[0]
    if first["value"] is None:
        return None
    against = {pair["second"]: pair for pair in pairs if pair["first"] == first["architecture"]}
    return {
        **{key: first[key] for key in ("architecture", "value", "low", "high", "run_id")},
        "indistinguishable": [other for other, pair in against.items() if not pair["significant"]],
        "p_corrected": {other: pair["p_corrected"] for other, pair in against.items()},
    }


def _standing(row: dict[str, Any], best: dict[str, Any] | None) -> str:
    if best is None or row["value"] is None:
        return "undefined"
    if row["architecture"] == best["architecture"]:
        return "best"
    return "indistinguishable" if row["architecture"] in best["indistinguishable"] else "worse"


def write(comparison: dict[str, Any], folder: Path) -> None:
    """Write ``comparison.json``, ``.md``, ``.html`` and the figures into ``folder``, in place of what was there."""
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name in figures_of(comparison):
        getattr(drawn, name)(comparison).savefig(partial / f"{name}.png")
    report = content(comparison)
    (partial / f"{FOLDER}.md").write_text(as_markdown(report), encoding="utf-8")
    (partial / f"{FOLDER}.html").write_text(as_html(report, read_figures(partial)), encoding="utf-8")
    write_json(partial / f"{FOLDER}.json", comparison)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def view(comparison: dict[str, Any], client: MlflowClient) -> list[str]:
    """Tag the final fits that the comparison is of, and no others, so that the UI's filter shows just them."""
    experiment, warnings, shown = tracking.experiment(comparison["task"]), [], set()
    for row in comparison["rows"]:
        try:
            client.set_tag(row["run_id"], IN_VIEW, "true")
            client.set_tag(row["run_id"], "comparison", comparison["id"])
            shown.add(row["run_id"])
        except MlflowException as error:
            if not tracking.absent(error):
                raise
            warnings.append(f"{row['architecture']}: its run {row['run_id']} is not in the tracking store, nor in view")
    for run in mlflow.search_runs([experiment], FILTER, output_format="list"):
        if run.info.run_id not in shown:
            client.delete_tag(run.info.run_id, IN_VIEW)
    return warnings


def log(comparison: dict[str, Any], folder: Path) -> str:
    """Log the comparison on one run, the same one where nothing has changed since; return the run's id."""
    name, metric, best = comparison["task"], comparison["metric"], comparison["best"]
    query = f"tags.stage = 'compare' and tags.comparison = '{comparison['id']}'"
    earlier = mlflow.search_runs([tracking.experiment(name)], query, output_format="list")
    tags = {"comparison": comparison["id"], "simulated": str(comparison["simulated"]).lower(), "view": FILTER}
    tags[NOTE] = "\n\n".join(comparison["notes"])
    logged = {f"compared/{what}": float(len(comparison[of])) for what, of in (("models", "rows"), ("pairs", "pairs"))}
    for row in comparison["rows"]:
        logged |= as_metrics(f"{metric}/{row['architecture']}", row)
    if best is not None:
        logged |= as_metrics(f"best/{metric}", best)
        tags |= {"best_architecture": best["architecture"], "best_run_id": best["run_id"]}
        tags["indistinguishable_from_best"] = ", ".join(best["indistinguishable"]) or "none"
    with tracking.run(name, "compare", FOLDER, run_id=earlier[0].info.run_id if earlier else None) as run:
        mlflow.set_tags(tags)
        mlflow.log_metrics(logged)
        mlflow.log_artifacts(str(folder), FOLDER)
    return str(run.info.run_id)
